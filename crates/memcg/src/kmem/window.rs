//! The window of readable records as one heap's owner saw it last, in plain words that a hit
//! compares with in memory.
//!
//! Invariants: at any instruction either the window is empty, or every address in it has a record
//! that can be read. A signal handler of the owner that interrupts a change finds the empty window.
//! Depends on: `address_map` for what a window is.
//! Never: read or written by two threads at a time.

use super::address_map::Window;
use core::cell::UnsafeCell;
use core::sync::atomic::{Ordering::SeqCst, compiler_fence};

/// A [`Window`] that belongs to whoever acts for one heap. Zero bytes: empty.
#[repr(C)]
pub(super) struct OwnWindow {
    start: UnsafeCell<usize>,
    bytes: UnsafeCell<usize>,
}

// SAFETY: only `contains` and `learn` touch the cells. They are unsafe, and each caller promises
// that its thread acts for the heap, of which there is one at a time.
unsafe impl Sync for OwnWindow {}

impl OwnWindow {
    /// Whether `at` lies in it.
    ///
    /// # Safety
    /// The calling thread acts for the heap that this window is a part of (see `heap`).
    #[inline(always)]
    pub(super) unsafe fn contains(&self, at: usize) -> bool {
        // SAFETY: the caller has promised that no other thread writes them. A signal handler of
        // this one that comes between the writes of `learn` finds an empty window.
        let (start, bytes) = unsafe { (*self.start.get(), *self.bytes.get()) };
        at.wrapping_sub(start) < bytes
    }

    /// Notes the window as it is now.
    ///
    /// # Safety
    /// The calling thread acts for the heap that this window is a part of (see `heap`).
    pub(super) unsafe fn learn(&self, window: Window) {
        // SAFETY: the caller acts for the heap, so no other thread touches the cells. A signal
        // handler of this thread may call `contains` between the writes: `bytes` is 0 while `start`
        // changes.
        unsafe {
            if *self.start.get() != window.start {
                // These two compiler fences pair with the plain reads in `contains`, made by a
                // signal handler of this thread: it never sees the new `start` with the old
                // `bytes`.
                *self.bytes.get() = 0;
                compiler_fence(SeqCst);
                *self.start.get() = window.start;
                compiler_fence(SeqCst);
            }
            *self.bytes.get() = window.bytes;
        }
    }
}
