//! Taking a mutex whose holder may have panicked.
//!
//! Invariants: whoever locks gets the lock, whatever has panicked.
//! Depends on: std.
//! Never: panics.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`. What it guards is whole at every step, so a holder that panicked left nothing
/// half done.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
