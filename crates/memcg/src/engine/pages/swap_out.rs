//! The way out of memory of pages whose content is nowhere else: compressed, or to a device.
//!
//! Invariants: each page of a batch is pinned, under write-back and in no list; when the batch is
//! done with, each is out of memory, or unpinned, dirty and in its owner's lists. A page that is
//! out is charged to swap.
//! Depends on: `page::zswap`, `page::swap`; the owner's lock of pages, tried first and then waited
//! for, since a page that is pinned has to go somewhere.
//! Never: drops content before it is safe.

#![forbid(unsafe_code)]

use super::super::Engine;
use super::eviction::{Effort, Evicted, listed_group};
use crate::group::{PageCount, PageEvent, ROOT, Tag};
use crate::page::cost_balance::Class;
use crate::page::s3fifo::Queue;
use crate::page::swap::{CLUSTER, Cursor};
use crate::page::word::State;
use crate::page::zswap::StoreError;
use crate::page::{FrameId, PAGE, PageId, SlotId};
use crate::sync::id::Id;
use crate::thread::ThreadRec;

/// Pages that are to be written out.
pub(super) struct Batch {
    pages: [Option<(PageId, Tag)>; CLUSTER as usize],
    len: usize,
    /// An owner whose last page went: its name is to be dropped.
    forget: Option<Tag>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            pages: [None; CLUSTER as usize],
            len: 0,
            forget: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == self.pages.len() || self.forget.is_some()
    }

    pub(super) fn push(&mut self, page: PageId, tag: Tag) {
        if let Some(place) = self.pages.get_mut(self.len) {
            *place = Some((page, tag));
            self.len += 1;
        }
    }

    pub(super) fn forget_later(&mut self, tag: Tag) {
        self.forget = Some(tag);
    }
}

impl Engine {
    /// Writes the pages of a batch out, as far as they can be.
    pub(super) fn write_out(
        &self,
        rec: &ThreadRec,
        class: Class,
        batch: Batch,
        effort: Effort,
        done: &mut Evicted,
    ) {
        if let Some(tag) = batch.forget {
            let _pin = self.tree.threads.epoch.pin(rec);
            self.tree.unref_objcg(tag);
        }
        if let Some(&(_, tag)) = batch.pages.iter().flatten().next() {
            self.make_swap_room(rec, tag, batch.len() as u64);
        }
        let mut left = [None; CLUSTER as usize];
        let mut nr_left = 0;
        for &(page, tag) in batch.pages.iter().flatten() {
            if let Some(bytes) = self.compress(rec, page, tag, effort == Effort::Full) {
                done.add(bytes);
            } else {
                left[nr_left] = Some((page, tag));
                nr_left += 1;
            }
        }
        let mut rest = &left[..nr_left];
        if effort == Effort::Full && self.pages.swap.usage().total > 0 {
            while !rest.is_empty() {
                let written = self.swap_out_run(rec, rest, done);
                if written == 0 {
                    break;
                }
                rest = &rest[written..];
            }
        }
        for &(page, tag) in rest.iter().flatten() {
            self.put_back(rec, class, page, tag, true);
        }
    }

    fn frame_of(&self, page: PageId) -> Option<FrameId> {
        match self.pages.leaves.page(page).word.read().state() {
            State::Resident(frame) => FrameId::from_raw(frame),
            State::Absent
            | State::Filling
            | State::Zswap(_)
            | State::Swap(_)
            | State::Poisoned(_) => None,
        }
    }

    /// A page that was to be written stays in memory: with `failed` its content is nowhere else.
    fn put_back(&self, rec: &ThreadRec, class: Class, id: PageId, tag: Tag, failed: bool) {
        let page = self.pages.leaves.page(id);
        {
            let _pin = self.tree.threads.epoch.pin(rec);
            if let Some(books) = self.tree.lock_pages(tag) {
                if failed {
                    books.event(PageEvent::SwapFail, 1);
                }
                let group = || listed_group(books.group());
                if let Some(listed) = self.pages.lists.ensure(tag, group) {
                    self.list(listed, class, Queue::Main, id, page);
                }
            }
        }
        let wake = page.word.end_writeback_and_unpin(failed);
        self.pages.waiting.wake(id, wake);
    }

