//! Groups that somebody wanted to be told about, and of which there is news: on their way to the
//! worker.
//!
//! Invariants: a group that was told of is looked at by whoever does deferred work next. No news is
//! lost where the queue of deferred work is full: the worker looks here before it sleeps. In the
//! child of a fork nobody was told anything.
//! Depends on: `group::notices`, which tells; the worker.
//! Never: calls who waits on the thread that changed something.

#![forbid(unsafe_code)]

use super::{Engine, Work, process_engine};
use crate::group::GroupId;
use crate::group::notice_word::Told;
use crate::group::notices::set_tell;
use crate::sync::id::Id;

impl Engine {
    /// Takes in what is told of groups of this process's engine from now on. Before the first wish.
    pub fn begin_telling() {
        set_tell(tell);
    }

    /// Calls `look` for every group that was told of since the last call.
    pub fn take_told(&self, mut look: impl FnMut(GroupId, Told)) {
        let mut at = GroupId::from_raw(self.told.pop_all());
        while let Some(index) = at {
            let notice = &self.tree.memcgs.get(index).notice;
            // First: once taken, the group may be on the stack again.
            at = GroupId::from_raw(notice.link().load(core::sync::atomic::Ordering::Relaxed));
            look(index, notice.take_told());
        }
    }
}

/// Usable in malloc, in a signal handler and under any lock.
fn tell(raw: u32) {
    let Some((engine, index)) = process_engine::try_engine().zip(GroupId::from_raw(raw)) else {
        return;
    };
    let notice = &engine.tree.memcgs.get(index).notice;
    if !notice.is_told() {
        // A handler of this thread has forked since it was noted, and in the child nobody was told
        // anything. On the stack twice it would follow itself.
        return;
    }
    engine.told.push(raw, notice.link());
    engine.defer(Work::Look);
}
