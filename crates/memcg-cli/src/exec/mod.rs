//! `memcg exec`: a program under the engine.
//!
//! The steps, each in its file: the options are checked while they are read ([`rules`],
//! [`rules_file`]); the program is found ([`path_search`]) and looked at, since the loader ignores
//! a preload library silently where it cannot use it ([`inspect`], [`elf`], [`env_script`]); the
//! library gets a file ([`library`]); the environment says what the engine is to do
//! ([`environment`]); the program runs as a child ([`child`]), watched over its socket if asked for
//! ([`watch`]); at the end the report is read ([`report`]) and shown ([`summary`]).

#![forbid(unsafe_code)]

mod child;
mod elf;
mod env_script;
mod environment;
mod inspect;
mod library;
mod options;
mod path_search;
mod report;
mod rules;
mod rules_file;
mod start_error;
mod summary;
mod watch;

pub use options::Options;

use crate::failure::Failure;
use crate::output::note;
use crate::sys;
use child::End;
use inspect::Verdict;
use report::Report;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use watch::{Picture, Watch};

/// Runs the program and ends as it ended.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    let (program, arguments) = options
        .command
        .split_first()
        .ok_or_else(|| Failure::usage("no PROGRAM was given"))?;
    let path = path_search::find(program, std::env::var_os("PATH").as_deref())
        .map_err(|failure| interval_meant(options, program).unwrap_or(failure))?;
    if std::env::var_os("MEMCG").is_some_and(|value| value == "off") {
        return Err(become_program(program, &path, arguments));
    }
    match inspect::check(program, &path)? {
        Verdict::Under => {}
        Verdict::Partly(line) => note(&line),
        Verdict::Aside(line) => {
            note(&line);
            Report::remove_older(options)?;
            return Err(become_program(program, &path, arguments));
        }
    }

    let library = library::resolve()?;
    let report = Report::prepare(options)?;
    let mut command = Command::new(&path);
    command.arg0(program).args(arguments);
    environment::set(&mut command, options, &library, report.as_ref())?;

    let end = run_and_show(command, program, options, report)?;
    if let End::Signal(signal) = end {
        // A shell is told the truth: this process ends by the same signal.
        sys::signals::die_by(signal);
    }
    Ok(ExitCode::from(end.code()))
}

/// `--top 5 program`: the interval is not a word of its own.
fn interval_meant(options: &Options, program: &OsStr) -> Option<Failure> {
    let seconds = program
        .to_str()
        .filter(|text| text.parse::<f64>().is_ok())?;
    matches!(options.top, Some(None)).then(|| {
        Failure::usage(format_args!(
            "{seconds} is the PROGRAM here: for an interval write --top={seconds}"
        ))
    })
}

/// Everything between start and end; the private folder it may have made is gone when it returns.
fn run_and_show(
    command: Command,
    program: &OsStr,
    options: &Options,
    report: Option<Report>,
) -> Result<End, Failure> {
    let child = child::Child::start(command, program)?;
    let picture = Picture::wanted(options);
    // A report that only tells which groups nobody entered need not be stood in for.
    let is_watched = options.top.is_some() || options.report.is_some();
    let watch = is_watched.then(|| Watch::start(child.pid(), picture, options.interval()));
    let end = child.wait(program);
    let seen = watch.and_then(Watch::finish);
    let end = end?;
    if let Some(report) = report {
        report.conclude(&end, seen, options);
    }
    Ok(end)
}

/// Without the engine this process becomes the program; returns only if it could not.
fn become_program(program: &OsStr, path: &Path, arguments: &[std::ffi::OsString]) -> Failure {
    let mut command = Command::new(path);
    command.arg0(program).args(arguments);
    environment::clean(&mut command);
    start_error::explain(program, &command.exec())
}
