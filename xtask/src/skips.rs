//! What a run of the suite did not test, to be listed at its end whether it failed or not.
//!
//! There are two kinds. *Skipped* is what this machine cannot run: a program or a right is missing;
//! `--strict` makes it a failure. *Left out* is no part of the suite on any machine: tests that are
//! `#[ignore]`d with their reason, commands of the documents that would run the suite again.
//!
//! A Rust test that cannot run here writes `skipped: TEST: WHY` as a line of its own straight to
//! standard output, not by `println!`, which the test harness keeps to itself, and returns. A
//! script ends with 77, or writes `skipped: WHY` of a part.
//!
//! Invariants: entries stand in the order in which they were found.
//! Depends on: nothing. Never: prints.

#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};

/// Why something was not tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// This machine cannot.
    Skipped,
    /// No machine does, within the suite.
    LeftOut,
}

static FOUND: Mutex<Vec<(Kind, String)>> = Mutex::new(Vec::new());

/// Notes one: `what` it is and why.
pub fn note(kind: Kind, what: &str) {
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    found.push((kind, what.trim().to_owned()));
}

/// All of a kind so far.
pub fn all(kind: Kind) -> Vec<String> {
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let of_kind = found.iter().filter(|(k, _)| *k == kind);
    of_kind.map(|(_, what)| what.clone()).collect()
}

/// What a line of a test's output says was not run, if that is what it says:
/// `skipped: TEST: WHY`, or the harness's own `test NAME ... ignored, WHY`.
pub fn said_by(line: &str) -> Option<(Kind, String)> {
    if let Some(what) = line.strip_prefix("skipped: ") {
        return Some((Kind::Skipped, what.to_owned()));
    }
    let (name, why) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    let what = match why.strip_prefix(", ") {
        Some(why) => format!("test {name}: {why}"),
        None => format!("test {name}"),
    };
    Some((Kind::LeftOut, what))
}

#[test]
fn what_a_line_of_a_test_says_was_not_run_is_understood() {
    let of = |line| said_by(line);
    assert_eq!(
        of("skipped: a::b: no large pages"),
        Some((Kind::Skipped, String::from("a::b: no large pages")))
    );
    assert_eq!(
        of("test a::c ... ignored, takes an hour"),
        Some((Kind::LeftOut, String::from("test a::c: takes an hour")))
    );
    assert_eq!(
        of("test src/lib.rs - x (line 3) ... ignored"),
        Some((Kind::LeftOut, String::from("test src/lib.rs - x (line 3)")))
    );
    assert_eq!(of("test a::skipped: ... ok"), None);
}
