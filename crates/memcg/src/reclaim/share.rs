//! How many of its things a shrinker is asked for.
//!
//! Invariants: no round asks for more than twice what there is, and no more than that stays owed.
//! Depends on: nothing.
//! Never: asks a shrinker.
//!
//! Source of the idea: Linux, `mm/shrinker.c` (`do_shrink_slab`).

#![forbid(unsafe_code)]

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
    /// What is owed after `scanned` things: never more than twice what there is, or an idle time
    /// would be paid for all at once.
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
    }
}
