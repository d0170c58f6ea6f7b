//! `memcg get` and `memcg set`: the files of a group.

use super::{ask, path_parser, pid_parser};
use crate::failure::Failure;
use crate::output;
use std::ffi::{OsStr, OsString};

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

Several values are written as one, with a space between them.")]
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
    output::emit(ask(options.pid, "get", &options.file, &[])?)
}

/// Writes the values.
pub fn set(options: &Set) -> Result<(), Failure> {
    let values: Vec<&OsStr> = options.values.iter().map(OsString::as_os_str).collect();
    ask(options.pid, "set", &options.file, &values).map(drop)
}
