//! Runs each of many files as a process: all of them, so that one failure does not hide the next.
//!
//! Exit status 0 is success; 77 is "cannot be tested here", the last line written says why;
//! everything else is a failure, as is taking too long. A line `skipped: …` of one that succeeds is
//! a part it left out.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::child::{Ended, how_it_ended, run_limited, tail};
use crate::skips::{self, Kind};
use crate::{Counted, Failure};

/// The exit status that says "skipped", automake's.
const SKIPPED: i32 = 77;

/// What is run, and what has come of it.
pub struct Each {
    what: &'static str,
    limit: Duration,
    counted: Counted,
    failed: Vec<String>,
}

impl Each {
    /// Things called `what` (plural: with an s), each of which may take as long as `limit`.
    pub fn new(what: &'static str, limit: Duration) -> Self {
        Self {
            what,
            limit,
            counted: Counted::default(),
            failed: Vec::new(),
        }
    }

    /// Runs one, its output into files of `dir`.
    pub fn run(&mut self, name: &str, command: &mut Command, dir: &Path) -> Result<(), Failure> {
        let what = self.what;
        let (out, err) = (dir.join("stdout"), dir.join("stderr"));
        let start = Instant::now();
        let ended = run_limited(command, self.limit, &out, Some(&err))?;
        let took = start.elapsed().as_secs_f64();
        let why = match ended {
            Ended::With(status) if status.success() => {
                println!("{what} {name} ... ok ({took:.1}s)");
                self.counted.passed += 1;
                let said = std::fs::read_to_string(&out).unwrap_or_default();
                for line in said.lines().filter(|line| line.starts_with("skipped: ")) {
                    println!("{what} {name} ... {line}");
                    self.skipped(name, &line["skipped: ".len()..]);
                }
                return Ok(());
            }
            Ended::With(status) if status.code() == Some(SKIPPED) => {
                let last = [tail(&out, 1), tail(&err, 1)];
                let why = last.into_iter().find(|line| !line.is_empty());
                let why = why.unwrap_or_default();
                println!("{what} {name} ... skipped: {}", why.trim());
                self.skipped(name, &why);
                return Ok(());
            }
            Ended::With(status) => how_it_ended(status),
            Ended::TimedOut => format!("not done after {} s", self.limit.as_secs()),
        };
        println!(
            "{what} {name} ... FAILED: {why}\n{}{}",
            tail(&out, 40),
            tail(&err, 40)
        );
        self.failed.push(name.into());
        Ok(())
    }

    fn skipped(&mut self, name: &str, why: &str) {
        self.counted.ignored += 1;
        let what = format!("{} {name}: {}", self.what, why.trim());
        skips::note(Kind::Skipped, &what);
    }

    /// How it went.
    ///
    /// # Errors
    /// When one failed, or none was found.
    pub fn end(self) -> Result<Counted, Failure> {
        let Self { what, failed, .. } = self;
        if !failed.is_empty() {
            return Err(format!("{what}s failed: {}", failed.join(", ")));
        }
        if self.counted.passed + self.counted.ignored == 0 {
            return Err(format!("no {what} found"));
        }
        Ok(self.counted)
    }
}
