//! What the two kinds of cache have in common whose objects are given up when memory is short.
//!
//! Invariants: an object has a number, which no other object of the cache ever has.
//! Depends on: nothing but the engine's names.
//! Never: an object is freed while a lock of the cache is held.

use memcg::testing::engine::Flags;
use memcg::{AllocError, Memcg, ReserveError};
use std::sync::atomic::{AtomicU64, Ordering};

/// How a cache's objects are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivesUp {
    /// By a shrinker of the list they are on, oldest first.
    ByList,
    /// By a function that is registered with the cache.
    ByFunction,
}

/// A cache whose objects are given up when memory is short.
pub trait ReclaimableCache: Send + Sync {
    /// Bytes an object is charged.
    fn object_bytes(&self) -> u64;
    /// Makes one more object for the task that the thread works for, which is in `group`. Answers
    /// its number.
    fn make(&self, group: &Memcg, flags: Flags) -> Result<u64, AllocError>;
    /// Whether an object holds what was written into it; `None` when it is gone.
    fn is_whole(&self, number: u64) -> Option<bool>;
    /// Uses an object for the task that the thread works for. Where objects are on a list, it
    /// becomes the last to go. Where an ended group left it so, that task is charged for it.
    fn touch(&self, number: u64);
    /// Charges an object to `group` from now on, if it is there, or nothing has changed.
    fn recharge_to(&self, number: u64, group: &Memcg) -> Result<(), ReserveError>;
    /// Frees an object, if it is there.
    fn end(&self, number: u64);
    /// How many objects there are, and how many were given up.
    fn counts(&self) -> (u64, u64);
}

/// The numbers of a cache's objects, and how many were given up.
#[derive(Default)]
pub struct Numbers {
    last: AtomicU64,
    reclaimed: AtomicU64,
}

impl Numbers {
    /// A number for a new object.
    pub fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes that an object was given up.
    pub fn count_reclaimed(&self) {
        self.reclaimed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were given up.
    pub fn reclaimed(&self) -> u64 {
        self.reclaimed.load(Ordering::Relaxed)
    }
}

/// What one word differs from the next by.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The word at place `word` of object `number`.
pub fn pattern(number: u64, word: usize) -> u64 {
    number.wrapping_add(word as u64 + 1).wrapping_mul(STEP) | 1
}
