//! `cargo xtask preload`: real programs under the engine, told as shell scripts in `tests/preload/`.
//!
//! Each script gets `MEMCG_BIN` (the release `memcg`), `MEMCG_PRELOAD` (the library) and an empty folder in `TMPDIR`, and
//! runs in the repository. 0 is success; 77 is "cannot be tested on this machine", the last line of its output says why;
//! everything else is a failure, as is taking too long. A line `skipped: …` of one that succeeds is a part it left out.
//! With `--long` `MEMCG_LONG` is set, and the scripts that know it do more.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::child::{Ended, build_release, how_it_ended, run_limited, scratch, tail};
use crate::{Counted, Failure, has_extension, target_dir};

/// How long a script may take, and with `--long`.
const LIMIT: Duration = Duration::from_secs(300);
const LONG_LIMIT: Duration = Duration::from_secs(1200);

/// The exit status that says "skipped", automake's.
const SKIPPED: i32 = 77;

/// Builds the release and runs every script; all of them, so that one failure does not hide the next.
pub fn run(root: &Path) -> Result<Counted, Failure> {
    run_all(root, false)
}

/// As [`run`], with more of everything.
pub fn run_long(root: &Path) -> Result<Counted, Failure> {
    run_all(root, true)
}

fn run_all(root: &Path, is_long: bool) -> Result<Counted, Failure> {
    build_release(root)?;
    let limit = if is_long { LONG_LIMIT } else { LIMIT };
    let release = target_dir(root).join("release");
    let mut counted = Counted::default();
    let mut failed = Vec::new();
    for script in crate::files_below(&root.join("tests/preload"), &|p| has_extension(p, "sh")) {
        // Only tests/preload/*.sh: what lies deeper belongs to them.
        if script.parent() != Some(&root.join("tests/preload")) {
            continue;
        }
        let name = script
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let dir = scratch(root, &format!("preload/{name}"))?;
        let (out, err, tmp) = (dir.join("stdout"), dir.join("stderr"), dir.join("tmp"));
        std::fs::create_dir(&tmp).map_err(|e| format!("cannot create {}: {e}", tmp.display()))?;
        let start = Instant::now();
        let ended = run_limited(
            Command::new("bash")
                .arg(&script)
                .envs(is_long.then_some(("MEMCG_LONG", "1")))
                .current_dir(root)
                .env("MEMCG_BIN", release.join("memcg"))
                .env("MEMCG_PRELOAD", release.join("libmemcg_preload.so"))
                .env("TMPDIR", &tmp)
                .env_remove("LD_LIBRARY_PATH"),
            limit,
            &out,
            Some(&err),
        )?;
        let took = start.elapsed().as_secs_f64();
        let why = match ended {
            Ended::With(status) if status.success() => {
                println!("preload {name} ... ok ({took:.1}s)");
                counted.passed += 1;
                let said = std::fs::read_to_string(&out).unwrap_or_default();
                for line in said.lines().filter(|line| line.starts_with("skipped: ")) {
                    println!("preload {name} ... {line}");
                    counted.ignored += 1;
                }
                continue;
            }
            Ended::With(status) if status.code() == Some(SKIPPED) => {
                println!("preload {name} ... skipped: {}", tail(&out, 1).trim());
                counted.ignored += 1;
                continue;
            }
            Ended::With(status) => how_it_ended(status),
            Ended::TimedOut => format!("not done after {} s", limit.as_secs()),
        };
        println!(
            "preload {name} ... FAILED: {why}\n{}{}",
            tail(&out, 40),
            tail(&err, 40)
        );
        failed.push(name);
    }
    if failed.is_empty() {
        Ok(counted)
    } else {
        Err(format!("preload scripts failed: {}", failed.join(", ")))
    }
}
