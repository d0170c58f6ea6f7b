//! From a path to a record, and the record's end.
//!
//! Invariants: what is opened is a regular file. What a path leads to is looked at before it is
//! opened, since to open a pipe or a device does something to it, and after, since the path may
//! lead elsewhere by then.
//! Depends on: `descriptor`, `identity`, `path`, `uses`, `look`.
//! Never: the table's lock over a call that opens something.

#![forbid(unsafe_code)]

use super::descriptor::{Got, Mode};
use super::error::OpenError;
use super::identity::Identity;
use super::look::{Changed, Look};
use super::path::Path;
use super::record::{DIRECT, KEPT, VANISHED, WRITABLE};
use super::uses::Gone;
use super::{FileError, Files};
use crate::os::errno::Errno;
use crate::os::file::{self, Stat, Type};
use crate::page::id::FileId;
use crate::sync::atomic::Ordering::Relaxed;

/// How often a path may lead to another file between a look and the open.
const NR_TRIES: u32 = 8;
/// The most records: what the kernel lets a process map bounds files far below.
const NR_FILES: u32 = 1 << 24;

/// A file that was opened, with one reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The file.
    pub file: FileId,
    /// Whether it was not known before.
    pub is_new: bool,
    /// What it is now. If others have changed it since it was last looked at, what is cached and
    /// clean has to be dropped.
    pub look: Look,
    /// Whether it is the first file of this table that goes through the kernel's cache: whoever
    /// shows things to people says so, once.
    pub is_first_cached: bool,
}

fn check_type(stat: &Stat) -> Result<(), OpenError> {
    match stat.what {
        Type::Regular => Ok(()),
        other @ (Type::Block | Type::Directory | Type::Other) => Err(OpenError::NotAFile(other)),
    }
}

impl Files {
    /// The file that a path leads to, with one more reference, which [`Self::unref`] gives back.
    /// Its descriptor is kept, not used: [`Self::begin_use`] follows.
    ///
    /// A file that is open for as much already is not opened again, whatever the path. A file that
    /// is open to read is opened again to write if `mode` asks for it. The path by which it is
    /// opened is the one by which it is opened again. Cost: a look, and for a new file an open and
    /// two or three calls more.
    ///
    /// # Errors
    /// See [`OpenError`]. A path of more than 4,095 bytes from the root is refused, though the
    /// kernel takes it relative to the working directory.
    pub fn open(&self, path: &[u8], mode: Mode) -> Result<Opened, OpenError> {
        if self.is_in_child() {
            return Err(OpenError::InChild);
        }
        let path = Path::absolute(path)?;
        for _ in 0..NR_TRIES {
            let stat = file::stat_path(path.as_c_str()).map_err(OpenError::Refused)?;
            check_type(&stat)?;
            let identity = Identity::of(&stat);
            if let Some(file) = self.find_open(identity, mode) {
                return self.opened(file, None);
            }
            let got = match self.open_path(path.as_c_str(), mode) {
                Ok(got) => got,
                // It was there a moment ago.
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(OpenError::Refused(errno)),
            };
            check_type(&got.stat)?;
            if Identity::of(&got.stat) != identity {
                continue;
            }
            let stat = got.stat;
            let (file, is_new) = self.enter(got, &path)?;
            self.trim();
            return self.opened(file, is_new.then_some(stat));
        }
        Err(OpenError::KeepsChanging)
    }

    /// A file that is open for as much as `mode` asks, with one more reference.
    fn find_open(&self, identity: Identity, mode: Mode) -> Option<FileId> {
        let _held = self.locked();
        let file = self.buckets.find(&self.records, identity)?;
        let record = self.records.get(file);
        if !self.is_open(file) || mode == Mode::Write && !record.has(WRITABLE) {
            return None;
        }
        record.refs.fetch_add(1, Relaxed);
        if record.has(KEPT) {
            self.keep(file);
        }
        Some(file)
    }

