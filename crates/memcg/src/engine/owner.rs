//! Whom a thread's charges go to now.
//!
//! A thread works for the owner of its scope. If that is a task's which has moved on without its
//! bytes (`group::successor`), the task charges its successor: the scope keeps the old name, and
//! whoever charges looks here. Hits need not: a superseded owner has no stock.

#![forbid(unsafe_code)]

use super::Engine;
use crate::group::{Tag, objcg::State};
use crate::sync::atomic::Ordering;
use crate::thread::ThreadRec;

impl Engine {
    /// Runs `f` with the tag that what the thread takes now is charged to, named for the length of
    /// it; with `None` where that is not accounted.
    #[inline]
    pub fn with_owner<R>(&self, rec: &ThreadRec, f: impl FnOnce(Option<Tag>) -> R) -> R {
        let current = rec.current();
        let is_superseded = |tag: &Tag| self.tree.objcgs.get(*tag).state() == State::Superseded;
        let Some(tag) = current.filter(is_superseded) else {
            return f(current);
        };
        let pin = self.tree.threads.epoch.pin(rec);
        let live = self.tree.ref_live_tag(tag);
        if rec.task.is(Some(tag), Ordering::Relaxed) && self.tree.stand_for_good(rec, tag, live) {
            // The thread's own task, in the scope that is never left: hits charge the successor
            // from here on.
            self.tree.ref_objcg(live);
            rec.task.store(Some(live), Ordering::Relaxed);
            self.tree.unref_objcg(tag);
        }
        drop(pin);
        let answer = f(Some(live));
        let _pin = self.tree.threads.epoch.pin(rec);
        self.tree.unref_objcg(live);
        answer
    }
}
