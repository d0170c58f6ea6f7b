//! Which file is which.
//!
//! Invariants: none.
//! Depends on: `os::file` for what the kernel says of a file.
//! Never: a path. Hard links, symbolic links and relative paths lead to one identity.

#![forbid(unsafe_code)]

use crate::os::file::Stat;

/// What tells a file from all others, as long as it is there.
///
/// An inode's number is given to another file once the first is gone: the birth time tells the two
/// apart, where the file system has one. Where it has none, a file whose descriptor is open cannot
/// be gone, and of one that was opened again the size and the time of its last write are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub dev: u64,
    pub ino: u64,
    pub born_ns: u64,
}

impl Identity {
    pub fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.dev,
            ino: stat.ino,
            born_ns: stat.born_ns,
        }
    }
}
