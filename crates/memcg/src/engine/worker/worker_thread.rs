//! The worker: one thread of the process that does the deferred work, and sleeps in between.
//!
//! It is started where the program calls us for something that will need it (a shrinker, a policy,
//! a future in a group), and again at the next charge that may wait. All its signals are blocked,
//! its stack is small, and it is charged to nobody. The child of a fork has no worker until it
//! needs one.
//!
//! Invariants: there is one worker at most, and [`serves`] says so only when it is there. It does
//! not keep the process alive: the last thread of the program that has a record tells it to leave.
//! Depends on: `os::spawn` for the thread; `queue` for its sleep.
//! Never: started inside malloc or a signal handler.

use super::By;
use crate::engine::{Engine, process_engine};
use crate::os::{clock, ids, spawn};
use crate::sync::atomic::{AtomicU32, Ordering, fence};

/// Bytes of the worker's stack: code of the program runs on it.
const STACK: usize = 1 << 20;

/// Whether there is a worker: NONE, STARTING, RUNNING or LEAVING.
static STATE: AtomicU32 = AtomicU32::new(NONE);
const NONE: u32 = 0;
const RUNNING: u32 = 1;
const LEAVING: u32 = 2;
/// A thread is about to make it. It may fail, so nobody counts on it yet.
const STARTING: u32 = 3;

/// 1 once somebody has needed a worker. It may have left since, or have been the parent's of this
/// process.
static IS_WANTED: AtomicU32 = AtomicU32::new(0);
static TID: AtomicU32 = AtomicU32::new(0);

/// Whether `engine` has a thread that does its work.
#[inline]
pub fn serves(engine: &Engine) -> bool {
    process_engine::is_ours(engine) && STATE.load(Ordering::Relaxed) == RUNNING
}

/// The worker's thread id; 0 without one.
#[must_use]
pub fn tid() -> u32 {
    TID.load(Ordering::Relaxed)
}

/// Starts the worker of this process if there is none and the options allow it. It makes a thread,
/// and so takes locks of the C library: only for places where the program has called us. Without
/// memory for a thread there is no worker, and work runs inline.
pub fn want() {
    IS_WANTED.store(1, Ordering::Relaxed);
    restart();
    await_start();
}

/// Another thread may be about to start it: then it is there, or known not to come, in some 50 µs.
/// Bounded, for it may be this thread, below us.
#[inline]
fn await_start() {
    const NAP_NS: u64 = 10_000;
    const NAPS: u32 = 1_000;
    for _ in 0..NAPS {
        if STATE.load(Ordering::Relaxed) != STARTING {
            break;
        }
        clock::sleep_ns(NAP_NS);
    }
}

/// Starts the worker again if it is wanted and was lost, in the child of a fork, say.
#[inline]
pub(crate) fn restart() {
    if IS_WANTED.load(Ordering::Relaxed) != 0 {
        match STATE.load(Ordering::Relaxed) {
            NONE => start(),
            LEAVING => restart_behind(),
            _ => {}
        }
    }
}

/// The last thread has dismissed the worker, and here is another: it sees that the worker is gone,
/// or the worker sees it.
#[cold]
fn restart_behind() {
    process_engine::with_rec(|_, _| ());
    // Pairs with the fence at the end of `run`.
    fence(Ordering::SeqCst);
    if STATE.load(Ordering::Relaxed) == NONE {
        start();
    }
}

#[cold]
fn start() {
    let Some(engine) = process_engine::try_engine() else {
        return;
    };
    if engine.options.no_thread()
        || STATE
            .compare_exchange(NONE, STARTING, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
    {
        return;
    }
    // What the C library allocates for the thread is charged to nobody.
    let scope = process_engine::with_rec(|engine, rec| engine.tree.enter_scope(rec, None));
    // SAFETY: `run` does not look at its argument, so null will do, and it may be called on any
    // thread that is new. It is called once: only the thread that moved STATE from NONE to STARTING
    // comes here.
    match unsafe { spawn::spawn(STACK, run, core::ptr::null_mut()) } {
        Ok(thread) => {
            // Unless it has been dismissed already.
            let _ = STATE.compare_exchange(STARTING, RUNNING, Ordering::Relaxed, Ordering::Relaxed);
            // SAFETY: `spawn` has just made the thread, joinable, and nobody else has its handle,
            // which is not used after this call.
            unsafe { libc::pthread_detach(thread) };
        }
        Err(_) => STATE.store(NONE, Ordering::Relaxed),
    }
    if let Some(scope) = scope {
        process_engine::with_rec(|engine, rec| engine.tree.leave_scope(rec, scope));
    }
}

extern "C" fn run(_: *mut core::ffi::c_void) -> *mut core::ffi::c_void {
    process_engine::become_own_thread();
    ids::set_thread_name(c"memcg-worker");
    TID.store(ids::tid(), Ordering::Relaxed);
    process_engine::with_rec(|engine, rec| {
        let is_over = || STATE.load(Ordering::Relaxed) == LEAVING;
        let _helping = rec.begin_helping();
        while !is_over() {
            let done = engine.run_deferred(rec, By::Worker);
            // An alarm set, or news told, from here on is deferred work, so no sleep begins.
            let next = sooner(super::alarms(), super::look());
            // A set of work that was full may have had no place for this.
            super::wake_pages();
            if done == 0 {
                let ms = sooner(
                    sooner(next, engine.reap_if_due(rec)),
                    sooner(
                        engine.look_at_budget_if_due(),
                        engine.write_back_if_due(rec),
                    ),
                );
                engine.deferred.sleep(ms, is_over);
            }
        }
    });
    TID.store(0, Ordering::Relaxed);
    STATE.store(NONE, Ordering::Relaxed);
    // Pairs with the fence of `restart_behind`: who asked for a worker while this one was leaving
    // has counted himself.
    fence(Ordering::SeqCst);
    if process_engine::nr_threads() > 0 {
        restart();
    }
    core::ptr::null_mut()
}

/// The lesser of two times to sleep, where 0 is for ever.
fn sooner(a: u32, b: u32) -> u32 {
    match (a, b) {
        (0, ms) | (ms, 0) => ms,
        _ => a.min(b),
    }
}

/// Tells the worker to leave when it has done what it is doing. Called when no thread of the
/// program is left that it could work for.
pub(crate) fn dismiss() {
    let leave = |from| STATE.compare_exchange(from, LEAVING, Ordering::Relaxed, Ordering::Relaxed);
    // One that is starting may run before it is said to.
    if (leave(STARTING).is_ok() || leave(RUNNING).is_ok())
        && let Some(engine) = process_engine::try_engine()
    {
        engine.deferred.ring();
    }
}

/// In the child of a fork: forgets the worker, which is the parent's.
pub(crate) fn forget_in_child() {
    TID.store(0, Ordering::Relaxed);
    STATE.store(NONE, Ordering::Relaxed);
}
