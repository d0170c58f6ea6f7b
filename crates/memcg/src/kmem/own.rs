//! Memory for this room's own tables: small blocks from its slabs, charged to nobody; large ones
//! from the kernel.
//!
//! Invariants: a new block is zeroed, and its address does not change. [`own_bytes`] is what a
//! block really takes.
//! Depends on: the shared heap, `class`, `os` for mappings.
//! Never: a charge; a block out of a thread's heap, for blocks outlive threads.

use super::Kmem;
use super::class::{MAX_CLASS_BYTES, bytes_of, class_of};
use crate::os::mmap;
use core::ptr::NonNull;

const PAGE: usize = 4096;

/// Bytes that a block for `bytes` takes.
#[must_use]
pub fn own_bytes(bytes: usize) -> usize {
    if bytes <= MAX_CLASS_BYTES {
        bytes_of(class_of(bytes))
    } else {
        bytes.next_multiple_of(PAGE)
    }
}

impl Kmem {
    /// A zeroed block of at least `bytes`, at a multiple of 16. `None` without memory. Takes a
    /// lock, with signals off.
    pub(crate) fn own_alloc(&self, bytes: usize) -> Option<NonNull<u8>> {
        if bytes > MAX_CLASS_BYTES {
            return mmap::map(own_bytes(bytes));
        }
        let taken = self.alloc_shared(class_of(bytes), None)?;
        let block = NonNull::new(taken.at as *mut u8)?;
        // SAFETY: the object was just taken from a class that holds `bytes`, so it has
        // `own_bytes(bytes)` bytes, and nobody else has its address.
        unsafe { block.write_bytes(0, own_bytes(bytes)) };
        Some(block)
    }

    /// Gives a block back.
    ///
    /// # Safety
    /// `block` came from [`Self::own_alloc`] with the same `bytes`, and nobody uses it after this
    /// call.
    pub(crate) unsafe fn own_free(&self, block: NonNull<u8>, bytes: usize) {
        if bytes > MAX_CLASS_BYTES {
            // SAFETY: `own_alloc` mapped `own_bytes(bytes)` bytes at `block` for this size, and the
            // caller gives the mapping up.
            unsafe { mmap::unmap(block, own_bytes(bytes)) };
            return;
        }
        match self.locate(block.as_ptr() as usize) {
            // SAFETY: `locate` found a live object at `block`; it is charged to nobody, and the
            // caller gives it up. No heap is given, so this is a free by a thread that has none.
            Ok(object) => unsafe { self.free_object(None, object) },
            Err(why) => super::bad::bad_free(block.as_ptr() as usize, why),
        }
    }
}
