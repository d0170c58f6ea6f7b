//! `cargo xtask sim`: the simulator, `crates/memcg-sim`, for minutes.

#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Duration;

use crate::child::{BUILD_LIMIT, cargo, stream_limited};
use crate::{Counted, Failure};

/// How long, in seconds, and the first seed; one at random where none is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    seconds: u64,
    seed: Option<u64>,
}

/// The options of a command line; `None` where it is wrong.
pub fn options(words: &[&str]) -> Option<Options> {
    let mut options = Options {
        seconds: 600,
        seed: None,
    };
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        let value = words.next()?;
        match word {
            "--minutes" => {
                let minutes: f64 = value.parse().ok()?;
                if !(0.0..=1e6).contains(&minutes) {
                    return None;
                }
                options.seconds = (minutes * 60.0) as u64;
            }
            "--seed" => options.seed = Some(value.parse().ok()?),
            _ => return None,
        }
    }
    Some(options)
}

/// Runs it; its output goes on as it comes.
pub fn run(root: &Path, options: Options) -> Result<Counted, Failure> {
    let what = [
        "run",
        "--quiet",
        "--release",
        "--package",
        "memcg-sim",
        "--",
    ];
    let mut command = cargo(root, &what);
    command.args(["--seconds", &options.seconds.to_string()]);
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    // A history that fails is made short, which takes its time.
    stream_limited(
        &mut command,
        Duration::from_secs(options.seconds) + 2 * BUILD_LIMIT,
    )
}

#[test]
fn the_command_line_says_how_long_and_from_which_seed_on() {
    let of = |words: &[&str]| options(words).map(|o| (o.seconds, o.seed));
    assert_eq!(of(&[]), Some((600, None)));
    assert_eq!(
        of(&["--minutes", "0.5", "--seed", "7"]),
        Some((30, Some(7)))
    );
    for wrong in [
        &["--minutes"][..],
        &["--seed", "x"],
        &["--hours", "1"],
        &["--minutes", "-1"],
    ] {
        assert_eq!(of(wrong), None);
    }
}
