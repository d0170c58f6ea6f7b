//! The live tasks at a group and below, and how many of them are stalled, in one word.
//!
//! A thread that stalls and works for no task counts as a task of its own as long as it stalls.
//!
//! {version:20 | stalled:20 | tasks:24}. Every change is one addition, which also makes the version
//! another: who looks at the word twice knows whether it was changed. The parts are read as signed:
//! an end may be added before its beginning, by another thread, and the sum of the two is right.
//!
//! Invariants: once no change is under way, the parts are how many tasks there are and how many of
//! them stall.
//! Depends on: nothing.
//! Never: says which group it is of. `pressure` adds a change to the groups that it concerns.

use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU64, Ordering};

const TASKS: u32 = 24;
const STALLED: u32 = 20;
const A_TASK: u64 = 1;
const A_STALL: u64 = 1 << TASKS;
const VERSION: u64 = 1 << (TASKS + STALLED);

/// See the module.
#[derive(Default)]
pub(super) struct Census(AtomicU64);

// SAFETY: one atomic integer; zero is a census of nobody, as Default builds it.
unsafe impl Zeroed for Census {}

/// What is added to a census.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// A task more, or one less.
    Task(bool),
    /// One of the tasks stalls, or goes on.
    Stall(bool),
    /// A thread without a task stalls, or goes on.
    Thread(bool),
}

impl Change {
    /// Whether a stall begins with it.
    pub(super) fn is_begin(self) -> bool {
        matches!(self, Change::Stall(true) | Change::Thread(true))
    }

    fn word(self) -> u64 {
        let (n, more) = match self {
            Change::Task(more) => (A_TASK, more),
            Change::Stall(more) => (A_STALL, more),
            Change::Thread(more) => (A_TASK + A_STALL, more),
        };
        if more { VERSION + n } else { VERSION - n }
    }
}

/// One reading of a [`Census`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Count(u64);

impl Count {
    pub(super) fn tasks(self) -> i64 {
        (self.0 << (64 - TASKS)) as i64 >> (64 - TASKS)
    }

    pub(super) fn stalled(self) -> i64 {
        // What the tasks may have borrowed, should they be below zero this moment, is given back
        // first.
        let stalls = self.0.wrapping_sub(self.tasks() as u64);
        (stalls << (64 - TASKS - STALLED)) as i64 >> (64 - STALLED)
    }

    /// Changes with every change, up to 2²⁰ of them.
    pub(super) fn version(self) -> u64 {
        self.0 >> (TASKS + STALLED)
    }

    /// Somebody stalls.
    pub(super) fn is_some(self) -> bool {
        self.stalled() > 0
    }

    /// Somebody stalls, and no live task does not.
    pub(super) fn is_full(self) -> bool {
        self.is_some() && self.stalled() >= self.tasks()
    }
}

impl Census {
    /// Nobody. Of a group nobody knows yet.
    pub(super) fn open(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// So many tasks, none stalled; nobody else may be using it.
    pub(super) fn reset(&self, tasks: u64) {
        self.0.store(tasks, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Count {
        // Acquire pairs with the AcqRel of `add`: the record of stalls that is there for a stall is
        // found.
        Count(self.0.load(Ordering::Acquire))
    }

    pub(super) fn add(&self, change: Change) {
        // AcqRel: changes are one total order; a later one finds the record that a stall among the
        // earlier made.
        self.0.fetch_add(change.word(), Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn see(census: &Census) -> (i64, i64, bool, bool) {
        let count = census.read();
        (
            count.tasks(),
            count.stalled(),
            count.is_some(),
            count.is_full(),
        )
    }

    #[test]
    fn it_is_full_when_no_task_is_left_that_does_not_stall() {
        let census = Census::default();
        let mut versions = vec![census.read().version()];
        let mut step = |change: Change| {
            census.add(change);
            versions.push(census.read().version());
            see(&census)
        };
        assert_eq!(step(Change::Task(true)), (1, 0, false, false));
        assert_eq!(step(Change::Task(true)), (2, 0, false, false));
        assert_eq!(step(Change::Stall(true)), (2, 1, true, false));
        assert_eq!(step(Change::Thread(true)), (3, 2, true, false));
        assert_eq!(step(Change::Stall(true)), (3, 3, true, true));
        assert_eq!(step(Change::Task(true)), (4, 3, true, false));
        assert_eq!(step(Change::Task(false)), (3, 3, true, true));
        assert_eq!(step(Change::Stall(false)), (3, 2, true, false));
        assert_eq!(step(Change::Stall(false)), (3, 1, true, false));
        assert_eq!(step(Change::Thread(false)), (2, 0, false, false));
        assert!(versions.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn an_end_before_its_beginning_is_nobody() {
        let census = Census::default();
        for change in [Change::Stall, Change::Thread, Change::Task] {
            census.add(change(false));
            let (tasks, stalled, some, full) = see(&census);
            assert!(tasks <= 0 && stalled <= 0 && !some && !full);
            census.add(change(true));
            assert_eq!(see(&census), (0, 0, false, false));
        }
        for _ in 0..1 << 21 {
            census.add(Change::Task(true));
            census.add(Change::Task(false));
        }
        assert_eq!(see(&census), (0, 0, false, false), "the version turns over");
    }
}
