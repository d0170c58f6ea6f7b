//! The word by which a process learns that it is a fork's child, and that deferred work is due.
//!
//! Invariants: the kernel empties the word's page in every child that shares no memory with its
//! parent.
//! Depends on: `os` for the page.
//! Never: does what is due then; the engine does.

use crate::os::mmap;
// No model forks, and these are statics.
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

// What the word says. EMPTIED: the kernel has emptied the page, so this process is a child that has
// not yet noticed. SETTLED: nothing is to be done.
pub(crate) const EMPTIED: u32 = 0;
pub(crate) const SETTLED: u32 = 1;
/// A piece of work waits for its time.
pub(crate) const DEFERRED: u32 = 2;

/// The word where the kernel empties no page: then only forks with handlers are noticed.
static UNWATCHED: AtomicU32 = AtomicU32::new(SETTLED);
static WORD: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::from_ref(&UNWATCHED).cast_mut());

/// The word of this process.
#[inline(always)]
pub(crate) fn word() -> &'static AtomicU32 {
    // SAFETY: WORD names the static, or the word that `watch` has made in a page of its own. That
    // page is published after it is set up and never unmapped.
    unsafe { &*WORD.load(Ordering::Relaxed) }
}

/// Makes the page that the kernel empties in a child. Without one the word is a plain static.
pub(crate) fn watch() {
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
pub(crate) fn is_watched() -> bool {
    !core::ptr::eq(word(), &UNWATCHED)
}

/// Whether `fork::inspect` has something to look at. Two loads.
#[inline(always)]
pub(crate) fn is_unsettled() -> bool {
    word().load(Ordering::Relaxed) != SETTLED
}

/// How many forks there were on the way to this process since the engine was made. Changed where
/// the process has one thread.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// A number that a process has and its parent has not: how often [`count_fork`] was called on the
/// way to it.
pub(crate) fn nr_forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// The process is a fork's child, and has noticed it.
pub(crate) fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// A number, never 0, that processes share which share memory, as after vfork, and a child has not
/// in common with its parent: also before the child has noticed that it is one, where the kernel
/// empties the word.
pub(crate) fn process() -> u32 {
    let unnoticed = u32::from(word().load(Ordering::Relaxed) == EMPTIED);
    nr_forks().wrapping_add(unnoticed) | 1 << 31
}
