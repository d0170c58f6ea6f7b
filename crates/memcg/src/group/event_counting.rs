//! Counting what happens to a group: where it happened, and in every group above.
//!
//! Of a million groups few see anything happen, so the counts are in a record of their own, made by
//! the first event. Events happen in charges, which know groups and nothing else: the arena of the
//! records is found by way of the root.
//!
//! Invariants: a record that was found stays its group's until the group's own record is free.
//! Depends on: `events`, `memcg_record`, `victim`, the levels of `counter`.
//! Never: a lock.

use super::events::{Event, EventCounts};
use super::memcg_record::Memcg;
use super::victim::Victim;
use crate::counter::Level;
use crate::sync::arena::Arena;
use crate::sync::atomic::{AtomicU64, Ordering};

use super::id::{EventCountsId, TemplateId};
impl Memcg {
    /// Counts `event` here and upward. O(depth). An event for whose first record there is no memory
    /// is not counted.
    pub fn event(&self, event: Event) {
        self.count(|counts| &counts.events_local[event as usize], 1, false);
        self.count(|counts| &counts.events[event as usize], 1, true);
        self.tell_event();
    }

    /// How often here, or here and below.
    pub fn nr_events(&self, event: Event, local: bool) -> u64 {
        self.known_event_counts().map_or(0, |counts| {
            let from = if local {
                &counts.events_local
            } else {
                &counts.events
            };
            from[event as usize].load(Ordering::Relaxed)
        })
    }

    /// Microseconds that tasks were delayed because of this group's high.
    pub fn throttled_us(&self) -> u64 {
        self.known_event_counts()
            .map_or(0, |counts| counts.throttled_us.load(Ordering::Relaxed))
    }

    /// Things shrinkers were asked for here and below, and those they freed.
    pub fn shrunk(&self) -> (u64, u64) {
        self.known_event_counts().map_or((0, 0), |counts| {
            (
                counts.shrinker_scanned.load(Ordering::Relaxed),
                counts.shrinker_freed.load(Ordering::Relaxed),
            )
        })
    }

    /// Adds to both, here and above.
    pub fn add_shrunk(&self, scanned: u64, freed: u64) {
        self.count(|counts| &counts.shrinker_scanned, scanned, true);
        self.count(|counts| &counts.shrinker_freed, freed, true);
    }

    /// Adds to them, here and above.
    pub fn add_throttled_us(&self, us: u64) {
        self.count(|counts| &counts.throttled_us, us, true);
    }

    /// Who of the group or below was told to die for it last; `None`: there is no memory to
    /// remember that. The caller is pinned.
    pub fn victim(&self) -> Option<&Victim> {
        let counts = self
            .known_event_counts()
            .or_else(|| self.new_event_counts());
        counts.map(|counts| &counts.victim)
    }

    /// The record of what its children begin with. Under the group's lock, or when nobody can be
    /// looking any more.
    pub(super) fn template_id(&self) -> Option<TemplateId> {
        self.known_event_counts()?.template.load(Ordering::Relaxed)
    }

    /// Sets it, under the group's lock. `false`: there is no memory to remember that.
    pub(super) fn set_template_id(&self, id: TemplateId) -> bool {
        let counts = self
            .known_event_counts()
            .or_else(|| self.new_event_counts());
        counts
            .map(|counts| counts.template.store(Some(id), Ordering::Relaxed))
            .is_some()
    }

    fn count(&self, which: impl Fn(&EventCounts) -> &AtomicU64, by: u64, upward: bool) {
        let mut level = Some(self);
        while let Some(group) = level {
            if let Some(counts) = group
                .known_event_counts()
                .or_else(|| group.new_event_counts())
            {
                which(counts).fetch_add(by, Ordering::Relaxed);
            }
            level = group.parent().filter(|_| upward);
        }
    }

    fn known_event_counts(&self) -> Option<&EventCounts> {
        // Acquire pairs with the Release of `set_event_counts`.
        // SAFETY: null, or the address of a record of an arena, which never moves or goes.
        unsafe { self.event_counts.load(Ordering::Acquire).as_ref() }
    }

    /// The first event of a group.
    #[cold]
    fn new_event_counts(&self) -> Option<&EventCounts> {
        let mut root = self;
        while let Some(above) = root.parent() {
            root = above;
        }
        let home = root.known_event_counts()?.home.load(Ordering::Relaxed);
        // SAFETY: set by `make_root_event_counts` to an arena that stays where it is as long as
        // there are groups.
        let arena = unsafe { home.as_ref() }?;
        let counts = EventCounts::new(arena)?;
        if !self.set_event_counts(counts) {
            arena.free(counts.index.known(Ordering::Relaxed));
        }
        self.known_event_counts()
    }

    /// `false`: it has one.
    fn set_event_counts(&self, counts: &EventCounts) -> bool {
        let new = core::ptr::from_ref(counts).cast_mut();
        // Release pairs with the Acquire of `known_event_counts`: its counts are zero before it is
        // found.
        self.event_counts
            .compare_exchange(
                core::ptr::null_mut(),
                new,
                Ordering::Release,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// The root's record, by which all others are found. `arena` stays where it is from here on.
    pub(super) fn make_root_event_counts(
        &self,
        arena: &Arena<EventCountsId, EventCounts>,
    ) -> Option<()> {
        let counts = EventCounts::new(arena)?;
        let home = core::ptr::from_ref(arena).cast_mut();
        counts.home.store(home, Ordering::Relaxed);
        self.set_event_counts(counts).then_some(())
    }

    /// Gives the record back with the group's own: nobody can be looking at either any more.
    pub(super) fn free_event_counts(&self, arena: &Arena<EventCountsId, EventCounts>) {
        let counts = self.known_event_counts();
        self.event_counts
            .store(core::ptr::null_mut(), Ordering::Relaxed);
        if let Some(counts) = counts {
            arena.free(counts.index.known(Ordering::Relaxed));
        }
    }
}
