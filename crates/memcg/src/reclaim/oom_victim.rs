//! Which task goes when nothing else helps.
//!
//! Invariants: a task that holds nothing, or has −1000, is no victim.
//! Depends on: nothing.
//! Never: looks at a task; compares numbers only. `engine::oom_choice` goes through the tasks.
//!
//! Source of the idea: Linux, `mm/oom_kill.c` (`oom_badness`): the one that holds most, shifted by
//! what was said about it.

#![forbid(unsafe_code)]

/// A task with this says that it is never to be chosen.
pub const ADJ_MIN: i16 = -1000;
/// A task with this is chosen before all others.
pub const ADJ_MAX: i16 = 1000;

/// How good a victim a task is that holds `held` bytes of a group with room for `total`; `None`:
/// none. `adj` thousandths of the whole are added to what it holds.
#[must_use]
pub fn badness(held: u64, total: u64, adj: i16) -> Option<i64> {
    if adj <= ADJ_MIN || held == 0 {
        return None;
    }
    let shift = i128::from(total) * i128::from(adj.min(ADJ_MAX)) / 1000;
    let points = (i128::from(held) + shift).clamp(i64::MIN.into(), i64::MAX.into());
    i64::try_from(points).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn size_counts_and_what_was_said() {
        assert!(badness(200, 1000, 0) > badness(100, 1000, 0));
        assert!(badness(100, 1000, 500) > badness(200, 1000, 0));
        assert!(badness(900, 1000, -999) < badness(1, 1000, 0));
        assert_eq!(badness(900, 1000, ADJ_MIN), None);
        assert_eq!(badness(0, 1000, ADJ_MAX), None, "it would free nothing");
    }

    proptest! {
        #[test]
        fn more_is_never_better(held in 1..u64::MAX, more in any::<u64>(), total in any::<u64>(), adj in -999..=1000i16) {
            prop_assert!(badness(held.saturating_add(more), total, adj) >= badness(held, total, adj));
        }
    }
}
