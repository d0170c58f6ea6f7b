//! Counting every group anew from the owners' words: for the child of a fork, where walks of the
//! parent's other threads stopped half way.
//!
//! Invariants: afterwards every count of a group is what the owners' words and the reserves make
//! it.
//! Depends on: the words, which are right at any moment; that nobody else uses the hierarchy.
//! Never: run in a process that did not fork.

#![forbid(unsafe_code)]

use super::Hierarchy;
use super::census::Change;
use super::exact_charge::each_level;
use super::id::ROOT;
use super::kind::NR_SIDE_KINDS;
use super::objcg::State;
use crate::counter::Level;
use crate::sync::atomic::{AtomicU32, Ordering};

/// A walk over groups and the change of an owner's word, or of the tree, that belongs to it. If a
/// signal handler of this thread forked in between, the child's recount knew the word alone: then
/// all is counted once more, where the two agree again.
#[must_use]
pub(crate) struct Walk<'a> {
    tree: &'a Hierarchy,
    recounts: u32,
    broken: u32,
}

impl Drop for Walk<'_> {
    #[inline]
    fn drop(&mut self) {
        // No model forks, and a look would be one more step of each.
        if cfg!(not(loom)) && self.tree.nr_recounts() != self.recounts {
            self.tree.recount();
            // What the walk found wrong was the recount's doing.
            self.tree.broken.store(self.broken, Ordering::Relaxed);
        }
    }
}

impl Hierarchy {
    /// Begins a walk, before the first of its two halves.
    #[inline]
    pub(crate) fn begin_walk(&self) -> Walk<'_> {
        let load = |word: &AtomicU32| match cfg!(loom) {
            true => 0,
            false => word.load(Ordering::Relaxed),
        };
        Walk {
            tree: self,
            recounts: load(&self.recounts),
            broken: load(&self.broken),
        }
    }

    /// Sets all counts of all groups to what the owners hold. Nobody else may be using the
    /// hierarchy; nobody is stalled. O(groups + owners × depth).
    pub fn recount(&self) {
        self.recounts.fetch_add(1, Ordering::Relaxed);
        let mut at = Some(ROOT);
        while let Some(index) = at {
            let group = self.memcgs.get(index);
            group.counter.set_counts(0, 0);
            self.forget_records(group);
            self.reset_census(group, 0);
            group.nr_tasks.store(0, Ordering::Relaxed);
            for side in 0..NR_SIDE_KINDS {
                group.side_count(side).store(0, Ordering::Relaxed);
            }
            at = self.next_in_preorder(ROOT, index);
        }
        for (_, group) in self.memcgs.each() {
            if group.is_lingering() {
                group.counter.set_counts(0, 0);
                self.forget_records(group);
                for side in 0..NR_SIDE_KINDS {
                    group.side_count(side).store(0, Ordering::Relaxed);
                }
            }
        }
        self.forget_page_counts();
        for (tag, objcg) in self.objcgs.each() {
            // Nobody moves a task here.
            objcg.end_move();
            if matches!(objcg.state(), State::Free | State::Lost) {
                continue;
            }
            self.recount_pages(tag);
            let (charged, granted) = (objcg.charged.read(), objcg.granted.read());
            let group = self.resolve(charged.in_cell()).group;
            if objcg.state() == State::Task {
                self.forget_stalls(objcg);
                group.nr_tasks.fetch_add(1, Ordering::Relaxed);
                self.count(group, Change::Task(true), None);
            }
            // Plain sums first; what reserves add is put on top below.
            each_level(group, |level| {
                level.counter.set_counts(
                    level.counter.usage() + charged.bytes,
                    level.counter.granted() + granted.bytes,
                );
                for side in 0..NR_SIDE_KINDS {
                    level
                        .side_count(side)
                        .fetch_add(objcg.side[side].read().bytes, Ordering::Relaxed);
                }
            });
        }
        self.recount_records();
        self.recount_reserves();
        self.note_done_anew();
    }

    /// Adds the unused part of every reserve to the levels above it: children before their parents.
    fn recount_reserves(&self) {
        // Pre-order backwards would need a list; the deepest level first needs as many passes as
        // there are levels.
        let mut deepest = 0;
        let mut at = Some(ROOT);
        while let Some(index) = at {
            deepest = deepest.max(self.memcgs.get(index).depth());
            at = self.next_in_preorder(ROOT, index);
        }
        for depth in (1..=deepest).rev() {
            let mut at = Some(ROOT);
            while let Some(index) = at {
                let group = self.memcgs.get(index);
                let unused = group
                    .counter
                    .reserve()
                    .saturating_sub(group.counter.usage());
                if group.depth() == depth && unused > 0 {
                    let mut level = group.parent();
                    while let Some(above) = level {
                        above
                            .counter
                            .set_counts(above.counter.usage() + unused, above.counter.granted());
                        level = above.parent();
                    }
                }
                at = self.next_in_preorder(ROOT, index);
            }
        }
    }
}
