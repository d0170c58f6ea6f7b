//! Write-back: what is dirty goes to the file, in runs of pages that follow each other.
//!
//! A page that is written is pinned to read, so others read it meanwhile and nobody writes. One
//! write-back of a region is under way at a time: who comes for the same waits for it, so that a
//! sync has written what was dirty when it began, whoever wrote it.
//!
//! Invariants: a page is clean once all its bytes have been handed to the file. One that could not
//! be written is dirty again, unless the file was cut off before it or is gone: that would be tried
//! for ever. The file has noted the error for each user.
//! Depends on: `page::file`, which writes; `page::dirty`, which counts.
//! Never: an end of a file beyond the region's.

#![forbid(unsafe_code)]

use super::super::Engine;
use super::TouchError;
use super::file_region::is_idle;
use super::touch::Patience;
use crate::group::PageCount;
use crate::os::clock;
use crate::os::errno::Errno;
use crate::page::file::{FileError, Stopped};
use crate::page::id::LEAF;
use crate::page::leaf::Page;
use crate::page::region::{Region, RegionKind};
use crate::page::word::{Reading, State};
use crate::page::writeback_run::Run;
use crate::page::{FileId, PAGE, PageId, RegionId};
use crate::thread::ThreadRec;
use core::ops::Range;

/// The most pages that the worker writes before it looks for other work: 8 MiB.
const TURN: u64 = 2048;
/// When the worker looks again at a region that somebody else writes.
const AGAIN_NS: u64 = 1_000_000_000;

/// What comes of a page that was not written.
fn is_tried_again(why: FileError) -> bool {
    match why {
        // The program has closed the file under us.
        FileError::Failed(Errno::EBADF) => false,
        FileError::Failed(_) => true,
        FileError::Truncated { .. }
        | FileError::Vanished
        | FileError::NotWritable
        | FileError::InChild => false,
    }
}

impl Engine {
    /// Writes what is dirty of a region, `most` pages and a few at most; answers how many were
    /// tried. Errors of the file are its users' (see `sync_region`). Cost: a lock if nothing is
    /// dirty. The caller names the region.
    ///
    /// # Errors
    /// `Busy`, `Deadlock`: a page stays pinned to write; the others were written. Without patience
    /// such pages are left, and `Busy` says that somebody else writes.
    pub fn write_back(
        &self,
        rec: &ThreadRec,
        id: RegionId,
        patience: Patience,
        most: u64,
    ) -> Result<u64, TouchError> {
        let region = self.pages.region(id);
        let Some(file) = region.file() else {
            return Ok(0);
        };
        let held = match patience {
            Patience::Wait => Some(region.dirty.lock_io()),
            Patience::Now => region.dirty.try_lock_io(),
        };
        let Some(_held) = held else {
            return Err(TouchError::Busy);
        };
        self.write_pages(rec, region, file, 0..u64::MAX, patience, most)
    }

