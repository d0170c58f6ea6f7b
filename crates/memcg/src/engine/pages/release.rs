//! The way back: a page's content is dropped, and whoever was charged for it is relieved.
//!
//! Invariants: the content is dropped by who takes the page out of its frame by a compare and swap;
//! he gives the charge back, once.
//! Depends on: the books; the frames.
//! Never: takes a page that somebody has pinned.

#![forbid(unsafe_code)]

use super::super::Engine;
use super::count_of;
use super::touch::Patience;
use crate::group::{Kind, PageCount};
use crate::page::id::LEAF;
use crate::page::leaf::Page;
use crate::page::region::{Region, RegionKind};
use crate::page::word::{Reading, State};
use crate::page::{FrameId, PAGE, PageId, RegionId};
use crate::sync::id::Id;
use crate::thread::ThreadRec;
use core::ops::Range;

/// What came of dropping pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// Pages that had content and have none now.
    pub dropped: u64,
    /// Pages that stayed, since somebody has them pinned.
    pub busy: u64,
}

impl Engine {
    /// Drops the content of the pages `range` of a region, which read as zeros (or as the file)
    /// afterwards; waits for those that are pinned by others, if it may. Of a file only what
    /// `which` says. O(leaves of the region + pages).
    pub fn drop_pages(
        &self,
        rec: &ThreadRec,
        id: RegionId,
        range: Range<u64>,
        which: Which,
        patience: Patience,
    ) -> Dropped {
        let region = self.pages.region(id);
        let mut all = Dropped::default();
        for (first, record) in region.leaves(&range) {
            let from = range.start.saturating_sub(first).min(u64::from(LEAF)) as u32;
            let to = range.end.saturating_sub(first).min(u64::from(LEAF)) as u32;
            for at in from..to {
                let page = record.page(at);
                match self.drop_page(
                    rec,
                    region,
                    PageId::of(record.id(), at),
                    page,
                    which,
                    patience,
                ) {
                    Some(true) => all.dropped += 1,
                    Some(false) => {}
                    None => all.busy += 1,
                }
            }
        }
        all
    }

    /// `true`: dropped; `false`: nothing was to be dropped; `None`: it is pinned.
    fn drop_page(
        &self,
        rec: &ThreadRec,
        region: &Region,
        id: PageId,
        page: &Page,
        which: Which,
        patience: Patience,
    ) -> Option<bool> {
        let mut until = None;
        loop {
            let seen = page.word.read();
            match seen.state() {
                State::Absent => return Some(false),
                State::Resident(_) if which == Which::Clean && seen.is_dirty() => {
                    return Some(false);
                }
                State::Resident(frame) if seen.is_unpinned() => {
                    if let Ok(wake) = page.word.try_evict(seen, State::Absent) {
                        self.pages.waiting.wake(id, wake);
                        self.relieve(rec, region, page, seen, FrameId::from_raw(frame));
                        return Some(true);
                    }
                }
                State::Resident(_) | State::Filling => {
                    // The page's own owner stands for the thread's task: what matters is whether
                    // the pin is this thread's.
                    let tag = page.owner().unwrap_or(crate::group::ROOT_TAG);
                    self.wait_for_page(rec, patience, id, page, seen, tag, &mut until)
                        .ok()?;
                }
                State::Zswap(_) | State::Swap(_) | State::Poisoned(_) => {
                    if page.word.try_move_out(seen, State::Absent) {
                        return Some(true);
                    }
                }
            }
        }
    }

    /// A page that was in `frame`, as it was `seen`, has no content any more.
    pub(super) fn relieve(
        &self,
        rec: &ThreadRec,
        region: &Region,
        page: &Page,
        seen: Reading,
        frame: Option<FrameId>,
    ) {
        let tree = &self.tree;
        let Some(tag) = page.owner() else {
            tree.report_broken();
            return;
        };
        let pin = tree.threads.epoch.pin(rec);
        let mut is_last = false;
        if let Some(books) = tree.lock_pages(tag) {
            books.sub(count_of(region.kind()), PAGE as u64);
            if seen.is_dirty() && region.kind() == RegionKind::File {
                books.sub(PageCount::FileDirty, PAGE as u64);
            }
            is_last = books.page_out();
        }
        drop(pin);
        if seen.is_dirty() {
            self.note_clean(region);
        }
        if let Some(frame) = frame {
            self.pages.frames.free(frame);
        }
        self.note_page_out(region);
        self.uncharge(rec, tag, PAGE as u64, Kind::Page);
        if is_last {
            let _pin = tree.threads.epoch.pin(rec);
            tree.unref_objcg(tag);
        }
    }
}

/// Which pages are to be dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// All.
    All,
    /// Those whose content the file has.
    Clean,
}
