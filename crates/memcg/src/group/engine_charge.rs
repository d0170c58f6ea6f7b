//! Bytes of kind `engine`: records that a tenant makes the engine keep, charged to groups.
//!
//! A group counts the bytes of the records that are made in it: those of its tasks, of owners whose
//! task or group has ended, of their names, and the records of the groups that are its children.
//! (So a group's own record is its parent's.) What is beyond the first 64 KiB is charged to the
//! group, in steps of 4 KiB, forced: a tenant that leaves 300,000 ended tasks pays for them, and a
//! small tree reads as if there were no such kind. At a group's end what it counts is its parent's.
//!
//! Invariants: nothing is charged through an owner, so no owner is kept alive by it. At quiescence
//! `steps` is what `records` asks for, and every record is counted in the nearest online group of
//! where it belongs. The levels hold no less than `steps` says. What is added to a group whose end
//! has begun is passed on by whoever sees that it has: who ends it (`hand_over_records`) takes what
//! is there, and who adds looks afterwards whether it has begun to end. Both are SeqCst, so one of
//! the two sees the other.
//! Depends on: callers that are pinned; the walks of `counter`.
//! Never: a lock; a refusal; anything under loom, whose models make fewer records than are free.

#![forbid(unsafe_code)]

use super::cell::Cell;
use super::engine_records::STEP;
use super::exact_charge::each_level;
use super::id::NameId;
use super::memcg_record::Memcg;
use super::name::NameRec;
use super::objcg::{Objcg, State};
use super::page_books::OwnerPages;
use super::{Hierarchy, Tag};
use crate::counter::{Level, Over, try_charge, uncharge};
use crate::sync::atomic::Ordering;

/// A group's record, its cell and its place in the index.
const GROUP: i64 = (size_of::<Memcg>() + size_of::<Cell>() + 8) as i64;

fn bytes_of(steps: u32) -> u64 {
    u64::from(steps) * STEP
}

impl Memcg {
    /// Bytes of kind `engine` that the group and all below are charged.
    pub fn engine_bytes(&self) -> u64 {
        bytes_of(self.engine.steps_below.load(Ordering::Relaxed))
    }

    /// Those that the group itself is charged.
    #[cfg(any(test, feature = "testing"))]
    pub fn own_engine_bytes(&self) -> u64 {
        bytes_of(self.engine.steps.load(Ordering::Relaxed))
    }

    /// Bytes of records made in the group, charged or free.
    #[cfg(any(test, feature = "testing"))]
    pub fn record_bytes(&self) -> u64 {
        self.engine.records.load(Ordering::Relaxed)
    }

    /// Steps that its records ask for, in bytes.
    #[cfg(any(test, feature = "testing"))]
    pub fn engine_bytes_due(&self) -> u64 {
        bytes_of(self.engine.due())
    }
}

impl Hierarchy {
    /// A group was made in `parent`.
    pub(super) fn count_group_in(&self, parent: &Memcg) {
        self.add_records(parent, GROUP);
    }

    /// The record of a group, which has ended, is let go.
    pub(super) fn count_group_out(&self, group: &Memcg) {
        if let Some(parent) = group.parent() {
            self.add_records(parent, -GROUP);
        }
    }

    /// An owner was made.
    pub(super) fn count_owner_in(&self, objcg: &Objcg) {
        if let Some(home) = self.home_of(objcg) {
            self.add_records(home, self.bytes_of_owner(objcg));
        }
    }

    /// An owner is let go, or was not needed; its cell and its name are still there.
    pub(super) fn count_owner_out(&self, objcg: &Objcg) {
        if let Some(home) = self.home_of(objcg) {
            self.add_records(home, -self.bytes_of_owner(objcg));
        }
    }

    /// A live task has moved, its cell flipped already.
    pub(crate) fn count_owner_moved(&self, tag: Tag, from: &Memcg, to: &Memcg) {
        let bytes = self.bytes_of_owner(self.objcgs.get(tag)) + self.bytes_of_regions(tag);
        self.add_records(to, bytes);
        self.add_records(from, -bytes);
    }

    /// An owner's regions make the engine keep `bytes` more; they count where the owner is.
    pub(super) fn add_owner_records(&self, objcg: &Objcg, bytes: i64) {
        if let Some(cell) = objcg.cell_if_any() {
            self.add_records(self.resolve(cell).group, bytes);
        }
    }

    fn bytes_of_regions(&self, tag: Tag) -> i64 {
        self.owner_pages(tag).map_or(0, OwnerPages::records) as i64
    }

    /// The group that counts an owner: the one it is in, or for a group's own its parent. `None` of
    /// the root's, and of what is in no group.
    pub(super) fn home_of(&self, objcg: &Objcg) -> Option<&Memcg> {
        let group = self.resolve(objcg.cell_if_any()?).group;
        match objcg.state() {
            State::Group => group.parent(),
            State::Free
            | State::Task
            | State::DeadGroup
            | State::DeadTask
            | State::Superseded
            | State::Residual
            | State::Lost => Some(group),
        }
    }

    /// The records of an owner: its own, and its name's.
    pub(super) fn bytes_of_owner(&self, objcg: &Objcg) -> i64 {
        let name: Option<NameId> = objcg.name.load(Ordering::Relaxed);
        let pieces = name.map_or(0, |name| self.nr_pieces(name));
        (size_of::<Objcg>() + pieces * size_of::<NameRec>()) as i64
    }

    /// The end of `group` has begun (it is online no more): what it counts is the parent's.
    pub(super) fn hand_over_records(&self, group: &Memcg) {
        if !cfg!(loom) {
            self.add_records(group, 0);
        }
    }

