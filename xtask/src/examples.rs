//! `cargo xtask examples`: every example of every crate runs to its end and says so by its exit
//! status. Each is given `--check`: one that would serve for ever tries itself instead.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::child::{Ended, cargo, how_it_ended, run_limited, scratch, stream, tail};
use crate::{Counted, Failure, has_extension, target_dir};

/// How long an example may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Builds and runs the examples, each in an empty folder of its own. Stops at the first that fails.
pub fn run(root: &Path) -> Result<Counted, Failure> {
    let mut counted = Counted::default();
    let mut crates: Vec<PathBuf> = std::fs::read_dir(root.join("crates"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    crates.sort();
    for package in crates {
        let names = examples_of(&package);
        if names.is_empty() {
            continue;
        }
        let manifest = package.join("Cargo.toml").display().to_string();
        let what = ["build", "--examples", "--manifest-path", &manifest];
        stream(&mut cargo(root, &what))?;
        for name in names {
            let dir = scratch(root, &format!("examples/{name}"))?;
            let program = target_dir(root).join("debug/examples").join(&name);
            if !program.exists() {
                return Err(format!("example {name} of {manifest} was not built"));
            }
            let out = dir.join("output");
            let ended = run_limited(
                Command::new(&program).arg("--check").current_dir(&dir),
                LIMIT,
                &out,
                None,
            )?;
            let why = match ended {
                Ended::With(status) if status.success() => {
                    println!("example {name} ... ok");
                    counted.passed += 1;
                    continue;
                }
                Ended::With(status) => how_it_ended(status),
                Ended::TimedOut => format!("not done after {} s", LIMIT.as_secs()),
            };
            println!("example {name} ... FAILED\n{}", tail(&out, 40));
            return Err(format!("example {name}: {why}"));
        }
    }
    Ok(counted)
}

/// The names of a crate's examples: `examples/NAME.rs` and `examples/NAME/main.rs`, sorted.
fn examples_of(package: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(package.join("examples"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = entry.path();
        if has_extension(&path, "rs") || path.join("main.rs").exists() {
            names.extend(
                path.file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned()),
            );
        }
    }
    names.sort();
    names
}