    /// What [`Self::open`] answers: `new` is what a new file is.
    fn opened(&self, file: FileId, new: Option<Stat>) -> Result<Opened, OpenError> {
        let look = match new {
            Some(stat) => Look {
                size: stat.size,
                nr_names: stat.nr_names,
                changed: Changed::No,
            },
            None => self.look(file).map_err(|why: FileError| {
                self.unref(file);
                OpenError::Refused(why.errno())
            })?,
        };
        let is_direct = self.is_direct(file);
        Ok(Opened {
            file,
            is_new: new.is_some(),
            look,
            is_first_cached: !is_direct && self.has_told_cached.swap(1, Relaxed) == 0,
        })
    }

    /// Puts what was opened into the table; answers the file with one more reference, and whether
    /// it is new.
    fn enter(&self, got: Got, path: &Path) -> Result<(FileId, bool), OpenError> {
        let _held = self.locked();
        let Some(file) = self.buckets.find(&self.records, Identity::of(&got.stat)) else {
            return self.enter_new(got, path).map(|file| (file, true));
        };
        let record = self.records.get(file);
        let is_open = self.is_open(file);
        if !is_open && record.uses.load(Relaxed) > 0 {
            // The program has closed it under its users.
            return Err(OpenError::Refused(Errno::EBADF));
        }
        if is_open {
            if got.is_writable && !record.has(WRITABLE) {
                self.upgrade(file, &got).map_err(OpenError::Refused)?;
            }
        } else {
            // If it has a number still, that leads elsewhere, and is left alone.
            drop(self.take_fd(file));
            // Without memory the path stays that was known.
            if let Some(kept) = self.paths.keep(path) {
                self.paths.free(record.path.swap(Some(kept), Relaxed));
            }
            self.install(file, got);
        }
        record.refs.fetch_add(1, Relaxed);
        if record.uses.load(Relaxed) == 0 {
            self.keep(file);
        }
        Ok((file, false))
    }

    fn enter_new(&self, got: Got, path: &Path) -> Result<FileId, OpenError> {
        let kept = self.paths.keep(path).ok_or(OpenError::NoRoom)?;
        let Some(file) = self.records.alloc(NR_FILES) else {
            self.paths.free(Some(kept));
            return Err(OpenError::NoRoom);
        };
        let record = self.records.get(file);
        record.reset(Identity::of(&got.stat));
        record.path.store(Some(kept), Relaxed);
        record.size.store(got.stat.size, Relaxed);
        record.written_ns.store(got.stat.written_ns, Relaxed);
        record.refs.store(1, Relaxed);
        self.install(file, got);
        self.buckets.insert(&self.records, file);
        self.keep(file);
        Ok(file)
    }

    /// One more reference on a file that the caller has one on.
    pub fn add_ref(&self, file: FileId) {
        self.records.get(file).refs.fetch_add(1, Relaxed);
    }

    /// Gives back a reference. The last one closes the file and forgets it; an error that nobody
    /// was told is forgotten with it, as the kernel's is. The caller has no use any more.
    pub fn unref(&self, file: FileId) {
        if self.is_in_child() {
            return;
        }
        let gone = {
            let _held = self.locked();
            let record = self.records.get(file);
            if record.refs.fetch_sub(1, Relaxed) != 1 {
                return;
            }
            self.buckets.remove(&self.records, file);
            // Else the last use's end does it.
            match record.uses.load(Relaxed) {
                0 => self.destroy(file),
                _ => None,
            }
        };
        drop(gone);
    }

    /// Frees a record that has no references and no uses. Under the table's lock.
    pub(super) fn destroy(&self, file: FileId) -> Option<Gone> {
        let gone = self.take_fd(file);
        let record = self.records.get(file);
        self.paths.free(record.path.swap(None, Relaxed));
        record.clear(VANISHED | DIRECT);
        self.records.free(file);
        gone
    }
}
