//! The life of a region.
//!
//! Invariants: a region's records are counted with who opened it for as long as they are there.
//! Depends on: `release` for its pages.
//! Never: ends a region that is named.

#![forbid(unsafe_code)]

use super::super::Engine;
use super::TouchError;
use super::release::Which;
use super::touch::Patience;
use crate::group::Tag;
use crate::page::region::{LEN_MAX, NewRegion, REGION_BYTES, Region, RegionKind};
use crate::page::{FileId, PAGE, RegionId};
use crate::sync::atomic::{Ordering, fence};
use crate::thread::ThreadRec;

impl Engine {
    /// A new region of `len` bytes, with one name on it, whose records are counted with `opener`,
    /// which the caller names.
    ///
    /// # Errors
    /// `Range`: too long. `NoMemory`. `Child`.
    pub fn open_region(
        &self,
        rec: &ThreadRec,
        kind: RegionKind,
        len: u64,
        opener: Tag,
    ) -> Result<RegionId, TouchError> {
        self.new_region(rec, kind, len, opener, None)
    }

    /// As [`Self::open_region`], of a file, on which the region has the caller's reference if all
    /// goes well.
    pub(super) fn new_region(
        &self,
        rec: &ThreadRec,
        kind: RegionKind,
        len: u64,
        opener: Tag,
        file: Option<FileId>,
    ) -> Result<RegionId, TouchError> {
        if len > LEN_MAX {
            return Err(TouchError::Range);
        }
        let tree = &self.tree;
        let pin = tree.threads.epoch.pin(rec);
        let opener = tree.ref_live_tag(opener);
        let made = tree
            .ensure_owner_pages(opener)
            .ok_or(TouchError::NoMemory)
            .and_then(|_| {
                let new = NewRegion {
                    kind,
                    len,
                    opener,
                    file,
                };
                let why = if self.pages.are_parents() {
                    TouchError::Child
                } else {
                    TouchError::NoMemory
                };
                self.pages.new_region(new).ok_or(why)
            });
        drop(pin);
        match made {
            Ok(id) => {
                self.count_region_records(rec, self.pages.region(id), REGION_BYTES);
                Ok(id)
            }
            Err(why) => {
                let _pin = tree.threads.epoch.pin(rec);
                tree.unref_objcg(opener);
                Err(why)
            }
        }
    }

    /// Counts `bytes` of a region's records with who opened it.
    pub(super) fn count_region_records(&self, rec: &ThreadRec, region: &Region, bytes: i64) {
        region.add_records(bytes);
        let _pin = self.tree.threads.epoch.pin(rec);
        self.tree.add_page_records(region.opener(), bytes);
    }

    /// Drops a name on a region. With the last one the region and its pages go.
    pub fn unref_region(&self, rec: &ThreadRec, id: RegionId) {
        if !self.pages.are_mine() {
            return;
        }
        let region = self.pages.region(id);
        match region.kind() {
            RegionKind::File => self.unref_file_region(rec, id),
            RegionKind::Anon | RegionKind::Shmem => {
                if region.unref() {
                    self.end_region(rec, id);
                }
            }
        }
    }

    pub(super) fn end_region(&self, rec: &ThreadRec, id: RegionId) {
        let region = self.pages.region(id);
        let left = self.drop_pages(rec, id, 0..u64::MAX, Which::All, Patience::Now);
        // Pins that were leaked: the region's pages stay charged, and its record with them.
        if left.busy > 0 {
            return;
        }
        let tree = &self.tree;
        let (opener, declared, records) = (region.opener(), region.declare(None), region.records());
        let file = region.file();
        self.pages.end_region(id);
        if let Some(file) = file {
            self.pages.files.unref(file);
        }
        let _pin = tree.threads.epoch.pin(rec);
        tree.add_page_records(opener, -(records as i64));
        if let Some(declared) = declared {
            tree.unref_objcg(declared);
        }
        tree.unref_objcg(opener);
    }

