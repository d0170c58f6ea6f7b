//! What the engine asks of the kernel: pages, barriers, futexes, clocks, identities.
//!
//! Kept: every call here is one system call (or none) and reports failure by value.
//! Relied on: nothing of ours but `units`.
//! Never done: allocation, panics on a failing call, state of our own.

pub mod barrier;
pub mod clock;
pub mod errno;
#[cfg(all(any(test, feature = "simulator"), not(loom)))]
pub mod fault;
pub mod futex;
pub mod ids;
pub mod mmap;
pub mod say;
pub mod sigmask;
pub mod spawn;
