//! Reading: what a group holds, exactly when nothing is in flight.
//!
//! `current` = charged − stocked. Stock is summed over the threads' slots, so a read is O(threads).
//! A read that overlaps charges includes each of them or not, as if they had happened before or
//! after it; a refill seen half done is read again, a bounded number of times.
//!
//! Invariants: what a [`Usage`] says of kinds and of the engine's records adds up to `current`.
//! Depends on: the threads' records for stock and for bytes on their way; `reserved`,
//! `kmem_charge`.
//! Never: a lock; a change; a read that is repeated for ever.

#![forbid(unsafe_code)]

use super::id::{GroupId, NameId};
use super::kind::Kind;
use super::memcg_record::Memcg;
use super::objcg::State;
use super::page_books::OwnerPages;
use super::page_count::PageCount;
use super::{Hierarchy, Tag};
use crate::counter::Level;
use crate::sync::atomic::{Ordering, fence};
use crate::sync::id::Id;

const TRIES: usize = 8;

/// Owners whose place one look at the stocks remembers.
const REMEMBERED: usize = 16;

/// A group at one moment, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Usage {
    /// What things hold: `memory.current`.
    pub current: u64,
    /// Charged in advance, held by threads.
    pub stocked: u64,
    /// Objects of an allocator, of `current`.
    pub heap: u64,
    /// Memory the program mapped, of `current`.
    pub mapped: u64,
    /// Reservations, of `current`.
    pub reserved: u64,
    /// Objects of kmem caches, of `current`.
    pub slab: u64,
    /// Pages of anonymous regions, of `current`.
    pub anon: u64,
    /// Pages of shared regions, of `current`.
    pub shmem: u64,
    /// Pages of files, of `current`.
    pub file: u64,
    /// Compressed pages, of `current`.
    pub zswap: u64,
    /// Records that the engine keeps for the group (of ended tasks, say), beyond those that are
    /// free; of `current`.
    pub engine: u64,
}

/// One owner, as the ledger shows it.
#[derive(Clone, Copy, Debug)]
pub struct OwnerLine {
    /// Its tag.
    pub tag: Tag,
    /// Its state.
    pub state: State,
    /// A task's id.
    pub id: u32,
    /// Its name: a path to where it lives or lived.
    pub name: NameId,
    /// The group its bytes are accounted in.
    pub group: GroupId,
    /// Bytes its things hold.
    pub held: u64,
    /// Of them, mapped.
    pub mapped: u64,
    /// Of them, reserved.
    pub reserved: u64,
    /// Of them, objects of kmem caches.
    pub slab: u64,
    /// Of them, pages.
    #[cfg_attr(
        not(any(test, feature = "testing")),
        allow(dead_code, reason = "tests alone make it")
    )]
    pub pages: u64,
    /// When it ended, ns since 1970.
    pub ended_at: u64,
}

/// Where stock lies, seen from a group.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// Not below it.
    Elsewhere,
    /// Below it, and no reserve in between.
    Open,
    /// Below it and this one, the uppermost with a reserve.
    Reserve(&'a Memcg),
}

impl Hierarchy {
    /// What the group and all below hold now. The caller is pinned. O(threads).
    pub fn usage(&self, group: &Memcg) -> Usage {
        let mut charged = 0;
        let mut stocked = 0;
        let mut reserved = 0;
        for _ in 0..TRIES {
            let before = self.transits();
            charged = group.counter.usage();
            stocked = self.stocked_under(group);
            reserved = self.reserved_under(group);
            // Pairs with the Release of `begin_transit`: who saw the bytes on their way sees the
            // mark below.
            fence(Ordering::Acquire);
            let steady =
                before.is_some() && before == self.transits() && charged == group.counter.usage();
            if steady {
                break;
            }
            crate::sync::relax();
        }
        let stocked = stocked.min(charged);
        let current = charged - stocked;
        let engine = group.engine_bytes().min(current);
        let things = current - engine;
        let mapped = group.side_kind(Kind::Mapped).min(things);
        let reserved = reserved.min(things - mapped);
        let slab = self.slab_bytes(group).min(things - mapped - reserved);
        let mut left = things - mapped - reserved - slab;
        let mut pages = |count| {
            let counted = self
                .group_pages(group)
                .map_or(0, |pages| pages.bytes(count));
            let bytes = counted.min(left);
            left -= bytes;
            bytes
        };
        let (anon, shmem) = (pages(PageCount::Anon), pages(PageCount::Shmem));
        let (file, zswap) = (pages(PageCount::File), pages(PageCount::Zswap));
        Usage {
            current,
            stocked,
            heap: left,
            anon,
            shmem,
            file,
            zswap,
            mapped,
            reserved,
            slab,
            engine,
        }
    }

