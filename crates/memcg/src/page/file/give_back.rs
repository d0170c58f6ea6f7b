//! What the kernel caches of a file that has no direct I/O, and giving it back.
//!
//! A kernel with large folios drops nothing of a range that covers a folio in part: 4 KiB read and
//! given back 4 KiB at a time leaves the whole file cached. So what was touched is noted as one
//! range, and given back whole, in whole MiB. What was written is dropped only once the device has
//! it, so it is written out first. Never by `RWF_DONTCACHE`: over blocks that are written already
//! it drops nothing on ext4.
//!
//! Invariants: what a file's notes say was touched since the last give-back, and no less.
//! Depends on: `os` for advice and write-out; `books` of the record.
//! Never: an error kept back: what fails to be written is noted as the file's.

#![forbid(unsafe_code)]

use super::Files;
use super::record::FileRec;
use super::uses::Use;
use crate::os::descriptor;
use crate::os::file::{self, Advice};

/// What the kernel keeps is given back each time so much was read.
pub(super) const READ_STEP: u64 = 1 << 20;
/// It is written out and given back each time so much was written.
pub(super) const WRITE_STEP: u64 = 8 << 20;

/// What the kernel holds beside what a call touched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// It was read.
    Read,
    /// It was written.
    Wrote,
}

impl Use<'_> {
    /// Notes what went through the kernel's cache, and gives it back when it is much.
    pub(super) fn touched(&self, how: How, at: u64, len: u64) {
        if len == 0 {
            return;
        }
        let record = self.record();
        let (notes, step) = match how {
            How::Read => (&record.read, READ_STEP),
            How::Wrote => (&record.wrote, WRITE_STEP),
        };
        let range = {
            let _books = record.books();
            (notes.note(at, len) >= step)
                .then(|| notes.take())
                .flatten()
        };
        let Some((at, len)) = range else { return };
        if how == How::Wrote
            && let Err(errno) = descriptor::write_out(self.fd(), at, len)
        {
            record.errors.record(errno);
        }
        file::advise(self.fd(), at, len, Advice::DontNeed);
    }

    /// Gives back everything that was touched since the last time. What was written is given back
    /// only where the device has it.
    pub(super) fn give_back(&self) {
        let (read, wrote) = {
            let record = self.record();
            let _books = record.books();
            let is_written = !record.has(super::record::UNSYNCED);
            (
                record.read.take(),
                is_written.then(|| record.wrote.take()).flatten(),
            )
        };
        for (at, len) in [read, wrote].into_iter().flatten() {
            file::advise(self.fd(), at, len, Advice::DontNeed);
        }
    }
}

impl FileRec {
    /// Whether the kernel may hold something of it.
    pub(super) fn is_touched(&self) -> bool {
        !self.read.is_empty() || !self.wrote.is_empty()
    }
}

impl Files {
    /// Has the kernel give back what it caches of a file that has no direct I/O, as far as the
    /// device has it. This happens by itself each MiB that is read, and when nobody uses the file
    /// any more. Cost: a look, and one or two calls where there is something.
    ///
    /// # Errors
    /// As for [`Self::begin_use`].
    #[cfg(any(test, feature = "testing"))]
    pub fn give_back(&self, file: crate::page::id::FileId) -> Result<(), super::FileError> {
        if !self.records.get(file).is_touched() {
            return self.check_process();
        }
        self.hold(file)?.give_back();
        Ok(())
    }
}
