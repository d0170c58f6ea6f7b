//! Telling those who wait for something to happen to a group: for room, an event, a level that is
//! crossed, the last task's end.
//!
//! Who waits notes a wish at the group, has all threads pass a fence, and then looks. Who changes
//! something looks for a wish behind its own side of that fence. So one of the two sees the other.
//! Only slow paths change anything that is waited for; while nobody in the process waits they read
//! one word of the hierarchy, else one word a level.
//!
//! Invariants: what happens after a wish was noted is told, unless it was seen by the look that
//! followed the wish. A group's end is told to those who had wishes there.
//! Depends on: `notice_word`; the levels of `counter`.
//! Never: a lock; a wait; a call of who waits (the engine's worker does that).

#![forbid(unsafe_code)]

use super::id::GroupId;
use super::memcg_record::Memcg;
use super::notice_word::{News, Wish};
use super::{Hierarchy, Refusal, Tag};
use crate::counter::Level;
use crate::os::{barrier, clock};
use crate::sync::atomic::{Ordering, fence};
#[cfg(not(loom))]
use crate::sync::hook::Hook;
#[cfg(not(loom))]
use crate::sync::id::Id;

/// Puts the group of a raw index on the stack of those that were told of, and has it looked at. Set
/// by the engine of the process before the first wish.
#[cfg(not(loom))]
static TELL: Hook<fn(u32)> = Hook::none();

/// Has `tell` called for each group that is told of and was not before.
#[cfg(not(loom))]
pub fn set_tell(tell: fn(u32)) {
    TELL.set(tell);
}

fn levels(start: &Memcg) -> impl Iterator<Item = &Memcg> {
    core::iter::successors(Some(start), |level| level.parent())
}

impl Memcg {
    fn tell(&self, news: News) {
        if !self.notice.tell(news) {
            return;
        }
        #[cfg(not(loom))]
        if let Some(tell) = TELL.get() {
            tell(self.index().raw());
        }
    }

    /// An event was counted here and upward.
    pub(super) fn tell_event(&self) {
        // Pairs with the heavy fence of `wish`: we see the wish, or it sees the event.
        fence(Ordering::SeqCst);
        for level in levels(self).filter(|level| level.notice.has(Wish::Events)) {
            level.tell(News::Look);
        }
    }
}

impl Hierarchy {
    /// Notes that somebody wants to be told about `group`. A look at what is waited for follows.
    /// `false`, and nothing noted, where the group is not online. The caller is pinned. Cost: a
    /// fence on all threads.
    pub fn wish(&self, group: &Memcg, wish: Wish) -> bool {
        if group.notice.wish(wish) {
            self.wishes.fetch_add(1, Ordering::Relaxed);
        }
        if !group.is_online() {
            self.unwish(group, wish);
            return false;
        }
        // Pairs with `light` of `pass_fence`, and the fence of `tell_event`.
        self.threads.heavy_fence();
        true
    }

