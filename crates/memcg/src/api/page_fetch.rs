//! Bringing pages for futures, which do not wait: a few threads do.
//!
//! They are made when a page is asked for and none is free, four at most, and end after some
//! seconds without work. Each brings a page for whom it was asked, lets it go, and wakes the
//! future. Nothing holds them back for `memory.high`: what they owe is not the tenant's thread's.
//!
//! Invariants: each request is answered, once, and its future is woken. A request keeps its region.
//! In the child of a fork there are no threads and no requests until one is made there.
//! Depends on: `os::spawn` for threads.
//! Never: runs code of the program under a lock; keeps the process alive.

use super::mapping::Mapping;
use super::page_error::PageError;
use super::process_table::ProcessTable;
use super::scope::no_account;
use super::{pause, wakers};
use crate::engine::process_engine::{become_own_thread, engine};
use crate::os::{ids, spawn};
use core::task::{Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The most threads.
const THREADS: usize = 4;
const STACK: usize = 256 << 10;
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Pool {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Mapping, u64, Arc<Mutex<Answer>>)>,
    nr_threads: usize,
    nr_idle: usize,
}

static POOL: ProcessTable<Pool> = ProcessTable::new();

enum Answer {
    Pending(Waker),
    Ready(Result<(), PageError>),
    /// The future was dropped, or has been told.
    Done,
}

/// A page that was asked for. Dropping it lets the request go on for nobody.
pub(super) struct Fetch(Arc<Mutex<Answer>>);

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in them is valid between any two statements.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fetch {
    /// Asks for a page of the region that `mapping` uses, which is the request's own. Where there
    /// can be no threads it is brought here and now.
    pub(super) fn new(mapping: Mapping, page: u64, waker: &Waker) -> Self {
        let waker = wakers::clone_of(waker);
        let _free = no_account();
        let answer = Arc::new(Mutex::new(Answer::Pending(waker)));
        let pool = POOL.get_or_make();
        let mut state = lock(&pool.state);
        if state.nr_idle <= state.queue.len() && state.nr_threads < THREADS && start() {
            state.nr_threads += 1;
        }
        if state.nr_threads == 0 {
            drop(state);
            bring(&mapping, page, &answer);
            return Self(answer);
        }
        state.queue.push_back((mapping, page, Arc::clone(&answer)));
        drop(state);
        pool.bell.notify_one();
        Self(answer)
    }

    /// What has come of it; else `waker` is woken when it is known.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<Result<(), PageError>> {
        let new = wakers::clone_of(waker);
        let _free = no_account();
        let mut answer = lock(&self.0);
        let (polled, before) = match core::mem::replace(&mut *answer, Answer::Done) {
            Answer::Pending(old) => {
                *answer = Answer::Pending(new);
                (Poll::Pending, Some(old))
            }
            Answer::Ready(ready) => (Poll::Ready(ready), Some(new)),
            Answer::Done => (Poll::Ready(Ok(())), Some(new)),
        };
        drop(answer);
        wakers::discard(before);
        polled
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let _free = no_account();
        let before = core::mem::replace(&mut *lock(&self.0), Answer::Done);
        if let Answer::Pending(waker) = before {
            wakers::discard(Some(waker));
        }
    }
}

/// Brings a page, lets it go, and tells the future.
fn bring(mapping: &Mapping, page: u64, answer: &Mutex<Answer>) {
    let brought = match pause::unthrottled(|| mapping.pin(page).map(drop)) {
        // It is there, and the future waits for it without a thread.
        Err(PageError::Busy) => Ok(()),
        brought => brought,
    };
    let before = {
        let mut answer = lock(answer);
        match &*answer {
            Answer::Pending(_) => core::mem::replace(&mut *answer, Answer::Ready(brought)),
            Answer::Ready(_) | Answer::Done => Answer::Done,
        }
    };
    if let Answer::Pending(waker) = before {
        wakers::wake(waker);
    }
}

/// Starts a thread, if the options allow one.
fn start() -> bool {
    if engine().options.no_thread() {
        return false;
    }
    // SAFETY: `run` does not look at its argument, so null will do, and it may be called on any
    // thread that is new.
    match unsafe { spawn::spawn(STACK, run, core::ptr::null_mut()) } {
        Ok(thread) => {
            // SAFETY: `spawn` has just made the thread, joinable, and nobody else has its handle,
            // which is not used after this call.
            unsafe { libc::pthread_detach(thread) };
            true
        }
        Err(_) => false,
    }
}

extern "C" fn run(_: *mut core::ffi::c_void) -> *mut core::ffi::c_void {
    become_own_thread();
    ids::set_thread_name(c"memcg-fetch");
    let _free = no_account();
    if let Some(pool) = POOL.get() {
        serve(pool);
    }
    core::ptr::null_mut()
}

fn serve(pool: &Pool) {
    let mut state = lock(&pool.state);
    loop {
        if let Some((mapping, page, answer)) = state.queue.pop_front() {
            drop(state);
            bring(&mapping, page, &answer);
            drop((mapping, answer));
            state = lock(&pool.state);
            continue;
        }
        state.nr_idle += 1;
        let (woken, slept) = pool
            .bell
            .wait_timeout(state, IDLE)
            .unwrap_or_else(PoisonError::into_inner);
        state = woken;
        state.nr_idle -= 1;
        if slept.timed_out() && state.queue.is_empty() {
            state.nr_threads -= 1;
            return;
        }
    }
}
