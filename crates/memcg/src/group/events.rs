//! What happened to a group, counted where it happened and in every group above.
//!
//! Of a million groups few see anything happen, so the counts are in a record of their own, made by the first event.
//! Events happen in charges, which know groups and nothing else: the arena of the records is found by way of the root.

use super::memcg::Memcg;
use super::victim::Victim;
use crate::counter::Level;
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

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
pub struct Tally {
    link: AtomicU32,
    index: AtomicU32,
    /// The root's alone: where there are more.
    home: AtomicPtr<Arena<u32, Tally>>,
    events: [AtomicU64; EVENTS],
    events_local: [AtomicU64; EVENTS],
    throttled_us: AtomicU64,
    shrinker_scanned: AtomicU64,
    shrinker_freed: AtomicU64,
    victim: Victim,
}

// SAFETY: integers and a null pointer.
unsafe impl Zeroed for Tally {}
// SAFETY: `link` is the lists' alone.
unsafe impl Record for Tally {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

impl Tally {
    /// In the child of a fork: nobody chooses there.
    pub(super) fn reset_in_child(&self) {
        self.victim.reset_in_child();
    }

    /// A record of an arena, counting nothing. `None` without memory.
    fn new(arena: &Arena<u32, Tally>) -> Option<&Tally> {
        let index = arena.alloc(u32::MAX)?;
        let tally = arena.get(index);
        tally.index.store(index, Ordering::Relaxed);
        tally.home.store(core::ptr::null_mut(), Ordering::Relaxed);
        for count in tally.events.iter().chain(&tally.events_local) {
            count.store(0, Ordering::Relaxed);
        }
        for count in [
            &tally.throttled_us,
            &tally.shrinker_scanned,
            &tally.shrinker_freed,
        ] {
            count.store(0, Ordering::Relaxed);
        }
        tally.victim.reset();
        Some(tally)
    }
}

impl Memcg {
    /// Counts `event` here and upward. O(depth). An event for whose first record there is no memory is not counted.
    pub fn event(&self, event: Event) {
        self.count(|tally| &tally.events_local[event as usize], 1, false);
        self.count(|tally| &tally.events[event as usize], 1, true);
    }

    /// How often here, or here and below.
    pub fn nr_events(&self, event: Event, local: bool) -> u64 {
        self.known_tally().map_or(0, |tally| {
            let from = if local {
                &tally.events_local
            } else {
                &tally.events
            };
            from[event as usize].load(Ordering::Relaxed)
        })
    }

    /// Microseconds that tasks were delayed because of this group's high.
    pub fn throttled_us(&self) -> u64 {
        self.known_tally()
            .map_or(0, |tally| tally.throttled_us.load(Ordering::Relaxed))
    }

    /// Things shrinkers were asked for here and below, and those they freed.
    pub fn shrunk(&self) -> (u64, u64) {
        self.known_tally().map_or((0, 0), |tally| {
            (
                tally.shrinker_scanned.load(Ordering::Relaxed),
                tally.shrinker_freed.load(Ordering::Relaxed),
            )
        })
    }

    /// Adds to both, here and above.
    pub fn add_shrunk(&self, scanned: u64, freed: u64) {
        self.count(|tally| &tally.shrinker_scanned, scanned, true);
        self.count(|tally| &tally.shrinker_freed, freed, true);
    }

    /// Adds to them, here and above.
    pub fn add_throttled_us(&self, us: u64) {
        self.count(|tally| &tally.throttled_us, us, true);
    }

    /// Who of the group or below was told to die for it last; `None`: there is no memory to remember that. The caller is pinned.
    pub fn victim(&self) -> Option<&Victim> {
        let tally = self.known_tally().or_else(|| self.new_tally());
        tally.map(|tally| &tally.victim)
    }

    fn count(&self, which: impl Fn(&Tally) -> &AtomicU64, by: u64, upward: bool) {
        let mut level = Some(self);
        while let Some(group) = level {
            if let Some(tally) = group.known_tally().or_else(|| group.new_tally()) {
                which(tally).fetch_add(by, Ordering::Relaxed);
            }
            level = group.parent().filter(|_| upward);
        }
    }

    fn known_tally(&self) -> Option<&Tally> {
        // SAFETY: null, or a record of an arena, which never moves or goes. Acquire pairs with the Release of `set_tally`.
        unsafe { self.tally.load(Ordering::Acquire).as_ref() }
    }

    /// The first event of a group.
    #[cold]
    fn new_tally(&self) -> Option<&Tally> {
        let mut root = self;
        while let Some(above) = root.parent() {
            root = above;
        }
        let home = root.known_tally()?.home.load(Ordering::Relaxed);
        // SAFETY: set by `make_root_tally` to an arena that stays where it is as long as there are groups.
        let arena = unsafe { home.as_ref() }?;
        let tally = Tally::new(arena)?;
        if !self.set_tally(tally) {
            arena.free(tally.index.load(Ordering::Relaxed));
        }
        self.known_tally()
    }

    /// `false`: it has one.
    fn set_tally(&self, tally: &Tally) -> bool {
        let new = core::ptr::from_ref(tally).cast_mut();
        // Release pairs with the Acquire of `known_tally`: its counts are zero before it is found.
        self.tally
            .compare_exchange(
                core::ptr::null_mut(),
                new,
                Ordering::Release,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// The root's record, by which all others are found. `arena` stays where it is from here on.
    pub(super) fn make_root_tally(&self, arena: &Arena<u32, Tally>) -> Option<()> {
        let tally = Tally::new(arena)?;
        let home = core::ptr::from_ref(arena).cast_mut();
        tally.home.store(home, Ordering::Relaxed);
        self.set_tally(tally).then_some(())
    }

    /// Gives the record back with the group's own: nobody can be looking at either any more.
    pub(super) fn free_tally(&self, arena: &Arena<u32, Tally>) {
        let tally = self.known_tally();
        self.tally.store(core::ptr::null_mut(), Ordering::Relaxed);
        if let Some(tally) = tally {
            arena.free(tally.index.load(Ordering::Relaxed));
        }
    }
}
