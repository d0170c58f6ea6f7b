//! A touch of a page: to have it pinned, in a frame, charged.
//!
//! A page that is in a frame takes one compare and swap. One that is not is charged first, then
//! filled by whoever's compare and swap wins; the loser gives his charge back and looks again.
//!
//! Invariants: what is pinned is in the thread's list of pins. A touch that fails leaves the page
//! as it was.
//! Depends on: `whom` for the owner; `content` for what goes into the frame.
//! Never: waits for a page longer than its patience.

#![forbid(unsafe_code)]

use super::super::{Engine, Flags, Request};
use super::TouchError;
use crate::group::{Kind, PageCount, Tag};
use crate::os::clock;
use crate::page::leaf::Page;
use crate::page::mapping::Mapping;
use crate::page::pins::Holder;
use crate::page::region::{Region, RegionKind};
use crate::page::word::{Access, Reading, State, Tried};
use crate::page::{FrameId, InUse, PAGE, PageId, RegionId};
use crate::sync::atomic::{Ordering, fence};
use crate::sync::id::Id;
use crate::thread::ThreadRec;

/// How long a touch waits for others who are at the page.
const PATIENCE_NS: u64 = 10_000_000_000;
/// One sleep of it.
const NAP_MS: u32 = 100;

/// Whether a touch may wait: for others who are at the page, for reclaim, for what it owes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// It may.
    Wait,
    /// It answers `Busy` instead.
    Now,
}

/// What somebody wants to do with a page, and how.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    /// Which page of the region.
    pub index: u64,
    /// To read or to write.
    pub access: Access,
    /// Whether it may wait.
    pub patience: Patience,
    /// All of the page is written, so its content need not be brought.
    pub overwrites: bool,
    /// What its charge may do besides, as who asks: `NOWAIT` for one who can be refused.
    pub flags: Flags,
}

/// A page that is pinned.
#[derive(Clone, Copy)]
pub struct PinnedPage<'p> {
    /// The page's number.
    pub page: PageId,
    /// The page.
    pub record: &'p Page,
    /// Its frame.
    pub frame: FrameId,
    /// For whom it is pinned.
    pub tag: Tag,
}

