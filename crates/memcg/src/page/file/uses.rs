//! Who keeps a descriptor open, and which of those that nobody uses are closed.
//!
//! The first use and the last go through the table's lock; all between are one exchange.
//!
//! Invariants: what is in the list of kept files has a descriptor, and no use. A descriptor is
//! closed only if it leads to its file still: a program that closes descriptors it has not opened
//! may have put another file in its place.
//! Depends on: `record`; `descriptor` to open a file again.
//! Never: a close with something written and not synced, but by [`Files::unref`]: the error would
//! be lost.

use super::Files;
use super::descriptor::{Got, Mode, without_direct};
use super::error::FileError;
use super::identity::Identity;
use super::record::{DIRECT, FileRec, KEPT, UNSYNCED, VANISHED, WRITABLE};
use crate::os::descriptor;
use crate::os::errno::Errno;
use crate::os::file;
use crate::page::id::FileId;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

/// The most descriptors of files that nobody uses; or half of what the process may have open
/// (`RLIMIT_NOFILE`), if that is less.
pub const KEPT_MAX: u32 = 1024;

/// A use of a file: its descriptor stays open while this is there.
pub(super) struct Use<'a> {
    pub files: &'a Files,
    pub file: FileId,
}

impl<'a> Use<'a> {
    pub fn record(&self) -> &'a FileRec {
        self.files.records.get(self.file)
    }

    pub fn fd(&self) -> BorrowedFd<'a> {
        borrow(self.record().fd.load(Relaxed))
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        let files = self.files;
        let uses = &self.record().uses;
        let fewer = |now: u32| (now > 1).then(|| now - 1);
        // Release pairs with the AcqRel of the last use's end: it sees what the others did.
        if files.is_in_child() || uses.fetch_update(Release, Relaxed, fewer).is_ok() {
            return;
        }
        if self.record().is_touched() {
            self.give_back();
        }
        let gone = {
            let _held = files.locked();
            // AcqRel pairs with the Release of the other uses' ends, see above.
            if uses.fetch_sub(1, AcqRel) != 1 {
                None
            } else if self.record().refs.load(Relaxed) == 0 {
                files.destroy(self.file)
            } else {
                files.keep(self.file);
                None
            }
        };
        drop(gone);
        files.trim();
    }
}

/// A descriptor that nobody knows any more; dropping it closes it if it leads to its file.
#[must_use]
pub(super) struct Gone {
    fd: u32,
    identity: Identity,
}

impl Drop for Gone {
    fn drop(&mut self) {
        if leads_to(self.fd, self.identity) {
            // SAFETY: the table has given the descriptor away and nobody uses it. It leads to its
            // file, so nobody else has closed it.
            drop(unsafe { OwnedFd::from_raw_fd(self.fd as i32 - 1) });
        }
    }
}

fn borrow<'a>(fd: u32) -> BorrowedFd<'a> {
    // SAFETY: the number is a descriptor that the table has opened and closes only while there is
    // no use: the callers have a use or the table's lock, or the descriptor is theirs alone. It is
    // not -1: `fd` is 0 for a record without a descriptor, which has no use, and -1 is not stored.
    unsafe { BorrowedFd::borrow_raw(fd.saturating_sub(1) as i32) }
}

/// Whether a descriptor leads to a file.
fn leads_to(fd: u32, identity: Identity) -> bool {
    fd != 0 && file::stat(borrow(fd)).is_ok_and(|stat| Identity::of(&stat) == identity)
}

impl Files {
    /// Keeps the file's descriptor open until [`Self::end_use`]: who maps it, or has pages of it
    /// that are not written, has one. A file whose descriptor was closed is opened again. The
    /// caller has a reference.
    ///
    /// Cost: one exchange if there are uses; else the table's lock and a look at the descriptor,
    /// or an open.
    ///
    /// # Errors
    /// [`FileError::Vanished`]: its path leads to another file, or to none; it stays so until
    /// [`Self::open`] finds the file by another path. [`FileError::Failed`]: the kernel does not
    /// open it; another try may succeed.
    pub fn begin_use(&self, file: FileId) -> Result<(), FileError> {
        self.hold(file).map(core::mem::forget)
    }

