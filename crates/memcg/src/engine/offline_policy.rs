//! A group's end as its policy has it (`memory.offline`): what comes before the steps of `offline`,
//! and after.
//!
//! Kept: a group that is to go, goes: what shrinkers do not give, and what finds no room elsewhere,
//! is the parent's. By `parent`, `next-touch` and `auto` nothing is walked and nothing is
//! allocated. Relied on: `offline` for the end itself; who keeps the holders of things (`api`) has
//! said where to ask. Never done: reclaim or a kill in a group that is given something; code of the
//! program by a thread that is reclaiming.

#![forbid(unsafe_code)]

use super::Engine;
use super::progress::ask_of;
use crate::group::{Memcg, OfflinePolicy, TreeError};
use crate::offline;
use crate::sync::hook::Hook;
use crate::thread::ThreadRec;

/// Gives things of removed groups to who holds them.
type Settle = fn();

/// By `api`, once there are things with holders.
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
        if policy == OfflinePolicy::Mapper && self.is_process_s() {
            apply_offline_actions();
        }
        Ok(())
    }
}
