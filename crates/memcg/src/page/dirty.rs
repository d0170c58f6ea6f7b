//! What a region of a file has that the file does not have yet.
//!
//! Invariants: each page that is dirty, or is being written, is counted once.
//! Depends on: nothing.
//! Never: I/O; a look at a page.

use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::lock::{Held, Lock, Rank};
use crate::sync::promise::SoleThread;

/// See the module. Zero bytes: nothing is dirty.
#[derive(Default)]
pub struct Dirty {
    /// Pages.
    nr: AtomicU64,
    /// No page has been dirty for longer than since then, as far as is known.
    since_ns: AtomicU64,
    /// Orders write-backs, changes of the file's length, and what follows from others' changes.
    /// Held over the I/O.
    io: Lock,
}

// SAFETY: integers and a free lock.
unsafe impl Zeroed for Dirty {}

impl Dirty {
    /// Pages that are dirty, or are being written.
    pub fn nr(&self) -> u64 {
        self.nr.load(Ordering::Relaxed)
    }

    /// One page more is dirty; answers whether it is the first. `now` is asked for the time then.
    pub fn add(&self, now: impl FnOnce() -> u64) -> bool {
        // AcqRel pairs with that of `sub`: who adds the first comes after who took the last.
        let is_first = self.nr.fetch_add(1, Ordering::AcqRel) == 0;
        if is_first {
            self.since_ns.store(now(), Ordering::Relaxed);
        }
        is_first
    }

    /// One page less; answers whether it was the last.
    #[must_use = "the last one's use of the file ends"]
    pub fn sub(&self) -> bool {
        // AcqRel, see `add`.
        self.nr.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Since when a page may have been dirty, by the monotonic clock.
    pub fn since_ns(&self) -> u64 {
        self.since_ns.load(Ordering::Relaxed)
    }

    /// All that was dirty at `ns` has been written, or was tried.
    pub fn tried_at(&self, ns: u64) {
        self.since_ns.store(ns, Ordering::Relaxed);
    }

    /// Waits for the I/O that is under way, and holds off more.
    pub fn lock_io(&self) -> Held<'_> {
        self.io.lock(Rank::FileIo)
    }

    /// As [`Self::lock_io`], if there is none under way.
    pub fn try_lock_io(&self) -> Option<Held<'_>> {
        self.io.try_lock(Rank::FileIo)
    }

    pub(super) fn reset(&self) {
        self.nr.store(0, Ordering::Relaxed);
        self.since_ns.store(0, Ordering::Relaxed);
    }

    pub(super) fn reset_lock_in_child(&self, sole: SoleThread) {
        self.io.reset_in_child(sole);
    }
}
