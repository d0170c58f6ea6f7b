//! `memcg run`: scenarios on the real engine, one process each.
//!
//! Kept: a scenario is read whole before its first step; it stops at the first step that does not do what it says; what
//! the runner needs for itself is accounted to nobody, so figures are exact. The files, each using those above it:
//!
//! - `words`, `amount`, `reference`, `expect`, `command`: what a line is made of
//! - `line`, `figures`, `grammar`, `parser`: a line, and a file, from text
//! - `world`: what a scenario has made
//! - `subsystems`, `act`, `moves`, `objects`, `caches`, `kept`, `dentries`, `holders`, `options`, `look`, `unchanged`: what commands do, expectations find, failures
//!   may not
//! - `runner`, `report`: step after step, and what is said about it
//! - `batch`: several files

mod act;
mod amount;
mod batch;
mod caches;
mod command;
mod dentries;
mod expect;
mod figures;
mod grammar;
mod holders;
mod kept;
mod line;
mod look;
mod moves;
mod objects;
mod options;
mod parser;
mod reference;
mod report;
mod runner;
mod subsystems;
mod unchanged;
mod words;
mod world;

#[cfg(test)]
mod tests;

use crate::failure::{Failure, REFUSED};
use report::{Report, Style};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use world::Fault;

/// A scenario needs what this build does not have.
pub const LACKING: u8 = 77;

/// What `memcg run` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg run scenarios/tutorial.scn
  memcg run --verbose scenarios/tutorial.scn
  memcg run scenarios                       every *.scn in the folder, one process each

Exit codes: 0 every expectation held; 1 a step did not do what it says, or the file cannot be
understood: the line names file, line and reason; 2 no such file; 77 it needs what this build
does not have. The language is in docs/scenarios.md.")]
pub struct Options {
    /// Scenarios, or folders of them
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Say every step, with what it found
    #[arg(short, long, conflicts_with = "json")]
    verbose: bool,
    /// Say every step as one line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs them.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    match batch::files(&options.files)?.as_slice() {
        [file] => one(file, options.style()),
        files => batch::run(files, options.style()),
    }
}

impl Options {
    fn style(&self) -> Style {
        match (self.json, self.verbose) {
            (true, _) => Style::Json,
            (_, true) => Style::Verbose,
            _ => Style::Plain,
        }
    }
}

fn one(path: &Path, style: Style) -> Result<ExitCode, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read(path)
        .map_err(|why| Failure::usage(format_args!("cannot read: {name}: {why}")))?;
    let report = Report::new(name.clone(), style);
    let nodes = match parser::parse(&text) {
        Ok(nodes) => nodes,
        Err(wrong) => {
            let why = format!("{name}:{}:{}: {}", wrong.line, wrong.column, wrong.message);
            report.ends("wrong", Some(why.clone()));
            return Err(Failure::new(REFUSED, why));
        }
    };
    let failed = match report.watch(|| runner::run(&nodes, &report)) {
        Ok(()) => {
            report.ends("passed", None);
            return report.into_failure().map_or(Ok(ExitCode::SUCCESS), Err);
        }
        Err(failed) => failed,
    };
    let (code, status) = match failed.fault {
        Fault::Lacks { .. } => (LACKING, "lacking"),
        _ => (REFUSED, "failed"),
    };
    let line = match failed.line {
        0 => String::new(),
        line => format!("{line}: "),
    };
    let why = format!("{name}:{line}{}: {}", failed.text, failed.fault);
    report.ends(status, Some(why.clone()));
    Err(Failure::new(code, why))
}
