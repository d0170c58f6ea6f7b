//! Shadows: what is kept of a page that was evicted, and how far back that was.
//!
//! A group counts its evictions. A page that is evicted leaves the count behind, in 32 bits of the
//! table of pages where its number among the queues was. If it comes back, the evictions since, its
//! *refault distance*, say whether it would still be here had the group been larger by so much.
//!
//! The count in a shadow is the owner's: the group's less the owner's [`Base`]. A base changes so
//! that distances do not. When an owner moves to another group, its base changes by the difference
//! of the two clocks. When a group ends, its heap gets a base in the parent in the same way, and
//! the base of an owner is the sum of those on the way to the group that it is of now.
//!
//! Invariants: a move or an end changes no distance. Zero is no shadow.
//! Depends on: the atomics of `sync`.
//! Never: a decision (`s3fifo`); a walk over bases: the caller has the owners and the groups.
//!
//! Source of the idea: Linux, mm/workingset.c.

use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};
use core::num::NonZeroU32;

/// Bits of a count in a shadow, the upper ones. Distances are less than 2^25 evictions: 128 GiB of
/// pages. A page that comes back after more is taken for one that was away for the rest: soon, by
/// mistake, with probability (working set / 2^25).
const CLOCK_BITS: u32 = 25;
const CLOCK: u32 = (1 << CLOCK_BITS) - 1;
const CLOCK_SHIFT: u32 = 32 - CLOCK_BITS;
const WORKINGSET: u32 = 1 << (CLOCK_SHIFT - 1);
/// The lowest bits hold the generation, which is never 0: so no shadow is.
const GENERATION: u32 = WORKINGSET - 1;

/// A moment of a group's eviction clock; only differences mean something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moment(u32);

/// How many pages of a class a group has evicted, as far as that is counted. Zero bytes: none yet.
#[derive(Default)]
pub struct EvictionClock(AtomicU32);

// SAFETY: a zero word is a clock that has not moved, as Default builds it.
unsafe impl Zeroed for EvictionClock {}

impl EvictionClock {
    /// Now.
    #[inline]
    pub fn now(&self) -> Moment {
        Moment(self.0.load(Relaxed))
    }

    /// A page is evicted and counted; answers the moment for its shadow, that before.
    #[inline]
    pub fn evict(&self) -> Moment {
        Moment(self.0.fetch_add(1, Relaxed))
    }
}

/// What is added to a shadow's count to get a moment of the group: of an owner, or of the heap of a
/// group that ended. Zero bytes: nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Base(u32);

impl Base {
    /// As a number, to be kept in a word.
    #[must_use]
    pub fn raw(self) -> u32 {
        self.0
    }

    /// Of that number.
    #[must_use]
    pub fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// Of a group that ends at `child` by its clock and `parent` by its parent's.
    #[must_use]
    pub fn between(child: Moment, parent: Moment) -> Self {
        Self(parent.0.wrapping_sub(child.0))
    }

    /// The sum: an owner's and that of the head above it, and so on up to the group.
    #[must_use]
    #[inline]
    pub fn plus(self, above: Self) -> Self {
        Self(self.0.wrapping_add(above.0))
    }

    /// Of an owner that had this base, summed up to its group, and moves from that group, at
    /// `from`, to another, at `to`.
    #[must_use]
    pub fn moved(self, from: Moment, to: Moment) -> Self {
        self.plus(Self::between(from, to))
    }
}

/// Which life of an owner's record a shadow is of, as far as 63 lives can be told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generation(NonZeroU32);

impl Generation {
    /// Of a record that had `lives` users before.
    #[must_use]
    pub fn of(lives: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(lives % GENERATION))
    }
}

/// What is kept of a page that was evicted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shadow(NonZeroU32);

/// A page that was evicted is back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refault {
    /// Evictions of its group since, its own included if it was counted.
    pub distance: u32,
    /// It had been part of the working set.
    pub workingset: bool,
}

