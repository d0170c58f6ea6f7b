//! Builds the preload library and hands it to the command, which carries it inside itself.
//!
//! The library is a separate cdylib: it must be optimised whatever profile the command is built
//! with, so a nested cargo builds it with its own target directory. Nothing of the outer build's
//! flags and wrappers may reach the nested one: under clippy, loom or coverage the outer settings
//! would produce a library that cannot be loaded into a program.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

const LIBRARY: &str = "libmemcg_preload.so";

/// Settings of the outer build that would change how the library is compiled.
const LEAKS: &[&str] = &[
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_ENCODED_RUSTDOCFLAGS",
    "RUSTDOCFLAGS",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_TARGET",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "LLVM_PROFILE_FILE",
    "CARGO_INCREMENTAL",
    "CARGO_PRIMARY_PACKAGE",
    "OUT_DIR",
    "TARGET",
    "HOST",
    "PROFILE",
    "OPT_LEVEL",
    "DEBUG",
    "RUSTC_LINKER",
];

fn main() {
    if let Err(reason) = build() {
        eprintln!("the preload library could not be built: {reason}");
        process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let manifest = directory("CARGO_MANIFEST_DIR")?;
    let out = directory("OUT_DIR")?;
    let workspace = manifest
        .ancestors()
        .nth(2)
        .ok_or("the crate is not two folders below the workspace")?
        .to_path_buf();
    watch(&workspace);

    let built = nested_build(&workspace, &out.join("preload"))?;
    let bytes = fs::read(&built).map_err(|e| format!("{}: {e}", built.display()))?;
    let embedded = out.join(LIBRARY);
    replace(&embedded, &bytes).map_err(|e| format!("{}: {e}", embedded.display()))?;
    // A file and not `rustc-env`, which `cargo run` would pass on to every program under `memcg
    // exec`.
    let hash = out.join("libmemcg_preload.hash");
    replace(&hash, format!("{:016x}", fnv1a(&bytes)).as_bytes())
        .map_err(|e| format!("{}: {e}", hash.display()))?;

    // For people who want to see or install the file. The command works without it, so a failure is
    // no failure here.
    if let Some(profile) = out.ancestors().nth(3) {
        let _ = replace(&profile.join(LIBRARY), &bytes);
    }
    Ok(())
}

fn directory(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| format!("cargo did not set {variable}"))
}

/// Names everything the library is made of, so that a change there builds it again.
fn watch(workspace: &Path) {
    println!("cargo::rerun-if-changed=build.rs");
    let sources = [
        "Cargo.toml",
        "Cargo.lock",
        "crates/memcg/src",
        "crates/memcg/build.rs",
        "crates/memcg/Cargo.toml",
        "crates/memcg-preload/src",
        "crates/memcg-preload/build.rs",
        "crates/memcg-preload/Cargo.toml",
    ];
    for source in sources.map(|s| workspace.join(s)) {
        // A missing file would count as changed for ever.
        if source.exists() {
            println!("cargo::rerun-if-changed={}", source.display());
        }
    }
}

/// Runs the nested cargo; its messages go to this script's stderr, which cargo shows when the
/// script fails.
fn nested_build(workspace: &Path, target_dir: &Path) -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let target = env::var("TARGET").map_err(|e| format!("TARGET: {e}"))?;
    let cross = env::var("HOST").is_ok_and(|host| host != target);

    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--release",
            "-p",
            "memcg-preload",
            "--manifest-path",
        ])
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(workspace);
    if workspace.join("Cargo.lock").exists() {
        command.arg("--locked");
    }
    let mut release = target_dir.to_path_buf();
    if cross {
        command.args(["--target", &target]);
        release.push(&target);
    }
    for (name, _) in env::vars_os() {
        if leaks(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }

    // It is carried inside the command: without what only a debugger reads.
    command.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");

    let status = command
        .status()
        .map_err(|e| format!("cargo could not be started: {e}"))?;
    if !status.success() {
        return Err(format!("the nested cargo build ended with {status}"));
    }
    Ok(release.join("release").join(LIBRARY))
}

fn leaks(name: &str) -> bool {
    LEAKS.contains(&name)
        || [
            "CARGO_FEATURE_",
            "CARGO_CFG_",
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_PROFILE_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || (name.starts_with("CARGO_TARGET_") && name.ends_with("_RUSTFLAGS"))
}

/// Puts `bytes` at `path` in one step; a reader sees the old file or the new one. An equal file is
/// left alone.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let temporary = path.with_extension(format!("so.{}", process::id()));
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// FNV-1a: names the library's folder in the cache. The command compares the bytes themselves
/// before it uses a file, so the name need not resist anybody.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