    /// A number that changes with every refill or return of stock; `None` while one is under way.
    fn transits(&self) -> Option<u64> {
        let (mut sum, mut under_way) = (0u64, 0);
        self.threads.each().for_each(|(index, rec)| {
            // Acquire pairs with the Release of a `Transit`'s drop.
            let seq = rec.seq.load(Ordering::Acquire);
            under_way |= seq & 0xff;
            sum = sum
                .wrapping_mul(31)
                .wrapping_add(u64::from(seq) ^ (u64::from(index.raw()) << 32));
        });
        (under_way == 0).then_some(sum)
    }

    /// How much less `top` would be charged without the threads' stock. Of what lies below a
    /// reserve that is what is above the reserve: the rest would be charged all the same.
    ///
    /// O(threads × depth); where there are reserves, O(threads² × depth) for each of those nested
    /// in one another.
    fn stocked_under(&self, top: &Memcg) -> u64 {
        let mut sum = 0;
        // Threads that work for the same owners name the same tags: what was found for one holds
        // for this look.
        let mut found = [(None, Place::Elsewhere); REMEMBERED];
        let mut at = 0;
        self.stocks().for_each(|(tag, balance)| {
            let (of, place) = &mut found[tag.raw() as usize % REMEMBERED];
            if *of != Some(tag) {
                (*of, *place) = (Some(tag), self.place_of_stock(tag, top));
            }
            at += 1;
            let reserve = match *place {
                Place::Elsewhere => return,
                Place::Open => return sum += balance,
                Place::Reserve(group) => group,
            };
            // A reserve is looked at once, with the first stock below it.
            let is_same = |tag| matches!(self.place_of_stock(tag, top), Place::Reserve(g) if core::ptr::eq(g, reserve));
            if !self.stocks().take(at - 1).any(|(tag, _)| is_same(tag)) {
                let counter = &reserve.counter;
                let above = counter.usage().saturating_sub(counter.reserve());
                sum += self.stocked_under(reserve).min(above);
            }
        });
        sum
    }

    pub(super) fn place_of_stock(&self, tag: Tag, top: &Memcg) -> Place<'_> {
        let Some(objcg) = self.objcgs.try_get(tag) else {
            return Place::Elsewhere;
        };
        let mut place = Place::Open;
        let Some(cell) = objcg.cell_if_any() else {
            return Place::Elsewhere;
        };
        let mut level = self.resolve(cell).group;
        while !core::ptr::eq(level, top) {
            if level.counter.reserve() != 0 {
                place = Place::Reserve(level);
            }
            match level.parent() {
                Some(parent) => level = parent,
                None => return Place::Elsewhere,
            }
        }
        place
    }

    /// Every slot with something in it: tag and balance.
    fn stocks(&self) -> impl Iterator<Item = (Tag, u64)> {
        self.threads
            .each()
            .flat_map(|(_, rec)| rec.stocks())
            .filter(|&(_, balance)| balance != 0)
    }

    /// Bytes threads stock for one owner. O(threads).
    pub fn stocked_for(&self, tag: Tag) -> u64 {
        self.stocks()
            .filter(|&(t, _)| t == tag)
            .map(|(_, balance)| balance)
            .sum()
    }

    /// Bytes the things of one owner hold, those included that a move left in other groups.
    /// O(threads). The caller is pinned.
    pub fn held_by(&self, tag: Tag) -> u64 {
        (self.objcgs.get(tag).charged_bytes() + self.residual_bytes(tag))
            .saturating_sub(self.stocked_for(tag))
    }

    /// Every owner there is: `each` is called with its line, live ones included. O(owners); the
    /// caller is pinned. What threads stock is not part of `held`.
    pub fn each_owner(&self, each: impl FnMut(OwnerLine)) {
        self.each_owner_that(|state| !matches!(state, State::Free | State::Lost), each);
    }

    /// As [`Self::each_owner`], of groups and tasks that have ended. O(owners), those that live at
    /// a look each.
    pub fn each_ended_owner(&self, each: impl FnMut(OwnerLine)) {
        let has_ended = |state| matches!(state, State::DeadTask | State::DeadGroup);
        self.each_owner_that(has_ended, each);
    }

    fn each_owner_that(&self, is_one: impl Fn(State) -> bool, mut each: impl FnMut(OwnerLine)) {
        self.objcgs.each().for_each(|(tag, objcg)| {
            let state = objcg.state();
            if !is_one(state) {
                return;
            }
            let charged = objcg.charged.read();
            let stocked = if objcg.granted.read().bytes == 0 {
                0
            } else {
                self.stocked_for(tag)
            };
            each(OwnerLine {
                tag,
                state,
                id: self.objcgs.get(self.live_tag(tag)).id(),
                name: objcg.name(),
                group: self.resolve(charged.in_cell()).group.index(),
                held: charged.bytes.saturating_sub(stocked),
                mapped: objcg.side_bytes(Kind::Mapped),
                reserved: self.reserved_of(tag),
                slab: match objcg.side_bytes(Kind::Slab) {
                    0 => 0,
                    counted => counted.saturating_sub(self.slab_stocked_for(tag)),
                },
                pages: self.owner_pages(tag).map_or(0, OwnerPages::memory),
                ended_at: objcg.ended_at(),
            });
        });
    }
}
