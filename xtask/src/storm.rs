//! `cargo xtask storm`: noisy neighbours, `tests/storm`, for minutes.

#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Duration;

use crate::child::{BUILD_LIMIT, cargo, stream_limited};
use crate::{Counted, Failure};

/// How much longer than without limits the slowest percent of neighbours' answers may take.
const WITHIN: &str = "1.2";

/// How long, in seconds; `None` where the command line is wrong.
pub fn options(words: &[&str]) -> Option<u32> {
    match words {
        [] => Some(600),
        ["--seconds", seconds] => seconds.parse().ok().filter(|seconds| *seconds > 0),
        _ => None,
    }
}

/// Runs it; its table goes on as it comes. Fails if a neighbour waits longer than [`WITHIN`] says.
pub fn run(root: &Path, seconds: u32) -> Result<Counted, Failure> {
    let what = [
        "run",
        "--quiet",
        "--release",
        "--package",
        "memcg-storm",
        "--",
    ];
    let mut command = cargo(root, &what);
    command.args(["--seconds", &seconds.to_string(), "--within", WITHIN]);
    let limit = 2 * Duration::from_secs(seconds.into()) + 2 * BUILD_LIMIT;
    stream_limited(&mut command, limit)
}

#[test]
fn the_command_line_says_how_long() {
    assert_eq!(options(&[]), Some(600));
    assert_eq!(options(&["--seconds", "30"]), Some(30));
    for wrong in [&["--seconds"][..], &["--seconds", "0"], &["--minutes", "1"]] {
        assert_eq!(options(wrong), None);
    }
}
