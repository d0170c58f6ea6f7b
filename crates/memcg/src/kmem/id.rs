//! Index types of the allocator's tables: heaps, caches, lists, shrinkers, and what these keep for
//! each group.
//!
//! Invariants: an index is that of one table; see [`crate::sync::id`].
//! Depends on: `sync` and `thread`.
//! Never: anything about what lies under an index.

#![forbid(unsafe_code)]

use crate::sync::id::ids;

pub use crate::thread::id::HeapId;

ids! {
    /// A cache of objects.
    pub CacheId;
    /// A thread's slots for caches.
    pub TableId;
    /// The caches of groups that were split from one cache.
    pub FamilyId;
    /// The words by which a group accounts caches' objects.
    pub FilterId;
    /// A node of a table by kmem id that is a tree.
    pub NodeId;
    /// A list of reclaimable things.
    pub ListId;
    /// What a list has for one group.
    pub HeadId;
    /// A registered shrinker.
    pub ShrinkerId;
}
