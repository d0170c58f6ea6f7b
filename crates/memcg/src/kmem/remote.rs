//! Frees from other threads: a stack of objects for each slab, and the notice that a slab has
//! objects again.
//!
//! The stack is one word: {first object:32, NOTIFY, IN_FLIGHT, level:5, count:24}. Other threads
//! push by CAS; who acts for the slab's owner takes all at once.
//!
//! Nobody looks at a slab that is full, or whose owner has ended. Such a slab has NOTIFY set. The
//! push that finds it set, and makes the count 2^level or more, clears it and sets IN_FLIGHT in the
//! same step; its thread then puts the slab on the owner's stack of returned slabs. For a full slab
//! the level stands for an eighth of its objects, so that the owner does not fetch each one by
//! itself. For a slab that nobody looks at it stands for one object. The level is a part of the
//! word, so that no push goes by an older level. Who takes the slab off the stack of returned slabs
//! clears IN_FLIGHT.
//!
//! Invariants: one push at most puts a slab in flight until it arrives. A slab in flight is never
//! released: its record would become another slab's while it is on a stack.
//! Depends on: nothing of this room. The links of the objects are the caller's to write.
//! Never: a lock; a wait but for a CAS that another thread won.

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
    /// The owner will find the objects by itself.
    Quietly,
    /// The pusher is to put the slab on its owner's stack of returned slabs.
    Notify,
}

/// What a collection took: `count` objects, linked from `first` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Collected {
    /// Offset of the first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Remote {
    /// Makes the word empty and asks for no notice. Called by who makes the slab.
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
        // Acquire pairs with the Release of `push`: the links and what was in the objects.
        let now = self.0.load(Ordering::Acquire);
        Collected {
            first: now as u32,
            count: (now >> COUNT_SHIFT) as u32,
        }
    }

    /// Takes all objects. Called by who acts for the slab's owner.
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

    /// Asks for notice from the push that makes the count 2^`level`, whatever was asked for before.
    /// `false`: there are objects already, which are to be collected first. A slab in flight needs
    /// no notice, since it is about to be looked at. Called by who acts for the slab's owner.
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
                // Release pairs with the Acquire of `arrive`: who is notified sees the slab as its
                // owner left it.
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(changed) => now = changed,
            }
        }
    }

    /// Notes that the slab was taken off the stack of returned slabs.
    pub fn arrive(&self) {
        // Acquire pairs with the Release of `push`, whose CAS set the flag, and of `ask_notice`.
        // Release pairs with the Acquire of `is_in_flight`.
        self.0.fetch_and(!IN_FLIGHT, Ordering::AcqRel);
    }

    /// Whether the slab is on its way to a stack of returned slabs, or in one.
    pub fn is_in_flight(&self) -> bool {
        // Acquire pairs with the Release of `push`, which sets the flag, and of `arrive`, which
        // clears it.
        self.0.load(Ordering::Acquire) & IN_FLIGHT != 0
    }
}
