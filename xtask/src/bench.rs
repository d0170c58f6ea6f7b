//! `cargo xtask bench`: builds the images of `bench/`, one cargo feature at a time, and hands over
//! to its harness.
//!
//! A peer that does not build is left out, with the reason; memcg and the harness must build.
//! mimalloc's shared libraries, which no registry has, are compiled from the sources its crate
//! carries.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::child::{build_release, cargo};
use crate::skips::{self, Kind};
use crate::{Counted, Failure, target_dir};

/// Features of `bench/`, one peer each (memcg's has several images).
const PEERS: &[&str] = &[
    "memcg",
    "glibc",
    "mimalloc3",
    "mimalloc2",
    "jemalloc",
    "tcmalloc",
    "snmalloc",
    "tracking",
    "cap",
];

/// Images of `bench/pools`, which takes a minute to build: only when a row that has them may be
/// asked for.
const POOLS: &[&str] = &["pool-greedy", "pool-fair", "pool-tracked"];

/// Builds, then runs the harness with `arguments`.
pub fn run(root: &Path, arguments: &[&str]) -> Result<Counted, Failure> {
    let bench = root.join("bench");
    let target = target_dir(root).join("bench");
    build(&bench, &target, "harness", false)?;
    let source = state(root);
    // A gate is about memcg alone; so is, unless peers are named, where its instructions are.
    let lined = arguments.contains(&"--where");
    let gate = arguments.iter().any(|a| a.starts_with("--gate"));
    let alone = gate || lined && !arguments.contains(&"--peers");
    let counting = gate || lined || arguments.contains(&"--instructions");
    for peer in PEERS.iter().filter(|peer| !alone || **peer == "memcg") {
        if let Err(why) = build(&bench, &target, peer, false) {
            if *peer == "memcg" {
                return Err(why);
            }
            eprintln!("no {peer}: {why}");
        }
    }
    // Others may work in the same checkout; the results must not name a state that was not
    // measured.
    let source = match state(root) {
        after if after == source => source,
        after => format!("{source}, changed while it was built to {after}"),
    };
    let images = target.join("release");
    let mut harness = Command::new(images.join("harness"));
    harness
        .arg("--images")
        .arg(&images)
        .arg("--bench")
        .arg(&bench)
        .arg("--memcg")
        .arg(source);
    if !counting && wants_pools(arguments) {
        let built = target.join("pools");
        if let Err(why) = build_in(&bench.join("pools"), &built, "the pools", &[], false)
            .and_then(|()| copy(&built.join("release"), &images, POOLS))
        {
            eprintln!("no pools: {why}");
        }
    }
    if lined {
        let target = target.join("lined");
        build(&bench, &target, "memcg", true)?;
        harness.arg("--lined").arg(target.join("release"));
    }
    if !counting {
        build(&bench, &target, "programs", false)?;
        for version in ["v2", "v3"] {
            let made = images.join(format!("libmimalloc{}.so", &version[1..]));
            if let Err(why) = mimalloc(&bench, version, &made) {
                eprintln!("no {}: {why}", made.display());
            }
        }
        build_release(root)?;
        harness
            .arg("--preload")
            .arg(target_dir(root).join("release/libmemcg_preload.so"));
    }
    let status = harness
        .args(arguments)
        .status()
        .map_err(|e| format!("cannot run the harness: {e}"))?;
    if status.success() {
        Ok(Counted {
            passed: 1,
            ..Counted::default()
        })
    } else {
        Err(format!(
            "the harness: {}",
            crate::child::how_it_ended(status)
        ))
    }
}

/// The commit the engine is at, and what it was changed by since, as a sum over the difference.
fn state(root: &Path) -> String {
    let git = |arguments: &[&str]| -> Option<Vec<u8>> {
        let output = Command::new("git")
            .arg("-C")
            .arg(root)
            .args(arguments)
            .output()
            .ok()?;
        output.status.success().then_some(output.stdout)
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return String::from("no commit");
    };
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let files = ["crates/memcg", "crates/memcg-preload"];
    let mut changes = git(&[&["diff", "HEAD", "--"], &files[..]].concat()).unwrap_or_default();
    changes.extend(
        git(&[
            &["ls-files", "--others", "--exclude-standard", "--"],
            &files[..],
        ]
        .concat())
        .unwrap_or_default(),
    );
    if changes.is_empty() {
        return commit;
    }
    let sum = changes.iter().fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{commit} with uncommitted changes {sum:016x}")
}

/// What the suite says instead of [`gate`] where valgrind is missing.
const NO_VALGRIND: &str = "no valgrind: instructions not counted";

/// The gate as a step of the suite: instructions of the hit paths beside those kept, if there is
/// valgrind.
pub fn gate(root: &Path) -> Result<Counted, Failure> {
    let found = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_ok_and(|status| status.success()) {
        return run(root, &["--gate"]);
    }
    println!("{NO_VALGRIND}");
    skips::note(Kind::Skipped, NO_VALGRIND);
    Ok(Counted {
        ignored: 1,
        note: NO_VALGRIND.to_owned(),
        ..Counted::default()
    })
}

