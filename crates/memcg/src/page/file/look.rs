//! What others do to a file, how long it is, and that the device has it.
//!
//! Nobody tells a process that another one writes to a file. Its size and the time of its last
//! write are looked at when it is opened, when it is synced, and before this process writes to it.
//! After such a write they are looked at again, so that our own writes are not taken for others'.
//! Two things are not seen: a write by others between our own and the look after it, and one in the
//! same tick of the file system's clock as ours (up to 4 ms, microseconds from kernel 6.13 on).
//!
//! Invariants: a change is told once. The size that is kept is the one that was told last.
//! Depends on: `books` of the record.
//! Never: a look at content.

#![forbid(unsafe_code)]

use super::error::FileError;
use super::identity::Identity;
use super::record::{CHANGED, FileRec, UNSYNCED, WRITABLE};
use super::uses::Use;
use super::{ErrorCursor, Files};
use crate::os::errno::Errno;
use crate::os::file::{self, Stat};
use crate::page::id::FileId;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::lock::Rank;

/// Whether a file is as it was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changed {
    /// As far as its size and the time of its last write tell.
    No,
    /// Others have written to it, or changed its length: what is cached and clean is of the past.
    ByOthers,
}

/// What a file is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// Bytes.
    pub size: u64,
    /// Names it has. 0: it was deleted; it is there until its descriptor is closed.
    pub nr_names: u32,
    /// Whether it changed since the last look.
    pub changed: Changed,
}

impl FileRec {
    /// Whether a file is another than it was. Under `books`.
    fn differs(&self, stat: &Stat) -> bool {
        let is_quiet = self.nr_writing.load(Relaxed) == 0;
        stat.size != self.size.load(Relaxed)
            || is_quiet && stat.written_ns != self.written_ns.load(Relaxed)
    }
}

/// A call of ours that writes. Its end takes the time of the last write for ours.
pub(super) struct Writing<'a> {
    using: &'a Use<'a>,
    /// Bytes the file had when it began.
    pub size: u64,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let record = self.using.record();
        let _books = record.books();
        // A sync may have come between the beginning and what was written.
        record.set(UNSYNCED);
        if record.nr_writing.fetch_sub(1, Relaxed) == 1
            && let Ok(stat) = self.using.stat()
        {
            record.written_ns.store(stat.written_ns, Relaxed);
        }
    }
}

impl Use<'_> {
    /// What the kernel says of the file, if the descriptor leads to it still.
    pub(super) fn stat(&self) -> Result<Stat, FileError> {
        let stat = file::stat(self.fd()).map_err(FileError::Failed)?;
        match Identity::of(&stat) == self.record().identity() {
            true => Ok(stat),
            false => Err(FileError::Failed(Errno::EBADF)),
        }
    }

    pub(super) fn look(&self) -> Result<Look, FileError> {
        let record = self.record();
        let _books = record.books();
        let stat = self.stat()?;
        let differs = record.differs(&stat);
        let changed = match record.clear(CHANGED) || differs {
            true => Changed::ByOthers,
            false => Changed::No,
        };
        record.size.store(stat.size, Relaxed);
        if record.nr_writing.load(Relaxed) == 0 {
            record.written_ns.store(stat.written_ns, Relaxed);
        }
        Ok(Look {
            size: stat.size,
            nr_names: stat.nr_names,
            changed,
        })
    }

    /// Begins a call that writes.
    pub(super) fn write_begins(&self) -> Result<Writing<'_>, FileError> {
        let record = self.record();
        if !record.has(WRITABLE) {
            return Err(FileError::NotWritable);
        }
        let _books = record.books();
        let stat = self.stat()?;
        if record.differs(&stat) {
            record.set(CHANGED);
        }
        record.nr_writing.fetch_add(1, Relaxed);
        record.set(UNSYNCED);
        Ok(Writing {
            using: self,
            size: stat.size,
        })
    }

    /// Has the device keep what was written. An error is noted as the file's.
    pub(super) fn sync_now(&self) {
        let record = self.record();
        let syncing = record.syncing.lock(Rank::Files);
        if !record.clear(UNSYNCED) {
            return;
        }
        if let Err(errno) = file::sync_data(self.fd()) {
            record.errors.record(errno);
            record.set(UNSYNCED);
            return;
        }
        drop(syncing);
        self.give_back();
    }
}

impl Files {
    /// Looks at a file: its size, its names, and whether others have changed it since the last look
    /// that this table was asked for. Cost: one call.
    ///
    /// # Errors
    /// As for [`Self::begin_use`].
    pub fn look(&self, file: FileId) -> Result<Look, FileError> {
        self.hold(file)?.look()
    }

    /// Has the device keep what was written, tells `user` of an error it was not told of, and looks
    /// at the file. The caller has written what was dirty before. Cost: none on the device if
    /// nothing was written since the last sync; else milliseconds.
    ///
    /// After an error of the device the kernel may have dropped what was written through its cache.
    ///
    /// # Errors
    /// [`FileError::Failed`]: of this call or an earlier write or sync; once to each user. Whether
    /// others changed the file is then told by the next look. Else as for [`Self::begin_use`].
    pub fn sync(&self, file: FileId, user: &ErrorCursor) -> Result<Look, FileError> {
        let using = self.hold(file)?;
        // The descriptor may not be ours any more.
        using.stat()?;
        using.sync_now();
        if let Some(errno) = using.record().errors.check_and_advance(user) {
            return Err(FileError::Failed(errno));
        }
        using.look()
    }

    /// Makes a file `len` bytes long. The caller sees to it that nothing is written at the same
    /// time beyond `len`: that would make it longer again. Cost: one call and two looks.
    ///
    /// # Errors
    /// [`FileError::NotWritable`]; [`FileError::Failed`]; as for [`Self::begin_use`].
    pub fn set_len(&self, file: FileId, len: u64) -> Result<(), FileError> {
        let using = self.hold(file)?;
        let record = using.record();
        if !record.has(WRITABLE) {
            return Err(FileError::NotWritable);
        }
        let _books = record.books();
        if record.differs(&using.stat()?) {
            record.set(CHANGED);
        }
        file::set_len(using.fd(), len).map_err(FileError::Failed)?;
        record.set(UNSYNCED);
        record.size.store(len, Relaxed);
        if record.nr_writing.load(Relaxed) == 0 {
            record.written_ns.store(using.stat()?.written_ns, Relaxed);
        }
        Ok(())
    }
}