    /// Compresses a page, and takes it out of its frame. Where there is no room for it older ones
    /// go to a device first, if that `may_write`. Answers the bytes of memory that are
    /// charged less; `None`: it is as it was.
    fn compress(&self, rec: &ThreadRec, id: PageId, tag: Tag, may_write: bool) -> Option<u64> {
        let pages = &self.pages;
        if !pages.zswap.is_on() {
            return None;
        }
        let frame = self.frame_of(id)?;
        // The entry knows its page, which knows its owner.
        let store = || {
            pages
                .frames
                .with_pinned(frame, |bytes| pages.zswap.store(bytes, id.raw()))
        };
        let stored = match store() {
            Err(StoreError::Full) if may_write && self.write_compressed(rec, None).pages > 0 => {
                store()
            }
            stored => stored,
        };
        let stored = match stored {
            Ok(stored) => stored,
            Err(
                StoreError::Off
                | StoreError::Rejected
                | StoreError::Full
                | StoreError::NoMemory
                | StoreError::Busy,
            ) => return None,
        };
        let bytes = crate::group::exact_charge::round_up(u64::from(stored.bytes));
        let to = State::Zswap(stored.id.raw());
        let out = self.leave_frame(rec, id, tag, frame, to, bytes, PageEvent::ZswapOut);
        if !out {
            let _ = pages.zswap.free(stored.id);
            return None;
        }
        let back = PAGE as u64 - bytes;
        self.uncharge_evicted(rec, tag, back);
        Some(back)
    }

    /// Writes the first pages of `rest` as one run; answers how many are done with, one way or the
    /// other. 0: there is no place for any.
    fn swap_out_run(
        &self,
        rec: &ThreadRec,
        rest: &[Option<(PageId, Tag)>],
        done: &mut Evicted,
    ) -> usize {
        let pages = &self.pages;
        let mut cursor = Cursor::default();
        let Some(run) = pages.swap.alloc(&mut cursor, rest.len() as u32) else {
            return 0;
        };
        let n = run.len() as usize;
        let written = pages.swap.write(run, |at, to| {
            if let Some(Some((id, _))) = rest.get(at as usize)
                && let Some(frame) = self.frame_of(*id)
            {
                pages.frames.with_pinned(frame, |from| *to = *from);
            }
        });
        for (at, one) in (0..run.len()).zip(rest) {
            let Some((id, tag)) = *one else { continue };
            let slot = run.slot(at);
            let frame = self.frame_of(id);
            let to = State::Swap(slot.raw());
            let is_out = written.is_safe(at)
                && frame.is_some_and(|frame| {
                    self.leave_frame(rec, id, tag, frame, to, 0, PageEvent::SwapOut)
                });
            if is_out {
                self.uncharge_evicted(rec, tag, PAGE as u64);
                done.add(PAGE as u64);
            } else {
                let _ = pages.swap.free(slot);
                self.put_back(rec, Class::Anon, id, tag, true);
            }
        }
        n
    }