/// Builds the images of a feature, with line tables or without; the error is the compiler's first.
fn build(bench: &Path, target: &Path, feature: &str, lined: bool) -> Result<(), Failure> {
    build_in(bench, target, feature, &["--features", feature], lined)
}

fn build_in(
    folder: &Path,
    target: &Path,
    name: &str,
    features: &[&str],
    lined: bool,
) -> Result<(), Failure> {
    eprintln!("building {name}");
    let debug = if lined { "line-tables-only" } else { "none" };
    let output = cargo(folder, &["build", "--release", "--bins"])
        .args(features)
        .arg("--target-dir")
        .arg(target)
        .env("CARGO_PROFILE_RELEASE_DEBUG", debug)
        // Incremental code is cut into other units, and inlined otherwise.
        .env("CARGO_INCREMENTAL", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said
        .lines()
        .find(|line| line.contains("error"))
        .unwrap_or("cargo build failed");
    Err(format!("{name} does not build: {first}"))
}

/// Whether the names asked for, all if there are none, may be of rows that pools have.
fn wants_pools(arguments: &[&str]) -> bool {
    let mut names = arguments
        .iter()
        .enumerate()
        .filter(|&(i, word)| {
            let value = i > 0 && ["--rounds", "--peers"].contains(&arguments[i - 1]);
            !word.starts_with('-') && !value
        })
        .map(|(_, word)| *word)
        .peekable();
    names.peek().is_none()
        || names.any(|name| {
            ["own", "pools", "reserve", "refuse"]
                .iter()
                .any(|of| name.starts_with(of))
        })
}

/// Copies images to where the others are.
fn copy(from: &Path, to: &Path, images: &[&str]) -> Result<(), Failure> {
    for image in images {
        std::fs::copy(from.join(image), to.join(image))
            .map_err(|e| format!("cannot copy {image}: {e}"))?;
    }
    Ok(())
}

/// Compiles mimalloc's shared library as its own build does in release mode, if it is not there
/// yet.
fn mimalloc(bench: &Path, version: &str, made: &Path) -> Result<(), Failure> {
    if made.exists() {
        return Ok(());
    }
    let source = crate_folder(bench, "libmimalloc-sys")?
        .join("c_src/mimalloc")
        .join(version);
    let status = Command::new("cc")
        .args([
            "-O3",
            "-fPIC",
            "-shared",
            "-DNDEBUG",
            "-DMI_BUILD_RELEASE",
            "-DMI_DEBUG=0",
            "-DMI_MALLOC_OVERRIDE",
        ])
        .args([
            "-DMI_SHARED_LIB",
            "-DMI_SHARED_LIB_EXPORT",
            "-ftls-model=initial-exec",
            "-fvisibility=hidden",
        ])
        .args(["-fno-builtin-malloc", "-Wno-date-time", "-I"])
        .arg(source.join("include"))
        .arg(source.join("src/static.c"))
        .args(["-lpthread", "-o"])
        .arg(made)
        .status()
        .map_err(|e| format!("cannot run cc: {e}"))?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| format!("cc: {status}"))
}

/// Where cargo keeps the sources of a package of `bench/`.
fn crate_folder(bench: &Path, package: &str) -> Result<PathBuf, Failure> {
    let output = cargo(
        bench,
        &["metadata", "--all-features", "--format-version", "1"],
    )
    .output()
    .map_err(|e| format!("cannot run cargo metadata: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    folder_in(&text, package).ok_or_else(|| format!("cargo metadata knows no {package}"))
}

/// The folder of the first manifest of a package in cargo's JSON.
fn folder_in(metadata: &str, package: &str) -> Option<PathBuf> {
    let manifests = metadata.split("\"manifest_path\":\"").skip(1);
    manifests
        .filter_map(|rest| rest.split('"').next())
        .map(Path::new)
        .find_map(|manifest| {
            let folder = manifest.parent()?;
            let name = folder.file_name()?.to_str()?.strip_prefix(package)?;
            name.starts_with('-').then(|| folder.to_path_buf())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_built_for_their_rows_and_for_all() {
        assert!(wants_pools(&["--rounds", "3", "--peers", "memcg"]));
        assert!(wants_pools(&["pair-64", "refuse-storm"]));
        assert!(!wants_pools(&["--quick", "pair-64"]));
    }

    #[test]
    fn a_package_is_found_in_metadata() {
        let text = r#"{"x":{"manifest_path":"/r/libmimalloc-sys-0.1/Cargo.toml"},"y":{"manifest_path":"/r/libc-1/Cargo.toml"}}"#;
        assert_eq!(folder_in(text, "libc"), Some(PathBuf::from("/r/libc-1")));
        assert_eq!(
            folder_in(text, "libmimalloc-sys"),
            Some(PathBuf::from("/r/libmimalloc-sys-0.1"))
        );
        assert_eq!(folder_in(text, "jemalloc"), None);
    }
}
