//! What happened to a group, counted where it happened and in every group above.
//!
//! Of a million groups few see anything happen, so the counts are in a record of their own, made by the first event.
//! Events happen in charges, which know groups and nothing else: the arena of the records is found by way of the root.

use super::id::EventCountsId;
use super::memcg::Memcg;
use super::victim::Victim;
use crate::counter::Level;
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use crate::sync::id::AtomicId;

/// The events, in the order `memory.events` shows them. The first six are the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Reclaimed although below its low.
    Low,
    /// Charged above high.
    High,
    /// A charge met max.
    Max,
    /// A charge failed, or was about to, with nothing left to try.
    Oom,
    /// A task of the group was killed for memory.
    OomKill,
    /// The whole group was.
    OomGroupKill,
    /// A charge was made in the name of a removed group and landed here.
    Late,
    /// A removed child left bytes here.
    Inherited,
    /// A charge was forced above max.
    Debt,
    /// An object of a kmem cache met `memory.kmem.max`.
    KmemMax,
    /// Bytes that were to be charged here instead of elsewhere did not fit, and stayed.
    RechargeFailed,
}

/// How many there are.
pub const EVENTS: usize = 11;

/// All, with their names.
pub const ALL: [(Event, &str); EVENTS] = [
    (Event::Low, "low"),
    (Event::High, "high"),
    (Event::Max, "max"),
    (Event::Oom, "oom"),
    (Event::OomKill, "oom_kill"),
    (Event::OomGroupKill, "oom_group_kill"),
    (Event::Late, "late"),
    (Event::Inherited, "inherited"),
    (Event::Debt, "debt"),
    (Event::KmemMax, "kmem_max"),
    (Event::RechargeFailed, "recharge_failed"),
];

/// What happened to one group.
#[derive(Default)]
pub struct EventCounts {
    link: AtomicU32,
    index: AtomicId<EventCountsId>,
    /// The root's alone: where there are more.
    home: AtomicPtr<Arena<EventCountsId, EventCounts>>,
    events: [AtomicU64; EVENTS],
    events_local: [AtomicU64; EVENTS],
    throttled_us: AtomicU64,
    shrinker_scanned: AtomicU64,
    shrinker_freed: AtomicU64,
    victim: Victim,
}

// SAFETY: integers and a null pointer.
unsafe impl Zeroed for EventCounts {}
// SAFETY: Zeroed, see above. `link` is used by the arena's free list alone.
unsafe impl Record for EventCounts {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

impl EventCounts {
    /// In the child of a fork: nobody chooses there.
    pub(super) fn reset_in_child(&self) {
        self.victim.reset_in_child();
    }

    /// A record of an arena, counting nothing. `None` without memory.
    fn new(arena: &Arena<EventCountsId, EventCounts>) -> Option<&EventCounts> {
        let index = arena.alloc(u32::MAX)?;
        let counts = arena.get(index);
        counts.index.store(Some(index), Ordering::Relaxed);
        counts.home.store(core::ptr::null_mut(), Ordering::Relaxed);
        for count in counts.events.iter().chain(&counts.events_local) {
            count.store(0, Ordering::Relaxed);
        }
        for count in [
            &counts.throttled_us,
            &counts.shrinker_scanned,
            &counts.shrinker_freed,
        ] {
            count.store(0, Ordering::Relaxed);
        }
        counts.victim.reset();
        Some(counts)
    }
}

impl Memcg {
    /// Counts `event` here and upward. O(depth). An event for whose first record there is no memory is not counted.
    pub fn event(&self, event: Event) {
        self.count(|counts| &counts.events_local[event as usize], 1, false);
        self.count(|counts| &counts.events[event as usize], 1, true);
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

    /// Who of the group or below was told to die for it last; `None`: there is no memory to remember that. The caller is pinned.
    pub fn victim(&self) -> Option<&Victim> {
        let counts = self
            .known_event_counts()
            .or_else(|| self.new_event_counts());
        counts.map(|counts| &counts.victim)
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
        // SAFETY: set by `make_root_event_counts` to an arena that stays where it is as long as there are groups.
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
        // Release pairs with the Acquire of `known_event_counts`: its counts are zero before it is found.
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