    /// Takes that back. The caller is pinned, and the group was online since then: its record is
    /// not another's.
    pub fn unwish(&self, group: &Memcg, wish: Wish) {
        if group.notice.unwish(wish) {
            self.wishes.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many wishes there are.
    #[cfg(all(test, loom))]
    pub(crate) fn nr_wishes(&self) -> u32 {
        self.wishes.load(Ordering::Relaxed)
    }

    /// The side of who changes something. `false`: nobody waits for anything.
    #[inline]
    fn pass_fence(&self) -> bool {
        // Pairs with the heavy fence of `wish`.
        barrier::light();
        if !self.threads.is_asymmetric() {
            // Pairs with the SeqCst fence in the heavy fence of `wish`, where that reaches its own
            // thread alone.
            fence(Ordering::SeqCst);
        }
        self.wishes.load(Ordering::Relaxed) != 0
    }

    /// Bytes were taken off `group` and those above; or a task there was marked to end, or a limit
    /// was raised. The caller is pinned. Cost: a load while nobody waits, else one a level.
    #[inline]
    pub fn tell_freed(&self, group: &Memcg) {
        if self.pass_fence() {
            tell_freed_slow(group);
        }
    }

    /// `group` and those above were charged. The caller is pinned. Cost as of [`Self::tell_freed`].
    #[inline]
    pub fn tell_charged(&self, group: &Memcg) {
        if self.pass_fence() {
            tell_charged_slow(group);
        }
    }

    /// A task has left `group`. The caller is pinned. Cost as of [`Self::tell_freed`].
    #[inline]
    pub(super) fn tell_task_gone(&self, group: &Memcg) {
        if self.pass_fence() {
            for level in levels(group) {
                if level.notice.has(Wish::Emptied) && !level.has_tasks() {
                    level.tell(News::Look);
                }
            }
        }
    }

    /// The group has ended: its cell leads to its parent's. The caller is pinned.
    pub(crate) fn tell_end(&self, group: &Memcg) {
        let wishes = group.notice.end();
        if wishes != 0 {
            self.wishes.fetch_sub(wishes, Ordering::Relaxed);
            group.tell(News::Freed);
        }
    }

    /// The level where others stand in line, at or above the group of `tag`, so that who asks at
    /// the door is refused: as a refusal. The caller is pinned. Cost: a load while nobody waits for
    /// anything, else one a level; a look at the clock where somebody stands in line.
    #[inline]
    pub fn closed_door(&self, tag: Tag) -> Option<Refusal> {
        if self.wishes.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.closed_door_slow(tag)
    }

    #[cold]
    fn closed_door_slow(&self, tag: Tag) -> Option<Refusal> {
        let group = self.resolve(self.objcgs.get(tag).cell()).group;
        let is_closed = |level: &&Memcg| {
            level.notice.has(Wish::Room) && clock::monotonic_ns() < level.notice.closed_until_ns()
        };
        levels(group).find(is_closed).map(refusal_of)
    }

    /// The level at or above the group of `tag` whose max is less than `bytes`: as a refusal. The
    /// caller is pinned.
    pub fn never_fits(&self, tag: Tag, bytes: u64) -> Option<Refusal> {
        let group = self.resolve(self.objcgs.get(tag).cell()).group;
        levels(group)
            .find(|level| level.counter.max() < bytes)
            .map(refusal_of)
    }

    /// The groups from that of `tag` up to the root. The caller is pinned.
    pub fn levels_of(&self, tag: Tag) -> impl Iterator<Item = (GroupId, u32)> {
        let group = self.resolve(self.objcgs.get(tag).cell()).group;
        levels(group).map(|level| (level.index(), level.generation()))
    }

    /// Tells of levels of `group` that its usage is on the other side of, after they were set. The
    /// caller is pinned.
    pub fn look_at_crossings(&self, group: &Memcg) {
        // Pairs with `light` of `pass_fence`: who changes the usage from here on sees the levels.
        self.threads.heavy_fence();
        let usage = group.counter.usage();
        if group.notice.rises_to(usage) || group.notice.falls_to(usage) {
            group.tell(News::Look);
        }
    }

    /// In the child of a fork: nobody waits there.
    pub(super) fn forget_wishes_in_child(&self) {
        self.wishes.store(0, Ordering::Relaxed);
        for (_, group) in self.memcgs.each() {
            group.notice.reset_in_child();
            group.counter.set_lined(false);
        }
    }
}

fn refusal_of(level: &Memcg) -> Refusal {
    Refusal {
        group: Some(level.index()),
        usage: level.counter.usage(),
        max: level.counter.max(),
    }
}

#[cold]
fn tell_freed_slow(group: &Memcg) {
    for level in levels(group) {
        let notice = &level.notice;
        if notice.has(Wish::Room) {
            level.tell(News::Freed);
        }
        if notice.has(Wish::Crossings) && notice.falls_to(level.counter.usage()) {
            level.tell(News::Look);
        }
    }
}

#[cold]
fn tell_charged_slow(group: &Memcg) {
    for level in levels(group) {
        if level.notice.has(Wish::Crossings) && level.notice.rises_to(level.counter.usage()) {
            level.tell(News::Look);
        }
    }
}