    /// Ends a use. Cost: as for [`Self::begin_use`]; if it was the last, what the kernel caches is
    /// given back, and the oldest kept file may be closed.
    pub fn end_use(&self, file: FileId) {
        drop(Use { files: self, file });
    }

    #[inline]
    pub(super) fn hold(&self, file: FileId) -> Result<Use<'_>, FileError> {
        self.check_process()?;
        let more = |now: u32| (now > 0).then(|| now + 1);
        let uses = &self.records.get(file).uses;
        // Acquire pairs with the Release of `start`: the descriptor is there.
        if uses.fetch_update(Acquire, Relaxed, more).is_ok() {
            return Ok(Use { files: self, file });
        }
        self.hold_first(file)
    }

    #[cold]
    fn hold_first(&self, file: FileId) -> Result<Use<'_>, FileError> {
        let record = self.records.get(file);
        let (path, mode) = {
            let _held = self.locked();
            if let Some(using) = self.start(file) {
                return Ok(using);
            }
            if record.has(VANISHED) {
                return Err(FileError::Vanished);
            }
            let mode = match record.has(WRITABLE) {
                true => Mode::Write,
                false => Mode::Read,
            };
            (self.paths.get(record.path.load(Relaxed)), mode)
        };
        let identity = record.identity();
        let got = self.open_again(&path, mode, identity);
        let _held = self.locked();
        // Another thread may have been quicker, by this path or another.
        if let Some(using) = self.start(file) {
            return Ok(using);
        }
        match got {
            Ok(got) => {
                self.install(file, got);
                self.start(file).ok_or(FileError::Vanished)
            }
            Err(FileError::Vanished) => {
                record.set(VANISHED);
                Err(FileError::Vanished)
            }
            Err(other) => Err(other),
        }
    }

    fn open_again(
        &self,
        path: &super::path::Path,
        mode: Mode,
        identity: Identity,
    ) -> Result<Got, FileError> {
        let gone = |errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => FileError::Vanished,
            errno => FileError::Failed(errno),
        };
        // Without a birth time a pipe may have got the file's number.
        let is_it = |stat: &file::Stat| {
            let is_it = Identity::of(stat) == identity && stat.what == file::Type::Regular;
            is_it.then_some(()).ok_or(FileError::Vanished)
        };
        // A look first: what the path leads to now may be something that does not like to be
        // opened.
        is_it(&file::stat_path(path.as_c_str()).map_err(gone)?)?;
        let got = self.open_path(path.as_c_str(), mode).map_err(gone)?;
        is_it(&got.stat)?;
        if mode == Mode::Write && !got.is_writable {
            return Err(FileError::Failed(Errno::EACCES));
        }
        Ok(got)
    }

    /// One more use, if there is a descriptor that leads to the file. Under the table's lock.
    fn start(&self, file: FileId) -> Option<Use<'_>> {
        let record = self.records.get(file);
        if record.uses.load(Relaxed) == 0 {
            if !leads_to(record.fd.load(Relaxed), record.identity()) {
                // If it has a number still, that leads elsewhere, and is left alone.
                drop(self.take_fd(file));
                return None;
            }
            self.unlist(file);
        }
        // Release pairs with the Acquire of `hold`.
        record.uses.fetch_add(1, Release);
        Some(Use { files: self, file })
    }

    /// Gives a record without descriptor one. Under the table's lock.
    pub(super) fn install(&self, file: FileId, got: Got) {
        let record = self.records.get(file);
        record.clear(WRITABLE | DIRECT | VANISHED);
        if got.is_writable {
            record.set(WRITABLE);
        }
        if let Some(alignment) = got.direct {
            record.alignment.store(alignment, Relaxed);
            record.set(DIRECT);
        }
        record.fd.store(got.fd.into_raw_fd() as u32 + 1, Relaxed);
        self.nr_open.fetch_add(1, Relaxed);
    }

    /// Whether a record's descriptor leads to its file. Under the table's lock, or with a use.
    pub(super) fn is_open(&self, file: FileId) -> bool {
        let record = self.records.get(file);
        leads_to(record.fd.load(Relaxed), record.identity())
    }

    /// Has a record's descriptor lead to what `got` opened. Under the table's lock.
    pub(super) fn upgrade(&self, file: FileId, got: &Got) -> Result<(), Errno> {
        let record = self.records.get(file);
        // Who uses the file meanwhile takes it for what it was.
        if !record.has(DIRECT) {
            without_direct(got)?;
        }
        descriptor::replace(
            borrow(record.fd.load(Relaxed)),
            borrow(got.fd.as_raw_fd() as u32 + 1),
        )?;
        if got.is_writable {
            record.set(WRITABLE);
        }
        Ok(())
    }

    /// Takes a record's descriptor away. Under the table's lock, without uses.
    pub(super) fn take_fd(&self, file: FileId) -> Option<Gone> {
        self.unlist(file);
        let record = self.records.get(file);
        let fd = record.fd.swap(0, Relaxed);
        if fd == 0 {
            return None;
        }
        self.nr_open.fetch_sub(1, Relaxed);
        Some(Gone {
            fd,
            identity: record.identity(),
        })
    }

    /// Puts a file that nobody uses at the list's end. Under the table's lock.
    pub(super) fn keep(&self, file: FileId) {
        self.unlist(file);
        let record = self.records.get(file);
        if record.fd.load(Relaxed) == 0 {
            return;
        }
        record.set(KEPT);
        record.newer.store(None, Relaxed);
        let before = self.newest.swap(Some(file), Relaxed);
        record.older.store(before, Relaxed);
        match before {
            Some(before) => self.records.get(before).newer.store(Some(file), Relaxed),
            None => self.oldest.store(Some(file), Relaxed),
        }
        self.nr_kept.fetch_add(1, Relaxed);
    }

    /// Takes a file out of the list, if it is there. Under the table's lock.
    fn unlist(&self, file: FileId) {
        let record = self.records.get(file);
        if !record.clear(KEPT) {
            return;
        }
        let older = record.older.load(Relaxed);
        let newer = record.newer.load(Relaxed);
        match older {
            Some(older) => self.records.get(older).newer.store(newer, Relaxed),
            None => self.oldest.store(newer, Relaxed),
        }
        match newer {
            Some(newer) => self.records.get(newer).older.store(older, Relaxed),
            None => self.newest.store(older, Relaxed),
        }
        self.nr_kept.fetch_sub(1, Relaxed);
    }

    /// Closes kept files, the oldest first, until there are few enough.
    pub(super) fn trim(&self) {
        let half = u32::try_from(descriptor::most() / 2).unwrap_or(u32::MAX);
        while self.nr_kept.load(Relaxed) > half.min(KEPT_MAX) && self.close_oldest() {}
    }

    /// Closes the kept file that was not used for longest. What was written to it is synced
    /// before, so that an error is noted. `false`: there is none.
    pub(super) fn close_oldest(&self) -> bool {
        let file = {
            let held = self.locked();
            let Some(file) = self.oldest.load(Relaxed) else {
                return false;
            };
            let record = self.records.get(file);
            if !record.has(UNSYNCED) {
                let gone = self.take_fd(file);
                drop(held);
                drop(gone);
                return true;
            }
            self.unlist(file);
            // Release pairs with the Acquire of `hold`.
            record.uses.store(1, Release);
            file
        };
        let using = Use { files: self, file };
        let record = using.record();
        using.sync_now();
        record.clear(UNSYNCED);
        core::mem::forget(using);
        let gone = {
            let _held = self.locked();
            // AcqRel pairs with the Release of the other uses' ends.
            if record.uses.fetch_sub(1, AcqRel) != 1 {
                None
            } else if record.refs.load(Relaxed) == 0 {
                self.destroy(file)
            } else if record.has(UNSYNCED) {
                self.keep(file);
                None
            } else {
                self.take_fd(file)
            }
        };
        drop(gone);
        true
    }
}
