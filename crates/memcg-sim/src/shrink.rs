//! Making a history that fails short: steps are left out, by halves, by ever smaller pieces, then
//! one by one, as long as what is left still fails.

#![forbid(unsafe_code)]

use crate::step::{History, Step};

/// The shortest history found that `fails`. Tries at most `tries`.
pub(crate) fn shrink(history: &History, tries: usize, fails: impl Fn(&History) -> bool) -> History {
    let mut left = tries;
    let mut steps = history.steps.clone();
    let mut piece = steps.len().div_ceil(2);
    let still_fails = |steps: &[Step], left: &mut usize| {
        *left = left.saturating_sub(1);
        *left > 0 && fails(&history.with(steps.to_vec()))
    };
    while piece > 0 && left > 0 {
        let (mut at, mut shorter) = (0, false);
        while at < steps.len() {
            let end = (at + piece).min(steps.len());
            let without: Vec<Step> = [&steps[..at], &steps[end..]].concat();
            if still_fails(&without, &mut left) {
                (steps, shorter) = (without, true);
            } else {
                at = end;
            }
        }
        // By single steps again while that helps: what was needed for another may go with it.
        piece = if piece == 1 && shorter { 1 } else { piece / 2 };
    }
    history.with(steps)
}

#[test]
fn what_is_not_needed_for_a_failure_is_left_out() {
    let history = History::of_seed(3, 400);
    let needed = [history.steps[17], history.steps[211], history.steps[399]];
    let fails = |h: &History| needed.iter().all(|step| h.steps.contains(step));
    assert_eq!(shrink(&history, 10_000, fails).steps, needed);
}
