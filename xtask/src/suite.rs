//! `cargo xtask test`: every check the project has, in order, until one fails.
//!
//! What is needed is installed or asked for before anything is built. Cheap checks come first. Each
//! step is a heading, its own output as it comes, and its time. The end is a table, what was not
//! tested and why, and one line as `cargo test` writes it, whose number is the tests that ran plus
//! one for each step.
//!
//! Depends on: all other commands. Never: goes on after a failure.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::child::{build_release, cargo, stream, stream_limited};
use crate::needs::{self, Install};
use crate::skips::{self, Kind};
use crate::temporary::Temporary;
use crate::{Counted, Failure, bench, docs, examples, layers, preload, scenarios, target_dir};

type Step = (&'static str, fn(&Path) -> Result<Counted, Failure>);

const STEPS: &[Step] = &[
    ("format", |root| {
        stream(&mut cargo(root, &["fmt", "--all", "--check"]))
    }),
    // It also refuses what Cargo.toml's rust-version does not have yet (`incompatible_msrv`).
    ("clippy", |root| {
        let what = ["clippy", "--workspace", "--all-targets"];
        stream(cargo(root, &what).args(["--", "-D", "warnings"]))
    }),
    // As shipped, without the feature for tests from outside: here dead code shows.
    ("library", |root| {
        let what = ["clippy", "--package", "memcg", "--package", "memcg-preload"];
        stream(cargo(root, &what).args(["--", "-D", "warnings"]))
    }),
    ("least Rust", least_rust),
    ("layers", layers::run),
    ("release build", build_release),
    ("tests", |root| {
        let what = ["test", "--workspace", "--tests"];
        stream(cargo(root, &what).arg("--no-run"))?;
        stream_limited(&mut cargo(root, &what), TESTS_LIMIT)
    }),
    ("features", features),
    ("doc tests", |root| {
        // A cdylib has no doc tests, and cargo warns about it.
        let what = ["test", "--workspace", "--doc"];
        stream(cargo(root, &what).args(["--exclude", "memcg-preload"]))
    }),
    ("documentation", |root| {
        // Links that lead nowhere are warnings.
        let flags = std::env::var("RUSTDOCFLAGS").unwrap_or_default() + " -D warnings";
        let what = [
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ];
        stream(cargo(root, &what).env("RUSTDOCFLAGS", flags.trim_start()))
    }),
    ("loom", loom),
    ("examples", examples::run),
    ("scenarios", |root| scenarios::run(root, &[])),
    ("docs", docs::run),
    ("preload", |root| preload::run(root, false, &[])),
    ("instructions", bench::gate),
];

/// How long all tests may take once they are built.
const TESTS_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The steps that `--quick` leaves out.
const SLOW: &[&str] = &["loom", "preload", "instructions"];

/// What a run of the suite is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    quick: bool,
    strict: bool,
    install: Install,
}

/// The options of a command line; `None` where it is wrong.
pub fn options(words: &[&str]) -> Option<Options> {
    let mut options = Options {
        quick: false,
        strict: false,
        install: Install::Needed,
    };
    for &word in words {
        match word {
            "--quick" => options.quick = true,
            "--strict" => options.strict = true,
            "--install" if options.install != Install::Nothing => options.install = Install::All,
            "--no-install" if options.install != Install::All => options.install = Install::Nothing,
            _ => return None,
        }
    }
    Some(options)
}

