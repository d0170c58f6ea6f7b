//! Any allocator, accounted: the tag of an object's owner lies in the last four bytes of its block.
//!
//! What is charged is the block, rounded to the size classes of the allocator below. So the bytes
//! that the allocator leaves unused anyway usually hold the tag.
//!
//! Invariants: a block's size is computed the same way when it is allocated, resized and freed
//! ([`SizeClasses`]). An object keeps its owner through every `realloc`, wherever that puts it.
//! Depends on: `engine::heap_charge` for charges; `adopt` for who holds a block.
//! Never: a header before an object.

use super::adopt::Adoptable;
use super::error::ReserveError;
use super::memcg::Memcg;
use crate::engine::process_engine::with_rec;
use crate::engine::{Flags, heap_charge};
use crate::group::Tag;
use crate::group::stock::Charged;
use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::marker::PhantomData;

const TAG: usize = size_of::<u32>();

/// How an allocator rounds sizes: what an object of a size really takes.
///
/// ```
/// use memcg::SizeClasses;
///
/// /// Whole cache lines.
/// struct Lines;
///
/// // SAFETY: the next multiple of 64 is large enough, a multiple of 8, and always the same.
/// unsafe impl SizeClasses for Lines {
///     fn block(bytes: usize) -> Option<usize> {
///         bytes.checked_next_multiple_of(64)
///     }
/// }
/// ```
///
/// An implementation promises what the compiler cannot check, so it says `unsafe`:
///
/// ```compile_fail,E0199
/// # use memcg::SizeClasses;
/// struct Short;
/// impl SizeClasses for Short {
///     fn block(bytes: usize) -> Option<usize> {
///         Some(bytes / 2)
///     }
/// }
/// ```
///
/// # Safety
/// [`Accounted`] asks the allocator below for `block(n)` bytes, writes the tag into the last four
/// of them, and asks again when the object is freed to find the tag and the block's layout. So for
/// every `bytes`, [`block`](Self::block) has to answer
///
/// 1. `None`, or at least `bytes`;
/// 2. a multiple of 8, since counters are kept in steps of 8 bytes;
/// 3. the same at every call, on every thread, in every state of the program;
///
/// and it may neither unwind nor allocate from the global allocator, which calls it.
pub unsafe trait SizeClasses {
    /// The usable size, in bytes, of the block for an object of `bytes`; `None` if there is none.
    fn block(bytes: usize) -> Option<usize>;
}

/// Blocks of a multiple of 16 bytes. Right for any allocator; exact for those whose classes are 16
/// bytes apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sixteens;

// SAFETY: `bytes + 15` rounded down to a multiple of 16 is at least `bytes` and a multiple of 8.
// The answer depends on `bytes` alone, and nothing here unwinds or allocates.
unsafe impl SizeClasses for Sixteens {
    #[inline(always)]
    fn block(bytes: usize) -> Option<usize> {
        Some(bytes.checked_add(15)? & !15)
    }
}

/// The classes of glibc's malloc: 24, 40, 56, … bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Glibc;

// SAFETY: with `k = (bytes + 7)` rounded down to a multiple of 16, `k + 8` is at least `bytes` and
// a multiple of 8. The maximum of that and 24 is so too. The answer depends on `bytes` alone, and
// nothing here unwinds or allocates.
unsafe impl SizeClasses for Glibc {
    #[inline(always)]
    fn block(bytes: usize) -> Option<usize> {
        Some((bytes.checked_add(7)? & !15).checked_add(8)?.max(24))
    }
}

/// An allocator over `A` that charges every object to the group its thread is in.
///
/// A request that does not fit within `memory.max` is served all the same, and the group goes into
/// debt, unless its `memory.oom.policy` is `deny`: then the answer is null.
///
/// Cost: `n + 4` bytes rounded up by `C` instead of `n`, and the charge, which is a few
/// instructions if the thread has stock.
///
/// ```
/// use memcg::{Accounted, Sixteens};
/// use std::alloc::System;
///
/// #[global_allocator]
/// static ALLOCATOR: Accounted<System, Sixteens> = Accounted::new(System);
///
/// let group = memcg::root().create("tenant").unwrap();
/// let data = group.run(|| vec![0u8; 100_000]);
/// assert!(group.current() >= 100_000);
/// drop(data);
/// assert_eq!(group.current(), 0);
/// ```
pub struct Accounted<A, C = Sixteens> {
    below: A,
    classes: PhantomData<fn() -> C>,
}

