//! The tree: making groups, finding them, and the part of a group's end that takes it out of the
//! tree.
//!
//! Invariants: a group is in its parent's list of children and in the index for as long as it is
//! online. That list changes under the parent's lock; who reads it without the lock is pinned.
//! Depends on: `index`, `name`, `cell`, `objcg` for the records of a group; `template` for what it
//! begins with.
//! Never: the order of a group's end (`offline`); a look at what the group is charged.

#![forbid(unsafe_code)]

use super::Hierarchy;
use super::flip_word::CELL_LIMIT;
use super::id::{GroupId, ROOT};
use super::limbo::What;
use super::memcg_record::Memcg;
use super::name::{DEPTH_MAX, is_valid};
use super::objcg::State;
use crate::counter::Level;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::Ordering;
use crate::sync::id::Id;
use crate::sync::lock::Rank;

/// Why the tree did not change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TreeError {
    /// No name for a group.
    Name,
    /// There is one of that name.
    Exists,
    /// The group is not, or no longer, there.
    Gone,
    /// It has children.
    HasChildren,
    /// It has live tasks.
    HasTasks,
    /// The root stays.
    Root,
    /// Too deep.
    Depth,
    /// Too many groups (2²⁴ − 2 cells), or no memory for one more.
    NoMemory,
}

impl Hierarchy {
    /// Takes a record, after collecting what the epochs have let go if the arena has none to hand.
    pub(super) fn alloc_or_collect<I: Id, T: Record>(
        &self,
        arena: &Arena<I, T>,
        limit: u32,
    ) -> Option<I> {
        if arena.is_dry() && self.limbo.is_due() && arena.high_water() > 1 {
            self.collect();
        }
        arena.alloc(limit).or_else(|| {
            for _ in 0..4 {
                self.collect();
            }
            arena.alloc(limit)
        })
    }

    /// A new group `name` in `parent`. The caller is pinned. O(depth).
    pub fn create(&self, parent: &Memcg, name: &[u8]) -> Result<GroupId, TreeError> {
        if !is_valid(name) {
            return Err(TreeError::Name);
        }
        if parent.depth() >= DEPTH_MAX {
            return Err(TreeError::Depth);
        }
        let held = parent.lock.lock(Rank::Group);
        if !parent.is_online() {
            return Err(TreeError::Gone);
        }
        if self.child(parent.index(), name).is_some() {
            return Err(TreeError::Exists);
        }
        let index = self.alloc_group(parent, name).ok_or(TreeError::NoMemory)?;
        let group = self.memcgs.get(index);
        let last = parent.last_child.swap(Some(index), Ordering::Relaxed);
        group.prev.store(last, Ordering::Relaxed);
        let before = last.map_or(&parent.first_child, |last| &self.memcgs.get(last).next);
        // Release pairs with the Acquire of `first_child` and `next_sibling`: the group is whole.
        before.store(Some(index), Ordering::Release);
        parent.nr_children.fetch_add(1, Ordering::Relaxed);
        count_descendants(group, 1);
        self.apply_template(parent, &held, group);
        let _walk = self.begin_walk();
        group.set_online();
        self.count_group_in(parent);
        Ok(index)
    }

    /// All the records of a group, entered in the index; or none.
    fn alloc_group(&self, parent: &Memcg, text: &[u8]) -> Option<GroupId> {
        let name = self.new_name(text, Some(parent.name()))?;
        let cell = self.alloc_or_collect(&self.cells, CELL_LIMIT);
        let objcg = cell.and_then(|_| self.alloc_or_collect(&self.objcgs, u32::MAX));
        let index = objcg.and_then(|_| self.alloc_or_collect(&self.memcgs, 1 << 31));
        if let (Some(cell), Some(objcg), Some(index)) = (cell, objcg, index) {
            let group = self.memcgs.get(index);
            self.cells.get(cell).reset(index);
            group.open(index, Some(parent), name, cell, objcg);
            group
                .hash
                .store(super::index::hash(parent.index(), text), Ordering::Relaxed);
            // Before the index knows it: who finds the group there may enter its owner.
            self.open_objcg(objcg, Some(cell), Some(name), State::Group);
            if self.index_insert(index) {
                // The group's name record is its owner's as well.
                self.ref_name(name);
                return Some(index);
            }
            self.count_owner_out(self.objcgs.get(objcg));
            let _ = self.objcgs.get(objcg).end(State::Free, 0);
        }
        if let Some(index) = index {
            self.memcgs.free(index);
        }
        if let Some(objcg) = objcg {
            self.objcgs.free(objcg);
        }
        if let Some(cell) = cell {
            self.cells.get(cell).forget();
            self.cells.free(cell);
        }
        self.unref_name(name);
        None
    }