/// A step that passed: its name, its time, its counts.
type Done = (&'static str, Duration, Counted);

/// A step that failed: its name, its time, why.
type Failed = (&'static str, Duration, Failure);

/// Runs the suite and reports on standard output. The exit status is 1 if a step failed.
pub fn run(root: &Path, options: Options) -> ExitCode {
    if let Err(failure) = needs::provide(options.install) {
        eprintln!("xtask: {failure}");
        return ExitCode::FAILURE;
    }
    let temporary = match Temporary::new() {
        Ok(temporary) => temporary,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            return ExitCode::FAILURE;
        }
    };
    let begin = Instant::now();
    let mut done: Vec<Done> = Vec::new();
    let mut failed: Option<Failed> = None;
    for &(name, step) in STEPS {
        if options.quick && SLOW.contains(&name) {
            skips::note(Kind::LeftOut, &format!("step {name}: --quick"));
            continue;
        }
        println!("\n==== {name}");
        let start = Instant::now();
        match step(root).and_then(|counted| temporary.is_empty().map(|()| counted)) {
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
    let skipped = skips::all(Kind::Skipped);
    if failed.is_none() && options.strict && !skipped.is_empty() {
        let why = format!("{} skipped", skipped.len());
        failed = Some(("strict", Duration::ZERO, why));
    }
    print!(
        "{}",
        report(&done, failed.as_ref(), &skipped, begin.elapsed())
    );
    match failed {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    }
}

/// The end of the output: the table, what was not tested, how it went.
fn report(done: &[Done], failed: Option<&Failed>, skipped: &[String], took: Duration) -> String {
    let mut text = format!(
        "\n{:<14} {:>9} {:>7} {:>8}\n",
        "step", "time", "passed", "skipped"
    );
    for (name, time, counted) in done {
        let (passed, ignored, note) = (counted.passed, counted.ignored, &counted.note);
        let time = seconds(*time);
        let line = format!("{name:<14} {time:>9} {passed:>7} {ignored:>8}  {note}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if let Some((name, time, _)) = failed {
        text.push_str(&format!("{name:<14} {:>9}  FAILED\n", seconds(*time)));
    }
    let left_out = skips::all(Kind::LeftOut);
    for (heading, all) in [
        ("left out, on any machine", left_out.as_slice()),
        ("skipped, for want of something here", skipped),
    ] {
        if !all.is_empty() {
            text.push_str(&format!("\n{heading}: {}\n", all.len()));
            text.extend(all.iter().map(|what| format!("  {what}\n")));
        }
    }
    let passed: u64 = done.iter().map(|d| d.2.passed + 1).sum();
    let ignored: u64 = done.iter().map(|d| d.2.ignored).sum();
    let tail = format!("{ignored} ignored; 0 measured; 0 filtered out");
    let took = seconds(took);
    match failed {
        None => text.push_str(&format!(
            "\ntest result: ok. {passed} passed; 0 failed; {tail}; finished in {took}\n"
        )),
        Some((name, _, failure)) => text.push_str(&format!(
            "\n==== {name} FAILED: {failure}\n\n\
             test result: FAILED. {passed} passed; 1 failed; {tail}; finished in {took}\n"
        )),
    }
    text
}

/// The workspace on the Rust that its `rust-version` names, where rustup has it. Where it has not,
/// what stands for this step is the lint `incompatible_msrv`, which the step before denied.
fn least_rust(root: &Path) -> Result<Counted, Failure> {
    let manifest = std::fs::read_to_string(root.join("Cargo.toml"))
        .map_err(|e| format!("cannot read Cargo.toml: {e}"))?;
    let least = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .map(|version| version.trim_matches('"').to_owned())
        .ok_or("no rust-version in Cargo.toml")?;
    let listed = Command::new("rustup").args(["toolchain", "list"]).output();
    let listed = listed.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    let listed = listed.unwrap_or_default();
    let mut names = listed.lines().filter_map(|line| line.split(' ').next());
    let is_it = |name: &&str| {
        let rest = name.strip_prefix(&least);
        rest.is_some_and(|rest| rest.starts_with(['-', '.']))
    };
    let Some(toolchain) = names.find(is_it) else {
        return Ok(Counted {
            note: format!("no Rust {least} here: clippy's incompatible_msrv alone"),
            ..Counted::default()
        });
    };
    let mut check = Command::new("rustup");
    check
        .args([
            "run",
            toolchain,
            "cargo",
            "check",
            "--workspace",
            "--all-targets",
        ])
        .env("CARGO_TARGET_DIR", target_dir(root).join("least"))
        .current_dir(root);
    stream(&mut check)
}

/// The crate with each of its features, which the workspace as a whole leaves out: `c-malloc` takes
/// C's malloc for the whole program.
fn features(root: &Path) -> Result<Counted, Failure> {
    let of = [
        "--package",
        "memcg",
        "--features",
        "c-malloc,allocator-api2",
    ];
    stream(
        cargo(root, &["clippy"])
            .args(of)
            .args(["--", "-D", "warnings"]),
    )?;
    let tests = ["--test", "c_malloc", "--test", "fallible_collections"];
    let mut test = cargo(root, &["test"]);
    stream_limited(test.args(of).args(tests), TESTS_LIMIT)
}

/// The engine's loom tests, built apart from everything else, since `--cfg loom` changes every
/// crate.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_installed_is_said_once() {
        let of = |words: &[&str]| options(words).map(|o| (o.quick, o.strict, o.install));
        assert_eq!(of(&[]), Some((false, false, Install::Needed)));
        assert_eq!(
            of(&["--no-install", "--quick"]),
            Some((true, false, Install::Nothing))
        );
        assert_eq!(
            of(&["--install", "--strict"]),
            Some((false, true, Install::All))
        );
        for wrong in [&["--slow"][..], &["--install", "--no-install"], &["quick"]] {
            assert_eq!(of(wrong), None);
        }
    }

    #[test]
    fn what_was_skipped_is_listed_after_a_failure_too() {
        let done = [("tests", Duration::from_secs(3), Counted::default())];
        let skipped = [String::from("preload sqlite: no sqlite3 on this machine")];
        let failed = ("preload", Duration::from_secs(1), String::from("limits"));
        for failed in [None, Some(&failed)] {
            let text = report(&done, failed, &skipped, Duration::from_secs(4));
            assert!(
                text.contains("  preload sqlite: no sqlite3 on this machine\n"),
                "{text}"
            );
            let last = text.lines().last().unwrap();
            assert_eq!(
                last.starts_with("test result: FAILED"),
                failed.is_some(),
                "{text}"
            );
        }
    }
}
