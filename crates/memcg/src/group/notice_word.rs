//! Which groups somebody wants to be told about, and what was told: a few words of a group's
//! record.
//!
//! Invariants: a group is on the stack of those that were told of once at most. Who is told of
//! again before anybody has looked adds nothing to the stack.
//! Depends on: nothing but `sync`.
//! Never: knowledge of groups (`notices` has that); a change where nobody wants to be told.

#![forbid(unsafe_code)]

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What somebody wants to be told about a group and those below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Wish {
    /// That bytes are freed: somebody stands in line for room here.
    Room = 1,
    /// That an event is counted.
    Events = 1 << 1,
    /// That usage crosses a level that is watched.
    Crossings = 1 << 2,
    /// That the last task has gone.
    Emptied = 1 << 3,
}

const WISHES: u32 = 0xf;
/// It is on the stack of groups that were told of.
const TOLD: u32 = 1 << 4;
/// Bytes were freed, or a task was marked to end, since the last look.
const FREED: u32 = 1 << 5;
/// The group ended while somebody wanted to be told about it.
const ENDED: u32 = 1 << 6;

/// In `rising`: a level was crossed, and the number beside this is how far.
const CROSSED: u64 = 1 << 63;
/// `rising` while no level is watched: no usage is above it.
const UNWATCHED: u64 = u64::MAX;

/// What is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// Something that is to be looked at.
    Look,
    /// Bytes were freed, or will be: a task was marked to end.
    Freed,
}

/// What was told of a group since the last look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// Bytes were freed, or a task was marked to end.
    pub freed: bool,
    /// The group ended. (Its record may be another group's by now.)
    pub ended: bool,
}

/// See the module.
#[derive(Default)]
pub struct Notice {
    /// A bit for each [`Wish`], and those above.
    word: AtomicU32,
    /// The next on the stack of groups that were told of.
    next: AtomicU32,
    /// The lowest level that is watched and not crossed; with [`CROSSED`] the highest usage above
    /// it.
    rising: AtomicU64,
    /// One more than the highest level that is watched and that usage is above of; 0: none.
    falling: AtomicU64,
    /// Until then, by the monotonic clock, who asks at the door stands behind those in line.
    closed_until_ns: AtomicU64,
}

impl Notice {
    /// As of a new group. What is on the stack stays there, and is looked at in vain.
    pub(super) fn open(&self) {
        self.rising.store(UNWATCHED, Ordering::Relaxed);
        self.falling.store(0, Ordering::Relaxed);
        self.closed_until_ns.store(0, Ordering::Relaxed);
    }

    /// Notes a wish. `false`: it was noted already.
    pub(super) fn wish(&self, wish: Wish) -> bool {
        // Acquire pairs with the Release of `end`: who comes after it sees that the group is not
        // online.
        self.word.fetch_or(wish as u32, Ordering::AcqRel) & wish as u32 == 0
    }

    /// Takes a wish back. `false`: there was none.
    pub(super) fn unwish(&self, wish: Wish) -> bool {
        self.word.fetch_and(!(wish as u32), Ordering::Relaxed) & wish as u32 != 0
    }

    /// Whether there is such a wish.
    #[inline]
    pub(super) fn has(&self, wish: Wish) -> bool {
        self.word.load(Ordering::Relaxed) & wish as u32 != 0
    }

    /// The group ends: there are no wishes any more. Answers how many there were.
    pub(super) fn end(&self) -> u32 {
        // Release pairs with the Acquire of `wish`.
        let before = self.word.fetch_and(!WISHES, Ordering::AcqRel) & WISHES;
        if before != 0 {
            self.word.fetch_or(ENDED, Ordering::Relaxed);
        }
        before.count_ones()
    }

    /// Notes what is told. `true`: the group is to be put on the stack.
    pub(super) fn tell(&self, news: News) -> bool {
        let more = match news {
            News::Look => TOLD,
            News::Freed => TOLD | FREED,
        };
        // A read-modify-write although nothing may change: its Release pairs with the Acquire of
        // `take_told`, which is still to come.
        self.word.fetch_or(more, Ordering::AcqRel) & TOLD == 0
    }

    /// The link for the stack of groups that were told of.
    pub fn link(&self) -> &AtomicU32 {
        &self.next
    }

    /// What was told since the last call, by whoever took the group off the stack: from here on it
    /// may be on it again.
    pub fn take_told(&self) -> Told {
        // Acquire pairs with the Release of `tell`: what was told of is seen.
        let word = self
            .word
            .fetch_and(!(TOLD | FREED | ENDED), Ordering::AcqRel);
        Told {
            freed: word & FREED != 0,
            ended: word & ENDED != 0,
        }
    }

    /// Whether it was told of and not looked at.
    pub fn is_told(&self) -> bool {
        self.word.load(Ordering::Relaxed) & TOLD != 0
    }

    /// Whether `usage` is above the lowest watched level, or higher above it than was seen before;
    /// noted if it is.
    #[inline]
    pub(super) fn rises_to(&self, usage: u64) -> bool {
        // UNWATCHED less its top bit is above any usage.
        if usage <= self.rising.load(Ordering::Relaxed) & !CROSSED {
            return false;
        }
        self.rising.fetch_max(CROSSED | usage, Ordering::Relaxed);
        true
    }

    /// Whether `usage` is back at or below a watched level that it was above of; told once.
    #[inline]
    pub(super) fn falls_to(&self, usage: u64) -> bool {
        usage < self.falling.load(Ordering::Relaxed) && self.falling.swap(0, Ordering::Relaxed) != 0
    }

    /// The highest usage above the lowest watched level, if it was crossed since [`Self::watch`];
    /// and what is to be given to that.
    pub fn crossed(&self) -> (Option<u64>, u64) {
        let word = self.rising.load(Ordering::Relaxed);
        let is_crossed = word != UNWATCHED && word & CROSSED != 0;
        (is_crossed.then_some(word & !CROSSED), word)
    }

    /// Sets the levels to be told of: the lowest that usage is to rise above, and the highest that
    /// it is to fall to. `false`: it has risen since `before` was read, and nothing was set. One
    /// caller at a time; a look at the usage follows it.
    pub fn watch(&self, before: u64, rising: Option<u64>, falling: Option<u64>) -> bool {
        // Usage has 48 bits: no level above them is ever crossed.
        let rising = rising.map_or(UNWATCHED, |level| level.min(UNWATCHED >> 2));
        let falling = falling.map_or(0, |level| level.saturating_add(1));
        let is_set = self
            .rising
            .compare_exchange(before, rising, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if is_set {
            self.falling.store(falling, Ordering::Relaxed);
        }
        is_set
    }

    /// Those who ask at the door are behind those in line until `ns`, by the monotonic clock; 0: no
    /// more.
    pub fn close_door(&self, ns: u64) {
        self.closed_until_ns.store(ns, Ordering::Relaxed);
    }

    /// Until when that is.
    pub fn closed_until_ns(&self) -> u64 {
        self.closed_until_ns.load(Ordering::Relaxed)
    }

    /// In the child of a fork: nobody wants to be told anything there, and nothing was.
    pub(super) fn reset_in_child(&self) {
        // Only where it is not so: the child's page need not be copied for nothing.
        if self.word.load(Ordering::Relaxed) != 0 {
            self.word.store(0, Ordering::Relaxed);
            self.open();
        }
    }
}
