//! Regions of files: one for each file, whatever path leads to it.
//!
//! The table of files names the region of each file, so that it lasts without handles and mappings
//! while it has pages: the next who opens the file finds them.
//!
//! Invariants: a file has one region at most that the table names. The region has a reference on
//! its file; each mapping has a use of it, and all dirty pages together have one.
//! Depends on: `page::file` for storage; `write_back`; `release`.
//! Never: drops a page that is not written, but where the file is gone, or was cut off before it.

#![forbid(unsafe_code)]

use super::super::Engine;
use super::TouchError;
use super::release::Which;
use super::touch::Patience;
use crate::group::Tag;
use crate::os::clock;
use crate::os::errno::Errno;
use crate::os::say;
use crate::page::file::{Changed, ErrorCursor, FileError, Look, Mode, OpenError, Opened};
use crate::page::region::{LEN_MAX, Region, RegionKind};
use crate::page::{FileId, PAGE, RegionId};
use crate::sync::atomic::Ordering;
use crate::thread::ThreadRec;
use core::ops::Range;

const BYTES: u64 = PAGE as u64;
const ALL: Range<u64> = 0..u64::MAX;

pub(super) fn refused(why: FileError) -> TouchError {
    match why {
        FileError::NotWritable => TouchError::ReadOnly,
        FileError::InChild => TouchError::Child,
        FileError::Failed(_) | FileError::Truncated { .. } | FileError::Vanished => {
            TouchError::Io(why.errno())
        }
    }
}

/// Whether the table alone names a region of a file, which has no pages.
pub(super) fn is_idle(region: &Region) -> bool {
    region.nr_pages() == 0 && region.nr_refs() == 1
}

