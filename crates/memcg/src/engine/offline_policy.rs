//! A group's end by its policy (`memory.offline`): what comes before the steps of `offline`, and
//! after.
//!
//! Invariants: a group that is to be removed is removed. What shrinkers do not free, and what finds
//! no room elsewhere, becomes the parent's. By `parent`, `next-touch` and `auto` nothing is walked
//! and nothing is allocated.
//! Depends on: `offline` for the end itself; `api`, which keeps the holders of things and has set
//! the hook that asks them.
//! Never: reclaims or kills in a group that things are given to; runs code of the program on a
//! thread that is reclaiming.

#![forbid(unsafe_code)]

use super::Engine;
use super::progress::ask_of;
use crate::group::{Memcg, OfflinePolicy, TreeError};
use crate::offline;
use crate::sync::hook::Hook;
use crate::thread::ThreadRec;

/// Gives the things of removed groups to their holders.
type Settle = fn();

/// Set by `api`, once there are things with holders.
static SETTLE: Hook<Settle> = Hook::none();

/// Has `apply_offline_actions` called, in the process's engine, after a group has ended by
/// `mapper`.
pub fn set_offline_actions_hook(settle: Settle) {
    SETTLE.set(settle);
}

fn apply_offline_actions() {
    if let Some(settle) = SETTLE.get() {
        settle();
    }
}

impl Engine {
    /// Ends a group as its policy has it. The caller is pinned by `rec`; by `evict` its pins are
    /// lifted for a while, and shrinkers of the program run on this thread, each asked for what it
    /// has, a bounded number of times.
    ///
    /// # Errors
    /// As [`offline::remove`]. By `evict` shrinkers may have been asked, if a child or a task came
    /// while they were.
    pub fn remove(&self, rec: &ThreadRec, group: &Memcg) -> Result<(), TreeError> {
        let policy = group.offline_policy();
        if policy == OfflinePolicy::Evict && group.is_idle() && !rec.is_helping() {
            let this = ask_of(group);
            self.reclaim_bytes(rec, group, group.counter.usage());
            // It may have been removed meanwhile, and its record be another's.
            if self.group_of(this).is_none_or(|group| !group.is_online()) {
                return Err(TreeError::Gone);
            }
        }
        self.change(|| offline::remove(&self.tree, &self.kmem, rec, group))?;
        self.pages_of_ended(group);
        if policy == OfflinePolicy::Mapper && self.is_process_s() {
            apply_offline_actions();
        }
        Ok(())
    }
}
