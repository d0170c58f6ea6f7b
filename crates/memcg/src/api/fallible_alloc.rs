//! An allocator that says no: as a type for collections that take one, and as functions for the
//! hooks of C libraries.
//!
//! Invariants: a request that does not fit within every limit is refused, whatever its size, and
//! refusing it kills nobody. A block keeps its owner through every resize. What is to be smaller is
//! never refused.
//! Depends on: `engine::kmalloc`.
//! Never: stock that was charged above a limit.

use crate::engine::kmalloc::{self, ALIGN};
use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;

/// An allocator that is refused at a limit, whatever the size of the request and the policy of the
/// full group: null, or an error. Nobody is killed for it, and nobody goes into debt.
///
/// For what is asked for on a tenant's behalf by code that can be told no: an interpreter, a
/// database, a collection with `try_reserve`. Who is charged is who the thread works for, as with
/// [`Alloc`](super::Alloc); it need not be the program's global allocator, and its blocks are of
/// the same heaps.
///
/// * As [`GlobalAlloc`], for whatever takes one. Not as a program's `#[global_allocator]`: Rust
///   ends the process at the first null.
/// * With the feature `allocator-api2`, as `allocator_api2::alloc::Allocator`: for the vectors and
///   boxes of that crate, `hashbrown` and others.
/// * For the hooks of C libraries, the functions of the module
///   [`fallible`](mod@super::fallible): [`alloc`], [`realloc`], [`free`], [`usable_size`].
///
/// Under the policy `observe` nothing is refused, as elsewhere.
///
/// Cost: that of [`Alloc`](super::Alloc); where the thread has stock that was charged above a
/// limit, an exact charge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fallible;

// SAFETY: `kmalloc` answers null, or an object that is at least as large and as aligned as asked,
// that lives until it is freed, and that overlaps no other. Its slow paths do not unwind.
unsafe impl GlobalAlloc for Fallible {
    // What callers promise (`# Safety`) is said at `GlobalAlloc`, for each function.

    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        kmalloc::alloc_at_door(layout.size(), layout.align(), false)
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        kmalloc::alloc_at_door(layout.size(), layout.align(), true)
    }

    #[inline]
    unsafe fn dealloc(&self, p: *mut u8, _layout: Layout) {
        // SAFETY: the caller has promised that `p` is a live object of this allocator, and does not
        // use it any more.
        unsafe { kmalloc::free(p) };
    }

    #[inline]
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller has promised that `p` is a live object of this allocator, allocated
        // with `layout`, and does not use `p` any more if the answer is not null.
        unsafe { kmalloc::resize_at_door(p, new_size, layout.align()) }
    }
}

/// A block of `bytes` at a multiple of 16, charged to who the thread works for; null where a limit
/// is in the way. 0 bytes are a block as well.
///
/// What SQLite's `xMalloc` is to do.
#[inline]
#[must_use]
pub fn alloc(bytes: usize) -> *mut c_void {
    kmalloc::alloc_at_door(bytes, ALIGN, false).cast()
}

/// Makes a block `bytes` long, its owner as before; answers where it is now. Of null: as [`alloc`].
/// Null where a limit is in the way: then the block is as it was. What is to be smaller is never
/// refused. 0 bytes are a block as well: nothing is freed.
///
/// What Lua's allocator is to do, which may not fail when a block is to be smaller:
///
/// ```
/// use core::ffi::c_void;
///
/// /// A `lua_Alloc`: for `lua_newstate`.
/// unsafe extern "C" fn lua_alloc(
///     _data: *mut c_void,
///     block: *mut c_void,
///     _old: usize,
///     new: usize,
/// ) -> *mut c_void {
///     // SAFETY: Lua gives null, or a block that it has got here.
///     unsafe {
///         if new == 0 {
///             memcg::fallible::free(block);
///             return core::ptr::null_mut();
///         }
///         memcg::fallible::realloc(block, new)
///     }
/// }
///
/// let plugin = memcg::root().create("plugin").unwrap();
/// plugin.set_max(memcg::Limit::bytes(1 << 20)).unwrap();
/// let _entered = plugin.enter();
/// let null = core::ptr::null_mut();
/// // SAFETY: as Lua calls it.
/// unsafe {
///     let block = lua_alloc(null, null, 0, 600 << 10);
///     assert!(lua_alloc(null, null, 0, 600 << 10).is_null());
///     assert!(lua_alloc(null, block, 600 << 10, 2 << 20).is_null());
///     lua_alloc(null, block, 600 << 10, 0);
/// }
/// assert_eq!(plugin.current(), 0);
/// ```
///
/// # Safety
/// `block` is null, or a live block of this allocator or of [`Alloc`](super::Alloc), at no larger
/// alignment than 16. Unless the answer is null, it ends here.
#[inline]
#[must_use]
pub unsafe fn realloc(block: *mut c_void, bytes: usize) -> *mut c_void {
    if block.is_null() {
        return alloc(bytes);
    }
    // SAFETY: the caller has promised a live block, which ends here unless the answer is null.
    unsafe { kmalloc::resize_at_door(block.cast(), bytes, ALIGN) }.cast()
}

