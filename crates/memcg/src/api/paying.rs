//! A wait in which what is owed for `memory.high` is paid off by time.
//!
//! Invariants: what was paid is the time that was waited, and never more than was due.
//! Depends on: `alarm`; `kill_wakers`, which starts the worker that rings it.
//! Never: knows who owes.

#![forbid(unsafe_code)]

use super::alarm::Alarm;
use super::kill_wakers::want_worker;
use crate::os::clock;
use core::task::{Poll, Waker};

/// See the module.
#[must_use]
pub(super) struct Paying {
    alarm: Alarm,
    since_ns: u64,
    due_ns: u64,
}

/// What became of what was due.
pub(super) struct Paid {
    pub(super) paid_ns: u64,
    pub(super) unpaid_ns: u64,
}

impl Paying {
    /// Begins to pay `due_ns`; `waker` is woken when that is over. `None`: nobody would wake it.
    pub(super) fn begin(due_ns: u64, waker: &Waker) -> Option<Self> {
        want_worker().then(|| {
            // Before the alarm's own look at the clock: what it waits for is then paid in full.
            let since_ns = clock::monotonic_ns();
            Self {
                alarm: Alarm::after(due_ns, waker),
                since_ns,
                due_ns,
            }
        })
    }

    /// Whether it is over, or will not be. If not, `waker` is woken then.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<()> {
        self.alarm.poll(waker)
    }

    /// Ends it, early or not.
    pub(super) fn end(self) -> Paid {
        let waited = clock::monotonic_ns().saturating_sub(self.since_ns);
        let paid_ns = waited.min(self.due_ns);
        Paid {
            paid_ns,
            unpaid_ns: self.due_ns - paid_ns,
        }
    }
}
