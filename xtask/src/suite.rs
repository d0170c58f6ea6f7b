//! `cargo xtask test`: every check the project has, in order, until one fails.
//!
//! Cheap checks come first. Each step is a heading, its own output as it comes, and its time; the end is a table and one
//! line as `cargo test` writes it, whose number is the tests that ran plus one for each step.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::child::{build_release, cargo, stream};
use crate::{Counted, Failure, bench, docs, examples, layers, preload, scenarios, target_dir};

type Step = (&'static str, fn(&Path) -> Result<Counted, Failure>);

const STEPS: &[Step] = &[
    ("format", |root| {
        stream(&mut cargo(root, &["fmt", "--all", "--check"]))
    }),
    ("clippy", |root| {
        let what = ["clippy", "--workspace", "--all-targets"];
        stream(cargo(root, &what).args(["--", "-D", "warnings"]))
    }),
    ("layers", layers::run),
    ("release build", build_release),
    ("tests", |root| {
        stream(&mut cargo(root, &["test", "--workspace", "--tests"]))
    }),
    ("doc tests", |root| {
        // A cdylib has no doc tests, and cargo warns about it.
        let what = ["test", "--workspace", "--doc"];
        stream(cargo(root, &what).args(["--exclude", "memcg-preload"]))
    }),
    ("loom", loom),
    ("examples", examples::run),
    ("scenarios", |root| scenarios::run(root, &[])),
    ("docs", docs::run),
    ("preload", |root| preload::run(root, false, &[])),
    ("instructions", bench::gate),
];

/// The steps that `--quick` leaves out.
const SLOW: &[&str] = &["loom", "preload", "instructions"];

/// Runs the suite and reports on standard output. The exit status is 1 if a step failed.
pub fn run(root: &Path, quick: bool) -> ExitCode {
    let begin = Instant::now();
    let mut done: Vec<(&str, Duration, Counted)> = Vec::new();
    let mut failed = None;
    for &(name, step) in STEPS {
        if quick && SLOW.contains(&name) {
            continue;
        }
        println!("\n==== {name}");
        let start = Instant::now();
        match step(root) {
            Ok(counted) => {
                println!("==== {name}: ok, {}", seconds(start.elapsed()));
                done.push((name, start.elapsed(), counted));
            }
            Err(failure) => {
                failed = Some((name, start.elapsed(), failure));
                break;
            }
        }
    }

    println!(
        "\n{:<14} {:>9} {:>7} {:>8}",
        "step", "time", "passed", "skipped"
    );
    for (name, time, counted) in &done {
        let (passed, ignored, note) = (counted.passed, counted.ignored, &counted.note);
        let line = format!(
            "{name:<14} {:>9} {passed:>7} {ignored:>8}  {note}",
            seconds(*time)
        );
        println!("{}", line.trim_end());
    }
    let passed: u64 = done.iter().map(|d| d.2.passed + 1).sum();
    let ignored: u64 = done.iter().map(|d| d.2.ignored).sum();
    let tail = format!("{ignored} ignored; 0 measured; 0 filtered out");
    let took = seconds(begin.elapsed());
    match failed {
        None => {
            println!("\ntest result: ok. {passed} passed; 0 failed; {tail}; finished in {took}");
            ExitCode::SUCCESS
        }
        Some((name, time, failure)) => {
            println!("{name:<14} {:>9}  FAILED", seconds(time));
            println!("\n==== {name} FAILED: {failure}");
            println!(
                "\ntest result: FAILED. {passed} passed; 1 failed; {tail}; finished in {took}"
            );
            ExitCode::FAILURE
        }
    }
}

/// The engine's loom tests, built apart from everything else, since `--cfg loom` changes every crate.
fn loom(root: &Path) -> Result<Counted, Failure> {
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(" --cfg loom");
    let preemptions = std::env::var("LOOM_MAX_PREEMPTIONS").unwrap_or_else(|_| String::from("2"));
    let what = ["test", "--release", "--package", "memcg", "--lib", "loom"];
    let mut counted = stream(
        cargo(root, &what)
            .env("RUSTFLAGS", flags.trim_start())
            .env("CARGO_TARGET_DIR", target_dir(root).join("loom"))
            .env("LOOM_MAX_PREEMPTIONS", preemptions),
    )?;
    if counted.passed == 0 {
        counted.note = String::from("no loom test found");
    }
    Ok(counted)
}

fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}
