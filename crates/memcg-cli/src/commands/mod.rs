//! The commands that ask a process over its control socket.

#![forbid(unsafe_code)]

pub mod get_set;
pub mod groups;
mod limit_note;
pub mod ls;
pub mod owners;
pub mod ps;
pub mod slabinfo;
mod tab_separated;
pub mod top;

use crate::client::Client;
use crate::failure::Failure;
use clap::builder::{OsStringValueParser, StringValueParser, TypedValueParser};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Reads a process id.
fn pid_parser() -> impl TypedValueParser<Value = u32> {
    StringValueParser::new().try_map(|text| match text.parse::<i32>() {
        Ok(pid @ 1..) => Ok(pid.unsigned_abs()),
        _ => Err("it must be a process id: `memcg ps` lists those under memcg"),
    })
}

/// Reads a path in the tree of groups, which begins with a slash.
fn path_parser() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|path| match path.as_bytes().first() {
        Some(b'/') => Ok(path),
        _ => Err("it must begin with '/', the root group"),
    })
}

/// Asks process `pid` one thing: the command's name, its place, and what else there is to say.
fn ask(pid: u32, what: &str, place: &OsStr, rest: &[&OsStr]) -> Result<Vec<u8>, Failure> {
    let mut words = vec![what.as_bytes(), place.as_bytes()];
    words.extend(rest.iter().map(|word| word.as_bytes()));
    send(pid, &words, what, place)
}

/// Asks process `pid` with `words`; a failure says that `what` failed at `place`.
fn send(pid: u32, words: &[&[u8]], what: &str, place: &OsStr) -> Result<Vec<u8>, Failure> {
    let (mut client, pid) = Client::connect(pid)?;
    client
        .ask(words)
        .map_err(|error| error.at(what, &place.to_string_lossy(), pid))
}