impl Shadow {
    /// Of a page evicted at `now` by its group's clock. `base`: its owner's, summed up to that
    /// group; `workingset`: whether it was part of the working set.
    #[must_use]
    pub fn new(now: Moment, base: Base, generation: Generation, workingset: bool) -> Self {
        let count = now.0.wrapping_sub(base.0) << CLOCK_SHIFT;
        let flag = if workingset { WORKINGSET } else { 0 };
        Self(generation.0 | flag | count)
    }

    /// As a number, not 0.
    #[must_use]
    pub fn raw(self) -> u32 {
        self.0.get()
    }

    /// Of that number; `None` for 0.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<Self> {
        NonZeroU32::new(raw).map(Self)
    }

    /// How long ago it was, seen from a group at `now`, by an owner whose base, summed up to that
    /// group, is `base`. `None`: it was an earlier user of the owner's record.
    #[must_use]
    pub fn refault(self, now: Moment, base: Base, generation: Generation) -> Option<Refault> {
        let raw = self.raw();
        (raw & GENERATION == generation.0.get()).then(|| Refault {
            distance: now
                .0
                .wrapping_sub((raw >> CLOCK_SHIFT).wrapping_add(base.0))
                & CLOCK,
            workingset: raw & WORKINGSET != 0,
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: fn() -> Generation = || Generation::of(0);

    #[test]
    fn the_distance_is_the_evictions_since() {
        let clock = EvictionClock::default();
        let shadow = Shadow::new(clock.evict(), Base::default(), FIRST(), true);
        (0..41).for_each(|_| _ = clock.evict());
        let back = shadow.refault(clock.now(), Base::default(), FIRST());
        let expected = Refault {
            distance: 42,
            workingset: true,
        };
        assert_eq!(back, Some(expected));
    }

    #[test]
    fn a_shadow_of_another_life_is_no_refault() {
        let shadow = Shadow::new(Moment(5), Base(0), Generation::of(7), false);
        for lives in 0..GENERATION {
            let back = shadow.refault(Moment(9), Base(0), Generation::of(lives));
            assert_eq!(back.is_some(), lives == 7);
        }
    }

    proptest! {
        #[test]
        fn a_shadow_is_never_zero_and_keeps_what_it_was_made_of(
            now: u32, base: u32, since in 0..CLOCK, lives: u32, workingset: bool,
        ) {
            let generation = Generation::of(lives);
            let shadow = Shadow::new(Moment(now), Base(base), generation, workingset);
            prop_assert_eq!(Shadow::from_raw(shadow.raw()), Some(shadow));
            let later = Moment(now.wrapping_add(since));
            let back = shadow.refault(later, Base(base), generation);
            prop_assert_eq!(back, Some(Refault { distance: since, workingset }));
        }

        /// An owner moves from group to group, and groups end in others, at any clocks; in each the
        /// clock goes on. What lies between is the evictions where the owner was at the time.
        #[test]
        fn moves_and_ends_change_no_distance(
            begin: u32,
            base: u32,
            steps in prop::collection::vec((any::<u32>(), 0..1000u32, any::<bool>()), 0..20),
        ) {
            let mut now = Moment(begin);
            // The owner's own base, and that of the heads above it.
            let (mut own, mut heads) = (Base(base), Base::default());
            let shadow = Shadow::new(now, own, FIRST(), false);
            let mut distance = 0;
            for (clock, evictions, is_end) in steps {
                now = Moment(now.0.wrapping_add(evictions));
                distance += evictions;
                let other = Moment(clock);
                if is_end {
                    heads = heads.plus(Base::between(now, other));
                } else {
                    own = own.plus(heads).moved(now, other);
                    heads = Base::default();
                }
                now = other;
                let back = shadow.refault(now, own.plus(heads), FIRST());
                prop_assert_eq!(back.map(|back| back.distance), Some(distance));
            }
        }
    }
}
