//! When pages of files that are dirty are written without being asked for.
//!
//! Invariants: while a page is dirty there is a time at which somebody looks, unless somebody is
//! looking.
//! Depends on: nothing.
//! Never: I/O; a clock of its own.

use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How long a page stays dirty, if nobody says otherwise.
const DEFAULT_MS: u32 = 30_000;

/// See the module. Zero bytes: nobody has to look.
#[derive(Default)]
pub struct Expiry {
    /// When to look, by the monotonic clock; 0: never.
    next_ns: AtomicU64,
    /// The age in ms, and one; 0: the default.
    age_ms: AtomicU32,
}

// SAFETY: integers.
unsafe impl Zeroed for Expiry {}

impl Expiry {
    /// How long a page may stay dirty, in ns.
    pub fn age_ns(&self) -> u64 {
        let ms = match self.age_ms.load(Ordering::Relaxed) {
            0 => DEFAULT_MS,
            set => set - 1,
        };
        u64::from(ms) * 1_000_000
    }

    /// Sets how long, in ms. What is dirty is looked at once more, `now`.
    pub fn set_age_ms(&self, ms: u32, now: u64) {
        self.age_ms.store(ms.saturating_add(1), Ordering::Relaxed);
        self.look_at(now);
    }

    /// Has somebody look at `ns`, or sooner; answers whether that is sooner than before.
    pub fn look_at(&self, ns: u64) -> bool {
        let ns = ns.max(1);
        let sooner = |now: u64| (now == 0 || ns < now).then_some(ns);
        // Relaxed: a time by which nothing else is read.
        self.next_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, sooner)
            .is_ok()
    }

    /// When to look; 0: never.
    pub fn next_ns(&self) -> u64 {
        self.next_ns.load(Ordering::Relaxed)
    }

    /// Whether it is time; then the caller looks, and says by [`Self::look_at`] when again.
    pub fn begin_look(&self, now: u64) -> bool {
        let due = |at: u64| (at != 0 && at <= now).then_some(0);
        self.next_ns
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, due)
            .is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_looks_when_it_is_time_and_the_soonest_time_counts() {
        let expiry = Expiry::default();
        assert!(!expiry.begin_look(u64::MAX), "nothing is dirty");
        assert!(expiry.look_at(70) && !expiry.look_at(90) && expiry.look_at(50));
        assert!(!expiry.begin_look(49));
        assert!(expiry.begin_look(50) && !expiry.begin_look(50));
        assert_eq!((expiry.next_ns(), expiry.age_ns()), (0, 30_000_000_000));
        expiry.set_age_ms(0, 7);
        assert_eq!((expiry.next_ns(), expiry.age_ns()), (7, 0));
    }
}
