//! The way back: a page's content is dropped, and whoever was charged for it is relieved.
//!
//! Invariants: the content is dropped by who takes the page out of its frame by a compare and swap;
//! he gives the charge back, once.
//! Depends on: the books; the frames.
//! Never: takes a page that somebody has pinned.

#![forbid(unsafe_code)]

use super::super::Engine;
use super::touch::Patience;
use super::{class_of, count_of};
use crate::group::exact_charge::round_up;
use crate::group::{Books, Kind, PageCount};
use crate::page::id::LEAF;
use crate::page::leaf::Page;
use crate::page::region::{Region, RegionKind};
use crate::page::word::{Reading, State};
use crate::page::{FrameId, PAGE, PageId, RegionId, SlotId, ZswapId};
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
                State::Resident(_) if seen.is_unpinned() => {
                    if let Ok(wake) = page.word.try_evict(seen, State::Filling) {
                        self.pages.waiting.wake(id, wake);
                        self.relieve(rec, region, id, page, seen);
                        return Some(true);
                    }
                }
                State::Resident(_) | State::Filling => {
                    // The engine itself is at it, and lets it go soon.
                    let is_ours = !seen.is_resident() || seen.is_under_writeback();
                    let patience = if is_ours { Patience::Wait } else { patience };
                    // The page's own owner stands for the thread's task: what matters is whether
                    // the pin is this thread's.
                    let tag = page.owner().unwrap_or(crate::group::ROOT_TAG);
                    self.wait_for_page(rec, patience, id, page, seen, tag, &mut until)
                        .ok()?;
                }
                State::Zswap(_) | State::Swap(_) | State::Poisoned(_) => {
                    if page.word.try_begin_fill(seen) {
                        self.relieve(rec, region, id, page, seen);
                        return Some(true);
                    }
                }
            }
        }
    }

    /// Drops the content of a page that was as it was `seen`, and that the caller has taken: nobody
    /// else has it until this lets it go.
    fn relieve(&self, rec: &ThreadRec, region: &Region, id: PageId, page: &Page, seen: Reading) {
        let (tree, pages) = (&self.tree, &self.pages);
        let Some(tag) = page.owner() else {
            tree.report_broken();
            return;
        };
        // Bytes of memory that are charged no more.
        let mut bytes = 0;
        let mut is_last = false;
        {
            let _pin = tree.threads.epoch.pin(rec);
            if let Some(books) = tree.lock_pages(tag) {
                match seen.state() {
                    State::Resident(frame) => {
                        bytes = PAGE as u64;
                        books.sub(count_of(region.kind()), bytes);
                        if seen.is_dirty() && region.kind() == RegionKind::File {
                            books.sub(PageCount::FileDirty, bytes);
                        }
                        if let Some(listed) = pages.lists.of(tag) {
                            let class = class_of(region.kind());
                            listed.forget(class, page.seq());
                            listed.tidy(class, |entry| self.is_live(tag, entry));
                        }
                        if let Some(frame) = FrameId::from_raw(frame) {
                            let _ = self.drop_copy(&books, frame);
                            pages.frames.free(frame);
                        }
                    }
                    State::Zswap(entry) => bytes = self.drop_compressed(&books, entry),
                    State::Swap(slot) | State::Poisoned(slot) => {
                        if let Some(slot) = SlotId::from_raw(slot) {
                            self.free_slot(&books, slot);
                        }
                    }
                    State::Absent | State::Filling => {}
                }
                page.set_seq(0);
                is_last = books.page_out();
                if is_last && let Some(listed) = pages.lists.of(tag) {
                    listed.empty();
                }
            }
        }
        if seen.is_resident() && seen.is_dirty() {
            self.note_clean(region);
        }
        self.note_page_out(region);
        let wake = page.word.abort_fill(State::Absent);
        pages.waiting.wake(id, wake);
        if bytes > 0 {
            self.uncharge(rec, tag, bytes, Kind::Page);
        }
        if is_last {
            let _pin = tree.threads.epoch.pin(rec);
            tree.unref_objcg(tag);
        }
    }

    /// Frees a compressed page, in the books too; answers the bytes of memory that are to be
    /// uncharged. By who has the page alone.
    pub(super) fn drop_compressed(&self, books: &Books<'_>, entry: u32) -> u64 {
        let bytes = self.drop_entry(books, entry);
        books.sub_swap(PAGE as u64);
        bytes
    }

    /// As [`Self::drop_compressed`], of a page that stays charged to swap.
    pub(super) fn drop_entry(&self, books: &Books<'_>, entry: u32) -> u64 {
        let freed = ZswapId::from_raw(entry).and_then(|entry| self.pages.zswap.free(entry));
        let Some(bytes) = freed else {
            self.tree.report_broken();
            return 0;
        };
        let bytes = round_up(u64::from(bytes));
        books.sub(PageCount::Zswap, bytes);
        books.sub(PageCount::Zswapped, PAGE as u64);
        bytes
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
