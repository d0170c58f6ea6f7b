//! Index types of the thread room: what names a thread's record, and what a record names.
//!
//! Invariants: an index is that of one table; see [`crate::sync::id`].
//! Depends on: `sync` alone.
//! Never: anything about what lies under an index. A heap is a record of `kmem`, a room above; the
//! thread's record holds its index only.

#![forbid(unsafe_code)]

use crate::sync::id::ids;

ids! {
    /// A thread's record, of [`Threads`](super::Threads).
    pub ThreadId;
    /// A run of scopes that ended out of order, of `group`.
    pub GapId;
    /// A heap of small objects, of `kmem`.
    pub HeapId;
    /// Pages that a thread has pinned, of `page`.
    pub PinListId;
}