impl Engine {
    /// The region of the file that a path leads to, with one more name on it. The records of a new
    /// one are counted with `opener`, which the caller names. What is cached and clean is dropped
    /// if others have changed the file.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_file(
        &self,
        rec: &ThreadRec,
        path: &[u8],
        opener: Tag,
    ) -> Result<RegionId, OpenError> {
        let pages = &self.pages;
        if !pages.claim() {
            return Err(OpenError::InChild);
        }
        let opened = pages.files.open(path, Mode::Write)?;
        if opened.is_first_cached {
            pages.files.with_path(opened.file, |path| {
                say::line(&[
                    b"memcg: no direct I/O on the file system of ",
                    path.to_bytes(),
                    b": its pages pass the kernel's cache too, which is told to drop them",
                ]);
            });
        }
        let id = self.region_of_file(rec, opened, opener)?;
        match self.note_look(rec, id, opened.look) {
            Ok(()) => Ok(id),
            Err(why) => {
                self.unref_region(rec, id);
                Err(match why {
                    TouchError::NoMemory => OpenError::NoRoom,
                    TouchError::Io(errno) => OpenError::Refused(errno),
                    TouchError::Child => OpenError::InChild,
                    TouchError::Range => OpenError::Refused(Errno::EFBIG),
                    TouchError::Full(_)
                    | TouchError::Busy
                    | TouchError::Deadlock
                    | TouchError::ReadOnly
                    | TouchError::IsFile => OpenError::Refused(Errno::EBUSY),
                })
            }
        }
    }

    /// The region of a file that was opened, whose reference is the region's from now on.
    fn region_of_file(
        &self,
        rec: &ThreadRec,
        opened: Opened,
        opener: Tag,
    ) -> Result<RegionId, OpenError> {
        let (pages, file) = (&self.pages, opened.file);
        let files = &pages.files;
        let named = files.region(file);
        loop {
            // Acquire pairs with the AcqRel below: the region is there.
            if let Some(id) = named.load(Ordering::Acquire) {
                if pages.region(id).try_ref() {
                    // It may be another's by now.
                    if named.is(Some(id), Ordering::Acquire)
                        && pages.region(id).file() == Some(file)
                    {
                        files.unref(file);
                        return Ok(id);
                    }
                    self.unref_region(rec, id);
                }
                // It ends this moment: then the table names it no more.
                crate::sync::relax();
                continue;
            }
            let new = self.new_region(rec, RegionKind::File, opened.look.size, opener, Some(file));
            let id = new.map_err(|why| {
                files.unref(file);
                match why {
                    TouchError::Child => OpenError::InChild,
                    TouchError::Range => OpenError::Refused(Errno::EFBIG),
                    TouchError::NoMemory
                    | TouchError::Full(_)
                    | TouchError::Busy
                    | TouchError::Deadlock
                    | TouchError::Io(_)
                    | TouchError::ReadOnly
                    | TouchError::IsFile => OpenError::NoRoom,
                }
            })?;
            // The table's own name on it.
            pages.region(id).add_ref();
            let won = named.compare_exchange(None, Some(id), Ordering::AcqRel, Ordering::Relaxed);
            if won.is_ok() {
                return Ok(id);
            }
            // Another was faster. The region that ends takes a reference on the file along.
            files.add_ref(file);
            self.unref_region(rec, id);
        }
    }

    /// Drops a name on a region of a file. With the last but the table's it goes if nobody would
    /// miss it.
    pub(super) fn unref_file_region(&self, rec: &ThreadRec, id: RegionId) {
        let region = self.pages.region(id);
        loop {
            let refs = region.nr_refs();
            // Ours and the table's; while we have ours, it stays what it is.
            let (left, ends) = match refs {
                2 if !self.is_missed(rec, id, region) => (0, true),
                1 => (0, true),
                more => (more.saturating_sub(1), false),
            };
            if region.try_unref_to(refs, left) {
                if ends {
                    self.end_file_region(rec, id);
                }
                return;
            }
            crate::sync::relax();
        }
    }

    /// Whether a region that nobody uses is worth to be kept: it has pages, and somebody can open
    /// its file again.
    fn is_missed(&self, rec: &ThreadRec, id: RegionId, region: &Region) -> bool {
        let Some(file) = region.file() else {
            return false;
        };
        if region.nr_pages() == 0 {
            return false;
        }
        let is_named = match self.pages.files.look(file) {
            Ok(look) => {
                // Whoever opens it next is told of what comes after this.
                let _ = self.note_look(rec, id, look);
                look.nr_names > 0
            }
            Err(FileError::Vanished | FileError::InChild) => false,
            Err(FileError::Failed(_) | FileError::Truncated { .. } | FileError::NotWritable) => {
                true
            }
        };
        is_named && region.nr_pages() > 0
    }

    fn end_file_region(&self, rec: &ThreadRec, id: RegionId) {
        if let Some(file) = self.pages.region(id).file() {
            // Whoever opens the file makes a new one from here on. AcqRel pairs with the Acquire of
            // `region_of_file`.
            let _ = self.pages.files.region(file).compare_exchange(
                Some(id),
                None,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
        self.end_region(rec, id);
    }

    /// One page less of a region has content. If that was the last of a file's region that nobody
    /// uses, the worker ends the region soon. May be called under any lock.
    pub(super) fn note_page_out(&self, region: &Region) {
        region.page_out();
        if region.kind() == RegionKind::File && is_idle(region) {
            self.look_at_regions(clock::monotonic_ns());
        }
    }

    /// Does what follows from a look at a region's file: if others have changed it, what is clean
    /// is dropped; if it is shorter or longer than the region, the region becomes as long. Dirty
    /// pages beyond the new end are lost, and each user is told. The caller names the region.
    pub(super) fn note_look(
        &self,
        rec: &ThreadRec,
        id: RegionId,
        look: Look,
    ) -> Result<(), TouchError> {
        let region = self.pages.region(id);
        let Some(file) = region.file() else {
            return Ok(());
        };
        if look.changed == Changed::No && look.size == region.len() {
            return Ok(());
        }
        let _held = region.dirty.lock_io();
        // It may be of the past by now.
        let later = self.pages.files.look(file).map_err(refused)?;
        if look.changed == Changed::ByOthers || later.changed == Changed::ByOthers {
            let _ = self.drop_pages(rec, id, ALL, Which::Clean, Patience::Now);
        }
        let (len, size) = (region.len(), later.size);
        if size > LEN_MAX {
            return Err(TouchError::Range);
        }
        if size < len {
            // Whose content has no place any more: noted as the file's error.
            let beyond = size.div_ceil(BYTES)..u64::MAX;
            let _ = self.write_pages(rec, region, file, beyond, Patience::Now, u64::MAX);
            self.cut_off(rec, id, size)
        } else if size > len {
            self.lengthen(rec, id, size)
        } else {
            Ok(())
        }
    }

    /// Makes a region shorter. Under the lock of its I/O.
    fn cut_off(&self, rec: &ThreadRec, id: RegionId, len: u64) -> Result<(), TouchError> {
        let before = self.pages.set_region_len(id, len);
        let before = before.ok_or(TouchError::NoMemory)?;
        // Nobody can touch what is beyond the end any more.
        let beyond = len.div_ceil(BYTES)..u64::MAX;
        let cut = self.drop_pages(rec, id, beyond, Which::All, Patience::Wait);
        let left = match cut.busy {
            0 => self.clear_tail(rec, id, len),
            _ => Err(TouchError::Busy),
        };
        if left.is_err() {
            let _ = self.pages.set_region_len(id, before);
        }
        left
    }

    /// Makes a region longer. Under the lock of its I/O.
    fn lengthen(&self, rec: &ThreadRec, id: RegionId, len: u64) -> Result<(), TouchError> {
        // What was written behind the old end is not to appear.
        self.clear_tail(rec, id, self.pages.region(id).len())?;
        let set = self.pages.set_region_len(id, len);
        set.map(|_| ()).ok_or(TouchError::NoMemory)
    }

    /// What is behind the end in the last page reads as zeros from now on.
    fn clear_tail(&self, rec: &ThreadRec, id: RegionId, len: u64) -> Result<(), TouchError> {
        let (index, tail) = (len / BYTES, (len % BYTES) as usize);
        if tail == 0 {
            return Ok(());
        }
        // A clean one is read again.
        let last = index..index + 1;
        let dropped = self.drop_pages(rec, id, last, Which::Clean, Patience::Wait);
        if dropped.busy > 0 {
            return Err(TouchError::Busy);
        }
        self.zero_part(rec, id, index, tail..PAGE)
    }

    /// Makes a file and its region longer or shorter. Pages that are cut off are dropped; those
    /// that others have pinned are waited for.
    ///
    /// # Errors
    /// `ReadOnly`. `Range`: too long. `Busy`: a page beyond the new end stays pinned; nothing has
    /// changed. `Io`: the file system refuses; the length is as before, and what was dropped beyond
    /// the new end is as the file has it.
    pub(super) fn resize_file(
        &self,
        rec: &ThreadRec,
        id: RegionId,
        file: FileId,
        len: u64,
    ) -> Result<(), TouchError> {
        let files = &self.pages.files;
        files.begin_use(file).map_err(refused)?;
        let done = match files.is_writable(file) {
            false => Err(TouchError::ReadOnly),
            true => self.resize_writable(rec, id, file, len),
        };
        files.end_use(file);
        done
    }

    fn resize_writable(
        &self,
        rec: &ThreadRec,
        id: RegionId,
        file: FileId,
        len: u64,
    ) -> Result<(), TouchError> {
        if len > LEN_MAX {
            return Err(TouchError::Range);
        }
        let (files, region) = (&self.pages.files, self.pages.region(id));
        let _held = region.dirty.lock_io();
        let before = region.len();
        if len < before {
            self.cut_off(rec, id, len)?;
            return files.set_len(file, len).map_err(|why| {
                let _ = self.pages.set_region_len(id, before);
                refused(why)
            });
        }
        files.set_len(file, len).map_err(refused)?;
        self.lengthen(rec, id, len).inspect_err(|_| {
            let _ = files.set_len(file, before);
        })
    }

    /// Writes what is dirty, has the device keep it, and tells `user` of an error of write-back
    /// that it was not told of. Others' changes are looked for. Cost: two calls if nothing is dirty
    /// and nothing was written since the last one; else the device's. The caller names the region.
    ///
    /// # Errors
    /// `Io`: once to each user. `Busy`, `Deadlock`: a dirty page stays pinned to write, by others
    /// or by this thread. `Child`.
    pub fn sync_region(
        &self,
        rec: &ThreadRec,
        id: RegionId,
        user: &ErrorCursor,
    ) -> Result<(), TouchError> {
        let pages = &self.pages;
        if !pages.are_mine() {
            return Err(TouchError::Child);
        }
        let region = pages.region(id);
        let Some(file) = region.file() else {
            return Ok(());
        };
        self.write_back(rec, id, Patience::Wait, u64::MAX)?;
        match pages.files.sync(file, user) {
            Ok(look) => self.note_look(rec, id, look),
            Err(why) => {
                if let Ok(look) = pages.files.look(file) {
                    // The error that is told counts.
                    let _ = self.note_look(rec, id, look);
                }
                Err(refused(why))
            }
        }
    }

    /// Drops the pages of a range of bytes that are clean and that nobody has pinned: they are read
    /// from the file again. Answers how many. O(leaves of the region + pages).
    ///
    /// # Errors
    /// `Range`: not within the region. `Child`.
    pub fn invalidate(
        &self,
        rec: &ThreadRec,
        id: RegionId,
        range: Range<u64>,
    ) -> Result<u64, TouchError> {
        if !self.pages.are_mine() {
            return Err(TouchError::Child);
        }
        let region = self.pages.region(id);
        if range.start > range.end || range.end > region.len() {
            return Err(TouchError::Range);
        }
        if region.file().is_none() || range.is_empty() {
            return Ok(0);
        }
        let pages = range.start / BYTES..range.end.div_ceil(BYTES);
        let dropped = self.drop_pages(rec, id, pages, Which::Clean, Patience::Now);
        Ok(dropped.dropped)
    }

    /// Whether a region's pages may not be written.
    #[inline]
    pub(super) fn is_read_only(&self, region: &Region) -> bool {
        region
            .file()
            .is_some_and(|file| !self.pages.files.is_writable(file))
    }

    /// One page more of a region is dirty: the first keeps the file open, and has somebody look
    /// when it has been so for long. By who has the page alone, and a use of the file.
    pub(super) fn note_dirty(&self, region: &Region) {
        let Some(file) = region.file() else { return };
        if !region.dirty.add(clock::monotonic_ns) {
            return;
        }
        if self.pages.files.begin_use(file).is_err() {
            // There is a use.
            self.tree.report_broken();
        }
        let age = self.pages.expiry.age_ns();
        self.look_at_regions(region.dirty.since_ns().saturating_add(age));
    }

    /// One page less is dirty. By who has made it clean, or has dropped it.
    pub(super) fn note_clean(&self, region: &Region) {
        if let Some(file) = region.file()
            && region.dirty.sub()
        {
            self.pages.files.end_use(file);
        }
    }
}
