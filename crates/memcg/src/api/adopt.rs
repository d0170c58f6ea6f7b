//! `adopt`: a block of the heap is given to another group by who holds it.
//!
//! Invariants: all of the block changes owners, or nothing has changed. What the block points to
//! stays where it is.
//! Depends on: `engine::adopt`.
//! Never: reads or writes what is in the block.

use super::error::ReserveError;
use super::memcg::Memcg;
use crate::engine::adopt::NotAdopted;
use crate::engine::process_engine::with_rec;
use core::alloc::Layout;
use core::ptr::NonNull;

mod private {
    use super::{Layout, NonNull};

    /// Something that holds one block of the global allocator alone.
    #[cfg_attr(
        not(any(loom, test, feature = "testing")),
        expect(unnameable_types, reason = "nobody outside is to implement it")
    )]
    pub trait HasBlock {
        /// The block and its layout; `None`: it has none.
        fn block(&mut self) -> Option<(NonNull<u8>, Layout)>;
    }
}

pub(super) use private::HasBlock;

/// What [`Memcg::adopt`] takes: a `Vec`, a `Box` or a `String`. Each holds one block of the global
/// allocator, and nobody else does. Sealed.
pub trait Adoptable: HasBlock {}

impl<T> HasBlock for Vec<T> {
    fn block(&mut self) -> Option<(NonNull<u8>, Layout)> {
        let layout = Layout::array::<T>(self.capacity()).ok()?;
        (layout.size() > 0)
            .then(|| Some((NonNull::new(self.as_mut_ptr().cast())?, layout)))
            .flatten()
    }
}

impl<T> Adoptable for Vec<T> {}

impl HasBlock for String {
    fn block(&mut self) -> Option<(NonNull<u8>, Layout)> {
        let layout = Layout::array::<u8>(self.capacity()).ok()?;
        (layout.size() > 0)
            .then(|| Some((NonNull::new(self.as_mut_str().as_mut_ptr())?, layout)))
            .flatten()
    }
}

impl Adoptable for String {}

impl<T: ?Sized> HasBlock for Box<T> {
    fn block(&mut self) -> Option<(NonNull<u8>, Layout)> {
        let layout = Layout::for_value::<T>(self);
        (layout.size() > 0).then(|| (NonNull::from(&mut **self).cast(), layout))
    }
}

impl<T: ?Sized> Adoptable for Box<T> {}

impl Memcg {
    /// Makes the group the owner of the block that `thing` holds: it is charged for it, and whoever
    /// was is so no more.
    ///
    /// For what a request made and a cache keeps, what a session hands to another, what was built
    /// before its owner was known. Nothing is copied, and no address changes.
    ///
    /// All or nothing. *Shallow*: of a `Vec<String>` the array of the vector is adopted, the texts
    /// stay with their owners; adopt each of them, too. A block that nobody was charged for
    /// ([`no_account`](super::no_account)) is charged from now on. If the group has been removed,
    /// the nearest group above it that is left is charged. A group above both owners needs room for
    /// the block twice for a moment.
    ///
    /// Slices of shared buffers (`Bytes`, `Arc<[u8]>`) cannot be adopted: others hold the same
    /// block, and it has one owner. Copy the part that is to be kept, inside
    /// [`run`](Memcg::run) of the group that keeps it; or have the buffer made in the group above
    /// all who share it.
    ///
    /// ```
    /// use memcg::{Limit, root};
    ///
    /// #[global_allocator]
    /// static ALLOCATOR: memcg::Alloc = memcg::Alloc;
    ///
    /// let (request, cache) = (root().create("request").unwrap(), root().create("cache").unwrap());
    /// let mut page = request.run(|| vec![0u8; 64 << 10]);
    /// cache.adopt(&mut page).unwrap();
    /// assert_eq!((request.current(), cache.current()), (0, 64 << 10));
    ///
    /// cache.set_max(Limit::bytes(100 << 10)).unwrap();
    /// let mut second = request.run(|| vec![0u8; 64 << 10]);
    /// let refused = cache.adopt(&mut second).unwrap_err();
    /// assert_eq!(refused.group, "/cache");
    /// assert_eq!(request.current(), 64 << 10);
    /// ```
    ///
    /// Cost: a charge and an uncharge. The first adoption in a slab all of whose objects had one
    /// owner writes a tag for each of them: up to 4,096 stores. Not for signal handlers.
    ///
    /// # Errors
    /// When the group, or one above, has no room for the block: it names that group, and nothing
    /// has changed. Nothing is reclaimed for it on this thread, and nobody is killed.
    ///
    /// # Panics
    /// When the program's global allocator is not [`Alloc`](super::Alloc). Over another allocator
    /// use [`Accounted::adopt`](super::Accounted::adopt).
    pub fn adopt<T: Adoptable + ?Sized>(&self, thing: &mut T) -> Result<(), ReserveError> {
        match thing.block() {
            // SAFETY: `thing` is borrowed exclusively and holds the block alone: nobody frees,
            // resizes or adopts it during the call. A block that is not of `Alloc` is found out.
            Some((block, _)) => unsafe { self.adopt_raw(block) },
            None => Ok(()),
        }
    }

    /// As [`Memcg::adopt`], of the block at `block`: what [`Alloc`](super::Alloc),
    /// [`Fallible`](super::Fallible) or, under the feature `c-malloc`, C's malloc answered.
    ///
    /// # Errors
    /// See [`Memcg::adopt`].
    ///
    /// # Panics
    /// When no block of [`Alloc`](super::Alloc) begins there.
    ///
    /// # Safety
    /// The caller holds the block, and no other thread frees, resizes or adopts it during the call.
    pub unsafe fn adopt_raw(&self, block: NonNull<u8>) -> Result<(), ReserveError> {
        let at = block.as_ptr() as usize;
        let outcome = with_rec(|engine, rec| engine.adopt(rec, at, self.tag()));
        match outcome.unwrap_or(Ok(())) {
            Ok(()) => Ok(()),
            Err(NotAdopted::Full(refused)) => Err(ReserveError::new(&refused)),
            Err(NotAdopted::NotOurs) => panic!(
                "no block of memcg::Alloc begins at {at:#x}: is it the program's global allocator?"
            ),
        }
    }
}
