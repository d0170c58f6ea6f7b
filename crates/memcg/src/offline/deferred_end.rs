//! A group's end where groups linger: what comes at once, and what comes with the last byte.
//!
//! Invariants: what is charged in the name of a lingering group counts there and above until its
//! counter is closed, and above alone from then on.
//! Depends on: `group::lingering` for who is done; `kmem` for lists, caches and ids.
//! Never: waits for the last byte. Who takes it away marks the group, and `finish` comes later.

use super::clock;
use crate::counter::Level;
use crate::group::tree::TreeError;
use crate::group::{Event, Hierarchy, Memcg};
use crate::kmem::Kmem;
use crate::thread::ThreadRec;

/// Removes a group that will linger while it holds bytes. The caller is pinned by `rec`.
///
/// 1. under the locks of parent and group: busy check, mark dying, out of the tree, the parent
///    knows that it has one that lingers;
/// 2. if the policy of ids says so, or if it has no id: as at any group's end, lists and caches to
///    the parent and the id free;
/// 3. it lingers: its reserve goes back, its protection ends, its stock is drained;
/// 4. if nothing is left, the rest.
pub(super) fn begin(
    tree: &Hierarchy,
    kmem: &Kmem,
    rec: &ThreadRec,
    group: &Memcg,
) -> Result<(), TreeError> {
    let _walk = tree.begin_walk();
    tree.unlink(group)?;
    let Some(parent) = group.parent() else {
        return Err(TreeError::Root);
    };
    tree.note_offline_action(group.cell(), group.offline_policy());
    // Without an id it gets none any more: what is listed in its name from here on is in the
    // parent's lists.
    if kmem.tables.frees_at_offline() || tree.kmem_id_if_any(group).is_none() {
        kmem.group_ends(tree, group, parent);
    }
    tree.begin_linger(rec, group, clock::wall_ns());
    tree.tell_end(group);
    finish(tree, kmem);
    Ok(())
}

/// Ends the groups that lingered and hold nothing any more; answers how many. The caller is pinned,
/// in a place where locks may be taken.
///
/// 1. lists and caches, if it kept them, and the id;
/// 2. the counter closes, the cell leads to the parent's: charges made in its name from here on are
///    the parent's;
/// 3. it does not linger any more, by which the parent may be done;
/// 4. its owner and its record are let go.
pub fn finish(tree: &Hierarchy, kmem: &Kmem) -> u32 {
    let _walk = tree.begin_walk();
    let mut n = 0;
    while tree.has_done() {
        let mut at = tree.pop_done();
        while let Some(index) = at {
            at = tree.after_done(index);
            let group = tree.memcgs.get(index);
            let Some(parent) = group.parent() else {
                continue;
            };
            if tree.lingers_on(group) {
                continue;
            }
            kmem.group_ends(tree, group, parent);
            let (_, left) = group.counter.close();
            tree.link_cell(group.cell(), parent.cell());
            tree.tell_freed(parent);
            if left > 0 {
                parent.event(Event::Inherited);
            }
            tree.end_linger(group, parent);
            tree.dismiss(group);
            n += 1;
        }
    }
    n
}
