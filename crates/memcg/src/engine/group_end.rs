//! `group-end`: whether removed groups linger, the last steps of those that did, and the reaper
//! that hurries them.

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
    /// They are the parent's at once, and the group is gone. The default.
    #[default]
    Reparent,
    /// It keeps them, and by the policy of ids its kmem id, until the last one goes: the classic
    /// kernel.
    Linger,
}

impl GroupEnd {
    /// Of a name in options and scenarios: `reparent`, `linger`.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "reparent" => Some(GroupEnd::Reparent),
            "linger" => Some(GroupEnd::Linger),
            _ => None,
        }
    }

    /// Its name.
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
    /// Groups that lingered when it came.
    pub groups: u32,
    /// Of them, those that are gone now.
    pub gone: u32,
    /// Bytes taken back from them.
    pub bytes: u64,
}

impl Engine {
    /// Chooses it. `false`, and nothing changed, once there has been a group other than the root.
    pub fn set_group_end(&self, end: GroupEnd) -> bool {
        self.tree.set_lingers(end == GroupEnd::Linger)
    }

    /// Ends the groups that lingered and hold nothing any more; answers how many. Where locks may
    /// be taken: not in malloc. A load where there is none.
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

    /// Bytes were given back: if they were a lingering group's last its end is put off to where
    /// locks may be taken. Usable in a signal handler.
    #[inline]
    pub(super) fn note_ends(&self) {
        if self.tree.lingers() && self.tree.has_done() {
            self.defer(Work::Ends);
        }
    }

    /// One round of the zombie reaper: asks every lingering group for all it holds. What cannot be
    /// reclaimed stays. Runs shrinkers of the program on this thread; lifts the caller's pins.
    /// O(groups).
    ///
    /// As daemons beside the kernel do it, where nothing else moves the dead: the baseline of the
    /// designs that do better.
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

    /// Asks a lingering group for what it holds; answers the bytes it gave. The caller is pinned;
    /// where code of the program may run (`user`) its pins are lifted meanwhile.
    pub(super) fn ask(&self, rec: &ThreadRec, group: &Memcg, user: bool) -> u64 {
        if user {
            return self.reclaim_bytes(rec, group, group.counter.usage());
        }
        if group.counter.granted() == 0 {
            return 0;
        }
        self.tree.drain(rec, group)
    }

    /// For the worker: does a round if the interval is over; answers the ms until the next, 0 where
    /// there is none.
    pub(super) fn reap_if_due(&self, rec: &ThreadRec) -> u32 {
        let interval = self.options.reap_interval_ms();
        if interval == 0 {
            return 0;
        }
        let now = clock::monotonic_ns();
        let since = now.saturating_sub(self.reaped_ns.load(Ordering::Relaxed)) / 1_000_000;
        if since < u64::from(interval) {
            // At least one, or it would be for ever.
            return (interval - since as u32).max(1);
        }
        self.reaped_ns.store(now, Ordering::Relaxed);
        self.reap(rec);
        interval
    }
}