    /// Makes a region longer or shorter. What is cut off is dropped; pages that somebody has pinned
    /// are waited for.
    ///
    /// # Errors
    /// `Range`: too long. `Busy`, `Deadlock`: a page beyond the new end, or the one that it is in,
    /// stays pinned; the length is as before, and other pages beyond the new end are dropped.
    pub fn resize_region(&self, rec: &ThreadRec, id: RegionId, len: u64) -> Result<(), TouchError> {
        if !self.pages.are_mine() {
            return Err(TouchError::Child);
        }
        if let Some(file) = self.pages.region(id).file() {
            return self.resize_file(rec, id, file, len);
        }
        if len > LEN_MAX {
            return Err(TouchError::Range);
        }
        // One at a time, so that who has to restore a length restores his own.
        let _held = self.pages.region(id).dirty.lock_io();
        let before = self
            .pages
            .set_region_len(id, len)
            .ok_or(TouchError::NoMemory)?;
        if len >= before {
            return Ok(());
        }
        // Pairs with the fence of `fill`: who fills a page beyond the new end sees that, or we find
        // the page.
        fence(Ordering::SeqCst);
        // Nobody can touch what is beyond the end any more.
        let first = len.div_ceil(PAGE as u64);
        let cut = self.drop_pages(rec, id, first..u64::MAX, Which::All, Patience::Wait);
        if cut.busy > 0 {
            let _ = self.pages.set_region_len(id, before);
            return Err(TouchError::Busy);
        }
        // What was behind the end in the last page is not to come back.
        let cleared = match (len % PAGE as u64) as usize {
            0 => Ok(()),
            tail => self.zero_part(rec, id, first - 1, tail..PAGE),
        };
        cleared.inspect_err(|_| {
            let _ = self.pages.set_region_len(id, before);
        })
    }

    /// Drops the content of a range of bytes of a region of memory, which reads as zeros
    /// afterwards: whole pages go, of others the part is zeroed. Those that somebody has pinned are
    /// waited for. Answers how many pages went.
    ///
    /// # Errors
    /// `Busy`: some stay pinned; they are as before. `Range`: not within the region.
    pub fn discard(
        &self,
        rec: &ThreadRec,
        id: RegionId,
        range: core::ops::Range<u64>,
    ) -> Result<u64, TouchError> {
        if !self.pages.are_mine() {
            return Err(TouchError::Child);
        }
        const BYTES: u64 = PAGE as u64;
        let region = self.pages.region(id);
        if region.file().is_some() {
            return Err(TouchError::IsFile);
        }
        if range.start > range.end || range.end > region.len() {
            return Err(TouchError::Range);
        }
        let (first, last) = (range.start.div_ceil(BYTES), range.end / BYTES);
        // What is beyond the end of the region in its last page is of no use to anybody.
        let last = if range.end == region.len() {
            range.end.div_ceil(BYTES)
        } else {
            last
        };
        if first > last {
            // Within one page.
            let start = (range.start % BYTES) as usize;
            let end = start + (range.end - range.start) as usize;
            self.zero_part(rec, id, last, start..end)?;
            return Ok(0);
        }
        if !range.start.is_multiple_of(BYTES) {
            self.zero_part(rec, id, first - 1, (range.start % BYTES) as usize..PAGE)?;
        }
        if last * BYTES < range.end {
            self.zero_part(rec, id, last, 0..(range.end % BYTES) as usize)?;
        }
        let dropped = self.drop_pages(rec, id, first..last, Which::All, Patience::Wait);
        if dropped.busy > 0 {
            return Err(TouchError::Busy);
        }
        Ok(dropped.dropped)
    }

    /// Declares an owner for the pages of a region that come from now on: the own owner of the
    /// group that `tag`, which the caller names, is in; or none any more.
    pub fn declare_region(&self, rec: &ThreadRec, id: RegionId, tag: Option<Tag>) {
        let _pin = self.tree.threads.epoch.pin(rec);
        let owner = tag.map(|tag| self.ref_group_of(tag));
        if let Some(before) = self.pages.region(id).declare(owner) {
            self.tree.unref_objcg(before);
        }
    }
}
