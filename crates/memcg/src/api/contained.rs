//! Code of the program, called where a panic of it must go no further: shrinkers, subsystems,
//! functions of caches, wakers.
//!
//! Invariants: neither a panic goes further, nor one of dropping what it panicked with.
//! Depends on: nothing.
//! Never: called under a lock of ours, or with bytes in hand that a panic would lose.

#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `f`; `None` where it panics, which ends `f` alone: the thread may be the engine's own.
pub(super) fn contained<R>(f: impl FnOnce() -> R) -> Option<R> {
    let payload = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(answer) => return Some(answer),
        Err(payload) => payload,
    };
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // It could go on like that for ever.
        core::mem::forget(again);
    }
    None
}
