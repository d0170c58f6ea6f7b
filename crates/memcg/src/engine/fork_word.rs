//! The word by which a process learns that it is a fork's child, and that deferred work is due.
//!
//! Invariants: the kernel empties the word's page in every child that shares no memory with its
//! parent. Depends on: `os` for the page. Never: what is to be done then (`fork`).

use crate::os::mmap;
use crate::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

// The word that slow paths look at. Emptied by the kernel in a child that shares no memory with its
// parent.
pub(super) const EMPTIED: u32 = 0;
pub(super) const SETTLED: u32 = 1;
/// A piece of work waits for its time.
pub(super) const DEFERRED: u32 = 2;

/// The word where the kernel empties no page: then only forks with handlers are noticed.
static UNWATCHED: AtomicU32 = AtomicU32::new(SETTLED);
static WORD: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::from_ref(&UNWATCHED).cast_mut());

#[inline(always)]
pub(super) fn word() -> &'static AtomicU32 {
    // SAFETY: the static, or the page of `watch`, which is never unmapped.
    unsafe { &*WORD.load(Ordering::Relaxed) }
}

pub(super) fn watch() {
    const BYTES: usize = 4096;
    let Some(page) = mmap::map(BYTES) else { return };
    // SAFETY: a mapping of our own, seen by nobody as yet; zeroed and aligned, so a word of it is
    // an atomic one.
    unsafe {
        if libc::madvise(page.as_ptr().cast(), BYTES, libc::MADV_WIPEONFORK) != 0 {
            mmap::unmap(page, BYTES);
            return;
        }
        let word = page.cast::<AtomicU32>();
        word.as_ref().store(SETTLED, Ordering::Relaxed);
        // Release: the engine's state, stored later, is what makes it visible to other threads.
        WORD.store(word.as_ptr(), Ordering::Release);
    }
}

pub(super) fn is_watched() -> bool {
    !core::ptr::eq(word(), &UNWATCHED)
}

/// Whether `fork::inspect` has something to look at. Two loads.
#[inline(always)]
pub(super) fn is_unsettled() -> bool {
    word().load(Ordering::Relaxed) != SETTLED
}
