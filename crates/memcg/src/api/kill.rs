//! Killing a group and all below: `Memcg::kill` and `cgroup.kill`.
//!
//! Invariants: every task that lives in the group, or below it, from the call's beginning to its
//! end is marked; every scope that was made there before is to die.
//! Depends on: `kill_wakers`; the engine.
//! Never: calls a waker under a lock, or on a thread that is pinned.

#![forbid(unsafe_code)]

use super::kill_wakers::wake_all_killed;
use super::memcg::Memcg;
use crate::engine::Engine;
use crate::group;
use crate::group::objcg::State;

/// Marks every live task of `top` and below, and raises the kill generations there. The caller is
/// pinned; [`wake_marked`] follows once it is not any more. O(owners).
pub(crate) fn mark_below(engine: &Engine, top: &group::Memcg) {
    let tree = &engine.tree;
    for (_, task) in tree.objcgs.each() {
        if task.state() == State::Task
            && tree.resolve(task.cell()).group.is_within(top)
            && task.kill()
        {
            // What it holds is expected back by those who stand in line.
            tree.tell_freed(tree.resolve(task.cell()).group);
        }
    }
    tree.tell_freed(top);
    tree.raise_kill_generation(top, false);
}

/// Wakes the futures that wait and are to die. The caller is not pinned. O(futures that wait and
/// can be killed).
pub(crate) fn wake_marked() {
    wake_all_killed();
}

impl Memcg {
    /// Tells what works for the group and those below to stop, as writing `cgroup.kill` does.
    ///
    /// A future made by [`in_group`](super::in_group), and one made by
    /// [`scope`](Self::scope)`(…).`[`killable`](super::Scoped::killable)`()`, is dropped in place
    /// and resolves to [`OomKilled`](super::OomKilled). Code that does not yield sees it by
    /// [`checkpoint`](super::checkpoint), other tasks by
    /// [`Task::is_killed`](super::Task::is_killed). Tasks and scopes that are made later go on.
    ///
    /// Wakers of futures run on this thread. No effect once the group is removed. Cost: O(tasks and
    /// owners of the process).
    pub fn kill(&self) {
        if self
            .with(|engine, _, top| mark_below(engine, top))
            .is_some()
        {
            wake_marked();
        }
    }
}
