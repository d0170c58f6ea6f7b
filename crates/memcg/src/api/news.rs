//! Who waits for news of groups, and what is done when there is some.
//!
//! Invariants: whoever waits is looked at by the engine's worker when there is news for him, or his
//! time has come. Where there is no worker, by whoever polls, and whoever does deferred work.
//! Depends on: `line` and `bells`, which know who waits; the worker.
//! Never: waits itself.

#![forbid(unsafe_code)]

use super::scope::no_account;
use super::{bells, line};
use crate::engine::process_engine::engine;
use crate::engine::worker::{self, worker_thread};
use crate::engine::{Engine, Work};
use core::sync::atomic::{AtomicBool, Ordering};

/// The worker looks. No lock: the child of a fork may find it half done.
static HAS_BEGUN: AtomicBool = AtomicBool::new(false);

/// Has the worker look from now on, and starts it. Before the first wish; where the program has
/// called us.
pub(super) fn begin() {
    // Acquire pairs with the Release below. Several threads may do this at once.
    if !HAS_BEGUN.load(Ordering::Acquire) {
        Engine::begin_telling();
        worker::set_look(look);
        worker::set_in_child(line::in_child);
        // Release pairs with the Acquire above.
        HAS_BEGUN.store(true, Ordering::Release);
    }
    worker_thread::want();
}

/// Has the worker look: somebody waits for a time that it does not know of yet.
pub(super) fn look_soon() {
    // A full set of work: the worker is awake, and looks before it sleeps.
    engine().defer(Work::Look);
}

/// Looks on this thread, which polls, if there is no worker.
pub(super) fn look_without_worker() {
    if !worker_thread::serves(engine()) {
        look();
    }
}

/// Looks at all of whom there is news, and at those whose time has come; answers the ms until the
/// next one's, 0 if there is none.
fn look() -> u32 {
    let mut told = Vec::new();
    {
        let _free = no_account();
        engine().take_told(|group, news| told.push((group, news)));
    }
    bells::ring(&told);
    let ms = line::look(&told);
    let _free = no_account();
    drop(told);
    ms
}
