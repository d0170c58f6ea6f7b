//! The word by which a process learns that it is a fork's child, and that deferred work is due.
//!
//! Invariants: the kernel empties the word's page in every child that shares no memory with its
//! parent.
//! Depends on: `os` for the page.
//! Never: does what is due then; `fork` does.

use crate::os::mmap;
use crate::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

// What the word says. EMPTIED: the kernel has emptied the page, so this process is a child that has
// not yet noticed. SETTLED: nothing is to be done.
pub(super) const EMPTIED: u32 = 0;
pub(super) const SETTLED: u32 = 1;
/// A piece of work waits for its time.
pub(super) const DEFERRED: u32 = 2;

/// The word where the kernel empties no page: then only forks with handlers are noticed.
static UNWATCHED: AtomicU32 = AtomicU32::new(SETTLED);
static WORD: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::from_ref(&UNWATCHED).cast_mut());

/// The word of this process.
#[inline(always)]
pub(super) fn word() -> &'static AtomicU32 {
    // SAFETY: WORD names the static, or the word that `watch` has made in a page of its own. That
    // page is published after it is set up and never unmapped.
    unsafe { &*WORD.load(Ordering::Relaxed) }
}

/// Makes the page that the kernel empties in a child. Without one the word is a plain static.
pub(super) fn watch() {
    const BYTES: usize = 4096;
    let Some(page) = mmap::map(BYTES) else { return };
    // SAFETY: `page` is a mapping of BYTES bytes that `map` has just made and nobody else knows. It
    // is zeroed and page aligned, so its first word is a valid AtomicU32. It is unmapped only where
    // it is not published.
    unsafe {
        if libc::madvise(page.as_ptr().cast(), BYTES, libc::MADV_WIPEONFORK) != 0 {
            mmap::unmap(page, BYTES);
            return;
        }
        let word = page.cast::<AtomicU32>();
        word.as_ref().store(SETTLED, Ordering::Relaxed);
        // No Acquire load pairs with this Release: `word` loads Relaxed. A thread that uses the
        // engine has synchronized with the later Release store of STATE in `start`. Any other
        // follows the pointer, and a load through a pointer comes after the load of the pointer.
        WORD.store(word.as_ptr(), Ordering::Release);
    }
}

/// Whether the kernel empties the word in a child.
pub(super) fn is_watched() -> bool {
    !core::ptr::eq(word(), &UNWATCHED)
}

/// Whether `fork::inspect` has something to look at. Two loads.
#[inline(always)]
pub(super) fn is_unsettled() -> bool {
    word().load(Ordering::Relaxed) != SETTLED
}
