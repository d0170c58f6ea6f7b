//! Frees from other threads: a stack of objects per slab, and the message that a slab has some
//! again.
//!
//! One word: {first object:32, NOTIFY, IN_FLIGHT, level:5, count:24}. Others push with a CAS; the
//! owner takes all at once. A slab its owner does not look at (it is full, or the owner has gone)
//! has NOTIFY set: the push that finds it, and makes them 2^level or more, takes it away, sets
//! IN_FLIGHT in the same step, and puts the slab on its owner's stack of returned slabs. For a full
//! slab that is about an eighth of its objects, so that its owner does not take each from under the
//! hands of who frees the next; for one that nobody looks at any more it is one object. The level
//! lies in the word, so that a push never goes by what was asked for before. IN_FLIGHT is cleared
//! by whoever takes the slab off that stack. A slab in flight is never released, or its record
//! would be pushed when it is somebody else's.

#![forbid(unsafe_code)]

use crate::sync::atomic::{AtomicU64, Ordering};

/// No object.
pub const NONE: u32 = u32::MAX;

const NOTIFY: u64 = 1 << 32;
const IN_FLIGHT: u64 = 1 << 33;
const LEVEL_SHIFT: u32 = 34;
const LEVEL: u64 = 31 << LEVEL_SHIFT;
const COUNT_SHIFT: u32 = 40;
const ONE: u64 = 1 << COUNT_SHIFT;
const FLAGS: u64 = NOTIFY | IN_FLIGHT | LEVEL;

/// See the module.
#[derive(Default)]
pub struct Remote(AtomicU64);

/// What a push found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Pushed {
    /// The owner will find it.
    Quietly,
    /// The pusher is to put the slab on its owner's stack of returned slabs.
    Notify,
}

/// What the owner took: objects linked from `first`, in number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Collected {
    /// Offset of the first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Remote {
    /// Empty, quiet. By the slab's maker.
    pub fn reset(&self) {
        self.0.store(u64::from(NONE), Ordering::Relaxed);
    }

    /// The word itself, for slabs of kmem caches, which have their own rules for it.
    pub(super) fn word(&self) -> &AtomicU64 {
        &self.0
    }

    /// Puts objects, linked from `first` to a last one, in front; `link_last` makes the last point
    /// to what was first.
    pub fn push(&self, first: u32, count: u32, link_last: impl Fn(u32)) -> Pushed {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            link_last(now as u32);
            let counted = (now >> COUNT_SHIFT << COUNT_SHIFT) + u64::from(count) * ONE;
            let level = (now & LEVEL) >> LEVEL_SHIFT;
            let due = now & NOTIFY != 0 && counted >> COUNT_SHIFT >> level != 0;
            let flags = if due { IN_FLIGHT } else { now & FLAGS };
            // Release pairs with the Acquire of `collect`: the links and what was in the objects.
            match self.0.compare_exchange_weak(
                now,
                u64::from(first) | flags | counted,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) if due => return Pushed::Notify,
                Ok(_) => return Pushed::Quietly,
                Err(changed) => now = changed,
            }
        }
    }

    /// What a collection would take.
    pub fn peek(&self) -> Collected {
        let now = self.0.load(Ordering::Acquire);
        Collected {
            first: now as u32,
            count: (now >> COUNT_SHIFT) as u32,
        }
    }

    /// Takes all. The owner.
    pub fn collect(&self) -> Option<Collected> {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            if now as u32 == NONE {
                return None;
            }
            // Acquire pairs with the Release of `push`.
            match self.0.compare_exchange_weak(
                now,
                u64::from(NONE) | (now & FLAGS),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    return Some(Collected {
                        first: now as u32,
                        count: (now >> COUNT_SHIFT) as u32,
                    });
                }
                Err(changed) => now = changed,
            }
        }
    }

    /// Asks for a message at the push that makes them 2^`level`, whatever was asked for before.
    /// `false` when objects are there already: collect first. A slab in flight needs none: it is
    /// about to be looked at. The owner.
    #[must_use]
    pub fn ask_notice(&self, level: u32) -> bool {
        debug_assert!(level < 32);
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            if now as u32 != NONE {
                return false;
            }
            if now & IN_FLIGHT != 0 {
                return true;
            }
            match self.0.compare_exchange_weak(
                now,
                now & !FLAGS | NOTIFY | u64::from(level) << LEVEL_SHIFT,
                // Release: who takes the notice sees the slab as its owner left it.
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(changed) => now = changed,
            }
        }
    }

    /// The slab was taken off the stack of returned slabs.
    pub fn arrive(&self) {
        // Acquire pairs with the Release of `push`, whose CAS set the flag.
        self.0.fetch_and(!IN_FLIGHT, Ordering::AcqRel);
    }

    /// Whether the slab is on its way to a stack of returned slabs, or in one.
    pub fn is_in_flight(&self) -> bool {
        self.0.load(Ordering::Acquire) & IN_FLIGHT != 0
    }
}
