//! A page that comes into a frame, in the books: new, from a file, decompressed, or from a device.
//!
//! Invariants: its owner is charged for it once, before and after. A place in swap that still has
//! its content is kept while there is plenty, so that it can leave again without being written.
//! Depends on: the owner's lock of pages.
//! Never: brings the content (`content`).

#![forbid(unsafe_code)]

use super::super::Engine;
use super::eviction::listed_group;
use super::{TouchError, class_of, count_of};
use crate::group::{PageCount, PageEvent, Tag};
use crate::page::cost_balance::Class;
use crate::page::frame::Fresh;
use crate::page::leaf::Page;
use crate::page::region::{Region, RegionKind};
use crate::page::word::{Reading, State};
use crate::page::{FrameId, PAGE, PageId, SlotId};
use crate::sync::id::Id;
use crate::thread::ThreadRec;

/// A page that is in a frame, and in the books.
pub(super) struct CameIn {
    pub(super) frame: FrameId,
    /// Whether its content is nowhere else.
    pub(super) dirty: bool,
    /// Whether its group used it before it was evicted.
    pub(super) workingset: bool,
    /// Bytes that were charged for it while it was out.
    pub(super) uncharge: u64,
}

impl Engine {
    /// Counts a page that the caller fills, and that was as it was `seen`, as in its frame: in the
    /// books of `tag`, in its lists.
    ///
    /// # Errors
    /// `NoMemory`: nothing has changed.
    #[allow(clippy::too_many_arguments, reason = "one transition, told in full")]
    pub(super) fn come_in(
        &self,
        rec: &ThreadRec,
        region: &Region,
        (id, page): (PageId, &Page),
        frame: Fresh<'_>,
        tag: Tag,
        seen: Reading,
        dirty: bool,
    ) -> Result<CameIn, TouchError> {
        let (tree, pages) = (&self.tree, &self.pages);
        let class = class_of(region.kind());
        let _pin = tree.threads.epoch.pin(rec);
        let books = tree.lock_pages(tag).ok_or(TouchError::NoMemory)?;
        let listed = pages
            .lists
            .ensure(tag, || listed_group(books.group()))
            .ok_or(TouchError::NoMemory)?;
        // A shadow is of the owner that the page had.
        let shadow = if page.owner() == Some(tag) {
            page.seq()
        } else {
            0
        };
        let arrival = listed.arrival(class, shadow, books.pages().life());
        let seq = listed
            .push(class, arrival.queue, id)
            .map_err(|_| TouchError::NoMemory)?;
        let frame = frame.keep(id);
        let mut came = CameIn {
            frame,
            dirty,
            workingset: arrival.activate,
            uncharge: 0,
        };
        books.add(count_of(region.kind()), PAGE as u64);
        match seen.state() {
            State::Zswap(entry) => {
                came.uncharge = self.drop_compressed(&books, entry);
                books.event(PageEvent::ZswapIn, 1);
                came.dirty = true;
            }
            State::Swap(slot) => {
                books.event(PageEvent::SwapIn, 1);
                if let Some(slot) = SlotId::from_raw(slot) {
                    came.dirty = self.keep_or_free(&books, slot, frame, dirty);
                }
            }
            State::Absent | State::Filling | State::Resident(_) | State::Poisoned(_) => {
                books.page_in();
                region.page_in();
                if dirty && region.kind() == RegionKind::File {
                    books.add(PageCount::FileDirty, PAGE as u64);
                }
            }
        }
        books.event(PageEvent::Fault, 1);
        if class == Class::File || !seen.is_absent() {
            books.event(PageEvent::MajorFault, 1);
        }
        let events = match class {
            Class::Anon => [
                PageEvent::RefaultAnon,
                PageEvent::ActivateAnon,
                PageEvent::RestoreAnon,
            ],
            Class::File => [
                PageEvent::RefaultFile,
                PageEvent::ActivateFile,
                PageEvent::RestoreFile,
            ],
        };
        for (event, happened) in
            events
                .into_iter()
                .zip([arrival.refault, arrival.activate, arrival.restore])
        {
            if happened {
                books.event(event, 1);
            }
        }
        page.set_owner(Some(tag));
        page.set_seq(seq);
        Ok(came)
    }

    /// The content of a page that came from a place in swap is still there: kept where there is
    /// plenty of swap and the page is not written to now. Answers whether it is dirty.
    fn keep_or_free(
        &self,
        books: &crate::group::Books<'_>,
        slot: SlotId,
        frame: FrameId,
        written: bool,
    ) -> bool {
        let usage = self.pages.swap.usage();
        let device_is_half_full = usage.used > usage.total / 2;
        if written || device_is_half_full || self.tree.swap_is_half_full(books.group()) {
            self.free_slot(books, slot);
            return true;
        }
        self.pages.frames.set_slot(frame, Some(slot));
        books.add(PageCount::SwapCached, PAGE as u64);
        false
    }
}
