//! Who reclaims where: a charge that was refused waits only for passes that may bring it room.
//!
//! Invariants: a pass that is under way for a group is seen by every thread that waits for room in
//! that group, above it or below it. Progress means that something was freed in the group or below,
//! or that less is in use there. What others free elsewhere is no progress.
//! Depends on: the worker's queue, where passes wait; the epoch, whose pins are lifted while a
//! thread waits.
//! Never: waits longer than `STEPS` steps.

use super::Engine;
use super::worker::Work;
use crate::group::{GroupId, Memcg};
use crate::kmem::shrinker_registry::Ask;
use crate::os::clock;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::id::AtomicId;
use crate::thread::ThreadRec;

/// How long a charge waits for others that reclaim, or for the worker: in steps, and at most.
pub(super) const STEP_NS: u64 = 200_000;
pub(super) const STEPS: u32 = 500;

/// How many passes are remembered with their groups.
const PASSES: usize = 16;

/// Passes under way.
#[derive(Default)]
pub struct Passes {
    /// The group of each.
    tops: [AtomicId<GroupId>; PASSES],
    /// How many passes found no place in `tops`: they may be in any group.
    others: AtomicU32,
}

// SAFETY: every field is an atomic integer, `AtomicId` included, whose 0 is no id: zero bytes are a
// valid value, and the one that the derived `Default` gives.
unsafe impl Zeroed for Passes {}

/// A pass is under way until this is dropped.
pub(super) enum Running<'a> {
    /// The pass has a place in `tops`.
    At(&'a AtomicId<GroupId>),
    /// The pass is counted in `others`.
    Other(&'a AtomicU32),
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        match self {
            Self::At(place) => place.store(None, Ordering::Relaxed),
            Self::Other(others) => drop(others.fetch_sub(1, Ordering::Relaxed)),
        }
    }
}

impl Passes {
    /// Notes that a pass for `top` begins.
    pub(super) fn begin(&self, top: GroupId) -> Running<'_> {
        let take = |place: &&AtomicId<GroupId>| {
            place
                .compare_exchange(None, Some(top), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        match self.tops.iter().find(take) {
            Some(place) => Running::At(place),
            None => {
                self.others.fetch_add(1, Ordering::Relaxed);
                Running::Other(&self.others)
            }
        }
    }

    /// Whether a pass is under way that may help: `is_of_use` says so of its group, or its group is
    /// not known.
    fn any(&self, is_of_use: impl Fn(GroupId) -> bool) -> bool {
        let tops = self.tops.iter();
        let mut tops = tops.filter_map(|place| place.load(Ordering::Relaxed));
        self.others.load(Ordering::Relaxed) > 0 || tops.any(is_of_use)
    }
}

/// What a group had when somebody began to want room in it.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    ask: Ask,
    freed: u64,
    usage: u64,
}

/// The name by which `group_of` finds a group again, or finds that it has gone.
pub fn ask_of(group: &Memcg) -> Ask {
    Ask {
        group: group.index(),
        generation: group.generation(),
    }
}

impl Engine {
    /// The group that `ask` names, if it is there: its record may have been given to another group
    /// since.
    pub(super) fn group_of(&self, ask: Ask) -> Option<&Memcg> {
        let group = self.tree.memcgs.get(ask.group);
        let is_there = group.is_online() || group.is_lingering();
        (group.generation() == ask.generation && is_there).then_some(group)
    }

    /// How far reclaim has come in a group. The caller is pinned.
    pub(super) fn see(&self, group: &Memcg) -> Seen {
        Seen {
            ask: ask_of(group),
            freed: group.shrunk().1,
            usage: group.counter.usage(),
        }
    }

    /// Waits until something was freed in a group or below, as long as somebody may be at that.
    /// `true`: it was.
    pub(super) fn await_progress(&self, rec: &ThreadRec, seen: Seen) -> bool {
        let _lifted = self.tree.threads.epoch.lift(rec);
        // Work that the worker has taken out of the queue and not yet begun is seen nowhere. So
        // only two idle looks in a row mean that nobody reclaims.
        let mut idle = 0;
        for _ in 0..STEPS {
            let (has_come, is_at_it) = {
                let _pin = self.tree.threads.epoch.pin(rec);
                let Some(group) = self.group_of(seen.ask) else {
                    return false;
                };
                let now = self.see(group);
                let has_come = now.freed != seen.freed || now.usage < seen.usage;
                (has_come, self.may_relieve(group))
            };
            if has_come {
                return true;
            }
            idle = if is_at_it { 0 } else { idle + 1 };
            if idle == 2 {
                return false;
            }
            clock::sleep_ns(STEP_NS);
        }
        false
    }

    /// Whether a pass is under way, or waits for the worker, that may bring `group` room. The
    /// caller is pinned.
    fn may_relieve(&self, group: &Memcg) -> bool {
        let related = |index: GroupId| {
            let other = self.tree.memcgs.get(index);
            other.is_within(group) || group.is_within(other)
        };
        let waits = |word| match Work::of_word(word) {
            Some(Work::Reclaim { group, .. }) => related(group),
            Some(Work::Budget) => true,
            Some(Work::WakeAll | Work::Alarm | Work::Look | Work::Pages)
            | Some(Work::Wake { .. } | Work::Split { .. } | Work::Ends | Work::Sort { .. })
            | None => false,
        };
        self.reclaims.passes.any(related) || self.deferred.any(waits)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::engine::{Flags, Request};
    use crate::group::Kind;
    use crate::group::ROOT;

    #[test]
    fn who_wants_room_waits_for_those_who_may_bring_some_and_for_no_others() {
        let engine = Engine::leaked();
        let (_, rec) = engine.tree.threads.join().unwrap();
        let _pin = engine.tree.threads.epoch.pin(rec);
        let child = |parent: &Memcg, name: &[u8]| {
            let index = engine.tree.create(parent, name).unwrap();
            engine.tree.memcgs.get(index)
        };
        let root = engine.tree.memcgs.get(ROOT);
        let (a, b) = (child(root, b"a"), child(root, b"b"));
        let deep = child(a, b"deep");
        for (top, helps) in [(root, true), (a, true), (deep, true), (b, false)] {
            let _running = engine.reclaims.passes.begin(top.index());
            assert_eq!(engine.may_relieve(a), helps);
        }
        assert!(!engine.may_relieve(a));
        for (group, helps) in [(b, false), (deep, true)] {
            let group = group.index();
            engine.defer(Work::Reclaim { group, room: 0 });
            assert_eq!(engine.may_relieve(a), helps);
        }
        engine.run_deferred(rec, super::super::By::All);
        // More than are told apart may be anywhere.
        let many: Vec<_> = (0..=PASSES)
            .map(|_| engine.reclaims.passes.begin(b.index()))
            .collect();
        assert!(engine.may_relieve(a));
        drop(many);
        assert!(!engine.may_relieve(a));

        // What others free elsewhere is no progress.
        let charge = |group: &Memcg| {
            engine
                .charge(rec, Request::heap(group.tag(), 1 << 20, Flags::NOWAIT))
                .unwrap()
        };
        let (in_a, _) = (charge(deep), charge(b));
        let seen = engine.see(a);
        b.add_shrunk(10, 10);
        assert!(!engine.await_progress(rec, seen));
        deep.add_shrunk(10, 10);
        assert!(engine.await_progress(rec, seen));
        let seen = engine.see(a);
        engine.uncharge(rec, deep.tag(), in_a, Kind::Heap);
        assert!(engine.await_progress(rec, seen));
    }
}