impl<A, C> Accounted<A, C> {
    /// An accounted allocator over `below`.
    #[must_use]
    pub const fn new(below: A) -> Self {
        Self {
            below,
            classes: PhantomData,
        }
    }
}

impl<A: Clone, C> Clone for Accounted<A, C> {
    fn clone(&self) -> Self {
        Self::new(self.below.clone())
    }
}

impl<A: Copy, C> Copy for Accounted<A, C> {}

impl<A: Default, C> Default for Accounted<A, C> {
    fn default() -> Self {
        Self::new(A::default())
    }
}

impl<A: fmt::Debug, C> fmt::Debug for Accounted<A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Accounted").field(&self.below).finish()
    }
}

/// The layout of the block for an object of `layout`: what is asked of the allocator below. `None`:
/// there is no such block.
#[inline(always)]
fn block<C: SizeClasses>(layout: Layout) -> Option<Layout> {
    let size = C::block(layout.size().checked_add(TAG)?)?;
    Layout::from_size_align(size, layout.align()).ok()
}

/// Where the tag of a block lies: in its last four bytes.
///
/// # Safety
/// `p` is a block that this allocator has got from the one below, of `size` bytes as [`block`]
/// says.
#[inline(always)]
unsafe fn tag_at(p: *mut u8, size: usize) -> *mut u32 {
    // SAFETY: the caller has promised that `p` is a block of `size` bytes, and `size` came from
    // `block`, which adds TAG before it rounds up: the last TAG bytes are inside the block.
    unsafe { p.add(size - TAG).cast() }
}

impl<A: GlobalAlloc, C: SizeClasses> Accounted<A, C> {
    /// Charges a block, has `get` allocate it, and writes the tag into it.
    ///
    /// # Safety
    /// `get` answers null, or a block of at least the layout that it is given.
    #[inline(always)]
    unsafe fn alloc_by(&self, layout: Layout, get: impl FnOnce(&A, Layout) -> *mut u8) -> *mut u8 {
        let Some(block) = block::<C>(layout) else {
            return core::ptr::null_mut();
        };
        let Some(Charged { owner: tag }) = heap_charge::charge(block.size(), Flags::INFALLIBLE)
        else {
            return core::ptr::null_mut();
        };
        let p = get(&self.below, block);
        if p.is_null() {
            heap_charge::uncharge(tag, block.size());
            return p;
        }
        // SAFETY: `get` has just allocated `p`, of at least `block.size()` bytes, and nobody else
        // knows it. The write needs no alignment.
        unsafe { tag_at(p, block.size()).write_unaligned(Tag::to_word(tag)) };
        p
    }
}

impl<A: GlobalAlloc, C: SizeClasses> Accounted<A, C> {
    /// Makes `group` the owner of the block that `thing` holds, as
    /// [`Memcg::adopt`] does where the program's global allocator is
    /// [`Alloc`](super::Alloc).
    ///
    /// # Errors
    /// See [`Memcg::adopt`].
    ///
    /// # Safety
    /// `self` is the program's global allocator, or equal to it: the tag is looked for where it
    /// would lie in a block of this type.
    pub unsafe fn adopt<T: Adoptable + ?Sized>(
        &self,
        group: &Memcg,
        thing: &mut T,
    ) -> Result<(), ReserveError> {
        let Some((at, layout)) = thing.block() else {
            return Ok(());
        };
        // Every live object's layout made a block.
        let Some(block) = block::<C>(layout) else {
            return Ok(());
        };
        // SAFETY: the caller has promised that `at` is of this allocator, and `thing` holds it, so
        // it is a block of `block.size()` bytes.
        let place = unsafe { tag_at(at.as_ptr(), block.size()) };
        // SAFETY: the tag was written when the block was allocated or resized. `thing` is borrowed
        // exclusively, so nobody else reads or writes it.
        let from = Tag::from_word(unsafe { place.read_unaligned() });
        let outcome = with_rec(|engine, rec| {
            engine.give_owner(rec, from, group.tag(), block.size() as u64, |to| {
                // SAFETY: as for the read above.
                unsafe { place.write_unaligned(Tag::to_word(Some(to))) };
            })
        });
        outcome
            .unwrap_or(Ok(()))
            .map_err(|refused| ReserveError::new(&refused))
    }
}

