//! Setting what a group is told: its limits and protections, its reserve, its policy.
//!
//! Invariants: what is set is in force when the call returns, whether or not the group could be
//! brought down to it. Nothing is set of a group that has been removed.
//! Depends on: `group` for the fields; `reclaim`, `oom_kill` and `budget` for what follows from a
//! limit.
//! Never: reads text or makes it (`files` does).

#![forbid(unsafe_code)]

use super::budget::{InUse, Line};
use super::progress::ask_of;
use super::{Engine, kmalloc};
use crate::counter::page_counter::UNLIMITED;
use crate::counter::{self, Level};
use crate::group::exact_charge::round_up;
use crate::group::template::Setting;
use crate::group::{Memcg, OomPolicy, ROOT, Refusal};
use crate::sync::lock::Rank;
use crate::thread::ThreadRec;
use crate::units::Limit;

/// A bound on what a group holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// `memory.max`; of the root, the process's budget.
    Max,
    /// `memory.high`; of the root, the line of the process's budget.
    High,
    /// `memory.low`.
    Low,
    /// `memory.min`.
    Min,
    /// `memory.kmem.max`.
    KmemMax,
}

/// Why a bound was not set; nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotSet {
    /// The group has been removed.
    Gone,
    /// Of the root: the process has more, so many bytes, than its budget would leave it.
    InUse(u64),
}

/// Why a reserve was not set; nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoReserve {
    /// The group has been removed.
    Gone,
    /// The root has nobody to guarantee it anything.
    Root,
    /// More than [`RESERVE_MAX`].
    TooLarge,
    /// A group above has no room for it.
    Full(Refusal),
}

/// The largest reserve: half of what a counter can count.
pub const RESERVE_MAX: u64 = 1 << 47;

impl Engine {
    /// Sets a bound of an online group. For `Max` and `High` stock is taken back first, and then
    /// the group is brought down to it, as far as that is possible: by shrinkers on this thread,
    /// and at `Max` by kills where the policy is `kill`.
    ///
    /// # Errors
    /// See [`NotSet`].
    pub fn set_bound(
        &self,
        rec: &ThreadRec,
        group: &Memcg,
        bound: Bound,
        bytes: u64,
    ) -> Result<(), NotSet> {
        let set = |f: &dyn Fn()| {
            self.change(|| {
                let _held = group.lock.lock(Rank::Group);
                // One that lingers has been removed.
                group.is_online().then(f).ok_or(NotSet::Gone)
            })
        };
        let counter = &group.counter;
        match bound {
            Bound::Max if group.index() == ROOT => {
                self.set_root_max(rec, bytes)
                    .map_err(|InUse(bytes)| NotSet::InUse(bytes))?;
            }
            Bound::High if group.index() == ROOT => self.set_root_high(rec, Line::Bytes(bytes)),
            Bound::Max | Bound::High => {
                // Made while the caller has the group: it may be gone after reclaim.
                let ask = ask_of(group);
                self.tree.drain(rec, group);
                if bound == Bound::Max {
                    set(&|| counter.set_max(bytes))?;
                } else {
                    set(&|| counter.set_high(bytes))?;
                }
                // Who waits for room may have it now.
                self.tree.tell_freed(group);
                if !self.reclaim_to(rec, group, bytes) && bound == Bound::Max {
                    self.kill_to_max(rec, ask);
                }
                // Last: reclaim of the whole process comes after that of the group. No limit arms
                // nothing.
                if bytes != UNLIMITED {
                    self.arm_budget(rec);
                }
            }
            Bound::Low => set(&|| counter.set_low(bytes))?,
            Bound::Min => set(&|| counter.set_min(bytes))?,
            Bound::KmemMax => {
                let done = set(&|| group.set_kmem_max(bytes));
                // After it: from here on nothing is counted in advance, and what was is given back.
                self.tree.drain(rec, group);
                done?;
            }
        }
        Ok(())
    }

    /// Sets what children of a group that are made from now on begin with; `None`: as every group.
    /// `false`: there is no memory for it, and nothing has changed.
    pub fn set_child_defaults(
        &self,
        rec: &ThreadRec,
        group: &Memcg,
        all: &[(Setting, Option<u64>)],
    ) -> bool {
        // Only the first can fail: the others go into the same record.
        let set = |&(setting, value)| self.tree.set_child_default(group, setting, value);
        if !all.iter().all(set) {
            return false;
        }
        let is_limit = |&(setting, value): &(Setting, Option<u64>)| {
            matches!(setting, Setting::Max | Setting::High)
                && value.is_some_and(|bytes| bytes != UNLIMITED)
        };
        if all.iter().any(is_limit) {
            self.arm_budget(rec);
        }
        true
    }

    /// Guarantees a group `bytes`, charged to the groups above in advance.
    ///
    /// # Errors
    /// See [`NoReserve`].
    pub fn set_reserve(&self, rec: &ThreadRec, group: &Memcg, bytes: u64) -> Result<(), NoReserve> {
        if bytes > RESERVE_MAX {
            return Err(NoReserve::TooLarge);
        }
        let bytes = round_up(bytes);
        if group.parent().is_none() {
            return Err(NoReserve::Root);
        }
        let answer = self.try_set_reserve(group, bytes);
        // Stock under the full group is held by nobody: once, it may make room.
        if let Err(NoReserve::Full(refusal)) = answer
            && let Some(full) = self.tree.group_of_refusal(&refusal)
            && self.tree.drain_for_charge(rec, full)
        {
            return self.try_set_reserve(group, bytes);
        }
        answer
    }

    fn try_set_reserve(&self, group: &Memcg, bytes: u64) -> Result<(), NoReserve> {
        self.change(|| {
            let _held = group.lock.lock(Rank::Group);
            if !group.is_online() {
                return Err(NoReserve::Gone);
            }
            counter::set_reserve(group, bytes, || self.tree.report_broken()).map_err(|full| {
                NoReserve::Full(Refusal {
                    group: Some(full.level.index()),
                    usage: full.usage,
                    max: full.level.counter.max(),
                })
            })?;
            // A smaller one has given the rest back to those above.
            if let Some(parent) = group.parent() {
                self.tree.tell_freed(parent);
            }
            Ok(())
        })
    }

    /// Sets what happens when a charge meets the group's max.
    pub fn set_oom_policy(&self, rec: &ThreadRec, group: &Memcg, policy: OomPolicy) {
        group.set_oom_policy(policy);
        // Stock that the last policy allowed may be more than the new one does.
        self.tree.drain(rec, group);
    }

    /// Sets how much free memory with pages the allocator may keep, and has it give back what is
    /// more.
    pub fn set_spare_max(&self, max: Limit) {
        let bytes = max.as_bytes();
        let bytes = bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        self.kmem.set_spare_max(bytes);
        if bytes.is_some() {
            kmalloc::trim();
        }
    }
}
