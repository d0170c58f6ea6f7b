//! Whom a thread's charges go to now.
//!
//! A thread works for the owner of its scope. If that is a task's which has moved on without its bytes (`group::left`), the task
//! charges its heir: the scope keeps the old name, and whoever charges looks here. Hits need not: an owner that was left has no
//! stock.

use super::Engine;
use crate::group::{NO_TAG, objcg::State};
use crate::sync::atomic::Ordering;
use crate::thread::ThreadRec;

impl Engine {
    /// Runs `f` with the tag that what the thread takes now is charged to, named for the length of it.
    #[inline]
    pub fn with_owner<R>(&self, rec: &ThreadRec, f: impl FnOnce(u32) -> R) -> R {
        let tag = rec.current();
        if tag == NO_TAG || self.tree.objcgs.get(tag).state() != State::Left {
            return f(tag);
        }
        let pin = self.tree.threads.epoch.pin(rec);
        let live = self.tree.hold_live_tag(tag);
        if rec.task.load(Ordering::Relaxed) == tag && self.tree.stand_for_good(rec, tag, live) {
            // The thread's own task, in the scope that is never left: hits charge the heir from here on.
            self.tree.hold_objcg(live);
            rec.task.store(live, Ordering::Relaxed);
            self.tree.release_objcg(tag);
        }
        drop(pin);
        let answer = f(live);
        let _pin = self.tree.threads.epoch.pin(rec);
        self.tree.release_objcg(live);
        answer
    }
}
