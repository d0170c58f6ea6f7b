//! Who is to be woken when he is killed: the futures that wait and can be told to die.
//!
//! The places are in shards, each with a lock of its own. A task is in the shard of its id, so that
//! who kills one task looks through one shard; a scope is in that of the thread that polled it
//! first, so that threads do not meet there. A future that has never waited is in none.
//!
//! Invariants: an owner that is in a place is named, by the future that is there: it leaves the
//! place before it lets go of the owner. A waker is taken only of what is to die: it is not needed
//! again. In the child of a fork nobody is in a place until he is polled there.
//! Depends on: the engine, which says what is to die.
//! Never: runs code of the program (a waker's clone, wake or drop) under a lock.

#![forbid(unsafe_code)]

use super::alarm;
use super::process_table::ProcessTable;
use super::scope::no_account;
use super::wakers;
use crate::engine::process_engine::{engine, known_rec, with_rec};
use crate::engine::worker::{self, worker_thread};
use crate::group::Tag;
use crate::group::kill_generation::KillGeneration;
use crate::thread::ThreadRec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;
use std::sync::{Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 64;

/// Places that are kept though nobody is there.
const KEPT: usize = 256;

/// A future that waits.
#[derive(Clone, Copy)]
pub(super) struct Who {
    /// Its owner, which it names.
    pub(super) tag: Tag,
    /// Its task's id; 0: it is none.
    pub(super) id: u32,
    /// The owner's generation when it was made.
    pub(super) seen: KillGeneration,
}

struct Waiting {
    who: Who,
    /// Taken when it was woken.
    waker: Option<Waker>,
}

struct Shard {
    places: Vec<Option<Waiting>>,
    free: Vec<usize>,
}

impl Shard {
    const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

struct Table([Mutex<Shard>; SHARDS]);

impl Default for Table {
    fn default() -> Self {
        Self([const { Mutex::new(Shard::new()) }; SHARDS])
    }
}

static TABLE: ProcessTable<Table> = ProcessTable::new();

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in it is valid between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place that a future has.
pub(super) struct Place {
    table: &'static Table,
    shard: usize,
    at: usize,
    /// As the one that is there, to be compared without the lock. `None`: it has left.
    waker: Option<Waker>,
}

impl Place {
    /// Puts `who` there, to be woken by `waker`. To be followed by a look whether it is to die: who
    /// killed it before may not have found it.
    pub(super) fn new(who: Who, waker: &Waker) -> Self {
        // In the child of a fork there may be none yet that would wake it.
        want_worker();
        let (kept, waker) = (wakers::clone_of(waker), wakers::clone_of(waker));
        let _free = no_account();
        let table = TABLE.get_or_make();
        let shard = match who.id {
            0 => known_rec().map_or(0, shard_of_thread),
            id => id as usize % SHARDS,
        };
        let waiting = Some(Waiting {
            who,
            waker: Some(waker),
        });
        let mut held = lock(&table.0[shard]);
        let at = match held.free.pop() {
            Some(at) => {
                held.places[at] = waiting;
                at
            }
            None => {
                held.places.push(waiting);
                held.places.len() - 1
            }
        };
        drop(held);
        Self {
            table,
            shard,
            at,
            waker: Some(kept),
        }
    }

    /// Whether a future that is woken by `waker` is well placed here.
    #[inline]
    pub(super) fn is_for(&self, waker: &Waker) -> bool {
        let is_its = |own: &Waker| own.will_wake(waker);
        self.waker.as_ref().is_some_and(is_its) && self.is_of_this_process()
    }

    fn is_of_this_process(&self) -> bool {
        TABLE
            .get()
            .is_some_and(|table| core::ptr::eq(table, self.table))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        wakers::discard(self.waker.take());
        if !self.is_of_this_process() {
            // Its table was left to the parent, whose threads may have been at it.
            return;
        }
        let _free = no_account();
        let mut held = lock(&self.table.0[self.shard]);
        let waiting = held.places[self.at].take();
        held.free.push(self.at);
        let shard = if held.free.len() == held.places.len() && held.places.len() > KEPT {
            core::mem::replace(&mut *held, Shard::new())
        } else {
            Shard::new()
        };
        drop(held);
        // Not under the lock: the one takes time, the other is the program's code.
        drop(shard);
        wakers::discard(waiting.and_then(|waiting| waiting.waker));
    }
}

fn shard_of_thread(rec: &ThreadRec) -> usize {
    core::ptr::from_ref(rec).addr() / size_of::<ThreadRec>() % SHARDS
}

/// Wakes those of a shard that are to die, and of whom `is` says so. No lock is held while the
/// program's wakers run.
fn wake(rec: &ThreadRec, shard: &Mutex<Shard>, is: impl Fn(&Who) -> bool) {
    let _free = no_account();
    let mut woken = Vec::new();
    for waiting in lock(shard).places.iter_mut().flatten() {
        let Who { tag, seen, .. } = waiting.who;
        // It is in its place under the lock, so its owner is named.
        if waiting.waker.is_some() && is(&waiting.who) && engine().tree.is_to_die(rec, tag, seen) {
            woken.extend(waiting.waker.take());
        }
    }
    wakers::wake_all(woken);
}

/// Wakes the future of a task that was marked to die; nothing if the task is no future that waits.
pub(super) fn wake_killed(id: u32) {
    if let Some(table) = TABLE.get() {
        with_rec(|_, rec| {
            wake(rec, &table.0[id as usize % SHARDS], |who| who.id == id);
        });
    }
}

/// Wakes all futures that wait and are to die. O(futures that wait and can be killed).
pub(super) fn wake_all_killed() {
    if let Some(table) = TABLE.get() {
        with_rec(|_, rec| table.0.iter().for_each(|shard| wake(rec, shard, |_| true)));
    }
}

/// The worker has been told what to call. No lock: the child of a fork may find it half done.
static HAS_HOOKS: AtomicBool = AtomicBool::new(false);

/// Has the worker wake those that were killed where no code of the program may run, and ring the
/// alarms; starts it. Whether there is one. Where the program has called us.
#[inline]
pub(super) fn want_worker() -> bool {
    // Acquire pairs with the Release of `set_hooks`.
    if !HAS_HOOKS.load(Ordering::Acquire) {
        set_hooks();
    }
    worker_thread::want();
    worker_thread::serves(engine())
}

/// Several threads may do this at once.
#[cold]
fn set_hooks() {
    worker::set_waker(wake_killed);
    worker::set_wake_all(wake_all_killed);
    worker::set_alarms(alarm::ring);
    // Release pairs with the Acquire of `want_worker`.
    HAS_HOOKS.store(true, Ordering::Release);
}