impl Engine {
    /// Pins a page that is in its frame, if nobody is in the way. To be followed by
    /// [`Self::unpin_page`]. `None`: [`Self::pin_page`] knows why.
    ///
    /// Cost: one compare and swap and some loads.
    #[inline]
    pub fn pin_hit<'p>(
        &'p self,
        rec: &ThreadRec,
        by: InUse<'p>,
        index: u64,
        access: Access,
    ) -> Option<PinnedPage<'p>> {
        let pages = &self.pages;
        let InUse {
            mapping, region, ..
        } = by;
        if !pages.are_mine() || index >= region.nr_all() {
            return None;
        }
        if access == Access::Write && self.is_read_only(region) {
            return None;
        }
        let (leaf, at) = region.leaf(index)?;
        pages.pins.make_room(rec)?;
        let record = leaf.page(at);
        let Tried::Pinned(pinned) = record.word.try_pin(access) else {
            return None;
        };
        let pinned_page = PinnedPage {
            page: PageId::of(leaf.id(), at),
            record,
            frame: FrameId::from_raw(pinned.frame)?,
            tag: mapping.tag(),
        };
        mapping.note_use(pages.clock());
        pages.pins.push(rec, pinned_page.page, pinned_page.tag);
        if pinned.made_dirty && region.kind() == RegionKind::File {
            self.count_dirty(rec, record, true);
            self.note_dirty(region);
        }
        Some(pinned_page)
    }

    /// Pins a page; brings it, if it is in no frame. To be followed by [`Self::unpin_page`].
    ///
    /// # Errors
    /// See [`TouchError`].
    pub fn pin_page<'p>(
        &'p self,
        rec: &ThreadRec,
        by: InUse<'p>,
        touch: Touch,
    ) -> Result<PinnedPage<'p>, TouchError> {
        self.ready_to_pin(rec, by, touch)?;
        self.pin_slow(rec, by, touch)
    }

    /// Whether a page may be pinned as a touch wants it, and there is room to note it.
    pub(super) fn ready_to_pin(
        &self,
        rec: &ThreadRec,
        by: InUse<'_>,
        touch: Touch,
    ) -> Result<(), TouchError> {
        if !self.pages.are_mine() {
            return Err(TouchError::Child);
        }
        if touch.index >= by.region.nr_all() {
            return Err(TouchError::Range);
        }
        if touch.access == Access::Write && self.is_read_only(by.region) {
            return Err(TouchError::ReadOnly);
        }
        self.pages.pins.make_room(rec).ok_or(TouchError::NoMemory)
    }

    #[cold]
    fn pin_slow<'p>(
        &'p self,
        rec: &ThreadRec,
        by: InUse<'p>,
        touch: Touch,
    ) -> Result<PinnedPage<'p>, TouchError> {
        let pages = &self.pages;
        let InUse {
            mapping, region, ..
        } = by;
        let id = mapping.region();
        let tag = mapping.tag();
        let (page, record) = self.have_page(rec, region, id, touch.index)?;
        let mut until = None;
        loop {
            match record.word.try_pin(touch.access) {
                Tried::Pinned(pinned) => {
                    let Some(frame) = FrameId::from_raw(pinned.frame) else {
                        return Err(TouchError::NoMemory);
                    };
                    mapping.note_use(pages.clock());
                    pages.pins.push(rec, page, tag);
                    if pinned.made_dirty && region.kind() == RegionKind::File {
                        self.count_dirty(rec, record, true);
                        self.note_dirty(region);
                    }
                    return Ok(PinnedPage {
                        page,
                        record,
                        frame,
                        tag,
                    });
                }
                Tried::Out(seen) => {
                    let filled =
                        self.fill(rec, region, Some(mapping), touch, (page, record), seen)?;
                    if let Some(frame) = filled {
                        mapping.note_use(pages.clock());
                        pages.pins.push(rec, page, tag);
                        return Ok(PinnedPage {
                            page,
                            record,
                            frame,
                            tag,
                        });
                    }
                }
                Tried::Busy(seen) => {
                    self.wait_for_page(rec, touch.patience, page, record, seen, tag, &mut until)?;
                }
                Tried::Poisoned => return Err(TouchError::Io(crate::os::errno::Errno::EIO)),
            }
            // It may have become shorter meanwhile.
            if touch.index >= region.nr_all() {
                return Err(TouchError::Range);
            }
        }
    }

    /// Lets go of a page.
    #[inline]
    pub fn unpin_page(&self, rec: &ThreadRec, pinned: PinnedPage<'_>, access: Access) {
        let pages = &self.pages;
        // In a child the pin is the parent's.
        if !pages.are_mine() {
            return;
        }
        let word = &pinned.record.word;
        let wake = match access {
            Access::Read => word.unpin_read(),
            Access::Write => word.unpin_write(),
        };
        pages.pins.pop(rec, pinned.page, pinned.tag);
        pages.waiting.wake(pinned.page, wake);
    }

    /// Zeroes a part of a page of a region of memory, if it has content.
    pub(super) fn zero_part(
        &self,
        rec: &ThreadRec,
        id: RegionId,
        index: u64,
        part: core::ops::Range<usize>,
    ) -> Result<(), TouchError> {
        let pages = &self.pages;
        let region = pages.region(id);
        let Some((page, record)) = region.page(index) else {
            return Ok(());
        };
        let mut until = None;
        loop {
            match record.word.try_pin(Access::Write) {
                Tried::Pinned(pinned) => {
                    if let Some(frame) = FrameId::from_raw(pinned.frame) {
                        pages.frames.zero(frame, part);
                    }
                    if pinned.made_dirty && region.kind() == RegionKind::File {
                        self.count_dirty(rec, record, true);
                        self.note_dirty(region);
                    }
                    let wake = record.word.unpin_write();
                    pages.waiting.wake(page, wake);
                    return Ok(());
                }
                Tried::Out(seen) if seen.is_absent() => return Ok(()),
                Tried::Poisoned => return Ok(()),
                // It comes back to who has it, to be written.
                Tried::Out(seen) => {
                    let touch = Touch {
                        index,
                        access: Access::Write,
                        patience: Patience::Wait,
                        overwrites: false,
                        flags: Flags::NOWAIT,
                    };
                    let page = (page, record);
                    if let Some(frame) = self.fill(rec, region, None, touch, page, seen)? {
                        pages.frames.zero(frame, part);
                        let wake = record.word.unpin_write();
                        pages.waiting.wake(page.0, wake);
                        return Ok(());
                    }
                }
                Tried::Busy(seen) => {
                    let tag = record.owner().unwrap_or(crate::group::ROOT_TAG);
                    self.wait_for_page(rec, Patience::Wait, page, record, seen, tag, &mut until)?;
                }
            }
        }
    }

    /// The page's place in the table, made if it is not there.
    pub(super) fn have_page<'e>(
        &'e self,
        rec: &ThreadRec,
        region: &Region,
        id: RegionId,
        index: u64,
    ) -> Result<(PageId, &'e Page), TouchError> {
        let (page, record, bytes) = self.pages.page(id, index).ok_or(TouchError::NoMemory)?;
        if bytes > 0 {
            self.count_region_records(rec, region, bytes);
        }
        Ok((page, record))
    }

    /// Waits until the page is not as it was `seen`, or for a while.
    #[allow(
        clippy::too_many_arguments,
        reason = "each says another thing of one wait"
    )]
    pub(super) fn wait_for_page(
        &self,
        rec: &ThreadRec,
        patience: Patience,
        page: PageId,
        record: &Page,
        seen: Reading,
        tag: Tag,
        until: &mut Option<u64>,
    ) -> Result<(), TouchError> {
        match self.pages.pins.holder(rec, page, tag) {
            Holder::Same => return Err(TouchError::Deadlock),
            Holder::Other => return Err(TouchError::Busy),
            Holder::Elsewhere => {}
        }
        if patience == Patience::Now {
            return Err(TouchError::Busy);
        }
        let now = clock::monotonic_ns();
        if now >= *until.get_or_insert(now.saturating_add(PATIENCE_NS)) {
            return Err(TouchError::Busy);
        }
        self.pages.waiting.wait(page, &record.word, seen, NAP_MS);
        Ok(())
    }

    /// Brings a page that is in no frame; pinned, as the touch wants it. One that is absent is
    /// charged as `mapping` says. `None`: somebody else was faster.
    fn fill(
        &self,
        rec: &ThreadRec,
        region: &Region,
        mapping: Option<&Mapping>,
        touch: Touch,
        (page, record): (PageId, &Page),
        seen: Reading,
    ) -> Result<Option<FrameId>, TouchError> {
        let (tree, pages) = (&self.tree, &self.pages);
        // What is out keeps its owner, who is charged for it again.
        let was_out = !seen.is_absent();
        let whom = match (record.owner().filter(|_| was_out), mapping) {
            (Some(owner), _) => {
                let _pin = tree.threads.epoch.pin(rec);
                if !tree.try_ref_objcg(owner) {
                    // It was dropped this moment.
                    return Ok(None);
                }
                self.whom(rec, owner)
            }
            (None, Some(mapping)) => self.whom_to_charge(rec, region, mapping),
            // What is absent nobody asks for without a mapping: it became so this moment.
            (None, None) => return Ok(None),
        };
        let tag = whom.tag();
        let flags = touch.flags
            | match touch.patience {
                Patience::Wait => Flags::WAIT,
                Patience::Now => Flags::NOWAIT,
            };
        let request = Request {
            tag,
            bytes: PAGE as u64,
            kind: Kind::Page,
            flags,
        };
        // First, so that nobody reclaims or waits while the page is his.
        self.charge(rec, request).map_err(TouchError::Full)?;
        let charged = Charged {
            engine: self,
            rec,
            tag,
        };
        {
            let _pin = tree.threads.epoch.pin(rec);
            tree.ensure_owner_pages(tag).ok_or(TouchError::NoMemory)?;
        }
        let mut frame = pages.frames.alloc().ok_or(TouchError::NoMemory)?;
        if !record.word.try_begin_fill(seen) {
            return Ok(None);
        }
        let mut filling = Filling {
            engine: self,
            page,
            record,
            back: seen.state(),
        };
        if was_out && record.owner() != Some(tag) {
            return Ok(None);
        }
        // Pairs with the fence of `resize_region`: the region may have become shorter since it was
        // asked.
        fence(Ordering::SeqCst);
        if touch.index >= region.nr_all() {
            return Err(TouchError::Range);
        }
        // What is overwritten is all written by the caller before anybody else sees it.
        if !touch.overwrites
            && let Err(why) = self.bring(region, touch.index, seen.state(), &mut frame)
        {
            if let State::Swap(slot) = seen.state() {
                filling.back = State::Poisoned(slot);
            }
            return Err(why);
        }
        let dirty = touch.access == Access::Write || region.kind() != RegionKind::File;
        let back = self.come_in(rec, region, (page, record), frame, tag, seen, dirty)?;
        if dirty {
            self.note_dirty(region);
        }
        charged.keep();
        pages.tick();
        filling.publish(back.frame, touch.access, back.dirty, back.workingset);
        if back.uncharge > 0 {
            self.uncharge(rec, tag, back.uncharge, Kind::Page);
        }
        Ok(Some(back.frame))
    }

    /// Counts a page of a file as dirty, or as clean. By who has it pinned, or to himself.
    pub(super) fn count_dirty(&self, rec: &ThreadRec, page: &Page, is_dirty: bool) {
        let tree = &self.tree;
        let _pin = tree.threads.epoch.pin(rec);
        let Some(books) = page.owner().and_then(|tag| tree.lock_pages(tag)) else {
            return;
        };
        if is_dirty {
            books.add(PageCount::FileDirty, PAGE as u64);
        } else {
            books.sub(PageCount::FileDirty, PAGE as u64);
        }
    }
}

/// A charge for a page, given back unless it is kept.
struct Charged<'e> {
    engine: &'e Engine,
    rec: &'e ThreadRec,
    tag: Tag,
}

impl Charged<'_> {
    fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Charged<'_> {
    fn drop(&mut self) {
        self.engine
            .uncharge(self.rec, self.tag, PAGE as u64, Kind::Page);
    }
}

/// A page on its way into a frame: back where it was, unless it is published.
struct Filling<'e> {
    engine: &'e Engine,
    page: PageId,
    record: &'e Page,
    back: State,
}

impl Filling<'_> {
    fn publish(self, frame: FrameId, access: Access, dirty: bool, workingset: bool) {
        let wake = self
            .record
            .word
            .publish(frame.raw(), Some(access), dirty, workingset);
        self.engine.pages.waiting.wake(self.page, wake);
        core::mem::forget(self);
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        let wake = self.record.word.abort_fill(self.back);
        self.engine.pages.waiting.wake(self.page, wake);
    }
}
