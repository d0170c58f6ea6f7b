//! `cargo xtask dist`: what people install, laid out in a folder and packed.
//!
//! `bin/memcg`, `lib/memcg/libmemcg_preload.so`, C headers of the crates that have some, and the
//! documents. The archive is the same bytes for the same files: sorted, owned by 0, dated by the
//! last commit where there is one.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child::{build_release, stream};
use crate::{Counted, Failure, files_below, has_extension, target_dir};

const DOCUMENTS: &[&str] = &["README.md", "LICENSE-MIT", "LICENSE-APACHE", "CHANGELOG.md"];

/// Builds the release and lays it out in `dir` (default `target/dist/memcg-VERSION-TARGET`); an
/// earlier one is replaced.
pub fn run(root: &Path, dir: Option<&Path>) -> Result<Counted, Failure> {
    build_release(root)?;
    let dir = match dir {
        Some(dir) => std::path::absolute(dir).map_err(|e| format!("{}: {e}", dir.display()))?,
        None => {
            let name = format!("memcg-{}-{}", version(root)?, host()?);
            target_dir(root).join("dist").join(name)
        }
    };
    empty(&dir)?;

    let release = target_dir(root).join("release");
    let mut files: Vec<(PathBuf, PathBuf)> = vec![
        (release.join("memcg"), PathBuf::from("bin/memcg")),
        (
            release.join("libmemcg_preload.so"),
            PathBuf::from("lib/memcg/libmemcg_preload.so"),
        ),
    ];
    files.extend(
        DOCUMENTS
            .iter()
            .map(|name| (root.join(name), PathBuf::from(name))),
    );
    for header in files_below(&root.join("include"), &|p| has_extension(p, "h")) {
        if let Some(name) = header.file_name() {
            files.push((header.clone(), Path::new("include").join(name)));
        }
    }
    for (from, to) in &files {
        let to = dir.join(to);
        let parent = to.parent().unwrap_or(&dir);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::copy(from, &to))
            .map_err(|e| format!("cannot copy {} to {}: {e}", from.display(), to.display()))?;
        println!("{}", to.display());
    }

    let archive = pack(root, &dir)?;
    println!("{}", archive.display());
    Ok(Counted {
        passed: files.len() as u64,
        note: format!("packed {}", archive.display()),
        ..Counted::default()
    })
}

/// Makes `dir` an empty folder. Refuses one that holds something that is not an earlier release.
fn empty(dir: &Path) -> Result<(), Failure> {
    let fail = |e: std::io::Error| format!("cannot prepare {}: {e}", dir.display());
    if dir.exists() {
        let holds_something = std::fs::read_dir(dir).map_err(fail)?.next().is_some();
        if holds_something && !dir.join("bin/memcg").exists() {
            return Err(format!(
                "{} is not empty and no earlier release; name another folder",
                dir.display()
            ));
        }
        std::fs::remove_dir_all(dir).map_err(fail)?;
    }
    std::fs::create_dir_all(dir).map_err(fail)
}

/// Packs `dir` into `dir.tar.gz` beside it.
fn pack(root: &Path, dir: &Path) -> Result<PathBuf, Failure> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(format!("{} has no name to pack it under", dir.display()));
    };
    let mut archive = dir.as_os_str().to_owned();
    archive.push(".tar.gz");
    let archive = PathBuf::from(archive);
    let mut tar = Command::new("tar");
    tar.arg("-C")
        .arg(parent)
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    if let Some(date) = last_commit(root) {
        tar.arg(format!("--mtime=@{date}"));
    }
    tar.arg("-czf").arg(&archive).arg(name);
    stream(&mut tar)?;
    Ok(archive)
}

/// Seconds since 1970 of the last commit, if this is a checkout that has one.
fn last_commit(root: &Path) -> Option<u64> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["log", "-1", "--format=%ct"])
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// The version in the workspace's manifest.
fn version(root: &Path) -> Result<String, Failure> {
    let manifest = root.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest)
        .map_err(|e| format!("cannot read {}: {e}", manifest.display()))?;
    version_in(&text).ok_or_else(|| format!("no workspace version in {}", manifest.display()))
}

fn version_in(manifest: &str) -> Option<String> {
    let mut lines = manifest
        .lines()
        .skip_while(|line| line.trim() != "[workspace.package]");
    lines.next()?;
    lines
        .take_while(|line| !line.starts_with('['))
        .find_map(|line| line.strip_prefix("version")?.trim_start().strip_prefix('='))
        .map(|value| value.trim().trim_matches('"').to_owned())
}

/// The target that rustc builds for by default.
fn host() -> Result<String, Failure> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .map_err(|e| format!("cannot run rustc: {e}"))?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .ok_or_else(|| String::from("rustc -vV names no host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_workspaces_not_a_dependencys() {
        let manifest = "[workspace.dependencies]\nversion = \"9\"\n[workspace.package]\nedition = \"2024\"\n\
                        version = \"0.1.0\"\n[x]\nversion = \"8\"\n";
        assert_eq!(version_in(manifest).as_deref(), Some("0.1.0"));
        assert_eq!(
            version_in("[workspace.package]\n[x]\nversion = \"8\"\n"),
            None
        );
    }

    #[test]
    fn a_folder_with_other_things_is_not_emptied() {
        let folder = crate::temporary::Folder::new("dist");
        let dir = folder.path();
        std::fs::write(dir.join("precious"), "x").unwrap();
        assert!(empty(dir).is_err());
        assert!(dir.join("precious").exists());
        std::fs::create_dir(dir.join("bin")).unwrap();
        std::fs::write(dir.join("bin/memcg"), "x").unwrap();
        assert!(empty(dir).is_ok());
        assert!(std::fs::read_dir(dir).unwrap().next().is_none());
    }
}
