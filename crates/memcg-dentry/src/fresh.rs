//! How long what is cached counts as true.
//!
//! A name's entry is true as long as its directory has not changed, and a directory that changes
//! gets new times. So each directory has an *era*; a look at its times that finds it changed begins
//! a new one, and an entry that was seen in an earlier era is looked at again when it is next asked
//! for. Nothing is walked when a directory changes.
//!
//! Times have grains: a change in the same grain as the look leaves no trace. Hence times as young
//! as [`GRAIN_NS`] count as changed at the next look. (git treats its index likewise.)
//!
//! Invariants: an era never comes back, but after 2³² of them. A look that finds other times than
//! the last, or times too young to tell, begins a new one.
//! Depends on: the kernel: a directory that changes gets new times.
//! Never: looks at an entry or at a directory. Who did tells what was seen.

use crate::lock::lock;
use rustix::fs::Stat;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How often the real directories are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Each lookup asks each directory it passes for its times: one system call a name, and nothing
    /// stale.
    Always,
    /// A directory that was asked within this time is taken as it was then. The grain is that of
    /// the coarse clock, some milliseconds.
    Within(Duration),
    /// Never, except for what [`invalidate`](crate::DentryCache::invalidate) names: for trees that
    /// do not change, or whose changes are known.
    Trusted,
}

/// The kernel's times have at worst a grain of a clock tick, 10 ms.
const GRAIN_NS: i64 = 50_000_000;

fn ns(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// The clock by which files get their times.
pub fn file_clock() -> i64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    ns(now.tv_sec, now.tv_nsec)
}

/// The clock by which directories count as fresh.
pub fn clock() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    ns(now.tv_sec, now.tv_nsec).unsigned_abs()
}

/// A directory's times, as they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    modified: i64,
    changed: i64,
    /// Whether a later change is bound to show.
    is_settled: bool,
}

impl Times {
    /// Of what has none.
    pub const NONE: Times = Times {
        modified: 0,
        changed: 0,
        is_settled: false,
    };

    /// Of a directory that was asked not before `at` by [`file_clock`].
    pub fn new(stat: &Stat, at: i64) -> Times {
        let changed = ns(stat.st_ctime, stat.st_ctime_nsec as i64);
        Times {
            modified: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
            changed,
            is_settled: changed.saturating_add(GRAIN_NS) < at,
        }
    }
}

/// What is known of a directory's entries.
pub struct Listing {
    era: AtomicU32,
    /// By [`clock`].
    checked: AtomicU64,
    times: Mutex<Times>,
}

impl Listing {
    /// Of a directory that was asked at `now`.
    pub fn new(times: Times, now: u64) -> Listing {
        Listing {
            era: AtomicU32::new(1),
            checked: AtomicU64::new(now),
            times: Mutex::new(times),
        }
    }

    /// Which era it is.
    pub fn era(&self) -> u32 {
        // Acquire pairs with the Release of `begin_era`: who sees an era sees nothing older.
        self.era.load(Ordering::Acquire)
    }

    /// What was seen before may be false.
    pub fn begin_era(&self) {
        self.era.fetch_add(1, Ordering::Release);
    }

    /// The directory was asked at `now`, and has these times.
    pub fn update(&self, times: Times, now: u64) {
        let mut known = lock(&self.times);
        let is_unchanged =
            known.is_settled && (known.modified, known.changed) == (times.modified, times.changed);
        *known = times;
        if !is_unchanged {
            self.begin_era();
        }
        // Release pairs with the Acquire of `is_fresh`: who finds it fresh sees the era of that
        // look.
        self.checked.store(now, Ordering::Release);
    }

    /// The next who comes asks the directory.
    pub fn forget(&self) {
        self.begin_era();
        self.checked.store(0, Ordering::Release);
    }

    /// Whether it need not be asked at `now`. Ask this before [`Self::era`].
    pub fn is_fresh(&self, freshness: Freshness, now: u64) -> bool {
        match freshness {
            Freshness::Always => false,
            Freshness::Within(time) => {
                let checked = self.checked.load(Ordering::Acquire);
                u128::from(now.saturating_sub(checked)) <= time.as_nanos()
            }
            Freshness::Trusted => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(modified: i64, changed: i64, is_settled: bool) -> Times {
        Times {
            modified,
            changed,
            is_settled,
        }
    }

    #[test]
    fn times_settle_when_they_are_older_than_the_grain_of_any_clock() {
        let place = tempfile::tempdir().unwrap();
        let stat = rustix::fs::stat(place.path()).unwrap();
        let changed = ns(stat.st_ctime, stat.st_ctime_nsec as i64);
        assert!(!Times::new(&stat, changed + GRAIN_NS).is_settled);
        assert!(Times::new(&stat, changed + GRAIN_NS + 1).is_settled);
    }

    #[test]
    fn an_era_ends_when_times_change_or_were_too_young_to_tell() {
        let listing = Listing::new(times(1, 1, false), 0);
        listing.update(times(1, 1, true), 1);
        assert_eq!(listing.era(), 2);
        listing.update(times(1, 1, true), 2);
        assert_eq!(listing.era(), 2);
        listing.update(times(1, 2, true), 3);
        assert_eq!(listing.era(), 3);
    }

    #[test]
    fn a_directory_is_fresh_for_as_long_as_was_asked() {
        let listing = Listing::new(times(1, 1, true), 1000);
        let within = Freshness::Within(Duration::from_nanos(50));
        assert!(listing.is_fresh(within, 1050) && !listing.is_fresh(within, 1051));
        assert!(!listing.is_fresh(Freshness::Always, 1000));
        assert!(listing.is_fresh(Freshness::Trusted, u64::MAX));
        listing.forget();
        assert!(!listing.is_fresh(within, 1050) && listing.era() == 2);
    }
}
