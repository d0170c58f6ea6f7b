//! What a `lazy` move left behind, marked as wrongly charged where it is: it follows its task when
//! it is used, and it is the first to go when the group it is in is to be made smaller.
//!
//! Nothing is freed here: the bytes go where they belong, as far as there is room. (KAMEZAWA's
//! third policy of 2008, with moving instead of freeing, which he liked best.) What finds no room
//! is for `engine::reclaim::evict`.
//!
//! Invariants: bytes follow into room that was made before. No limit is passed.
//! Depends on: `part` for what leaves a residual; `target_room`; one mover a task
//! (`Objcg::begin_move`).
//! Never: waits for another mover: bytes of a task that is moving stay where they are.

use super::part::join;
use super::target_room::{Room, Way};
use crate::group::objcg::{Objcg, State};
use crate::group::{Event, Hierarchy, Memcg, Tag};
use crate::sync::lock::Rank;

/// Tries with less, when there is not room for all.
const TRIES: usize = 4;

impl Hierarchy {
    /// Bytes that `lazy` left behind are used: as much of `bytes` as fits follows the task. Answers
    /// how much did. The caller is pinned and names `tag`. Cost: a look, where nothing was left;
    /// else O(depth).
    pub fn follow(&self, tag: Tag, bytes: u64) -> u64 {
        self.follow_from(tag, None, bytes)
    }

    /// Makes `top` smaller by at most `bytes`: marked bytes in it and below, of tasks that are
    /// elsewhere, follow those. Answers how much did. Nothing is freed, and no limit passed. The
    /// caller is pinned, and holds no lock. Cost: a load where no move has left any; else
    /// O(owners).
    pub fn send_marked(&self, top: &Memcg, bytes: u64) -> u64 {
        if !self.begin_search_for_marked() {
            return 0;
        }
        let (mut sent, mut are_left) = (0, false);
        for (tag, _) in self.objcgs.each() {
            if !self.try_ref_task(tag) {
                continue;
            }
            if sent < bytes && self.any_marked(tag, Some(top)) {
                sent += self.follow_from(tag, Some(top), bytes - sent);
            }
            are_left |= self.any_marked(tag, None);
            self.unref_objcg(tag);
        }
        if are_left {
            self.note_marked();
        }
        sent
    }

    /// Names the owner of a task, if `tag` is one: what it leads to are its residuals, until
    /// `unref_objcg`. The caller is pinned.
    pub fn try_ref_task(&self, tag: Tag) -> bool {
        self.objcgs.get(tag).state() == State::Task && self.try_ref_objcg(tag)
    }

    /// Where in `top` and below bytes of a task lie that are to follow it, and how many. The caller
    /// is pinned and names it.
    pub fn marked_in<'a>(
        &'a self,
        tag: Tag,
        top: &'a Memcg,
    ) -> impl Iterator<Item = (&'a Memcg, u64)> {
        let is_task = self.objcgs.get(tag).state() == State::Task;
        let residuals = is_task.then(|| self.marked(tag, Some(top)));
        residuals.into_iter().flatten().map(|residual| {
            (
                self.resolve(residual.cell()).group,
                residual.charged_bytes(),
            )
        })
    }

    fn any_marked(&self, tag: Tag, within: Option<&Memcg>) -> bool {
        self.objcgs.get(tag).state() == State::Task && self.marked(tag, within).next().is_some()
    }

    /// The residuals of a live owner that are to follow it, those in a group and below alone if one
    /// is named.
    fn marked<'a>(
        &'a self,
        tag: Tag,
        within: Option<&'a Memcg>,
    ) -> impl Iterator<Item = &'a Objcg> {
        self.residuals(tag).filter(move |residual| {
            residual.is_marked()
                && residual.charged_bytes() > 0
                && within.is_none_or(|top| self.resolve(residual.cell()).group.is_within(top))
        })
    }

    fn follow_from(&self, tag: Tag, top: Option<&Memcg>, bytes: u64) -> u64 {
        let own = self.objcgs.get(tag);
        if self.marked(tag, top).next().is_none() || !own.begin_move() {
            return 0;
        }
        let mut followed = 0;
        {
            let _task = own.lock.lock(Rank::Task);
            let target = self.resolve(own.cell()).group;
            // Within the group that is to be made smaller nothing is won.
            let is_of_use = top.is_none_or(|top| !target.is_within(top));
            for residual in self.marked(tag, top).filter(|_| is_of_use) {
                let way = Way::new(self.resolve(residual.cell()).group, target, false);
                let wanted = residual.charged_bytes().min(bytes - followed) & !7;
                followed += self.follow_one(own, residual, &way, wanted);
            }
        }
        own.end_move();
        self.retire_if_done(tag);
        followed
    }

    /// As much as fits of `wanted`.
    fn follow_one(&self, own: &Objcg, residual: &Objcg, way: &Way<'_>, wanted: u64) -> u64 {
        let mut tried = wanted;
        for _ in 0..TRIES {
            if tried == 0 {
                break;
            }
            let mut room = Room::default();
            if room.cover(way, tried).is_ok() {
                let moved = join(self, own, residual, tried);
                room.transfer(self, way, moved);
                if tried < wanted {
                    way.target.event(Event::RechargeFailed);
                }
                return moved;
            }
            room.give_back(self, way);
            tried = (way.free() & !7).min(tried - 8);
        }
        if wanted > 0 {
            way.target.event(Event::RechargeFailed);
        }
        0
    }
}
