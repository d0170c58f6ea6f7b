//! Draining: taking back the stock that threads hold under one group, when its limit needs it.
//!
//! The owner of a slot pays nothing for being drainable: it marks itself busy and looks at a flag,
//! both plain. The drainer raises the flag on every thread concerned, makes each pass a barrier
//! (one system call), and then either sees a thread busy, and waits a bounded moment, or knows that
//! it will see the flag. A thread that stays busy (preempted in the few instructions of a hit) is
//! skipped: its stock stays.
//!
//! Invariants: the stock of another thread is taken only after its flag went up, every thread has
//! passed the fence, and it was seen idle. Each flag is lowered by the drain that raised it.
//! Depends on: `thread::record` for the flag and for busy; `stock` for what is in a slot; the
//! asymmetric fence.
//! Never: a lock; a wait without a bound.

#![forbid(unsafe_code)]

use super::memcg_record::Memcg;
use super::{Hierarchy, Kind, Tag};
use crate::sync::atomic::Ordering;
use crate::thread::ThreadRec;

/// Two drains of one group are at least this far apart, in ns, unless a person asked for one.
pub const DRAIN_INTERVAL_NS: u64 = 1_000_000;

impl Memcg {
    /// Whether a charge that asks for a drain now would do one, or wait for one: the caller stalls
    /// then.
    pub fn is_drain_due(&self) -> bool {
        let due = |now: u64| {
            now.wrapping_sub(self.drained_at.load(Ordering::Relaxed)) >= DRAIN_INTERVAL_NS
        };
        self.counter.granted() != 0
            && (self.draining.load(Ordering::Relaxed) != 0
                || !self.counter.is_tight()
                || due(crate::os::clock::monotonic_ns()))
    }
}

impl Hierarchy {
    /// Whether a slot of `tag` holds stock under `top`. The caller is pinned.
    fn is_stock_under(&self, tag: Option<Tag>, top: &Memcg) -> bool {
        tag.and_then(|tag| self.objcgs.try_get(tag))
            .and_then(|objcg| objcg.granted.read().cell)
            .is_some_and(|cell| self.resolve(cell).group.is_within(top))
    }

    fn has_stock_under(&self, rec: &ThreadRec, top: &Memcg) -> bool {
        rec.named().any(|slot| {
            rec.slots[slot].has_any()
                && self.is_stock_under(rec.slots[slot].tag.load(Ordering::Relaxed), top)
        })
    }

    /// Drains what threads hold under `top`; answers the bytes taken. The caller is pinned by
    /// `own`.
    ///
    /// Cost: O(threads) and one membarrier if another thread holds any.
    pub fn drain(&self, own: &ThreadRec, top: &Memcg) -> u64 {
        top.nr_drains.fetch_add(1, Ordering::Relaxed);
        let ticket = self.threads.drain_ticket();
        let mut taken = 0;
        let mut others = false;
        for (_, rec) in self.threads.each() {
            if core::ptr::eq(rec, own) {
                if let Some(_busy) = rec.enter() {
                    taken += self.drain_under(own, rec, top);
                }
            } else if self.has_stock_under(rec, top) && rec.begin_drain() {
                rec.drainer.store(ticket, Ordering::Relaxed);
                others = true;
            }
        }
        if !others {
            return taken;
        }
        // Pairs with `light` in `ThreadRec::enter`: from here on a thread is busy, or sees its
        // flag.
        self.threads.heavy_fence();
        for rec in self.threads.each_ever() {
            if rec.drainer.load(Ordering::Relaxed) != ticket {
                continue;
            }
            if rec.await_idle() {
                taken += self.drain_under(own, rec, top);
            }
            rec.drainer.store(0, Ordering::Relaxed);
            rec.end_drain();
        }
        taken
    }

