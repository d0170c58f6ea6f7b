//! Why a program could not be started, from the error of `execve`.
//!
//! Invariants: every error is one line and one of the exit codes 125, 126.
//! Depends on: find.
//! Never: looks at the program's file; [`super::inspect`] does.

use super::path_search::not_executable;
use crate::failure::{EXEC_FAILED, Failure};
use std::ffi::OsStr;

/// What an error of `execve` means to the caller.
pub fn explain(program: &OsStr, error: &std::io::Error) -> Failure {
    let name = program.to_string_lossy();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => Failure::new(
            EXEC_FAILED,
            format_args!("cannot start a process: {name}: {error}"),
        ),
        Some(libc::ENOENT) => not_executable(program, "its interpreter is missing"),
        _ => not_executable(program, &error.to_string()),
    }
}
