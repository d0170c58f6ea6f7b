//! Who is to be woken when he is killed: the futures that wait and can be told to die.
//!
//! The places are in shards, each with a lock of its own. A task is in the shard of its id, so that
//! who kills one task looks through one shard; a scope is in that of the thread that polled it
//! first, so that threads do not meet there. A future that has never waited is in none.
//!
//! Invariants: an owner that is in a place is named, by the future that is there: it leaves the
//! place before it lets go of the owner. A waker is taken only of what is to die: it is not needed
//! again.
//! Depends on: the engine, which says what is to die.
//! Never: runs code of the program (a waker's clone, wake or drop) under a lock.

use super::alarm;
use super::scope::no_account;
use crate::engine::process_engine::{engine, known_rec, with_rec};
use crate::engine::worker::{self, worker_thread};
use crate::group::Tag;
use crate::group::kill_generation::KillGeneration;
use crate::thread::ThreadRec;
use core::sync::atomic::{AtomicPtr, Ordering};
use core::task::Waker;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, Once, PoisonError, TryLockError};

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

/// Made when the first future waits, and never freed. The child of a fork may leave it to those who
/// were in it, and make another.
static TABLE: AtomicPtr<Table> = AtomicPtr::new(core::ptr::null_mut());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in it is valid between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The table, if there is one.
fn table() -> Option<&'static Table> {
    // Acquire pairs with the Release of `make_table`.
    let at = TABLE.load(Ordering::Acquire);
    // SAFETY: only `make_table` stores a pointer other than null, to a table that is never freed.
    unsafe { at.as_ref() }
}

#[cold]
fn make_table() -> &'static Table {
    let _free = no_account();
    let made: *mut Table = Box::into_raw(Box::new(Table(
        [const { Mutex::new(Shard::new()) }; SHARDS],
    )));
    let null = core::ptr::null_mut();
    // Release pairs with the Acquire of `table`; Acquire pairs with the Release of who came first.
    match TABLE.compare_exchange(null, made, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => table().unwrap_or_else(make_table),
        Err(_) => {
            // SAFETY: made above, and nobody else has seen it.
            drop(unsafe { Box::from_raw(made) });
            table().unwrap_or_else(make_table)
        }
    }
}

/// A place that a future has.
pub(super) struct Place {
    table: &'static Table,
    shard: usize,
    at: usize,
    /// As the one that is there, to be compared without the lock.
    waker: Waker,
}

impl Place {
    /// Puts `who` there, to be woken by `waker`. To be followed by a look whether it is to die: who
    /// killed it before may not have found it.
    pub(super) fn new(who: Who, waker: &Waker) -> Self {
        let _free = no_account();
        let table = table().unwrap_or_else(make_table);
        let shard = match who.id {
            0 => known_rec().map_or(0, shard_of_thread),
            id => id as usize % SHARDS,
        };
        let kept = waker.clone();
        let waiting = Some(Waiting {
            who,
            waker: Some(waker.clone()),
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
            waker: kept,
        }
    }

    /// Whether a future that is woken by `waker` is well placed here.
    #[inline]
    pub(super) fn is_for(&self, waker: &Waker) -> bool {
        self.waker.will_wake(waker) && table().is_some_and(|now| core::ptr::eq(now, self.table))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
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
        // Not under the lock: the one is the program's code, the other takes time.
        drop((waiting, shard));
    }
}

fn shard_of_thread(rec: &ThreadRec) -> usize {
    core::ptr::from_ref(rec).addr() / size_of::<ThreadRec>() % SHARDS
}

/// Wakes those of a shard that are to die, and of whom `is` says so. No lock is held while the
/// program's wakers run. If one panics, that ends its call alone: the thread may be the engine's
/// own.
fn wake(rec: &ThreadRec, shard: &Mutex<Shard>, is: impl Fn(&Who) -> bool) {
    let _free = no_account();
    let mut wakers = Vec::new();
    for waiting in lock(shard).places.iter_mut().flatten() {
        let Who { tag, seen, .. } = waiting.who;
        // It is in its place under the lock, so its owner is named.
        if waiting.waker.is_some() && is(&waiting.who) && engine().tree.is_to_die(rec, tag, seen) {
            wakers.extend(waiting.waker.take());
        }
    }
    for waker in wakers {
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}

/// Wakes the future of a task that was marked to die; nothing if the task is no future that waits.
pub(super) fn wake_killed(id: u32) {
    if let Some(table) = table() {
        with_rec(|_, rec| {
            wake(rec, &table.0[id as usize % SHARDS], |who| who.id == id);
        });
    }
}

/// Wakes all futures that wait and are to die. O(futures that wait and can be killed).
pub(super) fn wake_all_killed() {
    if let Some(table) = table() {
        with_rec(|_, rec| table.0.iter().for_each(|shard| wake(rec, shard, |_| true)));
    }
}

static TOLD: Once = Once::new();

/// Has the worker wake those that were killed where no code of the program may run, and ring the
/// alarms; starts it. Whether there is one. Where the program has called us.
#[inline]
pub(super) fn want_worker() -> bool {
    TOLD.call_once(|| {
        worker::set_waker(wake_killed);
        worker::set_wake_all(wake_all_killed);
        worker::set_alarms(alarm::ring);
        worker::set_in_child(in_child);
    });
    worker_thread::want();
    worker_thread::serves(engine())
}

/// In the child of a fork: if a thread that is not here was in a shard, nobody leaves it any more.
/// What waited is then not found by a kill; it finds out when it is polled next.
fn in_child() {
    alarm::in_child();
    let Some(table) = table() else { return };
    let is_held = |shard: &Mutex<Shard>| matches!(shard.try_lock(), Err(TryLockError::WouldBlock));
    if table.0.iter().any(is_held) {
        // Release: as every store of it; there is no other thread here.
        TABLE.store(core::ptr::null_mut(), Ordering::Release);
    }
}
