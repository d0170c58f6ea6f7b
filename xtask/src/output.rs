//! The output of tests: passed on as it comes, and counted on the way.
//!
//! Understood are the lines of Rust's test harness and those of [`crate::skips`].
//!
//! Depends on: skips. Never: runs anything.

#![forbid(unsafe_code)]

use std::io::{Read, Write};

use crate::Counted;
use crate::skips::{self, Kind};

/// Copies all that `from` brings `to` another place, counting on the way.
pub fn pass_on(mut from: impl Read, mut to: impl Write) -> Counted {
    let mut counted = Counted::default();
    let mut early = 0;
    let mut line = Vec::new();
    let mut chunk = [0u8; 8192];
    // A broken stdout of ours is no reason to stop counting.
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        let _ = to.write_all(&chunk[..n]).and_then(|()| to.flush());
        for &byte in &chunk[..n] {
            if byte == b'\n' {
                early += u64::from(count(&String::from_utf8_lossy(&line), &mut counted));
                line.clear();
            } else {
                line.push(byte);
            }
        }
    }
    early += u64::from(count(&String::from_utf8_lossy(&line), &mut counted));
    counted.passed = counted.passed.saturating_sub(early);
    counted.ignored += early;
    counted
}

/// Adds a line `test result: ok. 3 passed; 0 failed; 1 ignored; …` to the count, and what a line
/// says was not run; other lines count nothing. True for a test that returned early.
fn count(line: &str, counted: &mut Counted) -> bool {
    if let Some((kind, what)) = skips::said_by(line) {
        skips::note(kind, &what);
        // The harness counts what it left out itself, and a test that returned early as passed.
        return kind == Kind::Skipped;
    }
    let Some(result) = line.strip_prefix("test result:") else {
        return false;
    };
    for part in result.split([';', '.']) {
        match part.split_whitespace().collect::<Vec<_>>()[..] {
            [n, "passed"] => counted.passed += n.parse::<u64>().unwrap_or(0),
            [n, "ignored"] => counted.ignored += n.parse::<u64>().unwrap_or(0),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_result_lines_are_summed_up() {
        let mut counted = Counted::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 7 filtered out; finished in 0.05s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            "  test result: ok. 100 passed;",
            "test a ... ok",
        ] {
            count(line, &mut counted);
        }
        assert_eq!((counted.passed, counted.ignored), (13, 3));
    }

    #[test]
    fn tests_that_return_early_count_as_skipped() {
        let said = b"\nskipped: child: not here\ntest result: ok. 3 passed; 0 failed; 1 ignored;\n";
        let mut shown = Vec::new();
        let counted = pass_on(&said[..], &mut shown);
        assert_eq!((counted.passed, counted.ignored), (2, 2));
        assert_eq!(shown, said);
        let all = skips::all(Kind::Skipped);
        assert!(all.contains(&String::from("child: not here")), "{all:?}");
    }
}
