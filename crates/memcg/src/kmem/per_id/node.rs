//! A node of a table that is a tree.
//!
//! Invariants: a node is in one tree, or free for any. Its slots lead to nodes, or at the bottom to
//! what the table maps to.
//! Depends on: nothing of this folder.
//! Never: a look at what its slots lead to. The level tells that, and `radix_tree` knows the level.

use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::AtomicU32;

/// Bits of an id that one level of a tree decides by.
pub(super) const BITS: u32 = if cfg!(loom) { 1 } else { 6 };
/// Slots of a node.
pub(super) const WIDTH: usize = 1 << BITS;

/// See the module.
pub struct Node {
    link: AtomicU32,
    /// The number of slots that are not 0. Under the lock of the table it is in.
    pub(super) used: AtomicU32,
    /// Numbers of nodes; of a node at the bottom, what the table maps to. 0: none.
    pub(super) slots: [AtomicU32; WIDTH],
}

impl Default for Node {
    fn default() -> Self {
        Self {
            link: AtomicU32::default(),
            used: AtomicU32::default(),
            slots: core::array::from_fn(|_| AtomicU32::default()),
        }
    }
}

// SAFETY: all fields are atomic integers, so zero bytes are a node with empty slots.
unsafe impl Zeroed for Node {}
// SAFETY: the answer is always the same field, and nothing in this room reads or writes `link`; the
// arena alone uses it.
unsafe impl Record for Node {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}