    /// Takes a page whose content is safe at `to` out of its frame, and counts it there: it is
    /// charged to swap, and `compressed` bytes of memory stay charged. `false`: swap is full, or
    /// others have come for the page; it is as it was.
    #[allow(clippy::too_many_arguments, reason = "one transition, told in full")]
    fn leave_frame(
        &self,
        rec: &ThreadRec,
        id: PageId,
        tag: Tag,
        frame: FrameId,
        to: State,
        compressed: u64,
        event: PageEvent,
    ) -> bool {
        let (tree, pages) = (&self.tree, &self.pages);
        let _pin = tree.threads.epoch.pin(rec);
        let page = pages.leaves.page(id);
        let Some((region, _)) = pages.leaves.place(id) else {
            return false;
        };
        let kind = pages.region(region).kind();
        let Some(books) = tree.lock_pages(tag) else {
            return false;
        };
        // An old copy is of no use any more: its place and its charge go over to the new one.
        let old = pages.frames.slot(frame);
        if old.is_none() && !books.try_add_swap(PAGE as u64) {
            return false;
        }
        if !page.word.try_take_written() {
            if old.is_none() {
                books.sub_swap(PAGE as u64);
            }
            return false;
        }
        if let Some(old) = old {
            books.sub(PageCount::SwapCached, PAGE as u64);
            pages.frames.set_slot(frame, None);
            let _ = pages.swap.free(old);
        }
        let group = || listed_group(books.group());
        let shadow = pages.lists.ensure(tag, group).map_or(0, |listed| {
            listed.shadow(Class::Anon, Queue::Small, books.pages().life())
        });
        page.set_seq(shadow);
        books.sub(super::count_of(kind), PAGE as u64);
        if let State::Zswap(_) = to {
            books.add(PageCount::Zswap, compressed);
            books.add(PageCount::Zswapped, PAGE as u64);
        }
        books.event(event, 1);
        books.event(PageEvent::Stolen, 1);
        pages.frames.free(frame);
        let wake = page.word.abort_fill(to);
        pages.waiting.wake(id, wake);
        true
    }

    /// Where an owner's group, or one above, or the devices have less room for swap than `nr` pages
    /// need, places are freed that have copies of pages in memory, or had: those pages are dirty
    /// from then on. O(frames) where there is too little room.
    fn make_swap_room(&self, rec: &ThreadRec, tag: Tag, nr: u64) {
        let (tree, pages) = (&self.tree, &self.pages);
        let full = {
            let _pin = tree.threads.epoch.pin(rec);
            let cell = tree.objcgs.get(tag).cell_if_any();
            let group = cell.map(|cell| tree.resolve(cell).group);
            let usage = pages.swap.usage();
            let device_is_full = usage.total > 0 && u64::from(usage.total - usage.used) < nr;
            group
                .and_then(|group| tree.full_of_swap(group, nr * PAGE as u64))
                .or(device_is_full.then_some(ROOT))
        };
        let Some(full) = full else { return };
        let mut freed = 0;
        for (frame, id) in pages.frames.copies() {
            if freed == nr {
                return;
            }
            let _pin = tree.threads.epoch.pin(rec);
            let page = pages.leaves.page(id);
            let seen = page.word.read();
            let owner = page.owner();
            let is_below = |tag: Tag| {
                let cell = tree.objcgs.get(tag).cell_if_any();
                cell.is_some_and(|cell| {
                    let group = tree.resolve(cell).group;
                    group.is_within(tree.memcgs.get(full))
                })
            };
            let Some(owner) = owner.filter(|&tag| is_below(tag)) else {
                continue;
            };
            if seen.state() != State::Resident(frame.raw()) || !page.word.try_pin_to_write_out(seen)
            {
                continue;
            }
            if page.owner() == Some(owner)
                && let Some(books) = tree.lock_pages(owner)
            {
                freed += u64::from(self.drop_copy(&books, frame));
            }
            let wake = page.word.end_writeback_and_unpin(true);
            pages.waiting.wake(id, wake);
        }
    }

    /// Frees a place in swap that has the same content as a page in a frame, or had. By who has the
    /// page alone. Under the owner's lock. `false`: there was none.
    pub(super) fn drop_copy(&self, books: &crate::group::Books<'_>, frame: FrameId) -> bool {
        let slot = self.pages.frames.slot(frame);
        if let Some(slot) = slot {
            self.pages.frames.set_slot(frame, None);
            books.sub(PageCount::SwapCached, PAGE as u64);
            self.free_slot(books, slot);
        }
        slot.is_some()
    }

    /// Frees a place in swap, and takes it off what the owner is charged to swap.
    pub(super) fn free_slot(&self, books: &crate::group::Books<'_>, slot: SlotId) {
        let _ = self.pages.swap.free(slot);
        books.sub_swap(PAGE as u64);
    }
}
