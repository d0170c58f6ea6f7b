//! The events of a group, and the record that counts them.
//!
//! Invariants: a record counts one group's events, those of the group and below beside those of the
//! group itself.
//! Depends on: `victim`, whose record is a part of this one.
//! Never: knowledge of groups (`event_counting` has that).

use super::id::{EventCountsId, TemplateId};
use super::victim::Victim;
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
    /// A charge met max: it was refused, or took the group above max.
    Max,
    /// A charge was refused with nothing left to try, or a task was told to end for it.
    Oom,
    /// A task of the group was killed for memory.
    OomKill,
    /// The whole group was.
    OomGroupKill,
    /// A charge was made in the name of a removed group and landed here.
    Late,
    /// A removed child left bytes here.
    Inherited,
    /// A charge took the group from within its max to above it.
    Debt,
    /// An object of a kmem cache met `memory.kmem.max`.
    KmemMax,
    /// Bytes that were to be charged here instead of elsewhere did not fit, and stayed.
    RechargeFailed,
    /// A charge would have been refused, had its group not been observed.
    WouldRefuse,
    /// A task would have been told to end, had the charged group not been observed.
    WouldKill,
    /// A charge would have owed a delay, had its group not been observed.
    WouldThrottle,
}

/// How many there are.
pub const EVENTS: usize = 14;

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
    (Event::WouldRefuse, "would_refuse"),
    (Event::WouldKill, "would_kill"),
    (Event::WouldThrottle, "would_throttle"),
];

/// What happened to one group.
#[derive(Default)]
pub struct EventCounts {
    link: AtomicU32,
    pub(super) index: AtomicId<EventCountsId>,
    /// The root's alone: where there are more.
    pub(super) home: AtomicPtr<Arena<EventCountsId, EventCounts>>,
    pub(super) events: [AtomicU64; EVENTS],
    pub(super) events_local: [AtomicU64; EVENTS],
    pub(super) throttled_us: AtomicU64,
    pub(super) shrinker_scanned: AtomicU64,
    pub(super) shrinker_freed: AtomicU64,
    /// What the group's children begin with, if it says anything.
    pub(super) template: AtomicId<TemplateId>,
    pub(super) victim: Victim,
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
    pub(super) fn new(arena: &Arena<EventCountsId, EventCounts>) -> Option<&EventCounts> {
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
        counts.template.store(None, Ordering::Relaxed);
        counts.victim.reset();
        Some(counts)
    }
}
