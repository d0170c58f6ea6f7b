//! How much a slot may hold: its cap.
//!
//! A slot starts small and doubles each time it runs dry or over, so what a thread has at hand
//! follows what it moves between two visits here. Only a slot that leaves most of each group's
//! budget to others grows beyond what every thread may have.
//!
//! Invariants: a cap is granted by the owner's group, and by every level above that has a limit,
//! before it is the slot's.
//! Depends on: `counter` for the budgets of a level.
//! Never: a slot made smaller. A drain takes all of a cap, and the slot starts anew.

#![forbid(unsafe_code)]

use super::exact_charge::each_level;
use super::objcg::State;
use super::{Hierarchy, Tag};
use crate::counter::Level;
use crate::counter::page_counter::UNLIMITED;
use crate::sync::atomic::Ordering::Relaxed;
use crate::thread::{ThreadRec, UNTRACKED};

/// The smallest cap, in bytes, and the largest that everybody may have.
#[cfg(not(loom))]
pub(super) const CAP: (u64, u64) = (4 << 10, 64 << 10);
#[cfg(loom)]
pub(super) const CAP: (u64, u64) = (64, 64);
/// The largest there is: of a thread that moves megabytes at once, in objects that are small enough
/// for stock.
#[cfg(not(loom))]
pub(super) const WIDE: u64 = 256 << 10;
#[cfg(loom)]
pub(super) const WIDE: u64 = 64;
/// Beyond `CAP.1` this part of each budget may be granted.
const PLENTY: u64 = 4;

impl Hierarchy {
    /// The cap for a slot of `tag` that has one of `cap`, and where `bytes` are missing, or too
    /// many. The caller is pinned.
    pub(super) fn next_cap(&self, tag: Tag, cap: u64, bytes: u64, forced: bool) -> u64 {
        let is_wide = (CAP.1..WIDE).contains(&cap) && self.is_plenty(tag, cap, forced);
        let most = if is_wide { WIDE } else { CAP.1 };
        (cap * 2)
            .clamp(CAP.0, most)
            .max((bytes * 4).next_power_of_two())
    }

    /// Whether `bytes` more of `tag` are within every limit at the moment: a look, so that who is
    /// refused in the end does not take back what it was granted and charged on the way up. Levels
    /// above a reserve are not asked: what is within it is theirs already. The caller is pinned.
    pub(super) fn may_fit(&self, tag: Tag, bytes: u64) -> bool {
        let mut level = self.resolve(self.objcgs.get(tag).cell()).group;
        loop {
            let counter = &level.counter;
            if counter.usage().saturating_add(bytes) > counter.max() {
                return false;
            }
            match level.parent() {
                Some(parent) if counter.reserve() == 0 => level = parent,
                _ => return true,
            }
        }
    }

    /// Whether `more` bytes of stock leave the most of every budget that `tag` depends on to
    /// others.
    fn is_plenty(&self, tag: Tag, more: u64, forced: bool) -> bool {
        let group = self.resolve(self.objcgs.get(tag).cell()).group;
        let (mut is_own, mut plenty) = (true, true);
        each_level(group, |level| {
            let counter = &level.counter;
            let is_bounded = core::mem::take(&mut is_own) || counter.max() != UNLIMITED;
            plenty &=
                !is_bounded || counter.granted() + more <= counter.stock_budget(forced) / PLENTY;
        });
        plenty
    }

    /// Whether frees of what `tag` owns may be kept as stock.
    pub(super) fn may_widen(&self, tag: Tag) -> bool {
        let objcg = self.objcgs.get(tag);
        matches!(objcg.state(), State::Group | State::Task) && objcg.may_stock()
    }

    /// Grants the slot of `tag`, which still holds `bytes`, more room, for a thread that frees more
    /// than it allocates; the answer is to be added to the slot's cap, or given back. Nothing is
    /// kept for an owner that has ended, and nobody is turned out of a slot.
    pub(super) fn widen(&self, rec: &ThreadRec, tag: Tag, bytes: u64) -> u64 {
        let home = ThreadRec::home(Some(tag));
        let has_place = rec.slot_of(Some(tag)).is_some()
            || [home, home ^ 1]
                .iter()
                .any(|&slot| slot != UNTRACKED && rec.slots[slot].tag.load(Relaxed).is_none());
        if !self.may_widen(tag)
            || !has_place
            || bytes > CAP.1 / 4
            || !self.have_slot(rec, tag, false)
        {
            return 0;
        }
        let Some(slot) = rec.slot_of(Some(tag)) else {
            return 0;
        };
        let cap = rec.slots[slot].cap.load(Relaxed);
        // Who runs in debt keeps what it frees at hand.
        let forced = rec.slots[slot].spare.is_closed();
        let wanted = self.next_cap(tag, cap, bytes, forced);
        let more = wanted.saturating_sub(cap);
        if more > 0 && self.grant_word(tag, more, forced) {
            more
        } else {
            0
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::group::{Memcg, ROOT};

    type Tree = &'static Hierarchy;

    fn group(tree: Tree, rec: &ThreadRec, name: &str) -> &'static Memcg {
        let _pin = tree.threads.epoch.pin(rec);
        let index = tree.create(tree.memcgs.get(ROOT), name.as_bytes());
        tree.memcgs.get(index.unwrap())
    }

    /// The cap a thread comes to that charges a megabyte in pages.
    fn cap_of_busy(tree: Tree, rec: &ThreadRec, group: &Memcg) -> u64 {
        for _ in 0..256 {
            assert!(tree.charge(rec, group.tag(), 4096).is_ok());
        }
        let slot = rec.slot_of(Some(group.tag())).unwrap();
        rec.slots[slot].cap.load(Relaxed)
    }

    #[test]
    fn a_few_busy_threads_get_wide_caps_and_leave_every_other_its_share() {
        let tree = Hierarchy::leaked();
        let threads: Vec<_> = (0..16).map(|_| tree.threads.join().unwrap().1).collect();
        let a = group(tree, threads[0], "a");
        let caps: Vec<u64> = threads
            .iter()
            .map(|rec| cap_of_busy(tree, rec, a))
            .collect();
        assert_eq!(caps[0], WIDE);
        assert_eq!(caps[15], CAP.1, "{caps:?}");
        let budget = a.counter.stock_budget(false);
        let wide: u64 = caps.iter().map(|cap| cap - CAP.1).sum();
        assert!(wide <= budget / PLENTY, "{caps:?}");
        assert_eq!(a.counter.granted(), caps.iter().sum());
    }

    #[test]
    fn a_limit_above_bounds_caps_as_one_s_own_does() {
        let tree = Hierarchy::leaked();
        let rec = tree.threads.join().unwrap().1;
        let top = group(tree, rec, "top");
        top.counter.set_max(8 << 20);
        let low = {
            let _pin = tree.threads.epoch.pin(rec);
            tree.memcgs.get(tree.create(top, b"low").unwrap())
        };
        // A quarter of a sixteenth of 8 MiB.
        assert_eq!(cap_of_busy(tree, rec, low), 128 << 10);
    }
}
