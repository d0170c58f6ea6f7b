//! Frees into a slab that the freeing thread does not allocate from: the slab's word.
//!
//! {IN_FLIGHT:1, level:15, count:15, first:32}. Anybody pushes with a CAS. The push that makes the
//! count reach the level sets IN_FLIGHT in the same step, and its thread is to see to the slab; all
//! other pushes end with the CAS, and the slab may be gone after. The level is what decides when
//! somebody looks:
//!
//! * of a slab that a thread allocates from: never;
//! * of a full slab, which is in no list: an eighth of its objects, or one;
//! * of a partial slab: all that are out, so its last free finds it empty.
//!
//! A slab in flight is not given back, whoever holds the lock of its cache: the thread on its way
//! will look at it.

#![forbid(unsafe_code)]

use crate::kmem::remote::NONE;
use crate::sync::atomic::{AtomicU64, Ordering};

const COUNT_SHIFT: u32 = 32;
const LEVEL_SHIFT: u32 = 47;
const FIELD: u64 = 0x7fff;
const IN_FLIGHT: u64 = 1 << 63;

/// No push is told.
pub const NEVER: u32 = FIELD as u32;

/// See the module.
#[derive(Clone, Copy)]
pub struct Word<'a>(pub &'a AtomicU64);

/// What a push found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Pushed {
    /// Nothing more is to do; the slab may be gone.
    Quietly,
    /// The slab is in flight: the pusher is to see to it.
    Notify,
}

/// What a collection took: objects linked from `first`, in number.
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
    /// Empty, quiet. By the slab's maker.
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
            // Acquire with the Release of `arm`: who is told sees where the slab was left.
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
        let now = self.0.load(Ordering::Acquire);
        Collected {
            first: now as u32,
            count: count_of(now) as u32,
        }
    }

    /// Takes all, and is told of nothing from here on.
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

    /// Has the push that makes the count `level` told. `false`: there are objects already, collect
    /// first. A slab in flight is looked at anyway. Nobody else acts for the slab.
    #[must_use]
    pub fn arm(self, level: u32) -> bool {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            if count_of(now) != 0 {
                return false;
            }
            let next = if now & IN_FLIGHT != 0 {
                // Written all the same: `arrive` comes after, and its thread sees where the slab
                // was left.
                now
            } else {
                pack(NONE, 0, u64::from(level))
            };
            match self.0.compare_exchange_weak(
                now,
                next,
                // Release pairs with the Acquire of `push` and `arrive`: who is told sees the slab
                // as it was left.
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(changed) => now = changed,
            }
        }
    }

    /// Who was told sees to it now.
    pub fn arrive(self) {
        // Acquire pairs with the Release of `push`, whose CAS set the flag, and of `arm`.
        self.0.fetch_and(!IN_FLIGHT, Ordering::AcqRel);
    }

    /// Whether somebody is on his way to it.
    pub fn is_in_flight(self) -> bool {
        self.0.load(Ordering::Acquire) & IN_FLIGHT != 0
    }
}