    /// Adds `bytes` to what `group` counts, or whatever has become of it, and charges what that
    /// asks for. Usable in a signal handler. Cost: two atomic additions, and a walk over the levels
    /// at each step.
    fn add_records(&self, group: &Memcg, bytes: i64) {
        if cfg!(loom) {
            return;
        }
        let (mut at, mut bytes) = (group, bytes);
        loop {
            // SeqCst, with the state behind it: who ends the group has made it dying before it
            // comes here itself, so either it takes what was added, or we see the state.
            at.engine.records.fetch_add(bytes as u64, Ordering::SeqCst);
            crate::sync::atomic::fence(Ordering::SeqCst);
            if at.is_online() {
                return self.settle_records(at);
            }
            let Some(parent) = at.parent() else {
                return self.settle_records(at);
            };
            bytes = at.engine.records.swap(0, Ordering::SeqCst) as i64;
            self.settle_records(at);
            at = parent;
        }
    }

    /// Charges or gives back until the group is charged what its records ask for. Of several at
    /// once the last one sees what all have added.
    fn settle_records(&self, group: &Memcg) {
        let engine = &group.engine;
        loop {
            // SeqCst: an addition comes before its own look here, and an exchange before the look
            // that follows it, so of two the later one finds both.
            let (charged, due) = (engine.steps.load(Ordering::SeqCst), engine.due());
            let set = || {
                let swapped = engine.steps.compare_exchange(
                    charged,
                    due,
                    Ordering::SeqCst,
                    Ordering::Relaxed,
                );
                swapped.is_ok()
            };
            if due > charged {
                // First, so that the levels never hold less than is to be given back.
                if !self.charge_steps(group, due - charged) {
                    return;
                }
                if !set() {
                    self.uncharge_steps(group, due - charged);
                }
            } else if due < charged {
                if set() {
                    self.uncharge_steps(group, charged - due);
                }
            } else {
                return;
            }
        }
    }

    /// `false`: a level can count no more.
    fn charge_steps(&self, group: &Memcg, steps: u32) -> bool {
        let charged = try_charge(group, None, bytes_of(steps), |_: &Memcg| Over::Any).is_ok();
        if charged {
            each_level(group, |level| {
                level.engine.steps_below.fetch_add(steps, Ordering::Relaxed);
            });
        }
        charged
    }

    fn uncharge_steps(&self, group: &Memcg, steps: u32) {
        each_level(group, |level| {
            level.engine.steps_below.fetch_sub(steps, Ordering::Relaxed);
        });
        if uncharge(group, None, bytes_of(steps)).is_err() {
            self.report_broken();
        }
    }

    /// For a recount: nothing is counted in `group` as yet.
    pub(super) fn forget_records(&self, group: &Memcg) {
        group.engine.open();
    }

    /// For a recount, whose counts of the levels are plain sums: all records anew, and what they
    /// ask for.
    pub(super) fn recount_records(&self) {
        let add = |group: &Memcg, bytes: i64| {
            let mut at = group;
            while !at.is_online()
                && let Some(parent) = at.parent()
            {
                at = parent;
            }
            at.engine.records.fetch_add(bytes as u64, Ordering::Relaxed);
        };
        for (tag, objcg) in self.objcgs.each() {
            if matches!(objcg.state(), State::Free | State::Lost) {
                continue;
            }
            add(self.resolve(objcg.cell()).group, self.bytes_of_regions(tag));
            if let Some(home) = self.home_of(objcg) {
                add(home, self.bytes_of_owner(objcg));
            }
        }
        for (_, group) in self.memcgs.each() {
            if let Some(parent) = group
                .parent()
                .filter(|_| group.is_online() || group.is_lingering())
            {
                add(parent, GROUP);
            }
        }
        for (_, group) in self.memcgs.each().filter(|(_, group)| group.is_online()) {
            let steps = group.engine.due();
            group.engine.steps.store(steps, Ordering::Relaxed);
            each_level(group, |level| {
                level.engine.steps_below.fetch_add(steps, Ordering::Relaxed);
                level.counter.set_counts(
                    level.counter.usage() + bytes_of(steps),
                    level.counter.granted(),
                );
            });
        }
    }

    /// What the records that belong to `group` make, counted anew, for the audit; `None`: those of
    /// all groups together, the ones that belong to none left out. O(owners + groups).
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn records_anew(&self, group: Option<&Memcg>) -> u64 {
        let counts = |home: &Memcg| {
            group.is_none_or(|group| core::ptr::eq(self.nearest_online(home), group))
        };
        let owners = self.objcgs.each().map(|(_, objcg)| objcg);
        let owners = owners
            .filter(|objcg| !matches!(objcg.state(), State::Free | State::Lost))
            .filter(|objcg| self.home_of(objcg).is_some_and(counts))
            .map(|objcg| self.bytes_of_owner(objcg));
        let groups = self.memcgs.each().map(|(_, group)| group);
        let groups = groups
            .filter(|below| below.is_online() || below.is_lingering())
            .filter(|below| below.parent().is_some_and(counts))
            .map(|_| GROUP);
        let regions = self.objcgs.each();
        let regions = regions
            .filter(|(_, objcg)| !matches!(objcg.state(), State::Free | State::Lost))
            .filter(|(_, objcg)| counts(self.resolve(objcg.cell()).group))
            .map(|(tag, _)| self.bytes_of_regions(tag));
        owners.chain(groups).chain(regions).sum::<i64>() as u64
    }
}
