//! `memory.pressure`: how long tasks of a group stood still for want of memory, as the kernel's PSI
//! tells it.
//!
//! *some*: time in which at least one task of the group or below was stalled. *full*: time in which
//! all of them were. Who is running cannot be known, so a task that waits for something else counts
//! as one that could go on.
//!
//! Invariants: the time of each is counted exactly, to the microsecond. A group has a record from
//! the first stall in it or below; the record goes with the group.
//! Depends on: `census` for who is stalled, `meter` for the time.
//! Never: a lock. A stall may begin and end in a charge, and that in a signal handler.

use super::Hierarchy;
use super::census::{Census, Change, Count};
use super::exact_charge::each_level;

use super::memcg_record::Memcg;
use super::meter::{Meter, now_us};
use crate::counter::pressure_average::{Averages, PERIOD_US, Record as Line};
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// One meter with its averages as they were at the end of a period.
#[derive(Default)]
struct Gauge {
    meter: Meter,
    /// Guarded by `Pressure::looking`.
    averages: [AtomicU64; 3],
    counted_us: AtomicU64,
    /// The longest time a reader was told.
    told_us: AtomicU64,
}

/// The stalls of one group and those below.
#[derive(Default)]
pub struct Pressure {
    link: AtomicU32,
    /// 1 while somebody moves the averages on. Only ever tried.
    looking: AtomicU32,
    /// The end of the last period, µs of the monotonic clock. Guarded by `looking`.
    ended_us: AtomicU64,
    some: Gauge,
    full: Gauge,
}

// SAFETY: atomic integers, and meters, which are Zeroed themselves: zero bytes are "no stall yet".
unsafe impl Zeroed for Pressure {}
// SAFETY: Zeroed, see above. `link` is used by the arena's free list alone.
unsafe impl Record for Pressure {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// One line of `memory.pressure`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The share of the last 10, 60 and 300 s, in hundredths of a percent.
    pub averages: [u64; 3],
    /// The time since the first stall, in µs.
    pub total_us: u64,
}

impl Gauge {
    fn line(&self) -> Line {
        Line {
            averages: Averages(core::array::from_fn(|at| {
                self.averages[at].load(Ordering::Relaxed)
            })),
            counted_us: self.counted_us.load(Ordering::Relaxed),
        }
    }

    fn set_line(&self, line: Line) {
        for (to, from) in self.averages.iter().zip(line.averages.0) {
            to.store(from, Ordering::Relaxed);
        }
        self.counted_us.store(line.counted_us, Ordering::Relaxed);
    }

    fn reading(&self) -> Reading {
        // A reader may look at the clock after one who is about to switch the meter off did: what
        // was told stays.
        let total = self.meter.read(now_us).0;
        Reading {
            averages: self.line().averages.hundredths(),
            total_us: self.told_us.fetch_max(total, Ordering::Relaxed).max(total),
        }
    }
}

impl Pressure {
    /// Makes a new or recycled record one without stalls, of the census as it is. Nobody else may
    /// know it yet.
    fn open(&self, census: &Census) {
        self.looking.store(0, Ordering::Relaxed);
        self.ended_us.store(now_us(), Ordering::Relaxed);
        for gauge in [&self.some, &self.full] {
            gauge.meter.open(census.read());
            gauge.set_line(Line::default());
            gauge.told_us.store(0, Ordering::Relaxed);
        }
    }

    /// Moves the averages on if a period is over. Before every change of a meter, so that what has
    /// passed since the end of the last but one period is of one kind; if another thread is at it,
    /// it does that now.
    fn advance_averages(&self) {
        if now_us().wrapping_sub(self.ended_us.load(Ordering::Relaxed)) < PERIOD_US {
            return;
        }
        // Acquire pairs with the Release at the end, of the thread that looked last.
        if self.looking.swap(1, Ordering::Acquire) != 0 {
            return;
        }
        let now = now_us();
        let ended = self.ended_us.load(Ordering::Relaxed);
        let passed = now.saturating_sub(ended);
        if passed >= PERIOD_US {
            let (periods, rest) = (passed / PERIOD_US, passed % PERIOD_US);
            for gauge in [&self.some, &self.full] {
                let (total, on) = gauge.meter.read(|| now);
                gauge.set_line(gauge.line().advance(periods, rest, total, on));
            }
            self.ended_us
                .store(ended + periods * PERIOD_US, Ordering::Relaxed);
        }
        // Release pairs with the Acquire above, and with that of `advance_for_reader`.
        self.looking.store(0, Ordering::Release);
    }

