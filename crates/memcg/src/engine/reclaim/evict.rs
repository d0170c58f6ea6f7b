//! Eviction of marked bytes: what `lazy` moves left behind and cannot follow, because there is no
//! room for it where the task is now. The subsystems that keep such bytes are asked to free them,
//! before anything is asked of the tasks that are rightly in the group.
//!
//! Invariants: a task is asked once a pass, for the part of its bytes in the group that is above
//! protection. What came back is measured by usage. What a task frees is taken off its residual
//! charges first.
//! Depends on: `attach::marked`, which has sent home what fits; `api`, which keeps the subsystems
//! and has set the hook that asks them.
//! Never: asks under a lock or a pin of ours, or in an engine that is not the process's.

#![forbid(unsafe_code)]

use super::{Control, Engine};
use crate::counter::protection::exposed;
use crate::counter::protection::{Pass, Standing, standing};
use crate::group::Tag;
use crate::sync::hook::Hook;

/// Asks for about `bytes` bytes of a task to be freed, by the task's id.
type Evict = fn(task: u32, bytes: u64);

/// Set by `api`, once there are subsystems.
static EVICT: Hook<Evict> = Hook::none();

/// Has `evict` called, in the process's engine, for bytes that find no room in the group their task
/// is in.
pub fn set_evict(evict: Evict) {
    EVICT.set(evict);
}

impl Engine {
    /// Asks for the marked bytes in the group that is reclaimed and below. The caller is not
    /// pinned. Cost: a load where no move has left any; else O(owners), and what the program does.
    pub(super) fn evict_marked(&self, control: &mut Control<'_>) {
        if !self.tree.may_have_marked() || !self.is_process_s() {
            return;
        }
        let Some(evict) = EVICT.get() else {
            return;
        };
        for (tag, _) in self.tree.objcgs.each() {
            if control.is_enough() {
                return;
            }
            let Some((task, bytes)) = self.marked_of(control, tag) else {
                continue;
            };
            let before = self.held_below(control);
            evict(task, bytes.min(control.want - control.got.bytes));
            control.got.bytes += before.saturating_sub(self.held_below(control));
        }
    }

    /// The id of the task of `tag` and how many of the marked bytes it left in the group and below
    /// are not protected. `None`: it left none, or is no task.
    fn marked_of(&self, control: &mut Control<'_>, tag: Tag) -> Option<(u32, u64)> {
        let tree = &self.tree;
        let _pin = tree.threads.epoch.pin(control.rec);
        let top = self.group_of(control.top)?;
        if !tree.try_ref_task(tag) {
            return None;
        }
        let mut bytes = 0;
        for (group, marked) in tree.marked_in(tag, top) {
            let usage = group.counter.usage();
            let effective = control.protections.of(tree, group);
            bytes += match standing(usage, effective) {
                Standing::Empty | Standing::WithinMin => 0,
                Standing::WithinLow if control.pass == Pass::RespectLow => {
                    control.low_skipped = true;
                    0
                }
                Standing::WithinLow | Standing::Exposed => {
                    control.low_skipped |= effective.low > effective.min;
                    exposed(marked, usage, effective, control.pass)
                }
            };
        }
        let task = tree.objcgs.get(tag).id();
        tree.unref_objcg(tag);
        (bytes > 0).then_some((task, bytes))
    }
}
