//! Memory for this room's own tables: from its slabs, charged to nobody; what is large from the
//! kernel.
//!
//! Kept: a block is zeroed, and at an address that does not change. Bytes are what a block really
//! takes. Never done: a charge; a block of a thread's heap (the blocks outlive threads).

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
        // SAFETY: the object was just taken, and has as many bytes.
        unsafe { block.write_bytes(0, own_bytes(bytes)) };
        Some(block)
    }

    /// Gives a block back.
    ///
    /// # Safety
    /// `block` is of [`Self::own_alloc`] of as many `bytes`, and nobody uses it any more.
    pub(crate) unsafe fn own_free(&self, block: NonNull<u8>, bytes: usize) {
        if bytes > MAX_CLASS_BYTES {
            // SAFETY: the caller's: a mapping of as many bytes.
            unsafe { mmap::unmap(block, own_bytes(bytes)) };
            return;
        }
        match self.locate(block.as_ptr() as usize) {
            // SAFETY: the caller's: a live object, which ends here; freed as by a thread that has
            // no heap.
            Ok(object) => unsafe { self.free_object(None, object) },
            Err(why) => super::bad::bad_free(block.as_ptr() as usize, why),
        }
    }
}
