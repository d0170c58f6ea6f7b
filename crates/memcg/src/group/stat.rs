//! Reading: what a group holds, exactly when nothing is in flight.
//!
//! `current` = charged − stocked. Stock is summed over the threads' slots, so a read is O(threads). A read that overlaps
//! charges includes each of them or not, as if they had happened before or after it; a refill seen half done is read
//! again, a bounded number of times.

use super::Hierarchy;
use super::memcg::Memcg;
use super::objcg::{Kind, State};
use crate::sync::atomic::Ordering;

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
    /// When it ended, ns since 1970.
    pub ended_at: u64,
}

impl Hierarchy {
    /// What the group and all below hold now. The caller is pinned. O(threads).
    pub fn usage(&self, group: &Memcg) -> Usage {
        let mut charged = 0;
        let mut stocked = 0;
        for _ in 0..TRIES {
            let before = self.transits();
            charged = group.counter.usage();
            stocked = self.stocked_where(|tag| self.is_owner_under(tag, group));
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
        let reserved = group.side_kind(Kind::Reserved).min(current - mapped);
        Usage {
            current,
            stocked,
            heap: current - mapped - reserved,
            mapped,
            reserved,
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

    fn is_owner_under(&self, tag: u32, top: &Memcg) -> bool {
        self.objcgs
            .try_get(tag)
            .is_some_and(|objcg| self.resolve(objcg.charged.read().cell).group.is_within(top))
    }

    fn stocked_where(&self, mut is: impl FnMut(u32) -> bool) -> u64 {
        let mut sum = 0;
        for (_, rec) in self.threads.each() {
            for (tag, balance) in rec.stocks() {
                if tag != 0 && balance != 0 && is(tag) {
                    sum += balance;
                }
            }
        }
        sum
    }

    /// Bytes threads stock for one owner. O(threads).
    pub fn stocked_for(&self, tag: u32) -> u64 {
        self.stocked_where(|t| t == tag)
    }

    /// Every owner there is: `each` is called with its line, live ones included. O(owners); the caller is pinned.
    /// What threads stock is not part of `held`.
    pub fn each_owner(&self, mut each: impl FnMut(OwnerLine)) {
        for tag in 1..self.objcgs.high_water() {
            let objcg = self.objcgs.get(tag);
            let state = objcg.state();
            if state == State::Free {
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
                id: objcg.id(),
                name: objcg.name(),
                group: self.resolve(charged.cell).group.index(),
                held: charged.bytes.saturating_sub(stocked),
                mapped: objcg.side_bytes(Kind::Mapped),
                reserved: objcg.side_bytes(Kind::Reserved),
                ended_at: objcg.ended_at(),
            });
        }
    }
}
