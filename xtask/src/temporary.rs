//! The temporary directory of a run of the suite: a folder of its own, in which nothing may be
//! left.
//!
//! While one lives, every program that xtask starts has it as `TMPDIR`, but those that bring one of
//! their own.
//!
//! Invariants: there is at most one. It is gone when the run ends, with what was left in it.
//! Depends on: nothing. Never: looks into the machine's own temporary directory.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::Failure;

static CURRENT: Mutex<Option<PathBuf>> = Mutex::new(None);

/// The folder; gone on drop.
pub struct Temporary(PathBuf);

impl Temporary {
    /// Makes it, in the machine's temporary directory: paths stay short enough for sockets.
    pub fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("memcg-suite-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
        *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.clone());
        Ok(Self(path))
    }

    /// Fails when something was left there, with its names; it is removed.
    pub fn is_empty(&self) -> Result<(), Failure> {
        let left = left_in(&self.0);
        if left.is_empty() {
            return Ok(());
        }
        Err(format!(
            "left in the temporary directory: {}",
            left.join(", ")
        ))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Gives `command` the folder of the run, if there is one and the command has none.
pub fn give(command: &mut Command) {
    let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    give_this(current.as_deref(), command);
}

fn give_this(folder: Option<&Path>, command: &mut Command) {
    if let Some(path) = folder
        && !command.get_envs().any(|(name, _)| name == "TMPDIR")
    {
        command.env("TMPDIR", path);
    }
}

/// Removes all that is in `dir`; its names.
fn left_in(dir: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let _ = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        // Every JVM keeps its counters there for others of the same user's.
        if !name.starts_with("hsperfdata_") {
            left.push(name);
        }
    }
    left.sort();
    left
}

/// A folder for one test of xtask's, gone when the test is over, however it ends.
#[cfg(test)]
pub struct Folder(PathBuf);

#[cfg(test)]
impl Folder {
    /// Makes one; `name` tells those of different tests apart.
    pub fn new(name: &str) -> Self {
        static NR: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let nr = NR.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("xtask-{name}-{}-{nr}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_leaves_is_named_and_removed() {
        // Not the one of a run: the programs of other tests would have it, too.
        let folder = Folder::new("temporary");
        let path = folder.path().to_owned();
        let temporary = Temporary(path.clone());
        temporary.is_empty().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "cd $TMPDIR; mkdir b hsperfdata_me; : >b/x; : >a"]);
        give_this(Some(&path), &mut shell);
        assert!(shell.status().unwrap().success());
        let left = temporary.is_empty().unwrap_err();
        assert_eq!(left, "left in the temporary directory: a, b");
        temporary.is_empty().unwrap();
        drop(temporary);
        assert!(!path.exists());
    }

    #[test]
    fn a_program_with_a_folder_of_its_own_keeps_it() {
        let mut program = Command::new("true");
        give_this(None, program.env("TMPDIR", "/own"));
        give_this(Some(Path::new("/run")), &mut program);
        let given: Vec<_> = program.get_envs().filter_map(|(_, value)| value).collect();
        assert_eq!(given, ["/own"]);
    }
}
