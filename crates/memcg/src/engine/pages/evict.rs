//! Taking pages out of memory: which, and what becomes of their content.
//!
//! A batch of pages is taken off their owners' lists, in the order of S3-FIFO. What a file or a
//! place in swap has already goes at once. What has to be written is pinned meanwhile, so that
//! others may read it, and taken when it is written, if nobody has come for it.
//!
//! Invariants: a page that stays in memory is in its owner's lists again when this returns. Content
//! that is nowhere else is never dropped. What is charged for a page is what its state says.
//! Depends on: `page::lists` for the order; `page::swap` and `page::zswap` for content.
//! Never: waits for a page or for an owner's lock.

#![forbid(unsafe_code)]

use super::super::Engine;
use super::eviction::{Effort, Evicted, listed_group};
use super::swap_out::Batch;
use super::touch::Patience;
use crate::counter::Level;
use crate::group::{Memcg, PageCount, PageEvent, Tag};
use crate::page::chunk::Entry;
use crate::page::cost_balance::{Candidates, Class, Swappiness};
use crate::page::leaf::Page;
use crate::page::lists::{Group, Head, Listed, UNLISTED, queue_of};
use crate::page::s3fifo::{Queue, Verdict};
use crate::page::word::State;
use crate::page::{FrameId, PAGE, PageId, RegionId};
use crate::sync::id::Id;
use crate::thread::ThreadRec;

/// So many batches in a row may come to nothing: pages that no compressor makes smaller, a device
/// that is full.
const FRUITLESS: u32 = 3;

/// The most pages of a file that are written when one that is to be evicted is dirty.
const CLEANED: u64 = 256;

/// What becomes of a page whose turn it is.
enum Turn {
    /// It is out.
    Gone(u64),
    /// It is pinned, and to be written.
    ToWrite(PageId),
    /// It is in a list again.
    Stays,
    /// As `Stays`: the file of that region does not have it yet.
    Dirty(RegionId),
}

impl Engine {
    /// A group has ended: the order among the owners of its pages is its parent's. The caller is
    /// pinned. O(log owners). Where groups linger they keep it.
    pub fn pages_of_ended(&self, group: &Memcg) {
        if self.pages.are_mine()
            && !self.tree.lingers()
            && let Some(parent) = group.parent()
        {
            // The parent may have ended as well by then.
            let above = || listed_group(self.tree.resolve(parent.cell()).group);
            let _ = self.pages.lists.group_ended(listed_group(group), above);
        }
    }

    /// A task has moved, or not: the order of its pages is that of the group where it is now. The
    /// caller is pinned.
    pub fn pages_follow(&self, tag: Tag) {
        if !self.pages.are_mine() {
            return;
        }
        if let Some(books) = self.tree.lock_pages(tag)
            && self.pages.lists.of(tag).is_some()
        {
            // Without memory the lists follow when they are looked at next.
            let _ = self.pages.lists.ensure(tag, || listed_group(books.group()));
        }
    }

    /// Pages that could be taken from a group itself, by class. The caller is pinned.
    pub fn evictable(&self, group: &Memcg) -> Candidates {
        let Some(head) = self.pages.lists.head_of(listed_group(group)) else {
            return Candidates::default();
        };
        Candidates {
            anon: if self.has_swap() {
                head.resident(Class::Anon).total()
            } else {
                0
            },
            file: head.resident(Class::File).total(),
        }
    }

    /// Whether pages of memory have anywhere to go.
    pub fn has_swap(&self) -> bool {
        self.pages.zswap.is_on() || self.pages.swap.usage().total > 0
    }

