//! How many of its things a shrinker is asked for.
//!
//! Source of the idea: Linux, `mm/shrinker.c` (`do_shrink_slab`).

#![forbid(unsafe_code)]

use crate::counter::protection::{Pass, Protection};

/// A pass begins by asking for a 4096th of what there is, and ends with all of it.
pub const PRIORITIES: u32 = 12;

/// What is asked of one shrinker, for one group, in one round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Things to scan now.
    pub now: u64,
    /// Things that are due, what was owed included: what of it is not scanned is owed.
    pub due: u64,
}

/// Of `freeable` things, with `owed` from before; `seeks` says what one costs to make again.
#[must_use]
pub fn share(freeable: u64, owed: u64, priority: u32, seeks: u32) -> Share {
    let new = match seeks {
        0 => freeable / 2,
        seeks => (freeable >> priority).saturating_mul(4) / u64::from(seeks),
    };
    let most = freeable.saturating_mul(2);
    Share {
        now: (owed >> priority).saturating_add(new).min(most),
        due: owed.saturating_add(new),
    }
}

impl Share {
    /// What is owed after `scanned` things: never more than twice what there is, or an idle time would be paid for all at once.
    #[must_use]
    pub fn owed_after(self, scanned: u64, freeable: u64) -> u64 {
        self.due
            .saturating_sub(scanned)
            .min(freeable.saturating_mul(2))
    }

    /// How many to scan in one call; `None`: what is left is not worth a call, and is owed.
    #[must_use]
    pub fn next_batch(self, scanned: u64, freeable: u64, batch: u64) -> Option<u64> {
        let left = self.now.saturating_sub(scanned);
        (left > 0 && (left >= batch || left >= freeable)).then(|| left.min(batch))
    }
}

/// The part of a group's `things` that lies above its protection: in proportion to its bytes, at least one.
///
/// The caller has seen that the group uses more than what protects it in this pass.
#[must_use]
pub fn exposed(things: u64, usage: u64, effective: Protection, pass: Pass) -> u64 {
    let kept = match pass {
        Pass::RespectLow => effective.low.max(effective.min),
        Pass::IgnoreLow => effective.min,
    }
    .min(usage);
    if usage == 0 || kept == 0 {
        return things;
    }
    let part = u128::from(things) * u128::from(usage - kept) / u128::from(usage);
    (part as u64).max(1).min(things)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernel_s_numbers() {
        // Two seeks: twice the 4096th, then all of it and more at the end.
        assert_eq!(share(4096, 0, 12, 2).now, 2);
        assert_eq!(share(4096, 0, 0, 2).now, 8192);
        assert_eq!(share(1000, 0, 12, 0).now, 500);
        // Owed: as hard as the rest.
        assert_eq!(share(4096, 4096, 12, 2), Share { now: 3, due: 4098 });
    }

    #[test]
    fn a_group_just_above_its_protection_bears_little_and_one_far_above_all() {
        let low = Protection { min: 0, low: 50 };
        assert_eq!(exposed(1000, 51, low, Pass::RespectLow), 19);
        assert_eq!(exposed(1000, 50_000, low, Pass::RespectLow), 999);
        assert_eq!(exposed(1000, 51, low, Pass::IgnoreLow), 1000);
        assert_eq!(
            exposed(
                3,
                1 << 40,
                Protection {
                    min: (1 << 40) - 1,
                    low: 0
                },
                Pass::IgnoreLow
            ),
            1
        );
    }

    proptest! {
        #[test]
        fn nobody_is_asked_for_more_than_twice_what_he_has_nor_owes_more(
            freeable in any::<u64>(), owed in any::<u64>(), priority in 0..=PRIORITIES, seeks in 0..100u32,
            batch in 1..5000u64,
        ) {
            let share = share(freeable, owed, priority, seeks);
            prop_assert!(share.now <= freeable.saturating_mul(2));
            let mut scanned = 0;
            for _ in 0..10 {
                match share.next_batch(scanned, freeable, batch) {
                    Some(nr) => {
                        prop_assert!(nr >= 1 && nr <= batch);
                        scanned += nr;
                    }
                    None => break,
                }
            }
            prop_assert!(scanned <= share.now);
            prop_assert!(share.owed_after(scanned, freeable) <= freeable.saturating_mul(2));
        }

        #[test]
        fn what_is_exposed_is_never_nothing_nor_more_than_there_is(
            things in 1..u64::MAX, usage in 1..u64::MAX, min in any::<u64>(), low in any::<u64>(),
        ) {
            let effective = Protection { min, low };
            let first = exposed(things, usage, effective, Pass::RespectLow);
            let second = exposed(things, usage, effective, Pass::IgnoreLow);
            prop_assert!(1 <= first && first <= second && second <= things);
        }
    }
}
