//! The simulator's short form, and the auditor against mistakes that are planted.

#![forbid(unsafe_code)]

use super::outcome::{failure, run_history, run_kept};
use super::shrink::shrink;
use super::stage::Planted;
use super::step::History;

#[test]
fn histories_that_failed_once_do_not_fail_again() {
    assert!(run_kept() > 0);
}

#[test]
fn whatever_happens_the_books_are_what_the_auditor_s_are() {
    // Seeds nobody has tried are the affair of `cargo xtask sim`: a suite that is right today is
    // right tomorrow.
    for seed in 0..17 {
        run_history(seed, 200);
    }
}

#[test]
fn the_same_seed_fails_in_the_same_way_each_time() {
    let mut nr = 0;
    for seed in 0..8 {
        let why = || failure(&History::of_seed(seed, 200), Planted::ShortUncharge);
        let first = why();
        nr += u32::from(first.is_some());
        assert_eq!(first, why());
    }
    assert!(nr > 0, "none fails");
}

/// The auditor finds `planted`, and not more than `most` steps are needed to show it.
fn is_found(planted: Planted, most: usize) {
    let found = (0..40).find_map(|seed| {
        let history = History::of_seed(seed, 400);
        failure(&history, planted).map(|_| history)
    });
    let history = found.expect("no seed finds what was planted");
    let short = shrink(&history, 1500, |h| failure(h, planted).is_some());
    println!(
        "{planted:?}: {}\n{short}",
        failure(&short, planted).unwrap_or_default()
    );
    assert!(short.steps.len() <= most, "{} steps", short.steps.len());
    assert_eq!(failure(&short, Planted::Nothing), None);
}

#[test]
fn a_charge_given_back_short_is_found() {
    is_found(Planted::ShortUncharge, 60);
}

#[test]
fn what_a_group_s_end_leaves_in_its_list_is_found() {
    is_found(Planted::ListLeftBehind, 12);
}

#[test]
fn what_reclaim_loses_is_found() {
    is_found(Planted::LostByReclaim, 30);
}

#[test]
fn what_is_given_to_nobody_is_found() {
    is_found(Planted::GivenToNobody, 20);
}

#[test]
fn a_victim_that_is_not_the_right_one_is_found() {
    is_found(Planted::ScoreUnheard, 30);
}

#[test]
fn what_is_adopted_unsaid_is_found() {
    is_found(Planted::AdoptedUnsaid, 20);
}

#[test]
fn a_default_that_is_not_heard_is_found() {
    is_found(Planted::DefaultUnheard, 12);
}

#[test]
fn a_kill_that_no_generation_tells_of_is_found() {
    is_found(Planted::GenerationKept, 12);
}

#[test]
fn who_is_served_twice_in_line_is_found() {
    is_found(Planted::ServedTwice, 60);
}
