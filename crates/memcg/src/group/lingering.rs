//! `group-end = linger`: a removed group keeps its charges until its last byte goes, as in the
//! kernel before reparenting.
//!
//! A lingering group gives no stock, so its bytes are uncharged exactly. Stock of a thread that
//! could not be drained when the group was removed stays until that thread needs the slot, or the
//! group is drained again (`reap`, `memory.reclaim`).
//!
//! Invariants: a lingering group is out of the tree, but its record, cell, name and counter stay,
//! and what is charged to its owners is counted at the group and above. It has ended for good when
//! it holds nothing and no group lingers below it. Whichever thread makes that so marks the group,
//! and `offline` does the rest.
//! Depends on: `offline` for the order of the steps; the epochs.
//! Never: a lock or a look on a hit. Only what takes bytes off a group's counter looks, and only in
//! a hierarchy where groups linger.

use super::id::{CellId, GroupId, ROOT};
use super::memcg_record::Memcg;
use super::{Hierarchy, Tag};
use crate::counter::Level;
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::id::Id;
use crate::sync::stack::Stack;
use crate::thread::ThreadRec;

/// `Memcg::linger` of a group that lingers.
const LINGERS: u32 = 1;
/// Of one that holds nothing any more, and waits for `offline`.
const DONE: u32 = 2;

/// Whether removed groups linger, and those that do.
#[derive(Default)]
pub struct Lingering {
    on: AtomicU32,
    nr: AtomicU32,
    /// Groups that are done.
    done: Stack,
    /// Groups that lingered and are gone.
    nr_gone: AtomicU64,
}

// SAFETY: atomic integers, and a stack, which is one as well: zero bytes are the empty stack.
unsafe impl Zeroed for Lingering {}

impl Memcg {
    /// Whether it has been removed and still holds bytes.
    pub fn is_lingering(&self) -> bool {
        // Acquire pairs with the Release of `begin_linger`, `lingers_on` and `end_linger`.
        self.linger.load(Ordering::Acquire) != 0
    }

    /// Whether groups right below it linger, or are about to.
    pub fn has_lingering_below(&self) -> bool {
        self.nr_lingering.load(Ordering::Relaxed) != 0
    }
}

impl Hierarchy {
    /// Whether removed groups linger.
    #[inline]
    pub fn lingers(&self) -> bool {
        self.lingering.on.load(Ordering::Relaxed) != 0
    }

    /// Sets it. `false`, and nothing changed, once there has been a group other than the root.
    pub fn set_lingers(&self, on: bool) -> bool {
        if self.memcgs.each_after(Some(ROOT)).next().is_some() {
            return on == self.lingers();
        }
        self.lingering.on.store(on.into(), Ordering::Relaxed);
        true
    }

    /// Groups that linger now.
    pub fn nr_lingering(&self) -> u32 {
        self.lingering.nr.load(Ordering::Relaxed)
    }

    /// Groups that lingered and are gone.
    pub fn nr_lingered(&self) -> u64 {
        self.lingering.nr_gone.load(Ordering::Relaxed)
    }

    /// Whether groups wait for the last steps of their end.
    pub fn has_done(&self) -> bool {
        !self.lingering.done.is_empty()
    }

    /// The lingering group of the next higher index within `top`; `None` at the end. From `None`
    /// on, all of them. The caller is pinned. O(groups).
    pub fn next_lingering(&self, top: &Memcg, after: Option<GroupId>) -> Option<GroupId> {
        if self.nr_lingering() == 0 {
            return None;
        }
        let mut later = self.memcgs.each_after(after);
        later
            .find(|(_, group)| group.is_lingering() && group.is_within(top))
            .map(|(index, _)| index)
    }

    /// The nearest group, this one or above, that does not linger.
    pub fn nearest_online<'a>(&'a self, group: &'a Memcg) -> &'a Memcg {
        let mut at = group;
        while at.is_lingering()
            && let Some(above) = at.parent()
        {
            at = above;
        }
        at
    }

