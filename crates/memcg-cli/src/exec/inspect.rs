//! Can the engine be put under this program?
//!
//! The loader ignores a preload library without a word, or with one nobody understands, where it may not or cannot use
//! it. Better to refuse than to run a program that is believed to be limited.

use super::elf::{self, Executable};
use super::{find, library};
use crate::failure::Failure;
use crate::sys;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Refuses a program whose loader would not take the library. `program` is what the user called it.
pub fn check(program: &OsStr, path: &Path) -> Result<(), Failure> {
    check_file(program, path, true)
}

fn check_file(program: &OsStr, path: &Path, follow: bool) -> Result<(), Failure> {
    let cannot = |why: &str| {
        let advice = "run it without memcg exec, or with MEMCG=off";
        Err(Failure::exec(format_args!(
            "{why}: {}: the engine cannot be put under it: {advice}",
            path.display()
        )))
    };
    // What may be run and not read cannot be looked at; the kernel and the loader will say.
    let Ok(kind) = elf::look(path, library::machine()) else {
        return Ok(());
    };
    match kind {
        Executable::Static => cannot("statically linked"),
        Executable::Foreign => cannot("built for another machine"),
        Executable::Dynamic { loader } if is_musl(&loader) => {
            cannot("linked to musl libc, and the engine to glibc")
        }
        Executable::Dynamic { loader } if !loader.exists() => Err(find::not_executable(
            program,
            &format!("its loader {} is missing", loader.display()),
        )),
        Executable::Dynamic { .. } if changes_user(path) => {
            cannot("runs with another user's or group's rights (setuid)")
        }
        Executable::Dynamic { .. } if gains_capabilities(path) => {
            cannot("has capabilities of its own")
        }
        Executable::Dynamic { .. } | Executable::Other => Ok(()),
        Executable::Script { interpreter } if !interpreter.exists() => {
            let why = format!("its interpreter {} is missing", interpreter.display());
            Err(find::not_executable(program, &why))
        }
        Executable::Script { interpreter } if follow => check_file(program, &interpreter, false),
        Executable::Script { .. } => Ok(()),
    }
}

fn is_musl(loader: &Path) -> bool {
    loader
        .file_name()
        .is_some_and(|name| name.to_string_lossy().contains("ld-musl"))
}

/// Would the program's effective ids differ from the real ones? Then the loader takes no library by path. A setuid
/// program of the user's own (root's, run by root) changes nothing.
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
