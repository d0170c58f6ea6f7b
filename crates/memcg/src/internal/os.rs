//! The few calls of the operating system that a library inside malloc makes without the heap.
//!
//! Invariants: nothing here allocates.
//! Depends on: `os`.
//! Never: uses the engine.

#![forbid(unsafe_code)]

/// The C library's error number of the calling thread.
pub mod errno {
    pub use crate::os::errno::{Errno, Kept, keep, set};
}

/// Sleeping on a word.
pub mod futex {
    pub use crate::os::futex::{wait, wake_one};
}

/// Functions that are found while the program runs.
pub mod hook {
    pub use crate::sync::hook::{Function, Hook, function_at};
}

/// Blocking all signals of the calling thread, until a guard's drop.
pub mod sigmask {
    pub use crate::os::sigmask::{Blocked, block_all};
}

pub use crate::os::clock::sleep_ns;
pub use crate::os::ids::tid;
pub use crate::os::say::{abort, line};
