//! Index types of the allocator's tables: heaps, caches, lists, shrinkers, and what these keep for each group.
//!
//! Invariants: an index is that of one table; see [`crate::sync::id`].
//! Depends on: `sync` and `thread`.
//! Never: anything about what lies under an index.

pub use crate::thread::id::HeapId;
