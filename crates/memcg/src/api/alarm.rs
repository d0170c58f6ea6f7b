//! Alarms: a future is woken at a time, by the engine's worker.
//!
//! Invariants: an alarm that has not been dropped wakes the last waker that it was polled with,
//! once its time has come and as long as the process has a worker. One that was dropped keeps no
//! waker. In the child of a fork none is set, and those of the parent are over.
//! Depends on: `engine::worker`, which calls [`ring`] in time: `kill_wakers::want_worker` sees to
//! that, and is asked first whether there is one.
//! Never: runs code of the program under a lock.

#![forbid(unsafe_code)]

use super::process_table::ProcessTable;
use super::scope::no_account;
use super::wakers;
use crate::engine::Work;
use crate::engine::process_engine::engine;
use crate::engine::worker::worker_thread;
use crate::os::clock;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Poll, Waker};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Alarms in the order of their times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    at_ns: u64,
    /// No two alarms have the same, those of a fork's child included.
    number: u64,
}

/// A time that somebody waits for. Dropping it ends that.
#[must_use]
pub(super) struct Alarm(Key);

/// Those that are set, and whom they wake.
type Clock = BTreeMap<Key, Waker>;

static CLOCK: ProcessTable<Mutex<Clock>> = ProcessTable::new();
static NEXT: AtomicU64 = AtomicU64::new(0);

fn lock(clock: &Mutex<Clock>) -> MutexGuard<'_, Clock> {
    // What is in it is valid between any two statements.
    clock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Alarm {
    /// Wakes `waker` in `ns` or a little later: up to 1 ms, and what the worker is doing then.
    pub(super) fn after(ns: u64, waker: &Waker) -> Self {
        let waker = wakers::clone_of(waker);
        let _free = no_account();
        let key = Key {
            at_ns: clock::monotonic_ns().saturating_add(ns),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        };
        let mut clock = lock(CLOCK.get_or_make());
        clock.insert(key, waker);
        let is_next = clock
            .first_key_value()
            .is_some_and(|(&next, _)| next == key);
        drop(clock);
        if is_next {
            // A full set of work: the worker is awake, and looks here before it sleeps.
            engine().defer(Work::Alarm);
        }
        Self(key)
    }

    /// Whether its time has come, or there is no worker any more that would wake anybody. If not,
    /// `waker` is woken then, and no other.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<()> {
        if clock::monotonic_ns() >= self.0.at_ns || !worker_thread::serves(engine()) {
            return Poll::Ready(());
        }
        let waker = wakers::clone_of(waker);
        let Some(clock) = CLOCK.get() else {
            wakers::discard(Some(waker));
            return Poll::Ready(());
        };
        let (polled, old) = match lock(clock).get_mut(&self.0) {
            Some(set) => (Poll::Pending, core::mem::replace(set, waker)),
            // It has woken who waited; or was set by the parent of this process.
            None => (Poll::Ready(()), waker),
        };
        wakers::discard(Some(old));
        polled
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let waker = CLOCK.get().and_then(|clock| {
            let _free = no_account();
            lock(clock).remove(&self.0)
        });
        wakers::discard(waker);
    }
}

/// Wakes those whose time has come; answers the ms until the next one's, 0 if there is none. No
/// lock is held while the program's wakers run.
pub(super) fn ring() -> u32 {
    let Some(clock) = CLOCK.get() else { return 0 };
    loop {
        let now = clock::monotonic_ns();
        let due = {
            let _free = no_account();
            let mut all = lock(clock);
            let Some(next) = all.first_entry() else {
                return 0;
            };
            let at_ns = next.key().at_ns;
            if at_ns > now {
                let ms = (at_ns - now).div_ceil(1_000_000);
                return u32::try_from(ms).unwrap_or(u32::MAX);
            }
            next.remove()
        };
        wakers::wake(due);
    }
}
