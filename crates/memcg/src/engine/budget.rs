//! The process's own budget: the root's `memory.max`, `memory.emergency` and `memory.high`.
//!
//! The root's lines are held against what the process really has: the larger of what is charged and
//! what is resident. What is resident beyond the charges is looked at once a second, and the root's
//! counter gets lines that are lower by it.
//!
//! Invariants: the counter of the root has the lines as written, less what is resident and charged
//! to nobody. Above `high` nobody is refused or throttled: stock goes, shrinkers are asked, and
//! tasks of groups that are above their own max are told to end.
//! Depends on: the worker, which does all of it; `os::memory_limit` for what is resident.
//! Never: work on the thread that charges; a task that the program did not make told to end.

use super::oom_choice::Among;
use super::worker::worker_thread;
use super::{Engine, Work};
use crate::counter::page_counter::UNLIMITED;
use crate::group::ROOT;
use crate::os::{clock, memory_limit};
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::lock::Rank;
use crate::thread::ThreadRec;

/// Between two looks at what is resident.
const LOOK_NS: u64 = 1_000_000_000;
/// Between two tries at getting the process back within its budget.
const KEEP_NS: u64 = LOOK_NS / 10;
/// Between two looks at the limits of the machine and of the process.
const LIMIT_NS: u64 = 10 * LOOK_NS;

/// The process has more, so many bytes, than a budget would leave it; nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InUse(pub u64);

/// A line of the root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// As the engine finds right: of `high` nine tenths of the least of the process's cgroup limit,
    /// RLIMIT_AS, RLIMIT_DATA and the machine's memory, once any group has a limit; of `emergency`
    /// a sixteenth of `max`.
    Auto,
    /// So many bytes; [`UNLIMITED`] for none.
    Bytes(u64),
}

/// A line as a word: 0 is automatic, so that a new engine's lines are.
#[derive(Default)]
struct Word(AtomicU64);

impl Word {
    fn get(&self) -> Line {
        match self.0.load(Ordering::Relaxed) {
            0 => Line::Auto,
            UNLIMITED => Line::Bytes(UNLIMITED),
            more => Line::Bytes(more - 1),
        }
    }

    fn set(&self, line: Line) {
        let word = match line {
            Line::Auto => 0,
            Line::Bytes(bytes) => bytes.saturating_add(1),
        };
        self.0.store(word, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Default)]
pub struct Budget {
    max: Word,
    high: Word,
    emergency: Word,
    /// Some group has a limit.
    is_armed: AtomicU32,
    /// When what is resident was looked at last, by the clock; 0: never.
    looked_ns: AtomicU64,
    /// The least limit of the machine and the process, and when it was looked at.
    limit: AtomicU64,
    limit_ns: AtomicU64,
    /// When the worker last saw to it that the process is back within its budget.
    kept_ns: AtomicU64,
}

// SAFETY: atomic integers: zero bytes are 0.
unsafe impl Zeroed for Budget {}

impl Budget {
    /// `memory.max` of the root, as written; [`UNLIMITED`] at first.
    pub fn max(&self) -> u64 {
        match self.max.get() {
            Line::Auto => UNLIMITED,
            Line::Bytes(bytes) => bytes,
        }
    }

    /// `memory.high` of the root, as written.
    pub fn high(&self) -> Line {
        self.high.get()
    }

    /// `memory.emergency`, in bytes beyond max.
    pub fn emergency(&self) -> u64 {
        match self.emergency.get() {
            Line::Bytes(bytes) => bytes,
            Line::Auto if self.max() == UNLIMITED => UNLIMITED,
            Line::Auto => self.max() / 16,
        }
    }

    fn is_armed(&self) -> bool {
        self.is_armed.load(Ordering::Relaxed) != 0
    }

    /// The bytes that `memory.high` of the root comes to at present.
    pub fn high_in_force(&self) -> u64 {
        match self.high.get() {
            Line::Bytes(bytes) => bytes,
            Line::Auto if !self.is_armed() => UNLIMITED,
            Line::Auto => match self.limit.load(Ordering::Relaxed) {
                0 | UNLIMITED => UNLIMITED,
                limit => limit / 10 * 9,
            },
        }
    }

    /// Whether anything is to be looked at.
    fn is_set(&self) -> bool {
        self.max() != UNLIMITED || self.high_in_force() != UNLIMITED
    }
}

impl Engine {
    /// Sets `memory.max` of the root: bytes, or [`UNLIMITED`].
    ///
    /// # Errors
    /// When the process has more than that and the emergency beyond it: it would end at once.
    pub fn set_root_max(&self, rec: &ThreadRec, bytes: u64) -> Result<(), InUse> {
        let most = match self.budget.emergency.get() {
            Line::Auto => bytes.saturating_add(bytes / 16),
            Line::Bytes(more) => bytes.saturating_add(more),
        };
        self.fits_in(most)?;
        self.budget.max.set(Line::Bytes(bytes));
        self.follow_budget(rec);
        Ok(())
    }