// SAFETY: every block comes from `A`, by a layout that is at least as large as the caller's plus
// the tag, and equally aligned. `SizeClasses` promises the same answer each time, so `dealloc` and
// `realloc` find the layout and the tag again. Callers use the bytes of their own layout only, and
// the tag lies behind those.
unsafe impl<A: GlobalAlloc, C: SizeClasses> GlobalAlloc for Accounted<A, C> {
    // What callers promise (`# Safety`) is said at `GlobalAlloc`, for each function.

    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `A::alloc` answers null or a block of the layout it is given. That layout is not
        // empty: it holds at least a tag.
        unsafe { self.alloc_by(layout, |below, block| below.alloc(block)) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `A::alloc_zeroed` answers null or a block of the layout it is given, which holds
        // at least a tag. The tag is written behind the bytes of the caller's layout, which stay
        // zero.
        unsafe { self.alloc_by(layout, |below, block| below.alloc_zeroed(block)) }
    }

    #[inline]
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // Every live object's layout made a block.
        let Some(block) = block::<C>(layout) else {
            return;
        };
        // SAFETY: the caller has promised that `p` was allocated here with `layout`, so it is a
        // block of `block.size()` bytes. Its tag was written when it was allocated or resized.
        let word = unsafe { tag_at(p, block.size()).read_unaligned() };
        let tag = Tag::from_word(word);
        heap_charge::uncharge(tag, block.size());
        // SAFETY: `p` came from `A` by the layout `block`, which is computed the same way each
        // time, and the caller has promised not to use it any more.
        unsafe { self.below.dealloc(p, block) };
    }

    #[inline]
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let new = Layout::from_size_align(new_size, layout.align())
            .ok()
            .and_then(block::<C>);
        let (Some(old), Some(new)) = (block::<C>(layout), new) else {
            return core::ptr::null_mut();
        };
        if new.size() == old.size() {
            return p;
        }
        // SAFETY: the caller has promised that `p` was allocated here with `layout`, so it is a
        // block of `old.size()` bytes. Its tag was written when it was allocated or resized.
        let word = unsafe { tag_at(p, old.size()).read_unaligned() };
        let tag = Tag::from_word(word);
        let grows = new.size().saturating_sub(old.size());
        if !heap_charge::charge_more(tag, grows, Flags::INFALLIBLE) {
            return core::ptr::null_mut();
        }
        // SAFETY: `p` came from `A` by the layout `old`. The new size is not 0, since it holds a
        // tag, and `Layout` accepted it with this alignment above.
        let moved = unsafe { self.below.realloc(p, old, new.size()) };
        if moved.is_null() {
            heap_charge::uncharge(tag, grows);
            return moved;
        }
        // SAFETY: `A::realloc` has just answered `moved`, a block of `new.size()` bytes that nobody
        // else knows.
        unsafe { tag_at(moved, new.size()).write_unaligned(Tag::to_word(tag)) };
        heap_charge::uncharge(tag, old.size().saturating_sub(new.size()));
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glibc_classes_are_what_malloc_says_they_are() {
        for n in 1..5_000usize {
            // SAFETY: `p` is what malloc has just answered, or null, which both other calls accept.
            // It is freed once and not used after that.
            let usable = unsafe {
                let p = libc::malloc(n);
                let usable = libc::malloc_usable_size(p);
                libc::free(p);
                usable
            };
            assert_eq!(Glibc::block(n), Some(usable), "malloc({n})");
        }
    }

    #[test]
    fn a_block_holds_the_object_and_the_tag() {
        for n in 0..5_000usize {
            for block in [Glibc::block(n + TAG), Sixteens::block(n + TAG)] {
                let block = block.unwrap();
                assert!(block >= n + TAG && block % 8 == 0 && block < n + TAG + 24);
            }
        }
        assert_eq!(Glibc::block(usize::MAX), None);
        assert_eq!(Sixteens::block(usize::MAX), None);
    }
}