    /// Takes a group that has neither children nor tasks out of the tree and marks it dying: no
    /// name finds it, no child or task enters it any more. The first step of its end; `offline`
    /// does the others. The caller is pinned.
    pub(crate) fn unlink(&self, group: &Memcg) -> Result<(), TreeError> {
        let parent = group.parent().ok_or(TreeError::Root)?;
        let _above = parent.lock.lock(Rank::Group);
        let _held = group.lock.lock(Rank::Group);
        if !group.is_online() {
            return Err(TreeError::Gone);
        }
        if group.nr_children.load(Ordering::Relaxed) != 0 {
            return Err(TreeError::HasChildren);
        }
        if group.nr_tasks() != 0 {
            return Err(TreeError::HasTasks);
        }
        group.set_dying();
        self.leave_watches(group);
        self.index_remove(group.index());
        let (prev, next) = (
            group.prev.load(Ordering::Relaxed),
            group.next.load(Ordering::Relaxed),
        );
        let before = prev.map_or(&parent.first_child, |prev| &self.memcgs.get(prev).next);
        // Release pairs with the Acquire of `first_child` and `next_sibling`, as in `create`.
        before.store(next, Ordering::Release);
        let behind = next.map_or(&parent.last_child, |next| &self.memcgs.get(next).prev);
        behind.store(prev, Ordering::Relaxed);
        // Before the parent can be found without children.
        self.expect_lingering(parent);
        parent.nr_children.fetch_sub(1, Ordering::Relaxed);
        count_descendants(group, u32::MAX);
        self.hand_over_records(group);
        Ok(())
    }

    /// Ends the life of a group's own owner: what is charged to it is what the group left.
    pub(crate) fn end_own_objcg(&self, group: &Memcg, now_ns: u64) {
        let _ = self.objcgs.get(group.tag()).end(State::DeadGroup, now_ns);
    }

    /// The last step of a group's end: its own owner, ended before, and its record are let go. The
    /// caller is pinned.
    pub(crate) fn dismiss(&self, group: &Memcg) {
        self.count_group_out(group);
        self.unref_objcg(group.tag());
        self.unref_name(group.name());
        self.retire(What::Memcg(group.index()));
    }

    /// The children of a group, oldest first, as far as `each` wants them (`false` stops). Under
    /// the group's lock.
    pub fn each_child(&self, group: &Memcg, mut each: impl FnMut(GroupId, &Memcg) -> bool) {
        let _held = group.lock.lock(Rank::Group);
        // Acquire, here and below, pairs with the Release of `create` and `unlink`.
        let mut at = group.first_child.load(Ordering::Acquire);
        while let Some(index) = at {
            let child = self.memcgs.get(index);
            if !each(index, child) {
                return;
            }
            // Acquire pairs with the Release of `create` and `unlink`.
            at = child.next.load(Ordering::Acquire);
        }
    }

    /// The oldest child. The caller is pinned.
    pub fn first_child(&self, group: &Memcg) -> Option<GroupId> {
        // Acquire pairs with the Release of `create` and `unlink`.
        group.first_child.load(Ordering::Acquire)
    }

    /// The next younger sibling. The caller is pinned.
    pub fn next_sibling(&self, index: GroupId) -> Option<GroupId> {
        // Acquire pairs with the Release of `create` and `unlink`.
        self.memcgs.get(index).next.load(Ordering::Acquire)
    }

    /// The group after `index` in pre-order within `top`; `None` at the end. The caller is pinned;
    /// groups that come and go meanwhile may be missed or met.
    pub fn next_in_preorder(&self, top: GroupId, index: GroupId) -> Option<GroupId> {
        let group = self.memcgs.get(index);
        // Acquire pairs with the Release of `create` and `unlink`.
        if let Some(child) = group.first_child.load(Ordering::Acquire) {
            return Some(child);
        }
        let mut at = index;
        while at != top {
            let group = self.memcgs.get(at);
            // Acquire pairs with the Release of `create` and `unlink`.
            if let Some(next) = group.next.load(Ordering::Acquire) {
                return Some(next);
            }
            at = group.parent_index()?;
        }
        None
    }

    /// The group of a path (`/`, `/a/b`; empty components are skipped). The caller is pinned.
    pub fn lookup(&self, path: &[u8]) -> Option<GroupId> {
        path.split(|&b| b == b'/')
            .filter(|part| !part.is_empty())
            .try_fold(ROOT, |at, part| self.child(at, part))
    }
}

fn count_descendants(group: &Memcg, by: u32) {
    let mut level = group.parent();
    while let Some(above) = level {
        above.nr_descendants.fetch_add(by, Ordering::Relaxed);
        level = above.parent();
    }
}