    fn fits_in(&self, most: u64) -> Result<(), InUse> {
        let charged = self.tree.memcgs.get(ROOT).counter.usage();
        let used = charged.max(memory_limit::resident());
        if used > most {
            Err(InUse(used))
        } else {
            Ok(())
        }
    }

    /// Sets `memory.high` of the root.
    pub fn set_root_high(&self, rec: &ThreadRec, high: Line) {
        self.budget.high.set(high);
        self.follow_budget(rec);
    }

    /// Sets `memory.emergency`: how far beyond the root's max those go that cannot be refused.
    ///
    /// # Errors
    /// When the process has more than that: it would end at once.
    pub fn set_emergency(&self, rec: &ThreadRec, emergency: Line) -> Result<(), InUse> {
        let more = match emergency {
            Line::Auto => self.budget.max() / 16,
            Line::Bytes(more) => more,
        };
        self.fits_in(self.budget.max().saturating_add(more))?;
        self.budget.emergency.set(emergency);
        self.follow_budget(rec);
        Ok(())
    }

    /// A group has got a limit: from now on the automatic line of the root is in force.
    pub fn arm_budget(&self, rec: &ThreadRec) {
        if !self.budget.is_armed() {
            self.budget.is_armed.store(1, Ordering::Relaxed);
            self.follow_budget(rec);
        }
    }

    fn follow_budget(&self, rec: &ThreadRec) {
        {
            let root = self.tree.memcgs.get(ROOT);
            let _pin = self.tree.threads.epoch.pin(rec);
            self.tree.drain(rec, root);
        }
        let is_above = self.look_at_budget();
        if self.budget.is_set() {
            worker_thread::want();
            self.ring_worker();
        }
        if is_above {
            self.keep_budget(rec);
        }
    }

    /// Looks at what is resident if the last look is a second ago; ms until the next, 0: none.
    pub(super) fn look_at_budget_if_due(&self) -> u32 {
        if !self.budget.is_set() {
            return 0;
        }
        let now = clock::monotonic_ns();
        let since = now.saturating_sub(self.budget.looked_ns.load(Ordering::Relaxed));
        if since < LOOK_NS {
            // At least one, or it would be for ever.
            return ((LOOK_NS - since) / 1_000_000).max(1) as u32;
        }
        if self.look_at_budget() {
            self.budget_is_tight();
        }
        (LOOK_NS / 1_000_000) as u32
    }

    /// Gives the root's counter its lines; whether the process is above one.
    fn look_at_budget(&self) -> bool {
        let (budget, now) = (&self.budget, clock::monotonic_ns());
        budget.looked_ns.store(now, Ordering::Relaxed);
        let limit_ns = budget.limit_ns.load(Ordering::Relaxed);
        if budget.is_armed() && (limit_ns == 0 || now.saturating_sub(limit_ns) >= LIMIT_NS) {
            budget.limit_ns.store(now.max(1), Ordering::Relaxed);
            let limit = memory_limit::least_limit();
            budget.limit.store(limit, Ordering::Relaxed);
        }
        let root = self.tree.memcgs.get(ROOT);
        let outside = if budget.is_set() {
            memory_limit::resident().saturating_sub(root.counter.usage())
        } else {
            0
        };
        let below = |line: u64| match line {
            UNLIMITED => UNLIMITED,
            line => line.saturating_sub(outside),
        };
        self.change(|| {
            let _held = root.lock.lock(Rank::Group);
            // Read under the lock: of two looks at once the later one gives what was written last.
            let (max, high) = (below(budget.max()), below(budget.high_in_force()));
            if root.counter.max() != max {
                root.counter.set_max(max);
            }
            root.counter.set_high(high);
            root.set_debt_max(budget.emergency());
            root.counter.usage() > high.min(max)
        })
    }

    /// The process has more than its budget: the worker sees to it, unless it did so a moment ago.
    /// Every charge above the line that finds no stock asks for it.
    #[cold]
    pub(super) fn budget_is_tight(&self) {
        let kept = self.budget.kept_ns.load(Ordering::Relaxed);
        if kept == 0 || clock::monotonic_ns().saturating_sub(kept) >= KEEP_NS {
            self.defer(Work::Budget);
        }
    }

    /// Brings the process back to its budget, as far as that is possible. Unpinned.
    pub(super) fn keep_budget(&self, rec: &ThreadRec) {
        let now = clock::monotonic_ns();
        self.budget.kept_ns.store(now.max(1), Ordering::Relaxed);
        let root = self.tree.memcgs.get(ROOT);
        let line = root.counter.high().min(root.counter.max());
        if self.reclaim_to(rec, root, line) {
            return;
        }
        let _pin = self.tree.threads.epoch.pin(rec);
        let excess = || {
            let held = root.counter.usage().saturating_sub(root.counter.granted());
            held.saturating_sub(line)
        };
        if excess() > 0 {
            self.mark_among(root, Among::MadeAndOver, excess, 0, true);
        }
    }
}
