//! The owner that a thread's charges go to now.
//!
//! A thread works for the owner of its scope. That owner may be superseded: its task has moved
//! without its bytes (`group::successor`) and charges a successor now. The scope keeps the old
//! owner's name, so whoever charges asks here. Hits need not ask: a superseded owner has no stock.
//!
//! Invariants: the owner that `f` gets is referenced as long as `f` runs.
//! Depends on: `group::successor`.
//! Never: charges.

#![forbid(unsafe_code)]

use super::Engine;
use crate::group::{Tag, objcg::State};
use crate::sync::atomic::Ordering;
use crate::thread::ThreadRec;

impl Engine {
    /// Runs `f` with the owner that the thread's charges go to now, which stays referenced while
    /// `f` runs. `None`: what the thread takes now is not accounted.
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
