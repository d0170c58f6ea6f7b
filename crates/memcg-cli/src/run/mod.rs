//! `memcg run`: scenarios on the real engine, one process each.
//!
//! Invariants: one file runs in this process, several run in a process each.
//! Depends on: `memcg_scenario` for the language and the run; `failure` and `output` for what is
//! said.
//! Never: a line of the scenario language is understood here.

#![forbid(unsafe_code)]

mod batch;

use crate::failure::{Failure, LACKING, REFUSED};
use memcg_scenario::{Style, Verdict};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `memcg run` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg run scenarios/tutorial.scn
  memcg run --verbose scenarios/tutorial.scn
  memcg run scenarios         every *.scn in the folder, one process each

After the last step the engine's books are audited, with what the scenario has left behind, \
and again when all is freed. Books that do not add up fail the run with a line that names the sum.

Exit codes:
  0   every expectation held
  1   a step did not do what it says, the books do not add up, or the file
      cannot be understood: the line names file, line and reason
  2   no such file
  77  it needs what this build does not have

The language is in docs/scenarios.md.")]
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
    let outcome = memcg_scenario::run(&name, &text, style, io::stdout());
    match outcome.verdict {
        Verdict::Passed => match outcome.unwritten {
            None => Ok(ExitCode::SUCCESS),
            // A reader that went away ends the command quietly.
            Some(why) if why.kind() == ErrorKind::BrokenPipe => Err(Failure::silent(0)),
            Some(why) => Err(Failure::new(
                REFUSED,
                format_args!("cannot write: stdout: {why}"),
            )),
        },
        Verdict::Lacking(why) => Err(Failure::new(LACKING, why)),
        Verdict::Failed(why) | Verdict::NotAScenario(why) => Err(Failure::new(REFUSED, why)),
    }
}