/// Frees a block; null is none.
///
/// # Safety
/// `block` is null, or a live block of this allocator or of [`Alloc`](super::Alloc), and ends here.
#[inline]
pub unsafe fn free(block: *mut c_void) {
    // SAFETY: the caller has promised null or a live block, which ends here.
    unsafe { kmalloc::free(block.cast()) };
}

/// The bytes of a block that may be used, which are those it is charged; 0 of null. What SQLite's
/// `xSize` is to answer.
///
/// # Safety
/// `block` is null, or a live block of this allocator or of [`Alloc`](super::Alloc).
#[inline]
#[must_use]
pub unsafe fn usable_size(block: *mut c_void) -> usize {
    if block.is_null() {
        return 0;
    }
    // SAFETY: the caller has promised a live block, and it is not null.
    unsafe { kmalloc::usable(block.cast()) }
}

#[cfg(feature = "allocator-api2")]
mod allocator_api2 {
    use super::Fallible;
    use crate::engine::kmalloc;
    use allocator_api2::alloc::{AllocError, Allocator};
    use core::alloc::Layout;
    use core::ptr::NonNull;

    /// A block of no bytes, which is no object.
    fn empty(layout: Layout) -> NonNull<[u8]> {
        let at = core::ptr::without_provenance_mut(layout.align());
        NonNull::slice_from_raw_parts(NonNull::new(at).unwrap_or(NonNull::dangling()), 0)
    }

    fn block(p: *mut u8, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let p = NonNull::new(p).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(p, layout.size()))
    }

    fn allocate(layout: Layout, zeroed: bool) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(empty(layout));
        }
        let p = kmalloc::alloc_at_door(layout.size(), layout.align(), zeroed);
        block(p, layout)
    }

    /// Makes a block as `new` says.
    ///
    /// # Safety
    /// `p` is a block of `old`; if the answer is `Ok`, it ends here.
    unsafe fn resize(
        p: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() != 0 && new.size() != 0 && new.align() <= old.align() {
            // SAFETY: not of no bytes, so a live object; the caller gives it up if the answer is
            // `Ok`.
            let p = unsafe { kmalloc::resize_at_door(p.as_ptr(), new.size(), old.align()) };
            return block(p, new);
        }
        let made = allocate(new, false)?;
        let kept = old.size().min(new.size());
        // SAFETY: both blocks have at least `kept` bytes, and a new object overlaps no live one.
        unsafe { core::ptr::copy_nonoverlapping(p.as_ptr(), made.cast().as_ptr(), kept) };
        // SAFETY: the caller gives the block up, since the answer is `Ok`.
        unsafe { Fallible.deallocate(p, old) };
        Ok(made)
    }

    // SAFETY: blocks are objects of `kmalloc`, which live until they are freed and overlap no
    // other, or are of no bytes. `Fallible` has no state, so every copy of it is the same
    // allocator.
    unsafe impl Allocator for Fallible {
        #[inline]
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            allocate(layout, false)
        }

        #[inline]
        fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            allocate(layout, true)
        }

        #[inline]
        unsafe fn deallocate(&self, p: NonNull<u8>, layout: Layout) {
            if layout.size() != 0 {
                // SAFETY: a block of bytes is a live object, and the caller gives it up.
                unsafe { kmalloc::free(p.as_ptr()) };
            }
        }

        unsafe fn grow(
            &self,
            p: NonNull<u8>,
            old: Layout,
            new: Layout,
        ) -> Result<NonNull<[u8]>, AllocError> {
            // SAFETY: the caller has promised a block of `old`, and gives it up for an `Ok`.
            unsafe { resize(p, old, new) }
        }

        unsafe fn grow_zeroed(
            &self,
            p: NonNull<u8>,
            old: Layout,
            new: Layout,
        ) -> Result<NonNull<[u8]>, AllocError> {
            // SAFETY: the caller has promised a block of `old`, and gives it up for an `Ok`.
            let made = unsafe { resize(p, old, new) }?;
            let more = new.size() - old.size();
            // SAFETY: the block has `new.size()` bytes, and the caller has promised that `old` has
            // no more.
            unsafe { made.cast::<u8>().add(old.size()).write_bytes(0, more) };
            Ok(made)
        }

        unsafe fn shrink(
            &self,
            p: NonNull<u8>,
            old: Layout,
            new: Layout,
        ) -> Result<NonNull<[u8]>, AllocError> {
            // SAFETY: the caller has promised a block of `old`, and gives it up for an `Ok`.
            unsafe { resize(p, old, new) }
        }
    }
}
