//! `memcg owners`: who holds a group's memory, from the files `memory.owners.live` and
//! `memory.owners`.
//!
//! Invariants: rows stand as the engine sent them, the living first.
//! Depends on: client, tab_separated.
//! Never: knows a column; an engine may add some.

use super::tab_separated::Rows;
use super::{path_parser, pid_parser};
use crate::client::{Client, ClientError, processes};
use crate::failure::Failure;
use crate::output;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What `memcg owners` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg owners
  memcg owners 4242 /worker --json

Live tasks and the group itself come first (the file memory.owners.live), then ended tasks \
and removed groups that still hold bytes here, with the time of their end (the file \
memory.owners). Ended ones of one name and state stand in one line: COUNT says how many they \
are, the bytes are sums, and ENDED is the first end. HELD is the sum of HEAP, MAPPED, RESERVED \
and SLAB, in bytes. Groups below have lists of their own.

Without a PID the only process under memcg is asked.")]
pub struct Options {
    /// The process: its PID, or that of its `memcg exec`
    #[arg(value_name = "PID", value_parser = pid_parser())]
    pid: Option<u32>,
    /// The group
    #[arg(value_name = "PATH", default_value = "/", value_parser = path_parser())]
    path: OsString,
    /// Print JSON: a list of objects
    #[arg(long)]
    json: bool,
}

/// Shows the owners.
pub fn run(options: &Options) -> Result<(), Failure> {
    let pid = options.pid.map_or_else(processes::only_one, Ok)?;
    let (mut client, pid) = Client::connect(pid)?;
    let text = ask_for(&mut client, &options.path)
        .map_err(|error| error.at("owners", &options.path.to_string_lossy(), pid))?;
    let owners = Rows::parse(&text);
    if options.json {
        return output::emit_json(&owners.objects());
    }
    output::emit(owners.table().text())
}

/// The owners of a group, the living before those that have ended, under one header.
pub fn ask_for(client: &mut Client, path: &OsStr) -> Result<String, ClientError> {
    let ended = client.ask(&[b"owners", path.as_bytes()])?;
    let ended = String::from_utf8_lossy(&ended);
    let mut file = path.as_bytes().to_vec();
    if !file.ends_with(b"/") {
        file.push(b'/');
    }
    file.extend_from_slice(b"memory.owners.live");
    match client.ask(&[b"get", &file]) {
        Ok(live) => {
            let mut text = String::from_utf8_lossy(&live).into_owned();
            let rows = ended.split_once('\n').map_or("", |(_, rows)| rows);
            text.push_str(rows);
            Ok(text)
        }
        // An older engine tells of those that have ended alone.
        Err(ClientError::Refused { .. }) => Ok(ended.into_owned()),
        Err(error) => Err(error),
    }
}

/// The text of [`ask_for`] as a table of lines, its header first.
pub fn lines(text: &str) -> Vec<String> {
    Rows::parse(text).table().lines()
}
