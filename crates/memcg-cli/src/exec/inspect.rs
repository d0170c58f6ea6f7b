//! Can the engine be put under this program?
//!
//! The loader ignores a preload library without a word, or with one nobody understands, where it
//! may not or cannot use it. Better to refuse than to run a program that is believed to be limited.
//! Where the program itself says that it wants malloc for its own, it runs without the library and
//! one line says so.

use super::elf::{self, Dynamic, Executable};
use super::{env_script, library, path_search};
use crate::failure::Failure;
use crate::sys;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What is to be done about a program that can be started.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The engine goes under it.
    Under,
    /// The engine goes under it and will not see everything: this is to be said.
    Partly(String),
    /// It is to run without the engine, and this is to be said.
    Aside(String),
}

/// How many interpreters of interpreters the kernel goes through.
const DEEPEST: usize = 4;

/// Refuses a program whose loader would not take the library. `program` is what the user called it.
pub fn check(program: &OsStr, path: &Path) -> Result<Verdict, Failure> {
    if is_valgrind(path) {
        return Ok(Verdict::Aside(aside(
            path,
            "valgrind puts its own malloc under the program",
        )));
    }
    check_file(program, path, path, 0)
}

/// `path` is the program itself, or what runs it because it is a script.
fn check_file(
    program: &OsStr,
    script: &Path,
    path: &Path,
    depth: usize,
) -> Result<Verdict, Failure> {
    let cannot = |why: &str, advice: &str| {
        let place = match path == script {
            true => path.display().to_string(),
            false => format!("{}, which runs {}", path.display(), script.display()),
        };
        Err(Failure::exec(format_args!(
            "{why}: {place}: the engine cannot be put under it: {advice}, or run it without: MEMCG=off"
        )))
    };
    // What may be run and not read cannot be looked at; the kernel and the loader will say.
    let Ok(kind) = elf::look(path, library::machine()) else {
        return Ok(Verdict::Under);
    };
    match kind {
        Executable::Static => cannot(
            "statically linked",
            "no loader runs that could load a library: link it dynamically",
        ),
        Executable::Foreign(machine) => cannot(
            &format!("built for another machine ({machine})"),
            "build it for this one",
        ),
        Executable::Broken => Err(path_search::not_executable(
            program,
            &format!("{} is a damaged ELF file", path.display()),
        )),
        Executable::Dynamic(it) if is_musl(&it.loader) => cannot(
            "linked to musl libc, and the engine to glibc",
            "build it for glibc",
        ),
        Executable::Dynamic(it) if !it.loader.exists() => Err(path_search::not_executable(
            program,
            &format!("its loader {} is missing", it.loader.display()),
        )),
        Executable::Dynamic(_) if changes_user(path) => cannot(
            "runs with another user's or group's rights (setuid)",
            "the loader takes no library there: run it as that user",
        ),
        Executable::Dynamic(_) if gains_capabilities(path) => cannot(
            "has capabilities of its own",
            "the loader takes no library there: run it as root",
        ),
        Executable::Dynamic(it) => Ok(judge(path, &it)),
        Executable::Script(it) if !it.interpreter.exists() => {
            let why = format!("its interpreter {} is missing", it.interpreter.display());
            Err(path_search::not_executable(program, &why))
        }
        // The kernel will say that it is too deep.
        Executable::Script(_) if depth == DEEPEST => Ok(Verdict::Under),
        Executable::Script(it) => match env_script::program_of(&it) {
            Some(real) => check_file(program, script, &real, depth + 1),
            None => check_file(program, script, &it.interpreter, depth + 1),
        },
        Executable::Other => Ok(Verdict::Under),
    }
}

/// A dynamic program the loader would take the library for: would it do any good?
fn judge(path: &Path, program: &Dynamic) -> Verdict {
    if let Some(sanitizer) = program.sanitizer {
        let why = format!("{sanitizer} puts its own malloc under it");
        return Verdict::Aside(aside(path, &why));
    }
    if program.own_malloc {
        return Verdict::Partly(format!(
            "warning: its own malloc: {}: what it gets from that is neither seen nor limited: \
             build it without, or do not rely on limits here",
            path.display()
        ));
    }
    Verdict::Under
}

fn aside(path: &Path, why: &str) -> String {
    format!(
        "without the engine: {}: {why}: nothing is counted or limited in this run",
        path.display()
    )
}

fn is_valgrind(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name == "valgrind" || name == "valgrind.bin")
}

fn is_musl(loader: &Path) -> bool {
    loader
        .file_name()
        .is_some_and(|name| name.to_string_lossy().contains("ld-musl"))
}

/// Would the program's effective ids differ from the real ones? Then the loader takes no library by
/// path. A setuid program of the user's own (root's, run by root) changes nothing.
fn changes_user(path: &Path) -> bool {
    let Ok(file) = path.metadata() else {
        return false;
    };
    let user = file.mode() & libc::S_ISUID != 0 && file.uid() != sys::process::user();
    // Without the execute bit for the group, setgid has nothing to do with running the file.
    let setgid = libc::S_ISGID | libc::S_IXGRP;
    let group = file.mode() & setgid == setgid && file.gid() != sys::process::group();
    user || group
}

/// File capabilities make the loader careful for everybody but root.
fn gains_capabilities(path: &Path) -> bool {
    sys::process::user() != 0 && sys::files::has_capabilities(path)
}