    /// Takes up to `nr` pages from the owners of a group itself, the classes by what they cost.
    /// Lifts no pin.
    pub fn evict_pages(
        &self,
        rec: &ThreadRec,
        group: Group,
        nr: u64,
        swappiness: Swappiness,
        effort: Effort,
    ) -> Evicted {
        let mut all = Evicted::default();
        if !self.pages.are_mine() {
            return all;
        }
        // Each turn takes pages, or looks at some that stay: at each a few times at most.
        // Batches in a row of which nothing could be written.
        let mut fruitless = 0;
        let mut left = {
            let Some(head) = self.pages.lists.head_of(group) else {
                return all;
            };
            4 * (head.resident(Class::Anon).total() + head.resident(Class::File).total()) + 64
        };
        while all.pages < nr && left > 0 && fruitless < FRUITLESS {
            let Some(class) = self.next_class(group, swappiness) else {
                break;
            };
            let (now, tried) = self.evict_batch(rec, group, class, nr - all.pages, effort);
            fruitless = match tried && now.pages == 0 {
                true => fruitless + 1,
                false => 0,
            };
            left = left.saturating_sub(now.scanned.max(1));
            all.scanned += now.scanned;
            all.pages += now.pages;
            all.bytes += now.bytes;
            if now.scanned == 0 {
                break;
            }
        }
        all
    }

    fn next_class(&self, group: Group, swappiness: Swappiness) -> Option<Class> {
        let head = self.pages.lists.head_of(group)?;
        let anon = if self.has_swap() {
            head.resident(Class::Anon).total()
        } else {
            0
        };
        let candidates = Candidates {
            anon,
            file: head.resident(Class::File).total(),
        };
        head.balance.next_class(swappiness, candidates)
    }

    /// One batch of one class. Answers also whether any page of it was to be written.
    fn evict_batch(
        &self,
        rec: &ThreadRec,
        group: Group,
        class: Class,
        nr: u64,
        effort: Effort,
    ) -> (Evicted, bool) {
        let mut done = Evicted::default();
        let mut batch = Batch::new();
        let mut dirty = None;
        let room = match effort {
            Effort::Little(most) => most as usize,
            Effort::Full => usize::MAX,
        };
        let most = 4 * nr.clamp(16, 256);
        while done.pages + (batch.len() as u64) < nr && done.scanned < most {
            let lists = &self.pages.lists;
            let _pin = self.tree.threads.epoch.pin(rec);
            let Some(queue) = lists
                .head_of(group)
                .and_then(|head: &Head| head.resident(class).next_queue())
            else {
                break;
            };
            let Some(tag) = lists
                .first(group, class, queue)
                .or_else(|| lists.first(group, class, other(queue)))
            else {
                break;
            };
            let Some(turn) = self.take_turn(tag, group, class, queue, &mut batch, room) else {
                // Somebody else is at the owner, or nothing of it was left.
                done.scanned += 1;
                continue;
            };
            done.scanned += 1;
            match turn {
                Turn::Gone(bytes) => {
                    self.uncharge_evicted(rec, tag, bytes);
                    done.add(bytes);
                }
                Turn::ToWrite(page) => batch.push(page, tag),
                Turn::Stays => {}
                Turn::Dirty(region) if effort == Effort::Full && dirty.is_none() => {
                    dirty = Some(region);
                    break;
                }
                Turn::Dirty(_) => {}
            }
            if batch.is_full() || batch.len() >= room {
                break;
            }
        }
        let tried = batch.len() > 0;
        self.write_out(rec, class, batch, effort, &mut done);
        if let Some(region) = dirty {
            self.clean(rec, region);
        }
        (done, tried)
    }

    /// Writes some of what is dirty of a file's region, if nobody else does.
    fn clean(&self, rec: &ThreadRec, id: RegionId) {
        if self.pages.region(id).try_ref() {
            // Who uses the file is told of errors; the pages stay, and others are looked for.
            let _ = self.write_back(rec, id, Patience::Now, CLEANED);
            self.unref_region(rec, id);
        }
    }

