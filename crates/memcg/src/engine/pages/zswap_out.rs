//! Compressed pages that go on to a device, the oldest first: where the pool of compressed memory
//! is full, or a group is that has little else.
//!
//! Invariants: a page on its way is taken (`Filling`) until its content is on the device, or it is
//! compressed as before. It stays charged to swap all the while.
//! Depends on: `page::zswap` for the order; `page::swap` for the device.
//! Never: decompresses into a frame.

#![forbid(unsafe_code)]

use super::super::Engine;
use super::eviction::{Evicted, listed_group};
use crate::group::{Kind, PageEvent};
use crate::page::leaf::Page;
use crate::page::lists::Group;
use crate::page::swap::{CLUSTER, Cursor};
use crate::page::word::State;
use crate::page::zswap::Candidate;
use crate::page::{PAGE, PageId, SlotId, ZswapId};
use crate::sync::id::Id;
use crate::thread::ThreadRec;

/// A compressed page that was taken.
#[derive(Clone, Copy)]
struct Taken<'e> {
    id: PageId,
    page: &'e Page,
    entry: ZswapId,
}

impl Engine {
    /// Writes up to a cluster of the oldest compressed pages to a device, those of the owners of a
    /// group itself alone if one is named. O(compressed pages) at worst.
    pub fn write_compressed(&self, rec: &ThreadRec, of: Option<Group>) -> Evicted {
        let pages = &self.pages;
        let mut gone = Evicted::default();
        if pages.swap.usage().total == 0 {
            return gone;
        }
        let mut taken: [Option<Taken<'_>>; CLUSTER as usize] = [None; CLUSTER as usize];
        let (mut nr, mut last) = (0, None);
        while nr < taken.len() {
            let mut oldest: [Option<Candidate>; CLUSTER as usize] = [None; CLUSTER as usize];
            let found = pages.zswap.oldest(last, &mut oldest);
            for candidate in oldest.iter().take(found).flatten() {
                gone.scanned += 1;
                if nr < taken.len()
                    && self.is_of(rec, candidate, of)
                    && let Some(one) = self.take_compressed(candidate)
                {
                    taken[nr] = Some(one);
                    nr += 1;
                }
            }
            last = oldest.into_iter().take(found).flatten().last();
            if last.is_none() || found < oldest.len() {
                break;
            }
        }
        let mut rest = &taken[..nr];
        while !rest.is_empty() {
            let run = pages.swap.alloc(&mut Cursor::default(), rest.len() as u32);
            let Some(run) = run else { break };
            let mut loaded = 0u64;
            let written = pages.swap.write(run, |at, to| {
                if let Some(Some(one)) = rest.get(at as usize)
                    && pages.zswap.load(one.entry, to).is_ok()
                {
                    loaded |= 1 << at;
                }
            });
            for (at, one) in (0..run.len()).zip(rest.iter().flatten()) {
                let slot = run.slot(at);
                if written.is_safe(at) && loaded & 1 << at != 0 {
                    gone.add(self.settle_written(rec, *one, slot));
                } else {
                    let _ = pages.swap.free(slot);
                    self.let_go_compressed(*one, State::Zswap(one.entry.raw()));
                }
            }
            rest = &rest[run.len() as usize..];
        }
        for one in rest.iter().flatten() {
            self.let_go_compressed(*one, State::Zswap(one.entry.raw()));
        }
        gone
    }

    /// Whether a candidate's page is of an owner of the group itself.
    fn is_of(&self, rec: &ThreadRec, candidate: &Candidate, group: Option<Group>) -> bool {
        let Some(group) = group else { return true };
        let _pin = self.tree.threads.epoch.pin(rec);
        let page = PageId::from_raw(candidate.tag).map(|id| self.pages.leaves.page(id));
        let owner = page.and_then(Page::owner);
        owner.is_some_and(|tag| {
            let cell = self.tree.objcgs.get(tag).cell_if_any();
            cell.is_some_and(|cell| listed_group(self.tree.resolve(cell).group) == group)
        })
    }

    /// Takes a page over that is compressed as the candidate says.
    fn take_compressed(&self, candidate: &Candidate) -> Option<Taken<'_>> {
        let id = PageId::from_raw(candidate.tag)?;
        let page = self.pages.leaves.page(id);
        let seen = page.word.read();
        let is_it = seen.state() == State::Zswap(candidate.id.raw());
        (is_it && page.word.try_begin_fill(seen)).then_some(Taken {
            id,
            page,
            entry: candidate.id,
        })
    }

    fn let_go_compressed(&self, one: Taken<'_>, to: State) {
        let wake = one.page.word.abort_fill(to);
        self.pages.waiting.wake(one.id, wake);
    }

    /// The content of a page is on the device: its compressed memory is given back. Answers how
    /// many bytes that were.
    fn settle_written(&self, rec: &ThreadRec, one: Taken<'_>, slot: SlotId) -> u64 {
        let tree = &self.tree;
        let mut bytes = 0;
        let owner = one.page.owner();
        {
            let _pin = tree.threads.epoch.pin(rec);
            if let Some(books) = owner.and_then(|tag| tree.lock_pages(tag)) {
                // What it is charged to swap stays charged: the place takes the entry's over.
                bytes = self.drop_entry(&books, one.entry.raw());
                books.event(PageEvent::SwapOut, 1);
            }
        }
        self.let_go_compressed(one, State::Swap(slot.raw()));
        if let Some(tag) = owner {
            debug_assert!(bytes < PAGE as u64);
            if bytes > 0 {
                self.uncharge(rec, tag, bytes, Kind::Page);
            }
        }
        bytes
    }
}
