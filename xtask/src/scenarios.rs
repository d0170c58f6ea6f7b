//! `cargo xtask scenarios`: every scenario of the repository on the real engine, with the release `memcg`.
//!
//! A process each, in the repository. 0 is success; 77 is "needs what this build does not have", and the line it wrote says
//! what; everything else is a failure, as is taking too long.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::child::{Ended, build_release, how_it_ended, run_limited, scratch, tail};
use crate::{Counted, Failure, files_below, has_extension, target_dir};

/// How long a scenario may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The exit status that says "skipped", automake's.
const SKIPPED: i32 = 77;

/// Builds the release and runs every scenario; all of them, so that one failure does not hide the next.
pub fn run(root: &Path) -> Result<Counted, Failure> {
    run_some(root, &[])
}

/// As [`run`], those only whose path has one of `names` in it.
pub fn run_some(root: &Path, names: &[&str]) -> Result<Counted, Failure> {
    build_release(root)?;
    let memcg = target_dir(root).join("release/memcg");
    let dir = scratch(root, "scenarios")?;
    let (out, err) = (dir.join("stdout"), dir.join("stderr"));
    let mut counted = Counted::default();
    let mut failed = Vec::new();
    for path in files_below(&root.join("scenarios"), &|p| has_extension(p, "scn")) {
        let path = path.strip_prefix(root).unwrap_or(&path);
        let name = path.display().to_string();
        if !names.is_empty() && !names.iter().any(|part| name.contains(part)) {
            continue;
        }
        let start = Instant::now();
        let ended = run_limited(
            Command::new(&memcg)
                .arg("run")
                .arg(path)
                .current_dir(root)
                .env_remove("LD_PRELOAD"),
            LIMIT,
            &out,
            Some(&err),
        )?;
        let took = start.elapsed().as_secs_f64();
        let why = match ended {
            Ended::With(status) if status.success() => {
                println!("scenario {name} ... ok ({took:.1}s)");
                counted.passed += 1;
                continue;
            }
            Ended::With(status) if status.code() == Some(SKIPPED) => {
                println!("scenario {name} ... skipped: {}", tail(&err, 1).trim());
                counted.ignored += 1;
                continue;
            }
            Ended::With(status) => how_it_ended(status),
            Ended::TimedOut => format!("not done after {} s", LIMIT.as_secs()),
        };
        println!(
            "scenario {name} ... FAILED: {why}\n{}{}",
            tail(&out, 20),
            tail(&err, 20)
        );
        failed.push(name);
    }
    if !failed.is_empty() {
        return Err(format!("scenarios failed: {}", failed.join(", ")));
    }
    if counted.passed + counted.ignored == 0 {
        return Err(String::from("no scenario found"));
    }
    Ok(counted)
}
