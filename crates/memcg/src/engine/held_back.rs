//! Futures and the engine: killing those of whole groups, and holding back those that owe.
//!
//! Invariants: generations are raised before anybody is woken for it.
//! Depends on: `group::kill_generation`, `group::poll`; the worker.
//! Never: wakes a future itself; the worker does.

#![forbid(unsafe_code)]

use super::{Engine, Work};
use crate::group::{Memcg, Tag};
use crate::thread::ThreadRec;

impl Engine {
    /// Has every future that was put into `top` or below it before now, and is no task, die, but
    /// for those in observed groups: raises the kill generations, and has the worker wake those
    /// that wait. Tasks have marks of their own. O(owners). The caller is pinned.
    pub fn raise_kill_generation(&self, top: &Memcg) {
        self.tree.raise_kill_generation(top, true);
        self.defer(Work::WakeAll);
    }

    /// Whether what a thread runs now is to die: the task that it works for, or a future that it
    /// polls. `rec` is the caller's.
    pub fn is_to_die(&self, rec: &ThreadRec) -> bool {
        let is_marked = |tag| self.tree.is_task_marked(rec, tag);
        rec.current().is_some_and(is_marked) || self.tree.is_polling_what_is_to_die(rec)
    }

    /// Counts that somebody who works for `tag`, which the caller names, was held back for `ns`.
    pub fn count_held_back(&self, rec: &ThreadRec, tag: Tag, ns: u64) {
        let _pin = self.tree.threads.epoch.pin(rec);
        let cell = self.tree.objcgs.get(self.tree.live_tag(tag)).cell();
        self.tree.resolve(cell).group.add_throttled_us(ns / 1000);
    }
}
