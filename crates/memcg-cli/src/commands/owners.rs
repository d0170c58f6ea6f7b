//! `memcg owners`: who holds a group's memory, from the file `memory.owners`.

use super::tab_separated::Rows;
use super::{ask, path_parser, pid_parser};
use crate::client::processes;
use crate::failure::Failure;
use crate::output;
use std::ffi::OsString;

/// What `memcg owners` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg owners
  memcg owners 4242 /worker --json

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
    let text = ask(pid, "owners", &options.path, &[])?;
    let text = String::from_utf8_lossy(&text);
    let owners = Rows::parse(&text);
    if options.json {
        return output::emit_json(&owners.objects());
    }
    output::emit(owners.table().text())
}

/// The text of `memory.owners` as a table of lines, its header first.
pub fn lines(text: &str) -> Vec<String> {
    Rows::parse(text).table().lines()
}
