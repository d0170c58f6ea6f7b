//! Calls for memory and for I/O that go wrong on purpose, for tests: the n-th of those that threads
//! under one plan make, or all from it on. A plan for I/O is one of its own ([`follow_io`]).
//!
//! Compiled for tests only (feature `simulator`). A thread follows no plan until it says so, so
//! tests do not disturb each other.
//!
//! Invariants: the calls of a thread without a plan do not fail. A call that fails has asked the
//! kernel for nothing.
//! Depends on: `errno`.
//! Never: a part of a build that is shipped.

#![forbid(unsafe_code)]

use super::Fault;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Which calls fail. Shared by the threads that follow it.
pub struct Plan {
    calls: AtomicU64,
    first: u64,
    last: u64,
}

impl Plan {
    /// Calls `first` to `last` fail, counted from 1.
    pub const fn new(first: u64, last: u64) -> Self {
        Self {
            calls: AtomicU64::new(0),
            first,
            last,
        }
    }

    /// Counts a call; answers whether it is one that fails.
    fn is_next_chosen(&self) -> bool {
        let call = self.calls.fetch_add(1, Relaxed) + 1;
        (self.first..=self.last).contains(&call)
    }

    /// Calls made so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// How many of them failed.
    pub fn failed(&self) -> u64 {
        let last = self.last.min(self.calls());
        (last + 1).saturating_sub(self.first)
    }
}

thread_local! {
    static PLAN: Cell<Option<&'static Plan>> = const { Cell::new(None) };
}

/// From now on the calling thread's calls are counted, and fail, by `plan`.
pub fn follow(plan: Option<&'static Plan>) {
    PLAN.with(|now| now.set(plan));
}

/// How the calls for I/O that a plan means go wrong.
#[derive(Clone, Copy)]
pub struct IoPlan {
    /// Which of them.
    pub which: &'static Plan,
    /// How.
    pub how: Fault,
}

thread_local! {
    static IO_PLAN: Cell<Option<IoPlan>> = const { Cell::new(None) };
}

/// From now on the calling thread's reads, writes and syncs are counted, and go wrong, by `plan`.
pub fn follow_io(plan: Option<IoPlan>) {
    IO_PLAN.with(|now| now.set(plan));
}

/// What becomes of the call for I/O that is about to be made; counts it.
pub(super) fn of_io() -> Option<Fault> {
    let plan = IO_PLAN.with(Cell::get)?;
    plan.which.is_next_chosen().then_some(plan.how)
}

/// Whether the call that is about to be made fails; counts it. errno is set as the kernel would.
pub(super) fn fails() -> bool {
    let Some(plan) = PLAN.with(Cell::get) else {
        return false;
    };
    let fails = plan.is_next_chosen();
    if fails {
        super::errno::set(libc::ENOMEM);
    }
    fails
}
