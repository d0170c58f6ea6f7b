//! What went wrong with a file: the error number that cgroup v2 would give, and a line that says
//! what to do.
//!
//! Invariants: a message names what is wrong and where.
//! Depends on: `os::errno`.
//! Never: is made for what succeeds.

#![forbid(unsafe_code)]

use core::fmt;

pub use crate::os::errno::Errno;

/// Why a file was not read or written: an error number, and a line for people.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileError {
    /// The error number.
    pub errno: Errno,
    /// The line for people: what is wrong, where, and what to do.
    pub message: String,
}

impl FileError {
    pub(crate) fn new(errno: Errno, message: String) -> Self {
        Self { errno, message }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Errno::EINVAL, message.into())
    }

    /// The same error, whose message begins with the place it is about.
    pub(super) fn at(self, place: &str) -> Self {
        Self {
            message: format!("{place}: {}", self.message),
            ..self
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.errno, self.message)
    }
}

impl core::error::Error for FileError {}
