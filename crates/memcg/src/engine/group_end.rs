//! `group-end`: whether removed groups linger, the last steps of those that did, and the reaper
//! that hurries them.
//!
//! Invariants: a group that lingers ends once it holds nothing. It ends in a place where locks may
//! be taken.
//! Depends on: `offline::deferred_end` for the end; `reclaim` for the bytes.
//! Never: ends a group inside malloc or a signal handler; that is deferred.

#![forbid(unsafe_code)]

use super::Engine;
use super::worker::Work;
use crate::group::{Memcg, ROOT};
use crate::offline;
use crate::os::clock;
use crate::sync::atomic::Ordering;
use crate::thread::ThreadRec;

/// What becomes of a removed group that still holds bytes. Chosen before the first group, for the
/// life of the engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum GroupEnd {
    /// Its bytes become the parent's at once, and the group is gone. The default.
    #[default]
    Reparent,
    /// The group keeps its bytes until the last of them goes, and its kmem id if the policy of ids
    /// lets it. As in the kernel before reparenting.
    Linger,
}

impl GroupEnd {
    /// The value with this name in options and scenarios: `reparent` or `linger`.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "reparent" => Some(GroupEnd::Reparent),
            "linger" => Some(GroupEnd::Linger),
            _ => None,
        }
    }

    /// The name of this value in options and scenarios.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GroupEnd::Reparent => "reparent",
            GroupEnd::Linger => "linger",
        }
    }
}

/// What a round of the reaper found and did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Reaped {
    /// Groups that lingered when the round came to them.
    pub groups: u32,
    /// How many lingering groups have ended during the round.
    pub gone: u32,
    /// Bytes taken back from those groups.
    pub bytes: u64,
}

impl Engine {
    /// Chooses what becomes of removed groups. `false`, and nothing changed, once there has been a
    /// group other than the root.
    pub fn set_group_end(&self, end: GroupEnd) -> bool {
        self.tree.set_lingers(end == GroupEnd::Linger)
    }

    /// Ends the groups that lingered and hold nothing any more; answers how many. Takes locks, so
    /// it is not for malloc. Cost: a load where there is no such group.
    #[inline]
    pub fn finish_lingering(&self, rec: &ThreadRec) -> u32 {
        if self.tree.has_done() {
            self.finish_lingering_slow(rec)
        } else {
            0
        }
    }

    #[cold]
    fn finish_lingering_slow(&self, rec: &ThreadRec) -> u32 {
        let _pin = self.tree.threads.epoch.pin(rec);
        self.change(|| offline::deferred_end::finish(&self.tree, &self.kmem))
    }

    /// Called after bytes were given back. If they were the last of a lingering group, defers the
    /// group's end to a place where locks may be taken. Usable in a signal handler.
    #[inline]
    pub(super) fn note_ends(&self) {
        if self.tree.lingers() && self.tree.has_done() {
            self.defer(Work::Ends);
        }
    }

    /// One round of the reaper: reclaims all that lingering groups hold. What cannot be reclaimed
    /// stays. Runs shrinkers of the program on this thread; lifts the pins of whoever calls.
    /// O(groups).
    ///
    /// Daemons beside a classic kernel do the same, where nothing else frees dying groups. It is
    /// the baseline for the designs that reparent.
    pub fn reap(&self, rec: &ThreadRec) -> Reaped {
        let mut reaped = Reaped::default();
        let before = self.tree.nr_lingered();
        let mut at = None;
        loop {
            let _pin = self.tree.threads.epoch.pin(rec);
            let root = self.tree.memcgs.get(ROOT);
            let Some(index) = self.tree.next_lingering(root, at) else {
                break;
            };
            at = Some(index);
            reaped.groups += 1;
            reaped.bytes += self.ask(rec, self.tree.memcgs.get(index), true);
        }
        self.finish_lingering(rec);
        reaped.gone = (self.tree.nr_lingered() - before) as u32;
        reaped
    }

    /// Takes back what a lingering group holds: its stock, and with `user` what shrinkers of the
    /// program give. Answers the bytes. The caller is pinned; with `user` its pins are lifted
    /// meanwhile.
    pub(super) fn ask(&self, rec: &ThreadRec, group: &Memcg, user: bool) -> u64 {
        if user {
            return self.reclaim_bytes(rec, group, group.counter.usage());
        }
        if group.counter.granted() == 0 {
            return 0;
        }
        self.tree.drain(rec, group)
    }

    /// For the worker: does a round of the reaper if its interval is over. Answers the ms until the
    /// next round; 0: there are no rounds.
    pub(super) fn reap_if_due(&self, rec: &ThreadRec) -> u32 {
        let interval = self.options.reap_interval_ms();
        if interval == 0 {
            return 0;
        }
        let now = clock::monotonic_ns();
        let since = now.saturating_sub(self.reaped_ns.load(Ordering::Relaxed)) / 1_000_000;
        if since < u64::from(interval) {
            // At least 1, since the worker takes 0 to mean: sleep for ever.
            return (interval - since as u32).max(1);
        }
        self.reaped_ns.store(now, Ordering::Relaxed);
        self.reap(rec);
        interval
    }
}