    /// The next page of an owner's queue. `None`: somebody else is at the owner, or there was only
    /// what is stale. The caller is pinned.
    fn take_turn(
        &self,
        tag: Tag,
        group: Group,
        class: Class,
        queue: Queue,
        batch: &mut Batch,
        room: usize,
    ) -> Option<Turn> {
        let books = self.tree.try_lock_pages(tag)?;
        let listed = self
            .pages
            .lists
            .ensure(tag, || listed_group(books.group()))?;
        let now_in = listed_group(books.group());
        if now_in != group {
            return None;
        }
        let live = |entry: Entry| self.is_live(tag, entry);
        let (entry, _) = match listed.pop(class, queue, 64, live) {
            (None, _) => listed.pop(class, other(queue), 64, live),
            found => found,
        };
        let entry = entry?;
        books.event(PageEvent::Scanned, 1);
        let (page, queue) = (self.pages.leaves.page(entry.page), queue_of(entry.seq));
        let seen = page.word.read();
        let stays = |to: Queue| {
            listed.left(class, queue, false);
            self.list(listed, class, to, entry.page, page);
            Some(Turn::Stays)
        };
        if !seen.is_unpinned() || seen.is_under_writeback() {
            return stays(queue);
        }
        match queue.verdict(seen.freq() as u8) {
            Verdict::Promote => {
                let _ = page.word.set_freq(seen, 0);
                return stays(Queue::Main);
            }
            Verdict::Again { freq } => {
                let _ = page.word.set_freq(seen, u32::from(freq));
                return stays(Queue::Main);
            }
            Verdict::Evict => {}
        }
        let State::Resident(frame) = seen.state() else {
            return stays(queue);
        };
        let Some(frame) = FrameId::from_raw(frame) else {
            return stays(queue);
        };
        let slot = self.pages.frames.slot(frame);
        let to = match (class, slot) {
            (Class::File, _) if !seen.is_dirty() => State::Absent,
            (Class::Anon, Some(slot)) if !seen.is_dirty() => State::Swap(slot.raw()),
            (Class::Anon, _) if self.has_swap() && batch.len() < room => {
                if page.word.try_pin_to_write_out(seen) {
                    listed.left(class, queue, false);
                    return Some(Turn::ToWrite(entry.page));
                }
                return stays(Queue::Main);
            }
            (Class::File, _) => {
                let region = self
                    .pages
                    .leaves
                    .place(entry.page)
                    .map(|(region, _)| region);
                let turn = stays(Queue::Main);
                return region.map(Turn::Dirty).or(turn);
            }
            (Class::Anon, _) => return stays(Queue::Main),
        };
        let Ok(wake) = page.word.try_evict(seen, State::Filling) else {
            return stays(queue);
        };
        self.pages.waiting.wake(entry.page, wake);
        listed.left(class, queue, false);
        let (region, _) = self.pages.leaves.place(entry.page)?;
        let region = self.pages.region(region);
        page.set_seq(listed.shadow(class, queue, books.pages().life()));
        books.sub(super::count_of(region.kind()), PAGE as u64);
        books.event(PageEvent::Stolen, 1);
        match to {
            State::Swap(_) => books.sub(PageCount::SwapCached, PAGE as u64),
            State::Absent => {
                self.note_page_out(region);
                if books.page_out() {
                    listed.empty();
                    batch.forget_later(tag);
                }
            }
            State::Filling | State::Resident(_) | State::Zswap(_) | State::Poisoned(_) => {}
        }
        self.pages.frames.free(frame);
        let wake = page.word.abort_fill(to);
        self.pages.waiting.wake(entry.page, wake);
        Some(Turn::Gone(PAGE as u64))
    }

    /// Whether an entry of an owner's lists stands for a page.
    pub(super) fn is_live(&self, tag: Tag, entry: Entry) -> bool {
        let page = self.pages.leaves.page(entry.page);
        page.seq() == entry.seq
            && page.owner() == Some(tag)
            && matches!(page.word.read().state(), State::Resident(_))
    }

    /// Puts a page that is in a frame at the end of a queue. Without memory for that it is in none,
    /// and stays where it is until it is dropped.
    pub(super) fn list(
        &self,
        listed: Listed<'_>,
        class: Class,
        queue: Queue,
        id: PageId,
        page: &Page,
    ) {
        // The entry was taken from a chunk a moment ago: there is one that has room, or one that is
        // free.
        page.set_seq(listed.push(class, queue, id).unwrap_or(UNLISTED));
    }

    /// A page of `tag` left its frame: `bytes` are charged no more.
    pub(super) fn uncharge_evicted(&self, rec: &ThreadRec, tag: Tag, bytes: u64) {
        self.uncharge(rec, tag, bytes, crate::group::Kind::Page);
    }
}

fn other(queue: Queue) -> Queue {
    match queue {
        Queue::Small => Queue::Main,
        Queue::Main => Queue::Small,
    }
}
