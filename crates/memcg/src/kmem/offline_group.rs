//! The end of a group, for lists and caches: they let go of the group, in order, then its kmem id
//! is freed.
//!
//! Invariants: nothing is left under the id. O(1) for a group that no list and no cache has ever
//! known.
//! Depends on: every group above one that has an id has an id too, so there is a place for
//! everything. A group that ends has no children. Only a thread that was pinned before the end can
//! still enter something under its id; `per_id` says what such a thread does.
//! Never: memory taken; a failure; a charge (what was charged stays charged to its owner).

#![forbid(unsafe_code)]

use super::Kmem;
use crate::group::{Hierarchy, Memcg};

impl Kmem {
    /// Ends what lists and caches keep for `group`, which is out of the tree but still the one its
    /// cell leads to. The caller is pinned. `parent` may be ending too, on another thread; what is
    /// handed on goes to the nearest group above that is not.
    pub fn group_ends(&self, tree: &Hierarchy, group: &Memcg, parent: &Memcg) {
        let Some(id) = tree.end_kmem_id(group) else {
            return;
        };
        self.lists
            .group_ends(self, id, group.offline_policy().is_deferred());
        self.end_child_caches(tree, id);
        let (above, _) = tree.kmem_id_or_above(parent);
        self.shrinkers.group_ends(id, above);
        tree.free_kmem_id(id);
    }
}