    /// As [`Self::write_back`], of a range of pages. Under the lock of the region's I/O.
    pub(super) fn write_pages(
        &self,
        rec: &ThreadRec,
        region: &Region,
        file: FileId,
        range: Range<u64>,
        patience: Patience,
        most: u64,
    ) -> Result<u64, TouchError> {
        if region.dirty.nr() == 0 {
            return Ok(0);
        }
        let began = clock::monotonic_ns();
        let (mut run, mut tried, mut left) = (Run::new(&self.pages.frames), 0, Ok(()));
        'leaves: for (first, leaf) in region.leaves(&range) {
            for at in 0..LEAF {
                let index = first + u64::from(at);
                if !range.contains(&index) {
                    continue;
                }
                let page = leaf.page(at);
                let id = PageId::of(leaf.id(), at);
                let mut until = None;
                loop {
                    let seen = page.word.read();
                    if !self.is_to_be_written(seen) {
                        break;
                    }
                    if !run.takes(index) {
                        self.write_run(rec, region, file, &mut run);
                    }
                    if run.try_take(index, id, page, seen) {
                        tried += 1;
                        self.count_writeback(rec, page, true);
                        break;
                    }
                    if page.word.read() != seen {
                        continue;
                    }
                    // Nobody waits for a page while he has others.
                    self.write_run(rec, region, file, &mut run);
                    if patience == Patience::Now {
                        break;
                    }
                    let tag = page.owner().unwrap_or(crate::group::ROOT_TAG);
                    let waited = self.wait_for_page(rec, patience, id, page, seen, tag, &mut until);
                    if let Err(why) = waited {
                        left = Err(why);
                        break;
                    }
                }
                if tried >= most {
                    break 'leaves;
                }
            }
        }
        self.write_run(rec, region, file, &mut run);
        if tried < most {
            region.dirty.tried_at(began);
        }
        left.map(|()| tried)
    }

    fn is_to_be_written(&self, seen: Reading) -> bool {
        seen.is_dirty() && matches!(seen.state(), State::Resident(_))
    }

    /// Writes the pages of a run, and lets go of them.
    fn write_run(&self, rec: &ThreadRec, region: &Region, file: FileId, run: &mut Run<'_>) {
        if run.is_empty() {
            return;
        }
        let at = run.first() * PAGE as u64;
        // Whoever makes the region shorter has set the new length, and waits for our pins.
        let end = region.len();
        let files = &self.pages.files;
        let written = run.with_content(|content| files.write(file, at, content, end));
        let failed = |nr: usize| match written {
            Ok(()) => false,
            Err(Stopped { done, why }) => {
                done < (nr as u64 + 1) * PAGE as u64 && is_tried_again(why)
            }
        };
        let then = |page: &Page, failed: bool| {
            self.count_writeback(rec, page, false);
            if failed {
                self.count_dirty(rec, page, true);
            } else {
                self.note_clean(region);
            }
        };
        run.finish(failed, then, |page, wake| {
            self.pages.waiting.wake(page, wake)
        });
    }

    /// Counts a page that was dirty as being written, or as not being written any more. By who has
    /// it pinned.
    fn count_writeback(&self, rec: &ThreadRec, page: &Page, begins: bool) {
        let tree = &self.tree;
        let _pin = tree.threads.epoch.pin(rec);
        let Some(books) = page.owner().and_then(|tag| tree.lock_pages(tag)) else {
            return;
        };
        if begins {
            books.sub(PageCount::FileDirty, PAGE as u64);
            books.add(PageCount::FileWriteback, PAGE as u64);
        } else {
            books.sub(PageCount::FileWriteback, PAGE as u64);
        }
    }

    /// Has the worker look at regions of files at `ns`.
    pub(super) fn look_at_regions(&self, ns: u64) {
        if self.pages.expiry.look_at(ns) {
            self.ring_worker();
        }
    }

    /// Writes files whose pages have been dirty for long, a part of them at a time, and ends
    /// regions that have no pages and no user; answers the ms until the next look, 0 if nothing is
    /// dirty. O(regions) when it is time, else a load.
    pub(in crate::engine) fn write_back_if_due(&self, rec: &ThreadRec) -> u32 {
        let (pages, expiry) = (&self.pages, &self.pages.expiry);
        if expiry.next_ns() == 0 || !pages.are_mine() {
            return 0;
        }
        let now = clock::monotonic_ns();
        if expiry.begin_look(now) {
            let age = expiry.age_ns();
            for (id, region) in pages.regions() {
                if region.kind() != RegionKind::File
                    || region.dirty.nr() == 0 && !is_idle(region)
                    || !region.try_ref()
                {
                    continue;
                }
                // Its name is dropped below: with it goes one that has no pages.
                if region.file().is_some() && region.dirty.nr() > 0 {
                    let due = region.dirty.since_ns().saturating_add(age);
                    let next = if due > now {
                        due
                    } else {
                        match self.write_back(rec, id, Patience::Now, TURN) {
                            // The rest at once.
                            Ok(tried) if tried >= TURN => now,
                            Ok(_) => now.saturating_add(age.max(AGAIN_NS)),
                            Err(_) => now.saturating_add(AGAIN_NS),
                        }
                    };
                    if region.dirty.nr() > 0 {
                        expiry.look_at(next);
                    }
                }
                self.unref_region(rec, id);
            }
        }
        match expiry.next_ns() {
            0 => 0,
            at => {
                let ms = at.saturating_sub(clock::monotonic_ns()).div_ceil(1_000_000);
                u32::try_from(ms).unwrap_or(u32::MAX).max(1)
            }
        }
    }
}
