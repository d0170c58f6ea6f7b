//! Tasks: owners that move between groups as a unit. Creation and end; the move is `attach`'s.
//!
//! Invariants: a group counts its live tasks. One that has any stays online.
//! Depends on: `objcg` for the owner; `stall`; the census, which counts them for `memory.pressure`.
//! Never: a group's lock held when a task's is taken: the task's comes first.

#![forbid(unsafe_code)]

use super::census::Change;
use super::flip_word::CELL_LIMIT;
use super::memcg_record::Memcg;
use super::objcg::{Objcg, SUCCESSOR, State};
use super::tree::TreeError;
use super::{Hierarchy, Tag};
use crate::os::clock;
use crate::sync::atomic::Ordering;
use crate::sync::lock::Rank;

/// Ids of tasks that are no thread's start here, above every thread id the kernel gives.
pub const FIRST_TASK_ID: u32 = 1 << 22;

const _: () = assert!(CELL_LIMIT < u32::MAX);

impl Hierarchy {
    /// A live task in `group`, named once by the caller. `id` is a thread's, or 0 for one of our
    /// own. The caller is pinned.
    pub fn new_task(&self, group: &Memcg, name: &[u8], id: u32) -> Result<Tag, TreeError> {
        let _held = group.lock.lock(Rank::Group);
        if !group.is_online() {
            return Err(TreeError::Gone);
        }
        let name = self
            .new_name(name, Some(group.name()))
            .ok_or(TreeError::NoMemory)?;
        let Some(tag) = self.alloc_or_collect(&self.objcgs, u32::MAX) else {
            self.unref_name(name);
            return Err(TreeError::NoMemory);
        };
        self.open_objcg(tag, Some(group.cell()), Some(name), State::Task);
        let id = match id {
            0 => {
                FIRST_TASK_ID
                    + self.next_task.fetch_add(1, Ordering::Relaxed) % (SUCCESSOR - FIRST_TASK_ID)
            }
            thread => thread,
        };
        self.objcgs.get(tag).id.store(id, Ordering::Relaxed);
        self.add_task(group);
        Ok(tag)
    }

    /// Ends a task: what it still holds stays where it is accounted, as a line of that group's
    /// ledger. The caller's name for it goes: `tag`, of which the task may be a successor by now.
    /// The caller is pinned.
    pub fn end_task(&self, tag: Tag) {
        loop {
            let live = self.ref_live_tag(tag);
            let objcg = self.objcgs.get(live);
            let ended = {
                let _task = objcg.lock.lock(Rank::Task);
                let is_superseded = objcg.state() == State::Superseded;
                if objcg.state() == State::Task {
                    // Under the task's lock it stays in its group, and the group, having a task,
                    // stays online.
                    let group = self.resolve(objcg.cell()).group;
                    let stalls = objcg.end(State::DeadTask, clock::wall_ns());
                    self.end_stall_of_ended(stalls);
                    self.remove_task(group);
                }
                !is_superseded
            };
            self.unref_objcg(live);
            if ended {
                break;
            }
        }
        self.unref_objcg(tag);
    }

    /// The live task of an id. O(owners).
    pub fn task_by_id(&self, id: u32) -> Option<Tag> {
        let is_it = |objcg: &Objcg| objcg.state() == State::Task && objcg.id() == id;
        let find = || {
            let mut all = self.objcgs.each();
            all.find_map(|(tag, objcg)| is_it(objcg).then_some(tag))
        };
        // One that was superseded meanwhile may have a successor that was looked at too early.
        find().or_else(find)
    }

    pub(crate) fn add_task_to(&self, group: &Memcg) -> bool {
        let _held = group.lock.lock(Rank::Group);
        if group.is_online() {
            self.add_task(group);
        }
        group.is_online()
    }

    /// A task has left the group, or did not come after all. The caller is pinned.
    pub(crate) fn remove_task_from(&self, group: &Memcg) {
        self.carry_stalls(group);
        self.remove_task(group);
    }

    /// Under the group's lock.
    fn add_task(&self, group: &Memcg) {
        group.nr_tasks.fetch_add(1, Ordering::Relaxed);
        self.count(group, Change::Task(true), None);
    }

    fn remove_task(&self, group: &Memcg) {
        // First: a group without tasks may go, and what is above it is counted too.
        self.count(group, Change::Task(false), None);
        {
            let _held = group.lock.lock(Rank::Group);
            group.nr_tasks.fetch_sub(1, Ordering::Relaxed);
        }
        self.tell_task_gone(group);
    }
}
