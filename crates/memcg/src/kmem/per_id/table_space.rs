//! What all tables of an engine share: the policy of ids, the nodes of trees, and counts of what
//! tables take.
//!
//! Invariants: the policy does not change once a table has been used.
//! Depends on: nothing but the arena of nodes.
//! Never: a table's content.

use super::super::id::NodeId;
use super::node::Node;
use super::{BLOCKS, FIRST, block_bytes, own_bytes, place};
use crate::group::id::KmemId;
use crate::sync::Zeroed;
use crate::sync::arena::Arena;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::id::Id;
use crate::thread::hint::Hints;

/// What becomes of kmem ids, and what kind of table they index. It is chosen before the first use,
/// for the life of the engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
#[repr(u32)]
pub enum IdPolicy {
    /// When a group ends, what lists and caches keep for it goes to the parent. The id is free
    /// after a grace period, even if the group lingers. So arrays are as large as the most groups
    /// there were at once. The default.
    #[default]
    ReparentAndFree = 0,
    /// A group that lingers keeps its id. Before arrays grow, lingering groups are asked for
    /// theirs. That is not reliable: if none can give its id, arrays grow.
    ReclaimOfflineFirst = 1,
    /// A group that lingers keeps its id. Tables are radix trees, which shrink as ids go. A lookup
    /// costs a step for each level, or finds the thread's hint of its last lookup.
    ShrinkableTree = 2,
}

impl IdPolicy {
    /// All policies, with their names in options and scenarios.
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

    /// The policy's name in options and scenarios.
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
    /// Something has been entered into a table, so the policy stays.
    in_use: AtomicU32,
    array_bytes: AtomicU64,
    /// How many blocks the largest array has.
    size: AtomicU32,
    /// How often the largest array grew.
    pub(super) nr_grown: AtomicU64,
    /// How often lingering groups were asked for an id before an array grew, and how often one gave
    /// it.
    nr_asked: AtomicU64,
    nr_helped: AtomicU64,
    pub(super) nodes: Arena<NodeId, Node>,
    pub(super) nr_trees: AtomicU32,
}

// SAFETY: integers and an arena, which is `Zeroed` itself: zero bytes are the default policy and no
// nodes.
unsafe impl Zeroed for Tables {}

/// What tables take, and how often they grew. Bytes are counted beside the tables themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct TableStat {
    /// Bytes of arrays.
    pub arrays: u64,
    /// Bytes of trees: of nodes in use.
    pub trees: u64,
    /// The most bytes of nodes that were ever in use at once. Free ones are kept for the next tree.
    pub trees_most: u64,
    /// Bytes of hints in each thread, if tables are trees.
    pub hints_each: u64,
    /// How often the largest array grew.
    pub grown: u64,
    /// How often lingering groups were asked for an id before an array grew.
    pub asked: u64,
    /// How often one of them gave its id.
    pub helped: u64,
}

impl Tables {
    /// The policy of this engine.
    #[inline]
    pub fn policy(&self) -> IdPolicy {
        match self.policy.load(Ordering::Relaxed) {
            1 => IdPolicy::ReclaimOfflineFirst,
            2 => IdPolicy::ShrinkableTree,
            _ => IdPolicy::ReparentAndFree,
        }
    }

    /// Chooses the policy. `false`: a table has been used, and the policy is another; nothing has
    /// changed.
    pub fn set_policy(&self, policy: IdPolicy) -> bool {
        // Acquire pairs with the Release of `use_policy`. The caller makes this choice before other
        // threads use the engine, so the two do not race.
        if self.in_use.load(Ordering::Acquire) != 0 {
            return policy == self.policy();
        }
        self.policy.store(policy as u32, Ordering::Relaxed);
        true
    }

    pub(super) fn use_policy(&self) {
        if self.in_use.load(Ordering::Relaxed) == 0 {
            // Release pairs with the Acquire of `set_policy`.
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

    /// Ids below this need no array larger than the largest one.
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

    /// Counts that lingering groups were asked for an id, and whether one gave it.
    pub(crate) fn count_asked(&self, helped: bool) {
        self.nr_asked.fetch_add(1, Ordering::Relaxed);
        self.nr_helped.fetch_add(helped.into(), Ordering::Relaxed);
    }

    /// Counts the arrays as large enough for `id`. Until one is, it is taken as if it were.
    pub(crate) fn make_room_for(&self, id: KmemId) {
        let size = place(id.raw()).0 as u32 + 1;
        if self.size.fetch_max(size, Ordering::Relaxed) < size {
            self.nr_grown.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts of this moment.
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
