//! Futures that wait for pages that others are at.
//!
//! Invariants: a future that is in a list is woken after its page was let go, as long as the
//! process has a worker; else by who does deferred work. One that was dropped keeps no waker.
//! Depends on: `page::waiting`, which says of which pages there is news; the engine's worker.
//! Never: runs code of the program under a lock.

#![forbid(unsafe_code)]

use super::process_table::ProcessTable;
use super::scope::no_account;
use super::wakers;
use crate::engine::Work;
use crate::engine::process_engine::engine;
use crate::engine::worker::{self, worker_thread};
use crate::page::PageId;
use crate::page::waiting::{NR_BUCKETS, Waiting};
use crate::page::word::{Reading, Word};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::task::Waker;
use std::sync::{Mutex, MutexGuard, PoisonError};

type List = Vec<(u64, Waker)>;

struct Lists([Mutex<List>; NR_BUCKETS]);

impl Default for Lists {
    fn default() -> Self {
        Self(core::array::from_fn(|_| Mutex::new(Vec::new())))
    }
}

static LISTS: ProcessTable<Lists> = ProcessTable::new();
static NEXT: AtomicU64 = AtomicU64::new(0);
/// No lock: the child of a fork may find it half done.
static HAS_BEGUN: AtomicBool = AtomicBool::new(false);

fn lock(list: &Mutex<List>) -> MutexGuard<'_, List> {
    // What is in it is valid between any two statements.
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A future in a list. Dropping it takes it out.
#[must_use]
pub(super) struct Wait {
    bucket: usize,
    number: u64,
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some(lists) = LISTS.get() else { return };
        let _free = no_account();
        let taken = {
            let mut list = lock(&lists.0[self.bucket]);
            let at = list.iter().position(|(number, _)| *number == self.number);
            let taken = at.map(|at| list.swap_remove(at).1);
            if list.is_empty() {
                engine().pages.waiting.set_asked(self.bucket, false);
            }
            taken
        };
        wakers::discard(taken);
    }
}

/// Has the worker wake futures from now on, and starts it.
fn begin() {
    // Acquire pairs with the Release below. Several threads may do this at once.
    if !HAS_BEGUN.load(Ordering::Acquire) {
        worker::set_wake_pages(wake);
        engine().pages.waiting.set_tell(|| {
            // Whoever waits finds it, too, if there is no place for it: see `worker_thread`.
            engine().defer(Work::Pages);
        });
        // Release pairs with the Acquire above.
        HAS_BEGUN.store(true, Ordering::Release);
    }
    worker_thread::want();
}

/// Has `waker` woken when a page is not as it was `seen` any more. `None`: it is not already.
pub(super) fn wait(page: PageId, word: &Word, seen: Reading, waker: &Waker) -> Option<Wait> {
    begin();
    let waker = wakers::clone_of(waker);
    let lists = LISTS.get_or_make();
    let wait = Wait {
        bucket: Waiting::bucket_of(page),
        number: NEXT.fetch_add(1, Ordering::Relaxed),
    };
    {
        let _free = no_account();
        let mut list = lock(&lists.0[wait.bucket]);
        list.push((wait.number, waker));
        engine().pages.waiting.set_asked(wait.bucket, true);
    }
    engine().pages.waiting.ask(word, seen).then_some(wait)
}

/// Wakes those of whose pages there is news.
pub(super) fn wake() {
    let waiting = &engine().pages.waiting;
    if !waiting.is_told() {
        return;
    }
    let told = waiting.take_told();
    let Some(lists) = LISTS.get() else { return };
    for (bucket, list) in lists.0.iter().enumerate() {
        if told & 1 << bucket == 0 {
            continue;
        }
        let woken = {
            let _free = no_account();
            let mut list = lock(list);
            waiting.set_asked(bucket, false);
            core::mem::take(&mut *list)
        };
        wakers::wake_all(woken.into_iter().map(|(_, waker)| waker).collect());
    }
}
