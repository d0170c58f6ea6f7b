//! What all tables of an engine share: what they are made of, how much there is of it, and how
//! large arrays are by now.

use super::super::id::NodeId;
use super::node::Node;
use super::{BLOCKS, FIRST, block_bytes, own_bytes, place};
use crate::group::id::KmemId;
use crate::sync::Zeroed;
use crate::sync::arena::Arena;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::id::Id;
use crate::thread::hint::Hints;

/// What becomes of kmem ids, and what the tables they index are. Chosen before first use, for the
/// life of the engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
#[repr(u32)]
pub enum IdPolicy {
    /// At a group's end what lists and caches keep for it goes to the parent, and the id is free
    /// after a grace period, whether the group lingers or not: arrays are as large as there were
    /// groups at once. The default.
    #[default]
    ReparentAndFree = 0,
    /// A group that lingers keeps its id. Before arrays grow those that linger are asked for
    /// theirs, in the hope that one can: not reliable, and then they grow anyway.
    ReclaimOfflineFirst = 1,
    /// A group that lingers keeps its id. Tables are radix trees, which shrink as ids go; a lookup
    /// costs a step a level, or finds the thread's hint of the last one.
    ShrinkableTree = 2,
}

impl IdPolicy {
    /// All there are, with their names in options and scenarios.
    pub const NAMES: [(&'static str, IdPolicy); 3] = [
        ("reparent-and-free", IdPolicy::ReparentAndFree),
        ("reclaim-offline-first", IdPolicy::ReclaimOfflineFirst),
        ("shrinkable-tree", IdPolicy::ShrinkableTree),
    ];

    /// The policy of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(_, policy)| policy)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[Self::NAMES
            .iter()
            .position(|&(_, policy)| policy == self)
            .unwrap_or(0)]
        .0
    }
}

/// See the module.
#[derive(Default)]
pub struct Tables {
    policy: AtomicU32,
    /// A table has been put into: the policy stays.
    in_use: AtomicU32,
    array_bytes: AtomicU64,
    /// Blocks of arrays there are, of the largest array.
    size: AtomicU32,
    /// How often the largest array grew.
    pub(super) nr_grown: AtomicU64,
    /// How often those that linger were asked before, and how often one gave its id.
    nr_asked: AtomicU64,
    nr_helped: AtomicU64,
    pub(super) nodes: Arena<NodeId, Node>,
    pub(super) nr_trees: AtomicU32,
}

// SAFETY: integers and an arena.
unsafe impl Zeroed for Tables {}

/// What tables take, and what it took. Bytes beside the tables themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct TableStat {
    /// Bytes of arrays.
    pub arrays: u64,
    /// Bytes of trees: of nodes in use.
    pub trees: u64,
    /// Bytes of nodes that were in use at once: those that are free are for the next tree that
    /// needs one.
    pub trees_most: u64,
    /// Bytes of hints a thread has, where tables are trees.
    pub hints_each: u64,
    /// How often the largest array grew.
    pub grown: u64,
    /// How often those that linger were asked for an id before one grew.
    pub asked: u64,
    /// How often that was of use.
    pub helped: u64,
}

impl Tables {
    /// The policy.
    #[inline]
    pub fn policy(&self) -> IdPolicy {
        match self.policy.load(Ordering::Relaxed) {
            1 => IdPolicy::ReclaimOfflineFirst,
            2 => IdPolicy::ShrinkableTree,
            _ => IdPolicy::ReparentAndFree,
        }
    }

    /// Chooses it. `false`, and nothing changed, once a table has been used.
    pub fn set_policy(&self, policy: IdPolicy) -> bool {
        if self.in_use.load(Ordering::Acquire) != 0 {
            return policy == self.policy();
        }
        self.policy.store(policy as u32, Ordering::Release);
        true
    }

    pub(super) fn use_policy(&self) {
        if self.in_use.load(Ordering::Relaxed) == 0 {
            self.in_use.store(1, Ordering::Release);
        }
    }

    /// Whether tables are trees.
    #[inline]
    pub fn are_trees(&self) -> bool {
        self.policy.load(Ordering::Relaxed) == IdPolicy::ShrinkableTree as u32
    }

    /// Whether a group's id is free as soon as it is removed, even if the group lingers.
    pub fn frees_at_offline(&self) -> bool {
        self.policy() == IdPolicy::ReparentAndFree
    }

    /// Ids below this need no array to grow beyond what the largest is.
    pub fn room(&self) -> u32 {
        let blocks = self.size.load(Ordering::Relaxed).clamp(1, BLOCKS as u32);
        FIRST * ((1 << blocks) - 1)
    }

    pub(super) fn count_block(&self, block: usize, made: bool) {
        let bytes = own_bytes(block_bytes(block)) as u64;
        if !made {
            self.array_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return;
        }
        self.array_bytes.fetch_add(bytes, Ordering::Relaxed);
        let size = block as u32 + 1;
        if self.size.fetch_max(size, Ordering::Relaxed) < size {
            self.nr_grown.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that linger were asked for an id; whether one gave it.
    pub(crate) fn count_asked(&self, helped: bool) {
        self.nr_asked.fetch_add(1, Ordering::Relaxed);
        self.nr_helped.fetch_add(helped.into(), Ordering::Relaxed);
    }

    /// Arrays are to have a place for `id`: until one has, it counts as if it had.
    pub(crate) fn make_room_for(&self, id: KmemId) {
        let size = place(id.raw()).0 as u32 + 1;
        if self.size.fetch_max(size, Ordering::Relaxed) < size {
            self.nr_grown.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What there is now.
    pub fn stat(&self) -> TableStat {
        let node = size_of::<Node>() as u64;
        let hints = if self.are_trees() {
            size_of::<Hints>()
        } else {
            0
        };
        TableStat {
            arrays: self.array_bytes.load(Ordering::Relaxed),
            trees: u64::from(self.nodes.in_use()) * node,
            trees_most: u64::from(self.nodes.high_water().saturating_sub(1)) * node,
            hints_each: hints as u64,
            grown: self.nr_grown.load(Ordering::Relaxed),
            asked: self.nr_asked.load(Ordering::Relaxed),
            helped: self.nr_helped.load(Ordering::Relaxed),
        }
    }
}
