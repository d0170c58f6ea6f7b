//! `cargo xtask scenarios`: every scenario of the repository on the real engine, with the release
//! `memcg`.
//!
//! A process each, in the repository; what their exit statuses mean: [`crate::each`].

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::child::{build_release, scratch};
use crate::each::Each;
use crate::{Counted, Failure, files_below, has_extension, is_named, target_dir};

/// How long a scenario may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Builds the release and runs the scenarios whose path has one of `names` in it; without names
/// all.
pub fn run(root: &Path, names: &[&str]) -> Result<Counted, Failure> {
    build_release(root)?;
    let memcg = target_dir(root).join("release/memcg");
    let dir = scratch(root, "scenarios")?;
    let mut each = Each::new("scenario", LIMIT);
    for path in files_below(&root.join("scenarios"), &|p| has_extension(p, "scn")) {
        let path = path.strip_prefix(root).unwrap_or(&path);
        let name = path.display().to_string();
        if is_named(&name, names) {
            let mut command = Command::new(&memcg);
            command.arg("run").arg(path).current_dir(root);
            each.run(&name, command.env_remove("LD_PRELOAD"), &dir)?;
        }
    }
    each.end()
}