    /// A group in `parent` will linger: the parent does not end before it. Under the parent's lock,
    /// while the group is a child.
    pub(super) fn expect_lingering(&self, parent: &Memcg) {
        if self.lingers() {
            parent.nr_lingering.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The group, out of the tree, lingers from here on. The caller is pinned by `rec`.
    pub(crate) fn begin_linger(&self, rec: &ThreadRec, group: &Memcg, now_ns: u64) {
        self.end_own_objcg(group, now_ns);
        self.lingering.nr.fetch_add(1, Ordering::Relaxed);
        // Release pairs with the Acquire of `is_lingering`, and of the exchange of `note_if_done`.
        group.linger.store(LINGERS, Ordering::Release);
        // Pairs with the fences of `finish_if_empty_slow`, `return_if_lingering_slow` and
        // `end_linger`: they see that it lingers, or we see what they did.
        fence(Ordering::SeqCst);
        // Nobody is told to pay for it any more. Charges in its name still need its max.
        group.counter.set_min(0);
        group.counter.set_low(0);
        let back = group.counter.set_reserve(
            0,
            |_| Err(()),
            || Ok(()),
            |back| {
                if let Some(parent) = group.parent().filter(|_| back > 0) {
                    self.uncharge_level(parent, back);
                }
            },
        );
        if back.is_err() {
            self.report_broken();
        }
        // A thread that was preempted in a hit is skipped by a drain.
        for _ in 0..4 {
            if group.counter.granted() == 0 {
                break;
            }
            self.drain(rec, group);
        }
        self.note_if_done(group);
    }

    /// Bytes were taken off the group of a cell. The caller is pinned.
    #[inline]
    pub(super) fn finish_if_empty(&self, cell: CellId) {
        if self.lingers() {
            self.finish_if_empty_slow(cell);
        }
    }

    #[cold]
    fn finish_if_empty_slow(&self, cell: CellId) {
        // Pairs with the fences of `begin_linger` and `lingers_on`: we see that it lingers, or they
        // see what was taken off.
        fence(Ordering::SeqCst);
        self.note_if_done(self.resolve(cell).group);
    }

    /// Marks a lingering group that holds nothing, once, for `offline` to find.
    pub(crate) fn note_if_done(&self, group: &Memcg) {
        // Acquire pairs with the AcqRel of `end_linger`: who finds none below sees that they are
        // gone.
        if group.linger.load(Ordering::Relaxed) != LINGERS
            || group.counter.usage() != 0
            || group.nr_lingering.load(Ordering::Acquire) != 0
        {
            return;
        }
        // Acquire pairs with the Release of `begin_linger` and `lingers_on`; Release with the
        // Acquire of `is_lingering`. One of those who see the end gets to do it.
        if group
            .linger
            .compare_exchange(LINGERS, DONE, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            self.lingering.done.push(group.index().raw(), group.link());
        }
    }

    /// The groups that are done: the first, and [`Self::after_done`] leads to the others. Each is
    /// the caller's.
    pub(crate) fn pop_done(&self) -> Option<GroupId> {
        GroupId::from_raw(self.lingering.done.pop_all())
    }

    /// The next of a list of [`Self::pop_done`]; before its predecessor is ended.
    pub(crate) fn after_done(&self, index: GroupId) -> Option<GroupId> {
        GroupId::from_raw(self.memcgs.get(index).link().load(Ordering::Relaxed))
    }

    /// Something was charged in the name of a group that was done: it lingers on. `false`: it is
    /// done.
    pub(crate) fn lingers_on(&self, group: &Memcg) -> bool {
        if group.counter.usage() == 0 {
            return false;
        }
        // Release pairs with the Acquire of `is_lingering`, and of the exchange of `note_if_done`.
        // The fence pairs with those of `finish_if_empty_slow` and `end_linger`, as that of
        // `begin_linger` does.
        group.linger.store(LINGERS, Ordering::Release);
        fence(Ordering::SeqCst);
        self.note_if_done(group);
        true
    }

    /// The group does not linger any more: its cell leads to its parent's. The parent may be done
    /// by that.
    pub(crate) fn end_linger(&self, group: &Memcg, parent: &Memcg) {
        // Release pairs with the Acquire of `is_lingering`.
        group.linger.store(0, Ordering::Release);
        self.lingering.nr.fetch_sub(1, Ordering::Relaxed);
        self.lingering.nr_gone.fetch_add(1, Ordering::Relaxed);
        // Release pairs with the Acquire of `note_if_done`: who finds none below sees that they are
        // gone. The fence pairs with those of `begin_linger` and `lingers_on`, for the parent: we
        // see that it lingers, or they see that one is gone.
        parent.nr_lingering.fetch_sub(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        self.note_if_done(parent);
    }

    /// After stock was put into a slot of `tag`: taken back if the owner's group began to linger
    /// meanwhile.
    #[inline]
    pub(super) fn return_if_lingering(&self, rec: &ThreadRec, tag: Tag) {
        if self.lingers() {
            self.return_if_lingering_slow(rec, tag);
        }
    }

    #[cold]
    fn return_if_lingering_slow(&self, rec: &ThreadRec, tag: Tag) {
        // Pairs with that of `begin_linger`: its drain sees the slot's cap, or we see that the
        // group lingers.
        fence(Ordering::SeqCst);
        if !self
            .resolve(self.objcgs.get(tag).cell())
            .group
            .is_lingering()
        {
            return;
        }
        if let Some(_busy) = rec.enter()
            && let Some(slot) = rec.slot_of(Some(tag))
        {
            self.drain_slot(rec, slot);
        }
    }

    /// In the child of a fork: what the parent's other threads had begun to note is noted anew.
    /// After the counts are right.
    pub(super) fn note_done_anew(&self) {
        if !self.lingers() {
            return;
        }
        let _ = self.pop_done();
        for (_, group) in self.memcgs.each() {
            if group.is_lingering() {
                group.linger.store(LINGERS, Ordering::Relaxed);
            }
        }
        for (_, group) in self.memcgs.each() {
            self.note_if_done(group);
        }
    }
}
