//! A meter: for how long something has been so, counted to the microsecond without a lock.
//!
//! It is one word, {µs:48 | version:15 | on:1}. While it is off the first part is the time counted;
//! while it is on, that less the moment it was switched on, so that adding the present moment makes
//! the time up to now. What it should be follows from the census, and the version says from which.
//! Whoever changes the census *settles* the meters behind it: reads the meter, then the census, and
//! swaps the meter for one of that census. A swap fails if another settled meanwhile, so a meter
//! never goes back to an older census, and the last to change the census leaves it right.
//!
//! Invariants: the time that is counted lies within the states it is counted for.
//! Depends on: `census`; `os::clock`.
//! Never: a lock; a word about what is counted. `pressure` has two meters and says what each is
//! for.

use super::census::{Census, Count};
use crate::os::clock;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU64, Ordering};

const ON: u64 = 1;
const VERSION_BITS: u32 = 15;
const VERSION: u64 = (1 << VERSION_BITS) - 1;
const TIME_AT: u32 = VERSION_BITS + 1;

/// µs of the monotonic clock.
pub(super) fn now_us() -> u64 {
    clock::monotonic_ns() / 1000
}

/// See the module. 48 bits of µs are nine years.
#[derive(Default)]
pub(super) struct Meter(AtomicU64);

// SAFETY: one atomic integer; zero is a meter that is off and has counted no time.
unsafe impl Zeroed for Meter {}

impl Meter {
    /// Brings it up to the census.
    pub(super) fn advance(&self, census: &Census, wanted: impl Fn(Count) -> bool) {
        // Acquire pairs with the Release half of the exchange below, by whoever settled before.
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            // After the word: Acquire above pairs with the swap's Release, so this census is not
            // older than the word's.
            let count = census.read();
            let version = count.version() & VERSION;
            if (word >> 1) & VERSION == version {
                return;
            }
            let (was, is) = (word & ON != 0, wanted(count));
            // The clock is read behind the census: what is counted lies within the state, and no
            // end before its beginning.
            let time = (word >> TIME_AT).wrapping_add(match (was, is) {
                (false, true) => now_us().wrapping_neg(),
                (true, false) => now_us(),
                _ => 0,
            });
            let next = (time << TIME_AT) | (version << 1) | u64::from(is);
            // AcqRel pairs with that of the other calls, and with the Acquire of `read`.
            match self
                .0
                .compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return,
                Err(seen) => word = seen,
            }
        }
    }

    /// The time up to `now`, and whether it is on.
    pub(super) fn read(&self, now: impl FnOnce() -> u64) -> (u64, bool) {
        // Acquire pairs with the AcqRel of `advance`.
        let word = self.0.load(Ordering::Acquire);
        let on = word & ON != 0;
        let time = (word >> TIME_AT).wrapping_add(if on { now() } else { 0 });
        (time & (u64::MAX >> TIME_AT), on)
    }

    /// Off, without any time, of a census of that version. Nobody else may know it yet.
    pub(super) fn open(&self, count: Count) {
        self.0.store(0, Ordering::Relaxed);
        self.reset(count);
    }

    /// Off, keeping the time, of a census of that version; nobody else may be using it.
    pub(super) fn reset(&self, count: Count) {
        let (time, _) = self.read(now_us);
        let word = (time << TIME_AT) | ((count.version() & VERSION) << 1);
        self.0.store(word, Ordering::Relaxed);
    }
}
