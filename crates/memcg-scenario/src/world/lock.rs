//! A lock that a panicking thread cannot poison: the scenario ends with the panic's own message.
//!
//! Invariants: none of its own.
//! Depends on: nothing.
//! Never: fails.

#![forbid(unsafe_code)]

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, poisoned or not.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
