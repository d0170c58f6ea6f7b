//! What the engine asks of the kernel: pages, barriers, futexes, clocks, identities.
//!
//! Invariants: every call here is one system call (or none) and reports failure by value.
//! Depends on: nothing of ours but `units`.
//! Never: an allocation, a panic on a failing call, state of our own.

pub mod barrier;
pub mod clock;
pub mod descriptor;
pub mod errno;
#[cfg(all(any(test, feature = "simulator"), not(loom)))]
pub mod fault;
pub mod file;
pub mod futex;
pub mod ids;
pub mod memory_limit;
pub mod mmap;
pub mod say;
pub mod sigmask;
pub mod spawn;

/// What becomes of a call for I/O that a test has go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails with this error.
    #[cfg_attr(
        not(any(test, feature = "testing")),
        allow(dead_code, reason = "tests alone make it")
    )]
    Fails(errno::Errno),
    /// It does half of what was asked.
    #[cfg_attr(
        not(any(test, feature = "testing")),
        allow(dead_code, reason = "tests alone make it")
    )]
    Short,
}
