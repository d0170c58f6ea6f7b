//! The naive model: groups, owners and objects, from which every sum is computed anew.
//!
//! Invariants: a child stands behind its parent in `groups`; an owner's group is online.
//! Depends on: nothing of the engine but its names for things.
//! Never: a sum that is kept. Limits are asked about a change as a whole, by [`Model::tried`].

#![forbid(unsafe_code)]

use crate::group::kind::Kind;
use crate::group::{GroupId, Tag};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub parent: Option<usize>,
    pub index: GroupId,
    pub max: u64,
    pub reserve: u64,
    pub online: bool,
    /// Its usage was above its max when that was written.
    pub lowered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OwnerIs {
    Group,
    Task,
    Dead,
}

#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub tag: Tag,
    pub group: usize,
    pub is: OwnerIs,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    pub owner: usize,
    pub bytes: u64,
    pub kind: Kind,
}

/// Groups, owners and objects, and nothing else.
#[derive(Clone, Default, Debug)]
pub(super) struct Model {
    pub groups: Vec<Group>,
    pub owners: Vec<Owner>,
    pub objects: BTreeMap<u64, Object>,
}

impl Model {
    /// The groups that are online.
    pub fn online(&self) -> Vec<usize> {
        (0..self.groups.len())
            .filter(|&g| self.groups[g].online)
            .collect()
    }

    /// Bytes of an owner's objects.
    pub fn held_by(&self, owner: usize) -> u64 {
        let of = self.objects.values().filter(|o| o.owner == owner);
        of.map(|o| o.bytes).sum()
    }

    /// The exact usage of every group: its objects, and what its children need or have been
    /// promised.
    pub fn usages(&self) -> Vec<u64> {
        let mut usage = vec![0; self.groups.len()];
        for object in self.objects.values() {
            usage[self.owners[object.owner].group] += object.bytes;
        }
        // A child is always behind its parent.
        for g in (0..self.groups.len())
            .rev()
            .filter(|&g| self.groups[g].online)
        {
            if let Some(parent) = self.groups[g].parent {
                usage[parent] += usage[g].max(self.groups[g].reserve);
            }
        }
        usage
    }

    /// Bytes of a kind in a group and below.
    pub fn of_kind(&self, group: usize, kind: Kind) -> u64 {
        let is_below = |mut at: usize| loop {
            if at == group {
                return true;
            }
            match self.groups[at].parent {
                Some(parent) => at = parent,
                None => return false,
            }
        };
        let of = self.objects.values().filter(|o| o.kind == kind);
        of.filter(|o| is_below(self.owners[o.owner].group))
            .map(|o| o.bytes)
            .sum()
    }

    /// Whether everything fits after a change: no group has grown above its max.
    fn allows(&self, before: &[u64]) -> bool {
        let after = self.usages();
        (0..before.len()).all(|g| after[g] <= before[g] || after[g] <= self.groups[g].max)
    }

    /// Whether every group above one is within its max.
    pub(super) fn is_room_above(&self, group: usize) -> bool {
        let usages = self.usages();
        let above = |&g: &usize| self.groups[g].parent;
        core::iter::successors(above(&group), above).all(|g| usages[g] <= self.groups[g].max)
    }

    /// What the model would be after `change`, if the limits allow it.
    pub fn tried(&self, change: impl FnOnce(&mut Self)) -> Option<Self> {
        let mut next = self.clone();
        change(&mut next);
        next.allows(&self.usages()).then_some(next)
    }
}
