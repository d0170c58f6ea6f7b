//! Reading: what a group holds, exactly when nothing is in flight.
//!
//! `current` = charged − stocked. Stock is summed over the threads' slots, so a read is O(threads). A read that overlaps
//! charges includes each of them or not, as if they had happened before or after it; a refill seen half done is read
//! again, a bounded number of times.

use super::Hierarchy;
use super::memcg::Memcg;
use super::objcg::{Kind, State};
use crate::counter::Level;
use crate::sync::atomic::{Ordering, fence};

const TRIES: usize = 8;

/// A group at one moment, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
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
}

/// One owner, as the ledger shows it.
#[derive(Clone, Copy, Debug)]
pub struct OwnerLine {
    /// Its tag.
    pub tag: u32,
    /// Its state.
    pub state: State,
    /// A task's id.
    pub id: u32,
    /// Its name: a path to where it lives or lived.
    pub name: u32,
    /// The group its bytes are accounted in.
    pub group: u32,
    /// Bytes its things hold.
    pub held: u64,
    /// Of them, mapped.
    pub mapped: u64,
    /// Of them, reserved.
    pub reserved: u64,
    /// Of them, objects of kmem caches.
    pub slab: u64,
    /// When it ended, ns since 1970.
    pub ended_at: u64,
}

/// Where stock lies, seen from a group.
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
            // Pairs with the Release of `begin_transit`: who saw the bytes on their way sees the mark below.
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
        let mapped = group.side_kind(Kind::Mapped).min(current);
        let reserved = reserved.min(current - mapped);
        let slab = self.slab_bytes(group).min(current - mapped - reserved);
        Usage {
            current,
            stocked,
            heap: current - mapped - reserved - slab,
            mapped,
            reserved,
            slab,
        }
    }

    /// A number that changes with every refill or return of stock; `None` while one is under way.
    fn transits(&self) -> Option<u64> {
        let mut sum = 0u64;
        for (index, rec) in self.threads.each() {
            let seq = rec.seq.load(Ordering::Acquire);
            if seq & 0xff != 0 {
                return None;
            }
            sum = sum
                .wrapping_mul(31)
                .wrapping_add(u64::from(seq) ^ (u64::from(index) << 32));
        }
        Some(sum)
    }

    /// How much less `top` would be charged without the threads' stock. Of what lies below a reserve that is what is
    /// above the reserve: the rest would be charged all the same.
    ///
    /// O(threads × depth); where there are reserves, O(threads² × depth) for each of those nested in one another.
    fn stocked_under(&self, top: &Memcg) -> u64 {
        let mut sum = 0;
        for (at, (tag, balance)) in self.stocks().enumerate() {
            let reserve = match self.place_of_stock(tag, top) {
                Place::Elsewhere => continue,
                Place::Open => {
                    sum += balance;
                    continue;
                }
                Place::Reserve(group) => group,
            };
            // A reserve is looked at once, with the first stock below it.
            let is_same = |tag| matches!(self.place_of_stock(tag, top), Place::Reserve(g) if core::ptr::eq(g, reserve));
            if !self.stocks().take(at).any(|(tag, _)| is_same(tag)) {
                let counter = &reserve.counter;
                let above = counter.usage().saturating_sub(counter.reserve());
                sum += self.stocked_under(reserve).min(above);
            }
        }
        sum
    }

    pub(super) fn place_of_stock(&self, tag: u32, top: &Memcg) -> Place<'_> {
        let Some(objcg) = self.objcgs.try_get(tag) else {
            return Place::Elsewhere;
        };
        let mut place = Place::Open;
        let mut level = self.resolve(objcg.cell()).group;
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
    fn stocks(&self) -> impl Iterator<Item = (u32, u64)> {
        self.threads
            .each()
            .flat_map(|(_, rec)| rec.stocks())
            .filter(|&(tag, balance)| tag != 0 && balance != 0)
    }

    /// Bytes threads stock for one owner. O(threads).
    pub fn stocked_for(&self, tag: u32) -> u64 {
        self.stocks()
            .filter(|&(t, _)| t == tag)
            .map(|(_, balance)| balance)
            .sum()
    }

    /// Bytes the things of one owner hold, those included that a move left in other groups. O(threads). The caller is pinned.
    pub fn held_by(&self, tag: u32) -> u64 {
        (self.objcgs.get(tag).charged_bytes() + self.rest_bytes(tag))
            .saturating_sub(self.stocked_for(tag))
    }

    /// Every owner there is: `each` is called with its line, live ones included. O(owners); the caller is pinned.
    /// What threads stock is not part of `held`.
    pub fn each_owner(&self, mut each: impl FnMut(OwnerLine)) {
        for tag in 1..self.objcgs.high_water() {
            let objcg = self.objcgs.get(tag);
            let state = objcg.state();
            if matches!(state, State::Free | State::Lost) {
                continue;
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
                group: self.resolve(charged.cell).group.index(),
                held: charged.bytes.saturating_sub(stocked),
                mapped: objcg.side_bytes(Kind::Mapped),
                reserved: self.reserved_of(tag),
                slab: match objcg.side_bytes(Kind::Slab) {
                    0 => 0,
                    counted => counted.saturating_sub(self.slab_stocked_for(tag)),
                },
                ended_at: objcg.ended_at(),
            });
        }
    }
}
