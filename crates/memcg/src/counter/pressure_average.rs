//! The averages that `memory.pressure` shows: which share of the last 10, 60 and 300 s somebody was
//! stalled.
//!
//! Time is cut into periods of two seconds. At the end of each the share of it that was stalled
//! enters three exponential averages. Nobody has to be awake at the end of a period:
//! [`Record::advance`] is told how many periods have passed and how much stalled time came with
//! them, and makes up for all at once. That is exact as long as it is called before every change
//! from stalled to not stalled and back, once a period is over: then the first of the periods
//! passed may be of both, and all others are of one, which a power of the decay covers.
//!
//! Invariants: an average is a share, from none to the whole. It is the same however late it is
//! asked for, if every change was told.
//! Depends on: nothing; the caller has the clock.
//! Never: reads a clock; knows what a stall is or who counts it. That is decided above.
//!
//! Source of the idea: Linux, "psi: pressure stall information for CPU, memory, and IO" (4.20): the
//! period, the three windows, the text. Its averages are moved by a worker while there is something
//! to move; there is none here.

#![forbid(unsafe_code)]

/// A period, in µs.
pub const PERIOD_US: u64 = 2_000_000;

/// The whole of a period, as a share.
const ONE: u64 = 1 << 32;

/// What a period leaves of an average over 10, 60 and 300 s: e^(−2/10), e^(−2/60), e^(−2/300) of
/// [`ONE`].
const DECAY: [u64; 3] = [3_516_421_809, 4_154_161_520, 4_266_429_413];

/// The three averages: shares in units of 2⁻³².
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Averages(pub [u64; 3]);

impl Averages {
    /// After `periods` more, of each of which `share` was stalled.
    fn after(self, periods: u64, share: u64) -> Self {
        let mut all = self.0;
        for (average, decay) in all.iter_mut().zip(DECAY) {
            let left = power(decay, periods);
            *average = (times(*average, left) + times(share, ONE - left)).min(ONE);
        }
        Self(all)
    }

    /// In hundredths of a percent, rounded down.
    #[must_use]
    pub fn hundredths(self) -> [u64; 3] {
        self.0.map(|share| (share.min(ONE) * 10_000) >> 32)
    }
}

/// Two shares multiplied, rounded.
fn times(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b) + u128::from(ONE / 2)) >> 32) as u64
}

fn power(base: u64, exponent: u64) -> u64 {
    let (mut square, mut rest, mut product) = (base, exponent, ONE);
    while rest > 0 {
        if rest & 1 == 1 {
            product = times(product, square);
        }
        square = times(square, square);
        rest >>= 1;
    }
    product
}

/// One line of the file, up to the end of a period.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Record {
    /// The averages then.
    pub averages: Averages,
    /// The stalled time then, since the beginning, in µs.
    pub counted_us: u64,
}

