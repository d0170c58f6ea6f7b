//! Kill generations: how often a group was killed as a whole.
//!
//! A future in a group that is no task has no mark of its own. It notes the generation of the
//! group's own owner when it is made; if that is another later, it is to die. The owner outlives
//! its group as long as somebody names it, so a group's end changes nothing: who kills what is
//! above raises the generations of ended groups' owners as well.
//!
//! Invariants: the generation is in the word in which a task's owner has its id, and a group's own
//! nothing: 0, or `SUCCESSOR` and a number that is raised by each kill. Neither is anybody's id.
//! Depends on: `objcg` for the word and the state; `cell` for the group of an owner.
//! Never: wakes anybody. Who raises them sees to that.

#![forbid(unsafe_code)]

use super::memcg_record::Memcg;
use super::objcg::{Objcg, SUCCESSOR, State};
use super::{Hierarchy, Tag};
use crate::sync::atomic::Ordering;
use crate::thread::ThreadRec;

/// How often a group's own owner was told to die with all that works for it, as a number that means
/// nothing but itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KillGeneration(u32);

impl Objcg {
    /// Of a group's own owner: its generation. Of any other it never changes what it means: the
    /// first generation.
    pub fn kill_generation(&self) -> KillGeneration {
        match self.state() {
            State::Group | State::DeadGroup => self.raised(),
            State::Free
            | State::Task
            | State::DeadTask
            | State::Superseded
            | State::Residual
            | State::Lost => KillGeneration::default(),
        }
    }

    /// The generation that its word tells, if it is a group's own.
    fn raised(&self) -> KillGeneration {
        // Acquire pairs with the AcqRel of `raise_kill_generation`: who finds himself killed sees
        // what led to it.
        KillGeneration(self.id.load(Ordering::Acquire) & !SUCCESSOR)
    }

    /// The caller is pinned, and found it to be a group's own since then: its record is not
    /// another's before the pin ends.
    fn raise_kill_generation(&self) {
        let next = |word: u32| Some((word & !SUCCESSOR).wrapping_add(1) | SUCCESSOR);
        // Release pairs with the Acquire of `kill_generation`; Acquire with the other raises.
        let _ = self
            .id
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, next);
    }
}

impl Hierarchy {
    /// Raises the generation of `top` and of every group below it, ended ones included: scopes that
    /// were made before are to die. `spares_observed`: but not those of groups that are observed.
    /// O(owners). The caller is pinned, and then has their futures woken.
    pub fn raise_kill_generation(&self, top: &Memcg, spares_observed: bool) {
        for (_, owner) in self.objcgs.each() {
            if !matches!(owner.state(), State::Group | State::DeadGroup) {
                continue;
            }
            let group = self.resolve(owner.cell()).group;
            if group.is_within(top) && !(spares_observed && group.is_observed()) {
                owner.raise_kill_generation();
            }
        }
    }

    /// Whether what works for `tag` is to die: the task is marked, or the group was killed since
    /// its generation was `seen`. The caller names `tag`. Cost: two loads, unless a move left the
    /// task another owner.
    #[inline]
    pub fn is_to_die(&self, rec: &ThreadRec, tag: Tag, seen: KillGeneration) -> bool {
        let owner = self.objcgs.get(tag);
        match owner.state() {
            State::Group | State::DeadGroup => owner.raised() != seen,
            State::Task | State::DeadTask => owner.is_killed(),
            State::Superseded => self.is_successor_marked(rec, tag),
            State::Free | State::Residual | State::Lost => false,
        }
    }

    /// As [`Self::is_to_die`], of a task; `false` of a group.
    #[inline]
    pub fn is_task_marked(&self, rec: &ThreadRec, tag: Tag) -> bool {
        let owner = self.objcgs.get(tag);
        match owner.state() {
            State::Task | State::DeadTask => owner.is_killed(),
            State::Superseded => self.is_successor_marked(rec, tag),
            State::Group | State::DeadGroup | State::Free | State::Residual | State::Lost => false,
        }
    }

    #[cold]
    fn is_successor_marked(&self, rec: &ThreadRec, tag: Tag) -> bool {
        let _pin = self.threads.epoch.pin(rec);
        self.objcgs.get(self.live_tag(tag)).is_killed()
    }
}