    /// As [`Self::advance_averages`], and waits a bounded while for another thread that does it.
    fn advance_for_reader(&self) {
        self.advance_averages();
        for _ in 0..10_000 {
            // Acquire pairs with the Release of `advance_averages`.
            if self.looking.load(Ordering::Acquire) == 0 {
                break;
            }
            crate::sync::relax();
        }
    }

    fn advance(&self, census: &Census) {
        self.some.meter.advance(census, Count::is_some);
        self.full.meter.advance(census, Count::is_full);
    }
}

impl Hierarchy {
    fn pressure_of(&self, group: &Memcg) -> Option<&Pressure> {
        // Acquire pairs with the Release of `ensure_pressure`.
        let index = group.pressure.load(Ordering::Acquire)?;
        Some(self.pressures.get(index))
    }

    /// Makes the record, if there is none and there is memory for one.
    fn ensure_pressure(&self, group: &Memcg) {
        if group.pressure.load(Ordering::Relaxed).is_some() {
            return;
        }
        let Some(index) = self.pressures.alloc(u32::MAX) else {
            return;
        };
        self.pressures.get(index).open(&group.census);
        // Release pairs with the Acquire of `pressure_of`: it is empty before it is found.
        if group
            .pressure
            .compare_exchange(None, Some(index), Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            self.pressures.free(index);
        }
    }

    /// Counts a change at a group and above, to where `keep_out` says that it is counted already.
    /// The caller is pinned. Cost: one locked instruction a level, some more where there was a
    /// stall before.
    pub(super) fn count(&self, start: &Memcg, change: Change, keep_out: Option<&Memcg>) {
        each_level(start, |level| {
            if keep_out.is_some_and(|other| other.is_within(level)) {
                return;
            }
            if change.is_begin() {
                self.ensure_pressure(level);
            }
            if let Some(pressure) = self.pressure_of(level) {
                pressure.advance_averages();
            }
            level.census.add(change);
            // Asked for again: a stall that was added before us has made it by now.
            if let Some(pressure) = self.pressure_of(level) {
                pressure.advance(&level.census);
            }
        });
    }

    /// The two lines of `memory.pressure`: some and full. The caller is pinned.
    pub fn pressure(&self, group: &Memcg) -> (Reading, Reading) {
        match self.pressure_of(group) {
            None => (Reading::default(), Reading::default()),
            Some(pressure) => {
                pressure.advance_for_reader();
                let (some, mut full) = (pressure.some.reading(), pressure.full.reading());
                // The meters look at the clock one after the other: by a microsecond more would be
                // all than some.
                full.total_us = full.total_us.min(some.total_us);
                for (full, some) in full.averages.iter_mut().zip(some.averages) {
                    *full = some.min(*full);
                }
                (some, full)
            }
        }
    }

    /// Whether some, and whether all, are stalled this moment, by the meters.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn is_stalled(&self, group: &Memcg) -> (bool, bool) {
        self.pressure_of(group).map_or((false, false), |pressure| {
            let on = |gauge: &Gauge| gauge.meter.read(|| 0).1;
            (on(&pressure.some), on(&pressure.full))
        })
    }

    /// Gives the record back with the group's own: nobody can be looking at either any more.
    pub(super) fn free_pressure(&self, group: &Memcg) {
        if let Some(index) = group.pressure.swap(None, Ordering::Relaxed) {
            self.pressures.free(index);
        }
    }

    /// Sets a group to so many live tasks, none of which is stalled. Nobody else may be using the
    /// hierarchy.
    pub(super) fn reset_census(&self, group: &Memcg, tasks: u64) {
        group.census.reset(tasks);
        if let Some(pressure) = self.pressure_of(group) {
            pressure.looking.store(0, Ordering::Relaxed);
            for gauge in [&pressure.some, &pressure.full] {
                gauge.meter.reset(group.census.read());
            }
        }
    }
}
