//! Frees into a slab that the freeing thread does not allocate from: the slab's word.
//!
//! The word is {IN_FLIGHT:1, level:15, count:15, first:32}. Any thread pushes by CAS. The push that
//! makes the count reach the level sets IN_FLIGHT in the same step, and its thread then looks after
//! the slab. All other pushes end with the CAS, and the slab may be given back after that. The
//! level is:
//!
//! * NEVER for a slab that a thread allocates from;
//! * an eighth of its objects, or one, for a full slab, which is in no list;
//! * all that are handed out for a partial slab, so that its last free finds it empty.
//!
//! Invariants: one push at most puts a slab in flight until it arrives. A slab in flight is not
//! given back, whoever holds the lock of its cache, because the pushing thread is about to look at
//! it.
//! Depends on: nothing of this room. The links of the objects are the caller's to write.
//! Never: a lock; a wait but for a CAS that another thread won.

#![forbid(unsafe_code)]

use crate::kmem::remote::NONE;
use crate::sync::atomic::{AtomicU64, Ordering};

const COUNT_SHIFT: u32 = 32;
const LEVEL_SHIFT: u32 = 47;
const FIELD: u64 = 0x7fff;
const IN_FLIGHT: u64 = 1 << 63;

/// The level at which no push is notified.
pub const NEVER: u32 = FIELD as u32;

/// See the module.
#[derive(Clone, Copy)]
pub struct Word<'a>(pub &'a AtomicU64);

/// What a push found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Pushed {
    /// Nothing more is to be done; the slab may have been given back.
    Quietly,
    /// The slab is in flight: the pushing thread looks after it.
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

fn pack(first: u32, count: u64, level: u64) -> u64 {
    u64::from(first) | count << COUNT_SHIFT | level << LEVEL_SHIFT
}

fn count_of(word: u64) -> u64 {
    word >> COUNT_SHIFT & FIELD
}

fn level_of(word: u64) -> u64 {
    word >> LEVEL_SHIFT & FIELD
}

impl Word<'_> {
    /// Makes the word empty and asks for no notice. Called by who makes the slab.
    pub fn reset(self) {
        self.0
            .store(pack(NONE, 0, u64::from(NEVER)), Ordering::Relaxed);
    }

    /// Puts the object at `offset` in front; `link` makes it lead to what was first.
    pub fn push(self, offset: u32, link: impl Fn(u32)) -> Pushed {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            link(now as u32);
            let count = count_of(now) + 1;
            let due = count >= level_of(now) && level_of(now) != u64::from(NEVER);
            let next = if due {
                pack(offset, count, u64::from(NEVER)) | IN_FLIGHT
            } else {
                pack(offset, count, level_of(now)) | now & IN_FLIGHT
            };
            // Release pairs with the Acquire of `collect`: the link, and what was in the object.
            // Acquire pairs with the Release of `arm`: who is notified sees where the slab was
            // left.
            match self
                .0
                .compare_exchange_weak(now, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) if due => return Pushed::Notify,
                Ok(_) => return Pushed::Quietly,
                Err(changed) => now = changed,
            }
        }
    }

    /// What a collection would take.
    pub fn peek(self) -> Collected {
        // Acquire pairs with the Release of `push`: the link, and what was in the object.
        let now = self.0.load(Ordering::Acquire);
        Collected {
            first: now as u32,
            count: count_of(now) as u32,
        }
    }

    /// Takes all objects; no push is notified from here on. Called by who acts for the slab.
    pub fn collect(self) -> Option<Collected> {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            let quiet = pack(NONE, 0, u64::from(NEVER)) | now & IN_FLIGHT;
            if now == quiet {
                return None;
            }
            // Acquire pairs with the Release of `push`.
            match self
                .0
                .compare_exchange_weak(now, quiet, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) if now as u32 == NONE => return None,
                Ok(_) => {
                    return Some(Collected {
                        first: now as u32,
                        count: count_of(now) as u32,
                    });
                }
                Err(changed) => now = changed,
            }
        }
    }

    /// Asks that the push which makes the count `level` is notified. `false`: there are objects
    /// already, which are to be collected first. A slab in flight is looked at anyway. Called by
    /// who acts for the slab.
    #[must_use]
    pub fn arm(self, level: u32) -> bool {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            if count_of(now) != 0 {
                return false;
            }
            let next = if now & IN_FLIGHT != 0 {
                // The word is written even so: `arrive` comes after this, and its thread sees where
                // the slab was left.
                now
            } else {
                pack(NONE, 0, u64::from(level))
            };
            match self.0.compare_exchange_weak(
                now,
                next,
                // Release pairs with the Acquire of `push` and `arrive`: who is notified sees where
                // the slab was left.
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(changed) => now = changed,
            }
        }
    }

    /// Called by the thread that was notified, when it looks after the slab.
    pub fn arrive(self) {
        // Acquire pairs with the Release of `push`, whose CAS set the flag, and of `arm`. Release
        // pairs with the Acquire of `is_in_flight`.
        self.0.fetch_and(!IN_FLIGHT, Ordering::AcqRel);
    }

    /// Whether a thread was notified and has not arrived.
    pub fn is_in_flight(self) -> bool {
        // Acquire pairs with the Release of `push`, which sets the flag, and of `arrive`, which
        // clears it.
        self.0.load(Ordering::Acquire) & IN_FLIGHT != 0
    }
}