    /// Takes the stock every thread holds for one owner; of one that gets none any more
    /// (`forbid_stock` came first) all there will be. A thread that is preempted in the few
    /// instructions of a hit may keep what it has, after some rounds. Cost: O(threads) and a
    /// membarrier.
    pub(crate) fn drain_owner(&self, own: &ThreadRec, tag: Tag) {
        const ROUNDS: usize = if cfg!(loom) { 1 } else { 8 };
        for _ in 0..ROUNDS {
            let ticket = self.threads.drain_ticket();
            let mut complete = true;
            for (_, rec) in self.threads.each() {
                if core::ptr::eq(rec, own) {
                    match rec.enter() {
                        Some(_busy) => self.drain_owner_of(own, rec, tag),
                        None => complete = false,
                    }
                } else if rec.begin_drain() {
                    // Also those without stock of it: a refill under way must end, or see that
                    // there is to be none.
                    rec.drainer.store(ticket, Ordering::Relaxed);
                } else {
                    complete = false;
                }
            }
            // Pairs with `light` in `ThreadRec::enter`.
            self.threads.heavy_fence();
            for rec in self.threads.each_ever() {
                if rec.drainer.load(Ordering::Relaxed) != ticket {
                    continue;
                }
                if rec.await_idle() {
                    self.drain_owner_of(own, rec, tag);
                } else {
                    complete = false;
                }
                rec.drainer.store(0, Ordering::Relaxed);
                rec.end_drain();
            }
            if complete {
                return;
            }
            crate::sync::relax();
        }
    }

    fn drain_owner_of(&self, own: &ThreadRec, rec: &ThreadRec, tag: Tag) {
        let _transit = own.begin_transit();
        for slot in rec.named() {
            if !rec.slots[slot].tag.is(Some(tag), Ordering::Relaxed) {
                continue;
            }
            // What is counted in advance as well: the owner's kinds are exact from here on.
            let spare = rec.slots[slot].spare.take();
            if spare > 0 {
                self.sub_side(tag, spare, Kind::Reserved);
            }
            self.drain_slot(rec, slot);
        }
    }

    fn drain_under(&self, own: &ThreadRec, rec: &ThreadRec, top: &Memcg) -> u64 {
        let _transit = own.begin_transit();
        rec.named()
            .filter(|&slot| self.is_stock_under(rec.slots[slot].tag.load(Ordering::Relaxed), top))
            .map(|slot| self.drain_slot(rec, slot))
            .sum()
    }

    /// As [`Self::drain_for_charge`], however long ago the last drain was: for who cannot be
    /// refused while stock is in the way.
    pub fn drain_at_once(&self, own: &ThreadRec, top: &Memcg) -> bool {
        let has_any = top.counter.granted() != 0;
        if has_any {
            top.counter.set_tight();
            self.drain(own, top);
        }
        has_any
    }

    /// As [`Self::drain`] for a charge that was refused: one at a time, not too often, and the
    /// group gives no stock afterwards until it has room again. `false` when nothing was or could
    /// be drained.
    pub fn drain_for_charge(&self, own: &ThreadRec, top: &Memcg) -> bool {
        if top.counter.granted() == 0 {
            return false;
        }
        // Acquire pairs with the Release at the end, of the thread that drained last.
        if top.draining.swap(1, Ordering::Acquire) != 0 {
            // Another thread is at it: what it takes may be enough for us as well.
            for _ in 0..10_000 {
                // Acquire pairs with the Release at the end: what that thread took is off the
                // counters.
                if top.draining.load(Ordering::Acquire) == 0 {
                    break;
                }
                crate::sync::relax();
            }
            return true;
        }
        let now = crate::os::clock::monotonic_ns();
        let last = top.drained_at.load(Ordering::Relaxed);
        let due = !top.counter.is_tight() || now.wrapping_sub(last) >= DRAIN_INTERVAL_NS;
        if due {
            // First, or a refill would take again what the drain brings in.
            top.counter.set_tight();
            self.drain(own, top);
            top.drained_at.store(now, Ordering::Relaxed);
        }
        // Release pairs with the two Acquires above.
        top.draining.store(0, Ordering::Release);
        due
    }
}