impl Record {
    /// `periods` whole periods have ended since, and `rest_us` of one that has not. `total_us` is
    /// the stalled time by now and `is_on` whether somebody is stalled now. Cost: O(log `periods`).
    #[must_use]
    pub fn advance(self, periods: u64, rest_us: u64, total_us: u64, is_on: bool) -> Self {
        let grown = total_us.saturating_sub(self.counted_us);
        let room = periods.saturating_mul(PERIOD_US);
        // A stall that goes on fills time from now backwards; one that is over was in the first
        // period, or what of it was noticed late in those behind it.
        let present = if is_on {
            grown.min(rest_us)
        } else {
            grown.saturating_sub(room).min(rest_us)
        };
        let past = (grown - present).min(room);
        let (full, part) = (past / PERIOD_US, past % PERIOD_US);
        let part_periods = u64::from(part > 0);
        let empty = periods - full - part_periods;
        let part_share = part * ONE / PERIOD_US;
        let start = self.averages;
        let averages = if is_on {
            start
                .after(empty, 0)
                .after(part_periods, part_share)
                .after(full, ONE)
        } else {
            start
                .after(full, ONE)
                .after(part_periods, part_share)
                .after(empty, 0)
        };
        Self {
            averages,
            counted_us: total_us - present,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by a timer that ticks every period and floating point.
    #[derive(Default)]
    struct Reference {
        averages: [f64; 3],
        in_period: u64,
        spent: u64,
    }

    impl Reference {
        fn pass(&mut self, mut us: u64, on: bool) {
            while us > 0 {
                let step = us.min(PERIOD_US - self.spent);
                us -= step;
                self.spent += step;
                self.in_period += if on { step } else { 0 };
                if self.spent == PERIOD_US {
                    let share = self.in_period as f64 / PERIOD_US as f64;
                    for (average, window) in self.averages.iter_mut().zip([10.0, 60.0, 300.0]) {
                        let left = f64::exp(-2.0 / window);
                        *average = *average * left + share * (1.0 - left);
                    }
                    (self.spent, self.in_period) = (0, 0);
                }
            }
        }
    }

    /// What a group does: a record, advanced whenever a period is over.
    #[derive(Default)]
    struct Lazy {
        record: Record,
        now: u64,
        ended: u64,
        total: u64,
    }

    impl Lazy {
        fn advance(&mut self, on: bool) {
            let passed = self.now - self.ended;
            if passed >= PERIOD_US {
                let periods = passed / PERIOD_US;
                self.ended += periods * PERIOD_US;
                self.record = self
                    .record
                    .advance(periods, passed % PERIOD_US, self.total, on);
            }
        }
    }

    fn assert_close(lazy: &Lazy, reference: &Reference) {
        for (ours, theirs) in lazy.record.averages.0.iter().zip(reference.averages) {
            let ours = *ours as f64 / ONE as f64;
            assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
        }
    }

    #[test]
    fn a_stall_without_end_comes_to_a_hundred_percent_and_its_end_back_to_none() {
        let always = Record::default().advance(10_000, 0, 10_000 * PERIOD_US, true);
        assert_eq!(always.averages.hundredths(), [10_000; 3]);
        let never = always.advance(u64::MAX / PERIOD_US, 0, always.counted_us, false);
        assert_eq!(never.averages, Averages::default());
        let once = Record::default().advance(1, 0, PERIOD_US, true);
        assert_eq!(once.averages.hundredths(), [1812, 327, 66]);
    }

    #[test]
    fn more_stalled_time_than_there_was_time_is_survived() {
        for on in [false, true] {
            let record = Record::default().advance(2, 5, 1 << 47, on);
            assert!(record.averages.0.iter().all(|&share| share <= ONE));
            let later = record.advance(1, 0, 0, on);
            assert!(later.averages.0 < record.averages.0);
        }
    }

    proptest! {
        #[test]
        fn averages_are_those_of_a_timer_however_late_they_are_asked_for(
            spans in prop::collection::vec((prop_oneof![0..3_000_000u64, 0..100_000_000u64], 0..4u8), 1..40),
        ) {
            let (mut lazy, mut reference, mut on) = (Lazy::default(), Reference::default(), false);
            for (us, what) in spans {
                lazy.now += us;
                lazy.total += if on { us } else { 0 };
                reference.pass(us, on);
                // A change of state or a reader comes along; both look first.
                lazy.advance(on);
                assert_close(&lazy, &reference);
                on ^= what != 0;
            }
        }

        #[test]
        fn whatever_comes_in_is_a_share_that_comes_out(
            periods in 1..1u64 << 40, rest in 0..PERIOD_US, total in 0..1u64 << 48, counted in 0..1u64 << 48, on: bool,
        ) {
            let before = Record { averages: Averages([0, ONE / 3, ONE]), counted_us: counted };
            let after = before.advance(periods, rest, total, on);
            prop_assert!(after.averages.0.iter().all(|&share| share <= ONE));
            prop_assert!(after.counted_us <= total);
        }
    }
}
