//! The files behind file regions, as storage: which file a path leads to, reading and writing its
//! pages, its errors, what others do to it.
//!
//! A file is one record, whatever names lead to it: by device, inode and birth time (`identity`).
//! Two counts keep it. References (a region has one) keep the record. Uses (mappings and dirty
//! pages have them, and each call while it lasts) keep the descriptor open. A file without uses is
//! *kept*: its descriptor stays open until there are more than [`KEPT_MAX`] such, then the oldest
//! is closed. It is opened again by its path, if that still leads to the same file.
//!
//! Pages are read and written past the kernel's cache where `statx` says an alignment for that
//! (`read`, `write`); else through it, and what it keeps is given back (`give_back`).
//!
//! What a file of this process's own program has to know: as with any descriptor that is closed,
//! the kernel then drops all POSIX record locks (`F_SETLK`) that this process has on the file.
//!
//! Invariants: no two records with references are of one file. A record with uses has a
//! descriptor, whose number does not change. In the child of a fork nothing is opened, closed,
//! read or written.
//! Depends on: `os` for all calls; `sync` for the table and its lock.
//! Never: an owner, a charge, the state of a page; a mapping of a file, in which a file that is cut
//! off would be a signal.

mod buckets;
mod descriptor;
pub mod error;
pub mod error_seq;
mod give_back;
mod identity;
mod look;
mod open;
pub mod path;
mod pieces;
mod read;
mod record;
#[cfg(all(test, not(loom)))]
mod tests;
mod touched;
mod uses;
mod write;

pub use descriptor::Mode;
pub use error::{FileError, OpenError, Stopped};
pub use error_seq::{ErrorCursor, ErrorSeq};
pub use look::{Changed, Look};
pub use open::Opened;
#[cfg(any(test, feature = "testing"))]
pub use uses::KEPT_MAX;

use crate::page::id::{FileId, RegionId};
use crate::sync::Zeroed;
use crate::sync::arena::Arena;
use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};
use crate::sync::id::AtomicId;
use crate::sync::lock::{Lock, Rank};
use crate::sync::promise::SoleThread;
use buckets::Buckets;
use path::Paths;
use record::FileRec;

/// The table of files. Zero bytes are an empty one.
#[derive(Default)]
pub struct Files {
    /// Guards the buckets, the paths, the list of kept files, and in records what `record` says.
    lock: Lock,
    records: Arena<FileId, FileRec>,
    buckets: Buckets,
    paths: Paths,
    /// Kept files, by when they were last used.
    oldest: AtomicId<FileId>,
    newest: AtomicId<FileId>,
    nr_kept: AtomicU32,
    nr_open: AtomicU32,
    /// Whether a file without direct I/O was opened and told of.
    has_told_cached: AtomicU32,
    in_child: AtomicU32,
}

// SAFETY: a free lock, empty tables, and integers.
unsafe impl Zeroed for Files {}

impl Files {
    fn locked(&self) -> crate::sync::lock::Held<'_> {
        self.lock.lock(Rank::Files)
    }

    /// For the child of a fork: the files are the parent's. From here on every call answers
    /// [`FileError::InChild`] or [`OpenError::InChild`]; nothing is written, nothing closed.
    pub fn forget_in_child(&self, sole: SoleThread) {
        self.in_child.store(1, Relaxed);
        self.lock.reset_in_child(sole);
    }

    fn is_in_child(&self) -> bool {
        self.in_child.load(Relaxed) != 0
    }

    fn check_process(&self) -> Result<(), FileError> {
        if self.is_in_child() {
            return Err(FileError::InChild);
        }
        Ok(())
    }

    /// A word for who caches the file: its region. This room does not look at it; it is none when
    /// the record is a new file's.
    pub fn region(&self, file: FileId) -> &AtomicId<RegionId> {
        &self.records.get(file).region
    }

    /// Bytes the file had when it was last looked at (see [`Self::look`]), or was given by
    /// [`Self::set_len`]. What is read beyond them is zeros.
    #[cfg(any(test, feature = "testing"))]
    pub fn size(&self, file: FileId) -> u64 {
        self.records.get(file).size.load(Relaxed)
    }

    /// Whether it may be written.
    pub fn is_writable(&self, file: FileId) -> bool {
        self.records.get(file).has(record::WRITABLE)
    }

    /// Whether its pages pass the kernel's cache.
    pub fn is_direct(&self, file: FileId) -> bool {
        self.records.get(file).has(record::DIRECT)
    }

    /// The errors of its write-back: a user begins by [`ErrorSeq::begin`], and is told by
    /// [`Self::sync`].
    pub fn errors(&self, file: FileId) -> &ErrorSeq {
        &self.records.get(file).errors
    }

    /// Hands its path to `sink`: absolute, the one by which it was last opened.
    pub fn with_path<R>(&self, file: FileId, sink: impl FnOnce(&core::ffi::CStr) -> R) -> R {
        let path = if self.is_in_child() {
            self.paths.get(None)
        } else {
            let _held = self.locked();
            self.paths.get(self.records.get(file).path.load(Relaxed))
        };
        sink(path.as_c_str())
    }

    /// Files there are records of.
    #[cfg(any(test, feature = "testing"))]
    pub fn nr_files(&self) -> u32 {
        self.records.in_use()
    }

    /// Descriptors that are open.
    #[cfg(any(test, feature = "testing"))]
    pub fn nr_open(&self) -> u32 {
        self.nr_open.load(Relaxed)
    }

    /// Of those, the ones of files that nobody uses.
    #[cfg(any(test, feature = "testing"))]
    pub fn nr_kept(&self) -> u32 {
        self.nr_kept.load(Relaxed)
    }
}
