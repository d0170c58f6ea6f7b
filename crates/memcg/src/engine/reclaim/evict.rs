//! What `lazy` moves left and cannot follow, because where the task is now there is no room for it:
//! who keeps it is asked to free it, before anything is asked of who is rightly there.
//!
//! Kept: a task is asked once a pass, for what is above protection of its bytes in the group; what
//! came back is seen from outside. Relied on: `attach::marked`, which has sent home what fits; who
//! keeps the subsystems (`api`) has said whom to ask; what a task frees pays off what it left
//! elsewhere first. Never done: a question under a lock or a pin of ours; one in an engine that is
//! not the process's.

#![forbid(unsafe_code)]

use super::{Control, Engine};
use crate::counter::protection::exposed;
use crate::counter::protection::{Pass, Standing, standing};
use crate::group::Tag;
use crate::sync::hook::Hook;

/// Has about so many bytes of a task freed, by its id, if anybody can.
type Evict = fn(task: u32, bytes: u64);

/// By `api`, once there are subsystems.
static EVICT: Hook<Evict> = Hook::none();

/// Has `evict` called, in the process's engine, for what finds no room where it belongs.
pub fn set_evict(evict: Evict) {
    EVICT.set(evict);
}

impl Engine {
    /// Asks for what is marked in the group that is to be made smaller and below. Unpinned. Cost: a
    /// load where no move has left any; else O(owners), and what the program does.
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

    /// The id of a task that has left bytes there, and how many are not protected.
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
