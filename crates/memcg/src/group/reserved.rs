//! Reservations out of stock: what is counted by kind as well as charged.
//!
//! Beside its balance a slot has `spare`: bytes that the owner's count of reserved bytes has in
//! advance. So a reservation that is taken or given back changes two numbers of the thread's own.
//!
//! Invariants: an owner's count of reserved bytes is what its reservations hold plus the `spare` of
//! all slots that name it. A reader subtracts the slots' part.
//! Depends on: `stock` for slots. Whoever empties a slot takes its `spare` off the owner's count.
//! Never: a look at another thread's slot, but for a sum.

#![forbid(unsafe_code)]

use super::cap::CAP;
use super::kind::Kind;
use super::memcg_record::Memcg;
use super::stock::give_slot;
use super::usage::Place;
use super::{Hierarchy, Tag};
use crate::sync::atomic::Ordering::Relaxed;
use crate::thread::ThreadRec;

/// The most bytes a slot counts in advance.
const SPARE_MAX: u64 = CAP.1;

impl ThreadRec {
    /// A hit for a reservation: takes `bytes` from the stock of `tag`, charged and counted as
    /// reserved.
    #[inline(always)]
    pub fn reserve_hit(&self, tag: Option<Tag>, bytes: u64) -> bool {
        let Some(_busy) = self.enter() else {
            return false;
        };
        let Some(slot) = self.slot_near(tag) else {
            return false;
        };
        let (balance, spare) = (slot.balance.load(Relaxed), slot.spare.raw());
        // Less than 0 where the slot is closed.
        if balance < bytes || spare < bytes as i64 {
            return false;
        }
        slot.balance.store(balance - bytes, Relaxed);
        slot.spare.set(spare as u64 - bytes);
        true
    }

    /// The end of a reservation as a hit: puts `bytes` back into the stock of `tag`.
    #[inline(always)]
    pub fn unreserve_hit(&self, tag: Option<Tag>, bytes: u64) -> bool {
        let Some(_busy) = self.enter() else {
            return false;
        };
        let Some(slot) = self.slot_near(tag) else {
            return false;
        };
        // More than any bound where the slot is closed.
        let spare = (slot.spare.raw() as u64).wrapping_add(bytes);
        if spare > SPARE_MAX || !give_slot(slot, bytes) {
            return false;
        }
        slot.spare.set(spare);
        true
    }

    /// What the slots count as reserved in advance, as [`Self::stocks`].
    pub fn spares(&self) -> impl Iterator<Item = (Tag, u64)> {
        self.named().filter_map(|slot| {
            Some((
                self.slots[slot].tag.load(Relaxed)?,
                self.slots[slot].spare.bytes(),
            ))
        })
    }
}

impl Hierarchy {
    /// Counts `bytes`, charged already, as reserved: from what the slot has in advance, or with
    /// more of it, or exactly. The caller is pinned.
    pub fn count_reserved(&self, rec: &ThreadRec, tag: Tag, bytes: u64) {
        let mut is_closed = false;
        let had = rec.enter().is_some_and(|_busy| {
            rec.slot_near(Some(tag)).is_some_and(|slot| {
                is_closed = slot.spare.is_closed();
                let left = slot.spare.bytes().checked_sub(bytes);
                if let Some(left) = left.filter(|_| !is_closed) {
                    slot.spare.set(left);
                }
                left.is_some() && !is_closed
            })
        });
        if had {
            return;
        }
        let more = if is_closed || bytes > SPARE_MAX / 4 {
            0
        } else {
            SPARE_MAX / 2
        };
        if more == 0 {
            return self.add_side(tag, bytes, Kind::Reserved);
        }
        let _transit = rec.begin_transit();
        self.add_side(tag, bytes + more, Kind::Reserved);
        let left = match rec.enter() {
            Some(_busy) => rec
                .slot_near(Some(tag))
                .filter(|slot| !slot.spare.is_closed())
                .map_or(more, |slot| {
                    let all = slot.spare.bytes() + more;
                    slot.spare.set(all.min(SPARE_MAX));
                    all - all.min(SPARE_MAX)
                }),
            None => more,
        };
        if left > 0 {
            self.sub_side(tag, left, Kind::Reserved);
        }
    }

    /// Takes `bytes`, not yet uncharged, out of the count of reserved ones: into the slot, or
    /// exactly. The caller is pinned.
    pub fn uncount_reserved(&self, rec: &ThreadRec, tag: Tag, bytes: u64) {
        if bytes > SPARE_MAX {
            // More than any slot keeps.
            return self.sub_side(tag, bytes, Kind::Reserved);
        }
        let _transit = rec.begin_transit();
        let surplus = rec.enter().and_then(|_busy| {
            let slot = rec
                .slot_near(Some(tag))
                .filter(|slot| !slot.spare.is_closed())?;
            let all = slot.spare.bytes() + bytes;
            let keep = if all > SPARE_MAX { SPARE_MAX / 2 } else { all };
            slot.spare.set(keep);
            Some(all - keep)
        });
        let surplus = surplus.unwrap_or(bytes);
        if surplus > 0 {
            self.sub_side(tag, surplus, Kind::Reserved);
        }
    }

    /// What reservations hold at `top` and below: what is counted so, without what threads count in
    /// advance. O(threads).
    pub(super) fn reserved_under(&self, top: &Memcg) -> u64 {
        let counted = top.side_kind(Kind::Reserved);
        if counted == 0 {
            return 0;
        }
        let spare: u64 = self
            .spares()
            .filter(|&(tag, _)| !matches!(self.place_of_stock(tag, top), Place::Elsewhere))
            .map(|(_, spare)| spare)
            .sum();
        counted.saturating_sub(spare)
    }

    /// Every slot that counts something as reserved in advance: tag and bytes.
    fn spares(&self) -> impl Iterator<Item = (Tag, u64)> {
        self.threads
            .each()
            .flat_map(|(_, rec)| rec.spares())
            .filter(|&(_, spare)| spare != 0)
    }

    /// Bytes reservations hold of one owner. O(threads).
    pub fn reserved_of(&self, tag: Tag) -> u64 {
        let counted = self.objcgs.get(tag).side_bytes(Kind::Reserved);
        if counted == 0 {
            return 0;
        }
        let spare: u64 = self
            .spares()
            .filter(|&(t, _)| t == tag)
            .map(|(_, spare)| spare)
            .sum();
        counted.saturating_sub(spare)
    }
}
