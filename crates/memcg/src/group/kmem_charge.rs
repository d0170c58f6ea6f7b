//! Objects of kmem caches: a kind of their own, with a limit of their own, and stock of its count.
//!
//! An object is charged as any other, from the owner's stock. Beside that it is counted under
//! [`Kind::Slab`], at the owner and at every group above; a slot keeps some of that count in
//! advance, so a hit is two subtractions. Where a group or one above has a `memory.kmem.max`
//! nothing is counted in advance: the limit is met by what objects hold.
//!
//! Invariants: an object is counted at the groups before its owner's word has it, and taken off
//! them after. A count passes its limit only where the charge was forced or the limit lowered.
//! Depends on: `stock` for the slots; `exact_charge` for the side words.
//! Never: a lock; a wait, but for a bounded moment while a mover stands between two flips.

#![forbid(unsafe_code)]

use super::events::Event;
use super::exact_charge::{each_level, round_up};
use super::flip_word::Unchanged;
use super::memcg_record::Memcg;
use super::objcg::Objcg;
use super::stock::give_slot;
use super::{Hierarchy, Kind, Refusal, Tag};
use crate::counter::Level;
use crate::counter::page_counter::UNLIMITED;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::thread::{SlotsGuard, ThreadRec};

/// The most a slot keeps of the count, in bytes; half of it is taken at a time.
const MOST: u64 = 64 << 10;

/// Looks at an owner that is about to have moved.
const WAITS: usize = if cfg!(loom) { 1 } else { 10_000 };

/// The place of these objects among the side words.
pub(crate) const SLAB_SIDE: usize = match Kind::Slab.side() {
    Some(side) => side,
    None => unreachable!(),
};

impl SlotsGuard<'_> {
    /// Takes an object's `bytes` from the stock of `tag`, which is the current owner.
    #[inline(always)]
    pub(crate) fn consume_slab(&self, tag: Tag, bytes: u64) -> bool {
        let slot = self.rec().current_slot();
        let slab = slot.slab.load(Relaxed);
        if slab < bytes || !self.consume(Some(tag), bytes) {
            return false;
        }
        slot.slab.store(slab - bytes, Relaxed);
        true
    }

    /// Puts an object's `bytes` into the stock of `tag`, if a slot has room for them.
    #[inline(always)]
    pub(crate) fn give_slab(&self, tag: Tag, bytes: u64) -> bool {
        let rec = self.rec();
        // Mostly the current owner's, which is found without a search.
        let slot = match rec.slot_near(Some(tag)) {
            Some(slot) => slot,
            None => match rec.slot_of(Some(tag)) {
                Some(at) => &rec.slots[at],
                None => return false,
            },
        };
        let slab = slot.slab.load(Relaxed) + bytes;
        // A slot without any of it is under a limit, or was drained.
        if slab == bytes || slab > MOST || !give_slot(slot, bytes) {
            return false;
        }
        slot.slab.store(slab, Relaxed);
        true
    }
}

impl Memcg {
    /// Bytes of cache objects it may hold with all below; [`UNLIMITED`] without a limit.
    pub fn kmem_max(&self) -> u64 {
        // Acquire pairs with the Release of `set_kmem_max`.
        self.kmem_max.load(Acquire)
    }

    /// Sets the limit of [`Self::kmem_max`]. The caller drains afterwards what threads have counted
    /// in advance.
    pub fn set_kmem_max(&self, bytes: u64) {
        // Release pairs with the Acquire of `kmem_max`.
        self.kmem_max.store(bytes, Release);
    }

    /// Whether it or a group above has such a limit. O(depth).
    pub fn has_kmem_limit(&self) -> bool {
        let mut level = Some(self);
        while let Some(group) = level {
            if group.kmem_max() != UNLIMITED {
                return true;
            }
            level = group.parent();
        }
        false
    }

