//! A group's end: which step comes when.
//!
//! Invariants: `remove` does not fail once the group has been found free of children and tasks. Its
//! cost does not depend on what the group holds or had inherited. From its return on nothing finds
//! the group, and what was charged to the group is charged to its parent, where every byte had been
//! counted all along; where groups linger, it stays the group's own until it goes.
//! Depends on: the flips of `group`.
//! Never: an allocation; a look at a thing that was charged; reclaim; a wait for a reader (the
//! epoch does that).

#![forbid(unsafe_code)]

pub mod deferred_end;
#[cfg(all(test, loom))]
pub(crate) mod loom;

use crate::counter::Level;
use crate::group::tree::TreeError;
use crate::group::{Event, Hierarchy, Memcg};
use crate::kmem::Kmem;
use crate::os::clock;
use crate::thread::ThreadRec;

/// Ends a group. The caller is pinned by `rec`. Where groups linger see [`deferred_end`]; else
///
/// 1. under the locks of parent and group: busy check, mark dying, out of the tree;
/// 2. note in its cell what is to become of what it leaves, where its policy says more than that it
///    is the parent's; hand its lists and caches to the parent, and let go of its kmem id;
/// 3. close its counter: whatever walks by passes through; its unused reserve goes back to the
///    parent;
/// 4. link its cell to the parent's: the flip;
/// 5. let go of its owner and its record.
///
/// # Errors
/// [`TreeError::HasChildren`], [`TreeError::HasTasks`], [`TreeError::Root`], or [`TreeError::Gone`]
/// for one that was removed already; nothing has changed then.
pub fn remove(
    tree: &Hierarchy,
    kmem: &Kmem,
    rec: &ThreadRec,
    group: &Memcg,
) -> Result<(), TreeError> {
    if tree.lingers() {
        return deferred_end::begin(tree, kmem, rec, group);
    }
    remove_by(tree, group, |parent| kmem.group_ends(tree, group, parent))
}

/// As [`remove`], where there are no lists and no caches.
///
/// # Errors
/// As [`remove`].
#[cfg(any(test, feature = "testing"))]
pub fn remove_alone(tree: &Hierarchy, group: &Memcg) -> Result<(), TreeError> {
    remove_by(tree, group, |_| {
        if let Some(id) = tree.end_kmem_id(group) {
            tree.free_kmem_id(id);
        }
    })
}

fn remove_by(
    tree: &Hierarchy,
    group: &Memcg,
    end_kmem: impl FnOnce(&Memcg),
) -> Result<(), TreeError> {
    let _walk = tree.begin_walk();
    tree.unlink(group)?;
    let Some(parent) = group.parent() else {
        return Err(TreeError::Root);
    };
    tree.note_offline_action(group.cell(), group.offline_policy());
    end_kmem(parent);
    let (unused_reserve, left) = group.counter.close();
    if unused_reserve > 0 {
        tree.uncharge_level(parent, unused_reserve);
    }
    tree.link_cell(group.cell(), parent.cell());
    tree.tell_end(group);
    if left > 0 {
        parent.event(Event::Inherited);
    }
    tree.end_own_objcg(group, clock::wall_ns());
    tree.dismiss(group);
    Ok(())
}
