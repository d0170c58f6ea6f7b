//! `cargo xtask preload`: real programs under the engine, told as shell scripts in
//! `tests/preload/`.
//!
//! Each script gets `MEMCG_BIN` (the release `memcg`), `MEMCG_PRELOAD` (the library) and an empty
//! folder in `TMPDIR`, and runs in the repository; what its exit status means: [`crate::each`].
//! With `--long` `MEMCG_LONG` is set, and the scripts that know it do more.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::child::{build_release, cargo, scratch, stream};
use crate::each::Each;
use crate::{Counted, Failure, has_extension, is_named, target_dir};

/// How long a script may take, and with `--long`.
const LIMIT: Duration = Duration::from_secs(300);
const LONG_LIMIT: Duration = Duration::from_secs(1200);

/// Builds the release and runs the scripts whose name has one of `names` in it, without names all;
/// with `is_long` more of everything.
pub fn run(root: &Path, is_long: bool, names: &[&str]) -> Result<Counted, Failure> {
    build_release(root)?;
    if is_named("rust_crate", names) {
        // What that script runs: cold, its build takes longer than a script may.
        let build = [
            "build",
            "--release",
            "-p",
            "memcg",
            "--example",
            "beside_exec",
        ];
        stream(&mut cargo(root, &build))?;
    }
    let limit = if is_long { LONG_LIMIT } else { LIMIT };
    let release = target_dir(root).join("release");
    let mut each = Each::new("preload", limit);
    for script in crate::files_below(&root.join("tests/preload"), &|p| has_extension(p, "sh")) {
        let name = script.file_stem().unwrap_or_default().to_string_lossy();
        // Only tests/preload/*.sh: what lies deeper belongs to them.
        if script.parent() != Some(&root.join("tests/preload")) || !is_named(&name, names) {
            continue;
        }
        let dir = scratch(root, &format!("preload/{name}"))?;
        let tmp = dir.join("tmp");
        std::fs::create_dir(&tmp).map_err(|e| format!("cannot create {}: {e}", tmp.display()))?;
        let mut command = Command::new("bash");
        command
            .arg(&script)
            .envs(is_long.then_some(("MEMCG_LONG", "1")))
            .current_dir(root)
            .env("MEMCG_BIN", release.join("memcg"))
            .env("MEMCG_PRELOAD", release.join("libmemcg_preload.so"))
            .env("TMPDIR", &tmp)
            .env_remove("LD_LIBRARY_PATH");
        each.run(&name, &mut command, &dir)?;
    }
    each.end()
}
