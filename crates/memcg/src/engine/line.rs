//! Charges of those who stand in line for room, and the door behind which the others wait.
//!
//! Invariants: who stands in line is charged within every limit, or not at all. While somebody
//! stands in line at a level, nobody below it has stock within the limits, so what is freed there
//! shows.
//! Depends on: `group::notices` for the line's mark at a level. The line itself is `api`'s.
//! Never: waits; reclaims on the thread that asks; counts an event `oom`.

#![forbid(unsafe_code)]

use super::{Engine, Request};
use crate::group::exact_charge::{Mode, Refusal};
use crate::group::notice_word::Wish;
use crate::group::{Event, Kind, Memcg, Tag};
use crate::thread::ThreadRec;

impl Engine {
    /// Somebody stands in line at `group` from now on. `false`: it is not online. The caller is
    /// pinned. Takes the stock of all threads under the group. O(threads).
    pub fn begin_line(&self, rec: &ThreadRec, group: &Memcg) -> bool {
        // First, or a refill would take again what the drain brings in.
        group.counter.set_lined(true);
        if !self.tree.wish(group, Wish::Room) {
            group.counter.set_lined(false);
            return false;
        }
        self.tree.drain(rec, group);
        true
    }

    /// Nobody stands in line there any more. The caller is pinned, and the group was online since
    /// then.
    pub fn end_line(&self, group: &Memcg) {
        group.notice.close_door(0);
        self.tree.unwish(group, Wish::Room);
        group.counter.set_lined(false);
    }

    /// Charges a reservation of `bytes`, a multiple of 8, for somebody in line, whether or not
    /// doors are closed. What is refused may be met later by what the worker reclaims for it. The
    /// caller names `tag`.
    ///
    /// # Errors
    /// The group that is full.
    pub fn charge_in_line(&self, rec: &ThreadRec, tag: Tag, bytes: u64) -> Result<(), Refusal> {
        let tree = &self.tree;
        let _pin = tree.threads.epoch.pin(rec);
        let try_it = || tree.charge_exact(tag, bytes, Mode::Within);
        let charged = try_it().or_else(|refusal| {
            let full = tree.group_of_refusal(&refusal).ok_or(refusal)?;
            let held = refusal.usage.saturating_sub(full.counter.granted());
            if held.saturating_add(bytes) <= full.counter.max() && tree.drain_for_charge(rec, full)
            {
                return try_it();
            }
            // Observed since it stands there: nobody is refused any more.
            if self.is_observed(tag) {
                return tree.charge_exact(tag, bytes, Mode::Force);
            }
            if self.may_reclaim() && bytes <= full.counter.max() {
                self.wake_reclaim(full, bytes);
            }
            Err(refusal)
        });
        charged?;
        tree.add_side(tag, bytes, Kind::Reserved);
        Ok(())
    }

    /// Notes what a charge that was made in line owes for `memory.high`, on the thread of who stood
    /// there. The caller names `tag`.
    pub fn owe_for(&self, rec: &ThreadRec, tag: Tag, bytes: u64) {
        let _pin = self.tree.threads.epoch.pin(rec);
        self.owe(rec, Request::reserved(tag, bytes, super::Flags::NOWAIT));
    }

    /// Whether `tag` is in a group where nobody is refused. The caller is pinned.
    fn is_observed(&self, tag: Tag) -> bool {
        let group = self.tree.resolve(self.tree.objcgs.get(tag).cell()).group;
        group.is_observed()
    }

    /// Refuses who asks at the door while others stand in line there. The caller is pinned.
    #[inline]
    pub(super) fn pass_door(&self, tag: Tag) -> Result<(), Refusal> {
        match self.tree.closed_door(tag) {
            None => Ok(()),
            Some(_) if self.is_observed(tag) => Ok(()),
            Some(closed) => {
                if let Some(group) = self.tree.group_of_refusal(&closed) {
                    group.event(Event::Max);
                }
                Err(closed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::group_end::GroupEnd;
    use crate::group::{GroupId, ROOT};

    #[test]
    fn what_a_reserve_gives_back_is_told_to_who_stands_in_line_above() {
        for end in [GroupEnd::Reparent, GroupEnd::Linger] {
            for ends in [false, true] {
                let engine = Engine::leaked();
                assert!(engine.set_group_end(end));
                let tree = &engine.tree;
                let (_, rec) = tree.threads.join().unwrap();
                let _pin = tree.threads.epoch.pin(rec);
                let make = |parent: GroupId, name: &[u8]| {
                    tree.memcgs
                        .get(tree.create(tree.memcgs.get(parent), name).unwrap())
                };
                let above = make(ROOT, b"above");
                let group = make(above.index(), b"group");
                engine.set_reserve(rec, group, 1 << 20).unwrap();
                assert!(engine.begin_line(rec, above));
                above.notice.take_told();
                if ends {
                    engine.remove(rec, group).unwrap();
                } else {
                    engine.set_reserve(rec, group, 0).unwrap();
                }
                assert_eq!(above.counter.usage(), 0);
                assert!(above.notice.take_told().freed, "{end:?}, {ends}");
            }
        }
    }
}
