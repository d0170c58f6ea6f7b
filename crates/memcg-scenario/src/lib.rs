//! Scenarios: tests of memory control groups as text, run on the real engine of this process.
//!
//! Invariants: a scenario is read whole before its first step; it stops at the first step that does
//! not do what it says; what the runner needs for itself is accounted to nobody, so figures are
//! exact.
//! Depends on: the engine (`memcg`), the cache of directory entries (`memcg-dentry`), and
//! `memcg-term` for sizes as text.
//! Never: two scenarios in one process: the engine, its options and its groups are the process's.
//!
//! The rooms and files, each using those above it:
//!
//! - `text`: words, counters, names, numbers, references to figures
//! - `world`: what a scenario has made
//! - `actor`: who runs commands
//! - `expect`: figures and expectations
//! - `snapshot`: what can be seen of the tree at one moment
//! - `verbs`: what each command reads and does; `verbs::table` is the only table of them
//! - `parser`: a file as blocks and steps
//! - `reference`: the tables as documentation
//! - `report`, `audit`, `runner`: what is said, the end, step after step

#![deny(unsafe_code)]

mod actor;
mod audit;
mod expect;
mod parser;
mod reference;
mod report;
mod runner;
mod snapshot;
mod text;
mod verbs;
mod world;

#[cfg(test)]
mod tests;

pub use reference::reference;
pub use report::Style;

use report::Report;
use std::io::{self, Write};
use world::fault::Fault;

/// How a scenario ended. The text says file, line and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every step did what it says.
    Passed,
    /// A step did not, or the books did not add up at the end.
    Failed(String),
    /// It needs what this build does not have.
    Lacking(String),
    /// The text is no scenario; nothing was run.
    NotAScenario(String),
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// How the scenario ended.
    pub verdict: Verdict,
    /// Why the report could not be written to its end, if so.
    pub unwritten: Option<io::Error>,
}

/// Runs a scenario on this process's engine.
///
/// `name` is what messages call it, `text` what stands in it; the report goes to `output`, and on a
/// terminal a line on stderr tells how far a long run is. The process shall have run nothing on the
/// engine before: a second scenario finds the groups and options of the first.
#[must_use]
pub fn run(name: &str, text: &[u8], style: Style, output: impl Write + Send + 'static) -> Outcome {
    let report = Report::new(name.to_owned(), style, Box::new(output));
    let verdict = verdict(name, text, &report);
    let (status, why) = match &verdict {
        Verdict::Passed => ("passed", None),
        Verdict::Failed(why) => ("failed", Some(why)),
        Verdict::Lacking(why) => ("lacking", Some(why)),
        Verdict::NotAScenario(why) => ("wrong", Some(why)),
    };
    report.ends(status, why.cloned());
    Outcome {
        verdict,
        unwritten: report.into_failure(),
    }
}

fn verdict(name: &str, text: &[u8], report: &Report) -> Verdict {
    let nodes = match parser::parse(text) {
        Ok(nodes) => nodes,
        Err(wrong) => {
            let place = format!("{name}:{}:{}", wrong.line, wrong.column);
            return Verdict::NotAScenario(format!("{place}: {}", wrong.message));
        }
    };
    let Err(failed) = report.watch(|| runner::run(&nodes, report)) else {
        return Verdict::Passed;
    };
    let line = match failed.line {
        0 => String::new(),
        line => format!("{line}: "),
    };
    let why = format!("{name}:{line}{}: {}", failed.text, failed.fault);
    match failed.fault {
        Fault::Lacks { .. } => Verdict::Lacking(why),
        Fault::Refused { .. } | Fault::Wrong(_) => Verdict::Failed(why),
    }
}
