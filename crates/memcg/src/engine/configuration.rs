//! How an engine behaves, set once near its start.
//!
//! Invariants: each option is one word, which any thread may read or change at any time.
//! Depends on: nothing but `sync`.
//! Never: acts on an option; whoever reads it does.

use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, Ordering};

/// The options of an engine. All are off at first.
#[derive(Default)]
pub struct Options {
    strict: AtomicU32,
    pay_in_malloc: AtomicU32,
    debt_by_default: AtomicU32,
    tracking: AtomicU32,
    reap_interval_ms: AtomicU32,
    no_thread: AtomicU32,
    kill_process: AtomicU32,
}

// SAFETY: every field is an atomic integer: zero bytes are a valid value, and the one that the
// derived `Default` gives.
unsafe impl Zeroed for Options {}

/// A rule that exempts objects of kmem caches from accounting. With none in force, all objects are
/// accounted but those of NOACCOUNT caches and scopes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tracking {
    /// Objects that owners of the root group allocate are not accounted.
    RootUntracked = 1,
    /// Only objects of caches that ask for it are accounted: caches with the flag ACCOUNT, and
    /// caches that have registered a shrinker.
    OptIn = 2,
    /// Groups have a filter (`memory.kmem.caches`), which says whose objects are accounted.
    Filtered = 4,
}

impl Options {
    /// Whether the rule `which` is in force. [`Self::tracks_simply`] asks about all at once.
    pub fn tracking(&self, which: Tracking) -> bool {
        self.tracking.load(Ordering::Relaxed) & which as u32 != 0
    }

    /// Whether no rule of [`Tracking`] is in force.
    #[inline(always)]
    pub fn tracks_simply(&self) -> bool {
        self.tracking.load(Ordering::Relaxed) == 0
    }

    /// Puts the rule `which` in force, or out of it. Objects that were allocated before keep their
    /// owners.
    pub fn set_tracking(&self, which: Tracking, on: bool) {
        if on {
            self.tracking.fetch_or(which as u32, Ordering::Relaxed);
        } else {
            self.tracking.fetch_and(!(which as u32), Ordering::Relaxed);
        }
    }

    /// Whether an inconsistency aborts the process instead of switching accounting off.
    pub fn strict(&self) -> bool {
        self.strict.load(Ordering::Relaxed) != 0
    }

    /// Sets [`Self::strict`].
    pub fn set_strict(&self, on: bool) {
        self.strict.store(on.into(), Ordering::Relaxed);
    }

    /// Whether delays that are owed for being above `high` are paid inside malloc, at most 10 ms a
    /// charge.
    pub fn pay_in_malloc(&self) -> bool {
        self.pay_in_malloc.load(Ordering::Relaxed) != 0
    }

    /// Sets [`Self::pay_in_malloc`].
    pub fn set_pay_in_malloc(&self, on: bool) {
        self.pay_in_malloc.store(on.into(), Ordering::Relaxed);
    }

    /// Whether the whole process is killed where a thread is to be killed for memory: the threads
    /// of a program that knows nothing of us cannot end one by one.
    pub fn kill_process(&self) -> bool {
        self.kill_process.load(Ordering::Relaxed) != 0
    }

    /// Sets [`Self::kill_process`].
    pub fn set_kill_process(&self, on: bool) {
        self.kill_process.store(on.into(), Ordering::Relaxed);
    }

    /// Whether the engine does without a thread of its own: then threads of the program that wait
    /// anyway do the deferred work.
    pub fn no_thread(&self) -> bool {
        self.no_thread.load(Ordering::Relaxed) != 0
    }

    /// Sets [`Self::no_thread`]. A worker that runs already goes on.
    pub fn set_no_thread(&self, on: bool) {
        self.no_thread.store(on.into(), Ordering::Relaxed);
    }

    /// Whether a heap charge above max goes into debt in a group without a policy, instead of
    /// failing. For a Rust global allocator, where a refusal usually aborts.
    pub fn debt_by_default(&self) -> bool {
        self.debt_by_default.load(Ordering::Relaxed) != 0
    }

    /// Sets [`Self::debt_by_default`].
    pub fn set_debt_by_default(&self, on: bool) {
        self.debt_by_default.store(on.into(), Ordering::Relaxed);
    }

    /// How often the worker does a round of the reaper, in ms; 0: never.
    pub fn reap_interval_ms(&self) -> u32 {
        self.reap_interval_ms.load(Ordering::Relaxed)
    }

    /// Sets [`Self::reap_interval_ms`].
    pub fn set_reap_interval_ms(&self, ms: u32) {
        self.reap_interval_ms.store(ms, Ordering::Relaxed);
    }
}
