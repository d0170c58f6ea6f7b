//! Several scenarios: one process each, one after the other.
//!
//! Invariants: a step that fails stops its own scenario only; the exit code is that of all.
//! Depends on: this program, which runs each file again by `memcg run FILE`.
//! Never: two scenarios at once.

use crate::failure::{Failure, LACKING, REFUSED};
use crate::output::emit;
use memcg_scenario::Style;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The files a command line means: a folder stands for every `*.scn` in it and below, sorted.
pub fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for path in named {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let before = all.len();
        below(path, &mut all)?;
        if all.len() == before {
            return Err(Failure::usage(format_args!(
                "no scenario: {}: nothing in it ends in .scn",
                path.display()
            )));
        }
        all[before..].sort();
    }
    Ok(all)
}

fn below(folder: &Path, all: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable = |why| Failure::usage(format_args!("cannot read: {}: {why}", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        // A link may lead round in a circle.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&path, all)?;
        } else if path.extension().is_some_and(|extension| extension == "scn") {
            all.push(path);
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Summary {
    scenarios: usize,
    passed: usize,
    failed: usize,
    lacking: usize,
}

/// Runs each in a process of its own and sums up. A step that fails stops its own scenario only.
pub fn run(files: &[PathBuf], style: Style) -> Result<ExitCode, Failure> {
    let me = std::env::current_exe()
        .map_err(|why| Failure::new(REFUSED, format_args!("cannot find this program: {why}")))?;
    let mut sum = Summary {
        scenarios: files.len(),
        passed: 0,
        failed: 0,
        lacking: 0,
    };
    for file in files {
        let mut command = Command::new(&me);
        command.arg("run");
        match style {
            Style::Plain => {}
            Style::Verbose => drop(command.arg("--verbose")),
            Style::Json => drop(command.arg("--json")),
        }
        let status = command.arg("--").arg(file).status().map_err(|why| {
            Failure::new(
                REFUSED,
                format_args!("cannot start: {}: {why}", me.display()),
            )
        })?;
        match status.code() {
            Some(0) => sum.passed += 1,
            Some(code) if code == i32::from(LACKING) => sum.lacking += 1,
            Some(_) => sum.failed += 1,
            None => {
                crate::output::note(&format!("{}: ended by {status}", file.display()));
                sum.failed += 1;
            }
        }
    }
    let code = match (sum.failed, sum.passed, sum.lacking) {
        (1.., ..) => REFUSED,
        (0, 0, 1..) => LACKING,
        _ => 0,
    };
    if style == Style::Json {
        crate::output::emit_json_line(&sum)?;
    } else {
        emit(format!(
            "{} scenarios: {} passed, {} failed, {} need what this build does not have\n",
            sum.scenarios, sum.passed, sum.failed, sum.lacking
        ))?;
    }
    Ok(ExitCode::from(code))
}
