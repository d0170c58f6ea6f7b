//! Wakers are code of the program, which may panic wherever it is called: here is where it is.
//!
//! Invariants: no panic of a waker that is woken or dropped goes further, nor one of what it
//! panicked with. What wakers allocate is accounted to nobody.
//! Depends on: `contained` for panics, `scope`.
//! Never: called under a lock of ours, or with bytes in hand that a panic would lose.

#![forbid(unsafe_code)]

use super::contained::contained;
use super::scope::no_account;
use core::task::Waker;

/// Another of `waker`. What a panic of the clone leaves undone is the caller's: clone first.
pub(super) fn clone_of(waker: &Waker) -> Waker {
    let _free = no_account();
    waker.clone()
}

pub(super) fn wake(waker: Waker) {
    let _free = no_account();
    let _ = contained(|| waker.wake());
}

/// Wakes all, whichever of them panics.
pub(super) fn wake_all(wakers: Vec<Waker>) {
    let _free = no_account();
    wakers.into_iter().for_each(wake);
}

/// Drops a waker that is not needed any more, if there is one.
pub(super) fn discard(waker: Option<Waker>) {
    if let Some(waker) = waker {
        let _free = no_account();
        let _ = contained(|| drop(waker));
    }
}
