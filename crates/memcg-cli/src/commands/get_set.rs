//! `memcg get` and `memcg set`: the files of a group.
//!
//! Invariants: `get` prints a file's bytes as they are; `set` prints nothing on stdout.
//! Depends on: client, `limit_note`.
//! Never: interprets a value before it is written; the engine does.

use super::limit_note::Before;
use super::{path_parser, pid_parser};
use crate::client::{Client, ClientError};
use crate::failure::{Failure, REFUSED};
use crate::output::{self, note};
use memcg::internal::os::errno::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What `memcg get` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg get 4242 /memory.current
  memcg get 4242 /worker/memory.stat")]
pub struct Get {
    /// The process: its PID, or that of its `memcg exec`
    #[arg(value_name = "PID", value_parser = pid_parser())]
    pid: u32,
    /// The file: its group's path, a slash, its name
    #[arg(value_name = "PATH/FILE", value_parser = path_parser())]
    file: OsString,
}

/// What `memcg set` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg set 4242 /worker/memory.max 1G
  memcg set 4242 /worker/memory.reclaim 64M swappiness=0

Several values are written as one, with a space between them.

A memory.max below what the group holds is written all the same; a line on stderr then says \
what is held and what happens now.")]
pub struct Set {
    /// The process: its PID, or that of its `memcg exec`
    #[arg(value_name = "PID", value_parser = pid_parser())]
    pid: u32,
    /// The file: its group's path, a slash, its name
    #[arg(value_name = "PATH/FILE", value_parser = path_parser())]
    file: OsString,
    /// What to write
    #[arg(value_name = "VALUE", required = true, allow_hyphen_values = true)]
    values: Vec<OsString>,
}

/// Prints the file's text as it is.
pub fn get(options: &Get) -> Result<(), Failure> {
    let (mut client, pid) = Client::connect(options.pid)?;
    let text = client
        .ask(&[b"get", options.file.as_bytes()])
        .map_err(|error| failure(error, "get", &options.file, pid))?;
    output::emit(text)
}

/// Writes the values.
pub fn set(options: &Set) -> Result<(), Failure> {
    let (mut client, pid) = Client::connect(options.pid)?;
    let before = Before::look(&mut client, &options.file);
    let mut words = vec![b"set".as_slice(), options.file.as_bytes()];
    words.extend(options.values.iter().map(|value| value.as_bytes()));
    client
        .ask(&words)
        .map_err(|error| failure(error, "set", &options.file, pid))?;
    if let Some(line) = before.and_then(|before| before.compare(&mut client)) {
        note(&line);
    }
    Ok(())
}

/// A refusal; of a group that was named in a file's place it says what to ask instead.
fn failure(error: ClientError, what: &str, file: &OsStr, pid: u32) -> Failure {
    let place = file.to_string_lossy();
    if !matches!(&error, ClientError::Refused { errno, .. } if *errno == Errno::EISDIR) {
        return error.at(what, &place, pid);
    }
    let group = match place.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    let inside = group.trim_end_matches('/');
    let example = match what {
        "set" => format!("`memcg set {pid} {inside}/memory.max VALUE` writes one"),
        _ => format!("`memcg get {pid} {inside}/memory.current` reads one"),
    };
    Failure::new(
        REFUSED,
        format_args!(
            "{what}: {group} of process {pid}: EISDIR: it is a group: `memcg ls {pid} {group}` lists its files, {example}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_in_a_files_place_is_told_what_to_ask() {
        let line = |what: &str, file: &str| {
            let error = ClientError::Refused {
                errno: Errno::EISDIR,
                message: "it is a group".into(),
            };
            let failure = failure(error, what, OsStr::new(file), 42);
            assert_eq!(failure.code(), REFUSED);
            failure.line().expect("a line").to_owned()
        };
        assert_eq!(
            line("get", "/acme"),
            "get: /acme of process 42: EISDIR: it is a group: `memcg ls 42 /acme` lists its files, \
             `memcg get 42 /acme/memory.current` reads one"
        );
        let root = line("set", "/");
        assert!(root.contains("`memcg ls 42 /` lists"), "{root}");
        assert!(root.contains("`memcg set 42 /memory.max VALUE`"), "{root}");
    }
}
