//! Killing all tasks of a group: `Memcg::kill` and `cgroup.kill`.
//!
//! Invariants: every task that lives in the group, or below it, from the call's beginning to its
//! end is marked.
//! Depends on: `future`, whose wakers it calls; the engine.
//! Never: calls a waker under a lock.

#![forbid(unsafe_code)]

use super::future::wake_killed;
use super::memcg::Memcg;
use crate::engine::Engine;
use crate::group;
use crate::group::objcg::State;

/// Marks every live task of `top` and below, and wakes those that are futures. The caller is
/// pinned. O(owners).
pub(crate) fn kill_below(engine: &Engine, top: &group::Memcg) {
    let tree = &engine.tree;
    for (_, task) in tree.objcgs.each() {
        if task.state() == State::Task
            && tree.resolve(task.cell()).group.is_within(top)
            && task.kill()
        {
            wake_killed(task.id());
        }
    }
}

impl Memcg {
    /// Tells every live task of the group and below to stop, as writing `cgroup.kill` does.
    ///
    /// A future made by [`in_group`](super::in_group) is dropped in place and resolves to
    /// [`OomKilled`](super::OomKilled). Other tasks see
    /// [`Task::is_killed`](super::Task::is_killed). Wakers of futures run on this thread. No effect
    /// once the group is removed: it has no tasks. Cost: O(tasks and owners of the process).
    pub fn kill(&self) {
        self.with(|engine, _, top| kill_below(engine, top));
    }
}
