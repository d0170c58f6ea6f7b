//! Stalls: a thread stands still because there is not enough memory, from the making of a [`Stall`]
//! to its end.
//!
//! A thread stalls for whom it works. For a task that is counted once however many threads stall
//! for it, and follows the task when it moves, and ends with it. For a group's own owner, or a task
//! that has ended, each thread counts for itself, at the group where the owner is now; if that ends
//! meanwhile, the parent has the stall too and it ends there.
//!
//! A live task's word, kept where an ended one has the time of its end: {1:1 | threads:39 |
//! cell:24}, or 0 while nobody stalls for it. It says at which cell the stall is counted, and holds
//! a reference on that. So what has begun somewhere ends there; after a move whoever sees that the
//! task is elsewhere (the mover, or who began while it moved) takes the stall along.
//!
//! Invariants: a stall that was counted is taken off once, where it is counted then, unless all was
//! counted anew in between.
//! Depends on: `stall_word`; `pressure`, which counts it at the groups; references on cells.
//! Never: takes a lock: a stall may begin in a charge, and that in a signal handler.

#![forbid(unsafe_code)]

use super::census::Change;
use super::id::CellId;
use super::memcg_record::Memcg;
use super::objcg::{Objcg, State};
use super::stall_word::{A_THREAD, STALLED, THREADS_AT, cell_of, with_cell};
use super::{Hierarchy, Tag};
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::thread::ThreadRec;

/// A thread stands still until this is dropped.
#[must_use]
pub struct Stall<'a> {
    tree: &'a Hierarchy,
    rec: &'a ThreadRec,
    tag: Tag,
    of_task: bool,
    /// The recounts there had been.
    recounts: u32,
}

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        let tree = self.tree;
        // The child of a fork has counted anew, without us.
        if tree.recounts.load(Ordering::Relaxed) != self.recounts {
            return;
        }
        let _pin = tree.threads.epoch.pin(self.rec);
        if self.of_task {
            tree.end_task_stall(self.tag);
        } else {
            let group = tree.resolve(tree.objcgs.get(self.tag).cell()).group;
            tree.count(group, Change::Thread(false), None);
            tree.tell_task_gone(group);
        }
    }
}

impl Hierarchy {
    /// The thread of `rec` stalls for `tag`, which the caller names until the stall has ended.
    /// Cost: O(depth), some locked instructions and a look at the clock a level.
    pub fn stall<'a>(&'a self, rec: &'a ThreadRec, tag: Tag) -> Stall<'a> {
        let _pin = self.threads.epoch.pin(rec);
        let recounts = self.recounts.load(Ordering::Relaxed);
        let of_task = self.begin_task_stall(tag);
        if !of_task {
            let group = self.resolve(self.objcgs.get(tag).cell()).group;
            self.count(group, Change::Thread(true), None);
        }
        Stall {
            tree: self,
            rec,
            tag,
            of_task,
            recounts,
        }
    }

    /// `false` when the owner is no live task.
    fn begin_task_stall(&self, tag: Tag) -> bool {
        let objcg = self.objcgs.get(tag);
        let cell = loop {
            // Acquire pairs with the Release of `swap`, and of `Objcg::end`.
            let word = objcg.stalls().load(Ordering::Acquire);
            if objcg.state() != State::Task || (word != 0 && cell_of(word).is_none()) {
                return false;
            }
            if word != 0 {
                if swap(objcg.stalls(), word, word + A_THREAD) {
                    return true;
                }
                continue;
            }
            // A cell that is let go by all is one the task has left meanwhile.
            let cell = objcg.cell();
            if !self.cells.get(cell).try_ref() {
                continue;
            }
            if swap(objcg.stalls(), 0, with_cell(STALLED | A_THREAD, cell)) {
                break cell;
            }
            self.unref_cell(cell);
        };
        self.count(self.resolve(cell).group, Change::Stall(true), None);
        // Pairs with the fence of `carry_stalls`: it sees our count, or we see that the task has
        // moved.
        fence(Ordering::SeqCst);
        self.carry_stall(objcg);
        true
    }

    fn end_task_stall(&self, tag: Tag) {
        let objcg = self.objcgs.get(tag);
        loop {
            // Acquire pairs with the Release of `swap`, and of `Objcg::end`.
            let word = objcg.stalls().load(Ordering::Acquire);
            let Some(cell) = cell_of(word) else {
                // The task has ended, and the stall with it.
                return;
            };
            let left = word - A_THREAD;
            let is_last = (left & !STALLED) >> THREADS_AT == 0;
            if swap(objcg.stalls(), word, if is_last { 0 } else { left }) {
                if is_last {
                    self.uncount_stall(cell);
                }
                return;
            }
        }
    }

    /// Nobody stalls for a live task any more, nor is it counted so. Nobody else may be using the
    /// hierarchy.
    pub(super) fn forget_stalls(&self, objcg: &Objcg) {
        let word = objcg.stalls().swap(0, Ordering::Relaxed);
        if let Some(cell) = cell_of(word) {
            self.unref_cell(cell);
        }
    }

    /// Takes the stall of a task off the groups of the cell it was counted at.
    fn uncount_stall(&self, cell: CellId) {
        self.count(self.resolve(cell).group, Change::Stall(false), None);
        self.unref_cell(cell);
    }

    /// The stall that `word`, the last a task had, may tell of is over. The caller is pinned.
    pub(super) fn end_stall_of_ended(&self, word: u64) {
        if let Some(cell) = cell_of(word) {
            self.uncount_stall(cell);
        }
    }

    /// A task has left `source`: the stall counted there, if it has one, follows it. The caller is
    /// pinned.
    ///
    /// Which task it was is found among those that threads work for; one that a thread stalls for
    /// without working for it (a reservation in another's name) is left until that drain is over.
    /// O(threads), where somebody stalls.
    pub(super) fn carry_stalls(&self, source: &Memcg) {
        // Pairs with the fence of `begin_task_stall`.
        fence(Ordering::SeqCst);
        if !source.census.read().is_some() {
            return;
        }
        for (_, rec) in self.threads.each() {
            if let Some(objcg) = rec.current().and_then(|tag| self.objcgs.try_get(tag)) {
                self.carry_stall(objcg);
            }
        }
    }

    /// Counts a stall where its task is. The owner may have ended, and be nobody's by now: then its
    /// word is a time.
    fn carry_stall(&self, objcg: &Objcg) {
        loop {
            // Acquire pairs with the Release of `swap`, and of `Objcg::end`.
            let word = objcg.stalls().load(Ordering::Acquire);
            let Some(from) = cell_of(word) else { return };
            let to = objcg.cell();
            if from == to || objcg.state() != State::Task {
                return;
            }
            if !self.cells.get(to).try_ref() {
                continue;
            }
            if !swap(objcg.stalls(), word, with_cell(word, to)) {
                self.unref_cell(to);
                continue;
            }
            let (source, target) = (self.resolve(from).group, self.resolve(to).group);
            self.count(source, Change::Stall(false), Some(target));
            self.count(target, Change::Stall(true), Some(source));
            self.unref_cell(from);
            return;
        }
    }
}

/// Acquire and Release: a word comes with the reference on the cell it names.
fn swap(word: &AtomicU64, from: u64, to: u64) -> bool {
    // AcqRel pairs with the Acquire of the loads of the word, and with the swap of `Objcg::end`.
    word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
        .is_ok()
}
