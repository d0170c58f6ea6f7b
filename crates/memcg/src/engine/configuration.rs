//! How an engine behaves, set once near its start.

use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, Ordering};

/// See the module. All off at first.
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

// SAFETY: integers only.
unsafe impl Zeroed for Options {}

/// Which objects of kmem caches are accounted, a bit each; 0: all but those of NOACCOUNT caches and
/// scopes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tracking {
    /// What the root's own owners allocate is not.
    RootUntracked = 1,
    /// Only that of caches which ask for it: by a flag, or by being registered.
    OptIn = 2,
    /// Groups have words about it.
    Filtered = 4,
}

impl Options {
    /// Whether a rule about cache objects is in force; any, asked for all at once with
    /// [`Self::tracks_simply`].
    pub fn tracking(&self, which: Tracking) -> bool {
        self.tracking.load(Ordering::Relaxed) & which as u32 != 0
    }

    /// Whether no such rule is in force.
    #[inline(always)]
    pub fn tracks_simply(&self) -> bool {
        self.tracking.load(Ordering::Relaxed) == 0
    }

    /// Puts such a rule in force, or out of it. Objects that are out stay whose they are.
    pub fn set_tracking(&self, which: Tracking, on: bool) {
        if on {
            self.tracking.fetch_or(which as u32, Ordering::Relaxed);
        } else {
            self.tracking.fetch_and(!(which as u32), Ordering::Relaxed);
        }
    }

    /// An inconsistency aborts instead of switching accounting off.
    pub fn strict(&self) -> bool {
        self.strict.load(Ordering::Relaxed) != 0
    }

    /// Sets it.
    pub fn set_strict(&self, on: bool) {
        self.strict.store(on.into(), Ordering::Relaxed);
    }

    /// Delays owed for being above `high` are paid inside malloc, at most 10 ms a charge.
    pub fn pay_in_malloc(&self) -> bool {
        self.pay_in_malloc.load(Ordering::Relaxed) != 0
    }

    /// Sets it.
    pub fn set_pay_in_malloc(&self, on: bool) {
        self.pay_in_malloc.store(on.into(), Ordering::Relaxed);
    }

    /// Where a thread is to be killed for memory the process is: its threads know nothing of us.
    pub fn kill_process(&self) -> bool {
        self.kill_process.load(Ordering::Relaxed) != 0
    }

    /// Sets it.
    pub fn set_kill_process(&self, on: bool) {
        self.kill_process.store(on.into(), Ordering::Relaxed);
    }

    /// No thread of the engine's own: what is put off is done by threads of the program that wait
    /// anyway.
    pub fn no_thread(&self) -> bool {
        self.no_thread.load(Ordering::Relaxed) != 0
    }

    /// Sets it; a worker that runs already goes on.
    pub fn set_no_thread(&self, on: bool) {
        self.no_thread.store(on.into(), Ordering::Relaxed);
    }

    /// What a heap charge over max does in a group without a policy: go into debt (a Rust global
    /// allocator, where a refusal usually aborts) or fail.
    pub fn debt_by_default(&self) -> bool {
        self.debt_by_default.load(Ordering::Relaxed) != 0
    }

    /// Sets it.
    #[cfg_attr(
        not(any(test, feature = "testing")),
        expect(dead_code, reason = "only tests choose it as yet")
    )]
    pub fn set_debt_by_default(&self, on: bool) {
        self.debt_by_default.store(on.into(), Ordering::Relaxed);
    }

    /// The worker does a round of the reaper that often, in ms; 0: never.
    pub fn reap_interval_ms(&self) -> u32 {
        self.reap_interval_ms.load(Ordering::Relaxed)
    }

    /// Sets it.
    pub fn set_reap_interval_ms(&self, ms: u32) {
        self.reap_interval_ms.store(ms, Ordering::Relaxed);
    }
}
