//! Atomics of std or of loom, ranked locks, and arenas of records that never move.
//!
//! Invariants: a record, once handed out, stays at its address for the life of the process. So a
//! stale index is always safe to read; what it then means is the reader's affair (see epochs).
//! Locks are taken in the order of their ranks.
//! Depends on: `os` for pages and futexes.
//! Never: an allocation from the heap; a sleep outside a ranked lock.

pub mod arena;
pub mod hook;
pub mod id;
pub mod lock;
pub mod promise;
pub mod sparse;
pub mod stack;
pub mod users;
pub mod wait_word;

/// The atomics every room uses: core's, or loom's under its model checker.
pub mod atomic {
    #[cfg(not(loom))]
    pub use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
    #[cfg(loom)]
    pub use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
}

/// Gives way to other threads for a moment inside a bounded wait.
#[inline]
pub fn relax() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Types whose all-zero bytes are a valid, empty value.
///
/// Records live in pages the kernel hands out zeroed, and statics in `.bss`: neither is ever
/// written to become valid.
///
/// # Safety
/// Zero bytes must be a valid value of the type, equal to its `Default`.
pub unsafe trait Zeroed: Default {}
