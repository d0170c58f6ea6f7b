//! Superseded owners: a task has gone on to another group without its bytes.
//!
//! What was charged to the old owner stays charged to it, where it is, and is freed through it:
//! every thing keeps its owner. From then on the task charges a *successor*, an owner of its own in
//! the new group. Whoever names the old owner (a handle, a scope a thread is still in) finds the
//! successor through it, on slow paths: the old owner has no stock, so no hit charges it.
//!
//! Invariants: of a task's owners one is live, the last in the chain. Each of the others names its
//! successor until it is retired itself.
//! Depends on: `objcg` for the states; the task's lock, under which an owner is superseded.
//! Never: a chain that grows with every look. Chains are halved as they are followed, as cells'
//! are.

#![forbid(unsafe_code)]

use super::id::NameId;
use super::memcg_record::Memcg;
use super::objcg::{Objcg, SUCCESSOR, State};
use super::{Hierarchy, Tag};
use crate::os::clock;
use crate::sync::atomic::Ordering;
use crate::sync::id::Id;
use crate::sync::lock::Rank;

/// Records for a successor, not yet anybody's.
#[derive(Clone, Copy)]
pub(crate) struct NewSuccessor {
    tag: Tag,
    name: NameId,
}

impl Objcg {
    /// Of one that is superseded: who it is now.
    pub(super) fn successor(&self) -> Option<Tag> {
        // Acquire pairs with the Release of `halve_successors` and of `supersede`, which wrote the
        // first successor before the state.
        if self.state() != State::Superseded {
            return None;
        }
        Tag::from_raw(self.id.load(Ordering::Acquire) & !SUCCESSOR)
    }
}

impl Hierarchy {
    /// Whom a task that `tag` once was charges now: `tag` itself, nearly always. The caller is
    /// pinned and names `tag`.
    pub fn live_tag(&self, tag: Tag) -> Tag {
        let mut at = tag;
        loop {
            let objcg = self.objcgs.get(at);
            match objcg.successor() {
                Some(next) => {
                    self.halve_successors(at, next);
                    at = next;
                }
                // It was let go between two looks: what named it names the next by now.
                None if objcg.state() == State::Free && at != tag => at = tag,
                None => return at,
            }
        }
    }

    /// As [`Self::live_tag`], and names it: to be released by the caller. `None` if nobody names
    /// `tag` any more.
    pub fn try_ref_live_tag(&self, tag: Tag) -> Option<Tag> {
        loop {
            let live = self.live_tag(tag);
            if self.try_ref_objcg(live) {
                return Some(live);
            }
            // Found by way of one that was let go meanwhile; or nobody names even the first.
            if live == tag {
                return None;
            }
            crate::sync::relax();
        }
    }

    /// As [`Self::try_ref_live_tag`], of a `tag` that the caller names, so that there is one.
    pub fn ref_live_tag(&self, tag: Tag) -> Tag {
        let held = self.try_ref_live_tag(tag);
        debug_assert!(held.is_some(), "{tag:?} is named by nobody");
        held.unwrap_or(tag)
    }

    /// Sets what is added to what a task holds when a victim is looked for, at the owner that the
    /// task of `tag` has now. The caller is pinned and names `tag`.
    pub fn set_oom_score_adj(&self, tag: Tag, adj: i16) {
        loop {
            let objcg = self.objcgs.get(self.live_tag(tag));
            // Under the task's lock it is not superseded: its successor takes over what is set
            // here.
            let _task = objcg.lock.lock(Rank::Task);
            if objcg.state() != State::Superseded {
                objcg.set_oom_score_adj(adj);
                return;
            }
        }
    }

    /// Lets `at` name the successor of its successor `next`, where there is one. Holds `at`
    /// meanwhile, as `halve` of cells does.
    fn halve_successors(&self, at: Tag, next: Tag) {
        let Some(beyond) = self.objcgs.get(next).successor() else {
            return;
        };
        if !self.try_ref_objcg(at) {
            return;
        }
        if self.try_ref_objcg(beyond) {
            let swapped = self.objcgs.get(at).id.compare_exchange(
                next.raw() | SUCCESSOR,
                beyond.raw() | SUCCESSOR,
                // Release pairs with the Acquire of `successor`.
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            self.unref_objcg(if swapped.is_ok() { next } else { beyond });
        }
        self.unref_objcg(at);
    }

    /// What a successor of `tag` in `target` will need. `None` without memory.
    pub(crate) fn new_successor(&self, tag: Tag, target: &Memcg) -> Option<NewSuccessor> {
        let name = self.copy_name(self.objcgs.get(tag).name(), target.name())?;
        match self.alloc_or_collect(&self.objcgs, u32::MAX) {
            Some(tag) => Some(NewSuccessor { tag, name }),
            None => {
                self.unref_name(name);
                None
            }
        }
    }

    /// Gives back the records of a successor that is not needed. The caller is pinned.
    pub(crate) fn forget_successor(&self, successor: NewSuccessor) {
        self.unref_name(successor.name);
        self.objcgs.free(successor.tag);
    }

    /// The live task `tag` goes on as its successor, in `target`, which counts it already. Under
    /// the task's lock. Threads may charge the old owner until their stock of it is drained
    /// (`end_stock`).
    pub(crate) fn supersede(&self, tag: Tag, successor: NewSuccessor, target: &Memcg) {
        let (old, new) = (self.objcgs.get(tag), self.objcgs.get(successor.tag));
        let source = self.resolve(old.cell()).group;
        self.open_objcg(
            successor.tag,
            Some(target.cell()),
            Some(successor.name),
            State::Free,
        );
        new.id.store(old.id(), Ordering::Relaxed);
        // A task of that id is always found: the new one from before the old one is none.
        let _ = new.end(State::Task, 0);
        // Release pairs with the Acquire of `Objcg::id` and `successor`: the new owner is whole.
        let id = old
            .id
            .swap(successor.tag.raw() | SUCCESSOR, Ordering::AcqRel);
        debug_assert_eq!(id, new.id());
        // Before whoever sets it finds the successor. Under the lock nobody sets the old one's.
        new.set_oom_score_adj(old.oom_score_adj());
        let stalls = old.end(State::Superseded, clock::wall_ns());
        self.end_stall_of_ended(stalls);
        new.inherit_mark(old);
        self.remove_task_from(source);
    }
}
