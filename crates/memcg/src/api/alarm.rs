//! Alarms: a future is woken at a time, by the engine's worker.
//!
//! Invariants: an alarm that has not been dropped wakes the last waker that it was polled with,
//! once its time has come and as long as the process has a worker. One that was dropped keeps no
//! waker.
//! Depends on: `engine::worker`, which calls [`ring`] in time: `kill_wakers::want_worker` sees to
//! that, and is asked first whether there is one.
//! Never: runs code of the program under a lock.

use super::scope::no_account;
use crate::engine::Work;
use crate::engine::process_engine::engine;
use crate::engine::worker::worker_thread;
use crate::os::clock;
use core::cmp::Reverse;
use core::sync::atomic::{AtomicPtr, Ordering};
use core::task::{Poll, Waker};
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// A time that somebody waits for. Dropping it ends that.
#[must_use]
pub(super) struct Alarm(Arc<Shared>);

struct Shared {
    at_ns: u64,
    state: Mutex<State>,
}

enum State {
    /// It wakes this one.
    Set(Waker),
    /// Nobody waits any more.
    Dropped,
    /// It has woken who waited.
    Rung,
}

/// In the order of their times.
struct Entry(Arc<Shared>);

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.0.at_ns.cmp(&other.0.at_ns)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

type Clock = Mutex<BinaryHeap<Reverse<Entry>>>;

/// Those that are set. Made when the first is, and never freed; the child of a fork may make
/// another.
static CLOCK: AtomicPtr<Clock> = AtomicPtr::new(core::ptr::null_mut());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in it is valid between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clock() -> Option<&'static Clock> {
    // Acquire pairs with the Release of `make_clock`.
    let at = CLOCK.load(Ordering::Acquire);
    // SAFETY: only `make_clock` stores a pointer other than null, to a clock that is never freed.
    unsafe { at.as_ref() }
}

#[cold]
fn make_clock() -> &'static Clock {
    let made: *mut Clock = Box::into_raw(Box::default());
    let null = core::ptr::null_mut();
    // Release pairs with the Acquire of `clock`; Acquire pairs with the Release of who came first.
    if CLOCK
        .compare_exchange(null, made, Ordering::AcqRel, Ordering::Acquire)
        .is_err()
    {
        // SAFETY: made above, and nobody else has seen it.
        drop(unsafe { Box::from_raw(made) });
    }
    clock().unwrap_or_else(make_clock)
}

/// In the child of a fork: if a thread that is not here was at the clock, nobody leaves it any
/// more, and what was set is not rung.
pub(super) fn in_child() {
    if clock().is_some_and(|clock| matches!(clock.try_lock(), Err(TryLockError::WouldBlock))) {
        // Release: as every store of it; there is no other thread here.
        CLOCK.store(core::ptr::null_mut(), Ordering::Release);
    }
}

impl Alarm {
    /// Wakes `waker` in `ns` or a little later: up to 1 ms, and what the worker is doing then.
    pub(super) fn after(ns: u64, waker: &Waker) -> Self {
        let _free = no_account();
        let shared = Arc::new(Shared {
            at_ns: clock::monotonic_ns().saturating_add(ns),
            state: Mutex::new(State::Set(waker.clone())),
        });
        let clock = clock().unwrap_or_else(make_clock);
        let mut all = lock(clock);
        let is_next = all
            .peek()
            .is_none_or(|Reverse(Entry(next))| shared.at_ns < next.at_ns);
        all.push(Reverse(Entry(shared.clone())));
        drop(all);
        if is_next {
            // A full set of work: the worker is awake, and looks here before it sleeps.
            engine().defer(Work::Alarm);
        }
        Self(shared)
    }

    /// Whether its time has come, or there is no worker any more that would wake anybody. If not,
    /// `waker` is woken then, and no other.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<()> {
        if clock::monotonic_ns() >= self.0.at_ns || !worker_thread::serves(engine()) {
            return Poll::Ready(());
        }
        let _free = no_account();
        let new = State::Set(waker.clone());
        let mut state = lock(&self.0.state);
        let before = match *state {
            State::Set(ref set) if set.will_wake(waker) => new,
            State::Set(_) => core::mem::replace(&mut *state, new),
            State::Dropped | State::Rung => {
                drop(state);
                return Poll::Ready(());
            }
        };
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let _free = no_account();
        let before = core::mem::replace(&mut *lock(&self.0.state), State::Dropped);
        drop(before);
    }
}

/// Wakes those whose time has come; answers the ms until the next one's, 0 if there is none. No
/// lock is held while the program's wakers run.
pub(super) fn ring() -> u32 {
    let Some(clock) = clock() else { return 0 };
    let _free = no_account();
    loop {
        let now = clock::monotonic_ns();
        let due = {
            let mut all = lock(clock);
            match all.peek() {
                None => return 0,
                Some(Reverse(Entry(next))) if next.at_ns > now => {
                    let ms = (next.at_ns - now).div_ceil(1_000_000);
                    return u32::try_from(ms).unwrap_or(u32::MAX);
                }
                Some(_) => all.pop(),
            }
        };
        if let Some(Reverse(Entry(due))) = due {
            let mut state = lock(&due.state);
            let before = match *state {
                State::Set(_) => core::mem::replace(&mut *state, State::Rung),
                State::Dropped | State::Rung => continue,
            };
            drop(state);
            if let State::Set(waker) = before {
                let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
            }
        }
    }
}
