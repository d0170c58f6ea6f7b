//! What may go wrong with a file behind a region, as values.
//!
//! Invariants: each error has one number of the C library.
//! Depends on: `os::errno`.
//! Never: text for people; the rooms above say what was tried.

#![forbid(unsafe_code)]

use crate::os::errno::Errno;
use crate::os::file::Type;

/// Why a file is not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// The kernel refuses.
    Refused(Errno),
    /// It is no file with content of its own: a directory, a pipe, a socket, a device.
    NotAFile(Type),
    /// The path is longer than the kernel takes (4,095 bytes), once it is made absolute.
    PathTooLong,
    /// There is no memory, or no room in the table, for its record or its path.
    NoRoom,
    /// The path led to another file each time it was looked at.
    KeepsChanging,
    /// This process is the child of a fork, and the files are its parent's.
    InChild,
}

impl OpenError {
    /// Its number. Of what is no file: EISDIR for a directory, EINVAL for all else.
    #[must_use]
    pub fn errno(self) -> Errno {
        match self {
            Self::Refused(errno) => errno,
            Self::NotAFile(Type::Directory) => Errno::EISDIR,
            Self::NotAFile(Type::Regular | Type::Block | Type::Other) => Errno::EINVAL,
            Self::PathTooLong => Errno::ENAMETOOLONG,
            Self::NoRoom => Errno::ENOMEM,
            Self::KeepsChanging => Errno::EAGAIN,
            Self::InChild => Errno::ESTALE,
        }
    }
}

/// Why something was not done with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileError {
    /// The kernel says so. EBADF: the program has closed the descriptor, or put another file in its
    /// place; the other file is left alone.
    Failed(Errno),
    /// Somebody has made the file shorter than its region: `size` bytes are left.
    Truncated {
        /// Bytes that it has now.
        size: u64,
    },
    /// Its descriptor was closed while nobody used it, and its path no longer leads to it.
    Vanished,
    /// It was opened for reading alone.
    NotWritable,
    /// This process is the child of a fork, and the file is its parent's.
    InChild,
}

impl FileError {
    /// Its number. EACCES for a write to what was opened for reading, as for `mmap` with
    /// `MAP_SHARED` and `PROT_WRITE`; EIO for what was cut off, where that gives a SIGBUS.
    #[must_use]
    pub fn errno(self) -> Errno {
        match self {
            Self::Failed(errno) => errno,
            Self::Truncated { .. } => Errno::EIO,
            Self::Vanished | Self::InChild => Errno::ESTALE,
            Self::NotWritable => Errno::EACCES,
        }
    }
}

/// A read or a write of several pages that ended before its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stopped {
    /// Bytes from the beginning that were read or written.
    pub done: u64,
    /// Why not all.
    pub why: FileError,
}
