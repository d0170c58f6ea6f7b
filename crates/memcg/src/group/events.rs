//! What happened to a group, counted where it happened and in every group above.

use super::memcg::Memcg;
use crate::counter::Level;
use crate::sync::atomic::Ordering;

/// The events, in the order `memory.events` shows them. The first six are the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
}

/// How many there are.
pub const EVENTS: usize = 9;

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
];

impl Memcg {
    /// Counts `event` here and upward. O(depth).
    pub fn event(&self, event: Event) {
        self.events_local[event as usize].fetch_add(1, Ordering::Relaxed);
        let mut level = Some(self);
        while let Some(group) = level {
            group.events[event as usize].fetch_add(1, Ordering::Relaxed);
            level = group.parent();
        }
    }

    /// How often here, or here and below.
    pub fn nr_events(&self, event: Event, local: bool) -> u64 {
        let from = if local {
            &self.events_local
        } else {
            &self.events
        };
        from[event as usize].load(Ordering::Relaxed)
    }
}