    /// Counts `bytes` at this level if they fit; answers the count if they do not.
    ///
    /// Cost: an addition, or a CAS under a limit.
    fn try_count_slab(&self, bytes: u64) -> Result<(), u64> {
        // Relaxed, as all changes of the counts of kinds: they are additions and CAS on one word,
        // which have one order whatever else is ordered, so a limit is never passed. Nothing is
        // read by way of a count. Bytes must be counted before they are taken off: the owner's word
        // sees to that, which is changed (AcqRel) between the two.
        let max = self.kmem_max();
        let count = &self.side_kinds[SLAB_SIDE];
        if max == UNLIMITED {
            count.fetch_add(bytes, Relaxed);
            return Ok(());
        }
        count
            .fetch_update(Relaxed, Relaxed, |now| {
                now.checked_add(bytes).filter(|&sum| sum <= max)
            })
            .map(|_| ())
    }
}

impl Hierarchy {
    /// Counts `bytes` (a multiple of 8), already charged, as cache objects of `tag`, within every
    /// `memory.kmem.max` or `forced`. The caller is pinned.
    pub(crate) fn count_slab(&self, tag: Tag, bytes: u64, forced: bool) -> Result<(), Refusal> {
        let _walk = self.begin_walk();
        if forced {
            self.add_side(tag, bytes, Kind::Slab);
            return Ok(());
        }
        let word = &self.objcgs.get(tag).side[SLAB_SIDE];
        let mut waits = 0;
        loop {
            let cell = word.read().in_cell();
            // A mover stands between two flips: what it may have to take back is not to grow. It is
            // done in a moment; if it is this thread, below a signal handler, waiting would not
            // help.
            if self.objcgs.get(tag).cell() != cell && waits < WAITS {
                waits += 1;
                crate::sync::relax();
                continue;
            }
            let group = self.resolve(cell).group;
            count_path(group, None, bytes).inspect_err(|refusal| {
                if let Some(full) = self.group_of_refusal(refusal) {
                    full.event(Event::KmemMax);
                }
            })?;
            match word.add(Some(cell), bytes) {
                Ok(()) => return Ok(()),
                Err(why) => {
                    uncount_path(self.resolve(cell).group, None, bytes);
                    if why != Unchanged::Moved {
                        self.report_broken();
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Room for `bytes` of cache objects from `start` up to below `end`, within every
    /// `memory.kmem.max`; for who moves them there.
    pub(crate) fn count_slab_below(
        &self,
        start: &Memcg,
        end: &Memcg,
        bytes: u64,
    ) -> Result<(), Refusal> {
        count_path(start, Some(end), bytes)
    }

    /// Counts `bytes` of cache objects from `start` up to below `end`, above their limits as well.
    pub(crate) fn force_slab_below(&self, start: &Memcg, end: &Memcg, bytes: u64) {
        uncount_path(start, Some(end), bytes.wrapping_neg());
    }

    /// Takes `bytes` of cache objects off the counts from `start` up to below `end`.
    pub(crate) fn uncount_slab_below(&self, start: &Memcg, end: &Memcg, bytes: u64) {
        uncount_path(start, Some(end), bytes);
    }

    /// Counts an object of `bytes`, already charged to `tag`: from the slot's stock, with a refill
    /// of it, or exactly. The caller is pinned.
    pub fn charge_slab(
        &self,
        rec: &ThreadRec,
        tag: Tag,
        bytes: u64,
        forced: bool,
    ) -> Result<(), Refusal> {
        if consume_stocked(rec, tag, bytes) {
            return Ok(());
        }
        let limited = self
            .resolve(self.objcgs.get(tag).cell())
            .group
            .has_kmem_limit();
        if limited || forced || bytes > MOST / 8 {
            return self.count_slab(tag, bytes, forced);
        }
        let _transit = rec.begin_transit();
        let more = round_up(MOST / 2);
        self.count_slab(tag, bytes + more, false)?;
        let deposited = rec.enter().is_some_and(|_busy| {
            let Some(slot) = rec.slot_of(Some(tag)) else {
                return false;
            };
            let slab = rec.slots[slot].slab.load(Relaxed);
            rec.slots[slot].slab.store(slab + more, Relaxed);
            true
        });
        if !deposited {
            self.sub_side(tag, more, Kind::Slab);
        }
        Ok(())
    }

    /// Takes an object of `bytes` out of the count of `tag`: into stock, or exactly. Before it is
    /// uncharged. The caller is pinned.
    pub fn uncharge_slab(&self, rec: &ThreadRec, tag: Tag, bytes: u64) {
        let _transit = rec.begin_transit();
        // Half stays, so that the next is a hit in either direction.
        let surplus = rec.enter().and_then(|_busy| {
            let slot = &rec.slots[rec.slot_of(Some(tag))?].slab;
            let all = slot.load(Relaxed) + bytes;
            (all > MOST / 2 + bytes).then(|| {
                slot.store(MOST / 2, Relaxed);
                all - MOST / 2
            })
        });
        self.sub_side(tag, surplus.unwrap_or(bytes), Kind::Slab);
    }

    /// Bytes that threads have counted as cache objects of `tag` in advance. O(threads).
    pub fn slab_stocked_for(&self, tag: Tag) -> u64 {
        self.slab_stocks()
            .filter(|&(of, _)| of == tag)
            .map(|(_, bytes)| bytes)
            .sum()
    }

    /// Bytes of cache objects that the group and all below hold. The caller is pinned. O(threads ×
    /// depth).
    pub fn slab_bytes(&self, group: &Memcg) -> u64 {
        let counted = group.side_kind(Kind::Slab);
        if counted == 0 {
            return 0;
        }
        let stocked: u64 = self
            .slab_stocks()
            .filter(|&(tag, _)| {
                self.objcgs
                    .try_get(tag)
                    .and_then(Objcg::cell_if_any)
                    .is_some_and(|cell| self.resolve(cell).group.is_within(group))
            })
            .map(|(_, bytes)| bytes)
            .sum();
        counted.saturating_sub(stocked)
    }

    fn slab_stocks(&self) -> impl Iterator<Item = (Tag, u64)> {
        self.threads.each().flat_map(|(_, rec)| {
            rec.named().filter_map(|slot| {
                Some((
                    rec.slots[slot].tag.load(Relaxed)?,
                    rec.slots[slot].slab.load(Relaxed),
                ))
            })
        })
    }
}

fn consume_stocked(rec: &ThreadRec, tag: Tag, bytes: u64) -> bool {
    let Some(_busy) = rec.enter() else {
        return false;
    };
    let Some(slot) = rec.slot_of(Some(tag)) else {
        return false;
    };
    let slab = rec.slots[slot].slab.load(Relaxed);
    if slab < bytes {
        return false;
    }
    rec.slots[slot].slab.store(slab - bytes, Relaxed);
    true
}

/// Counts `bytes` at every level below `end`, or at none.
fn count_path(start: &Memcg, end: Option<&Memcg>, bytes: u64) -> Result<(), Refusal> {
    let mut level = Some(start);
    while let Some(group) = level.filter(|&group| !end.is_some_and(|end| core::ptr::eq(group, end)))
    {
        if let Err(usage) = group.try_count_slab(bytes) {
            uncount_path(start, Some(group), bytes);
            return Err(Refusal {
                group: Some(group.index()),
                usage,
                max: group.kmem_max(),
            });
        }
        level = group.parent();
    }
    Ok(())
}

/// Takes `bytes` off the count of every level below `end`.
fn uncount_path(start: &Memcg, end: Option<&Memcg>, bytes: u64) {
    let mut done = false;
    each_level(start, |level| {
        done |= end.is_some_and(|end| core::ptr::eq(level, end));
        if !done {
            // Relaxed: see `try_count_slab`.
            level.side_kinds[SLAB_SIDE].fetch_sub(bytes, Relaxed);
        }
    });
}
