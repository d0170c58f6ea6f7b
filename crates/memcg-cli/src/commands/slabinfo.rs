//! `memcg slabinfo`: the kmem caches of a group, from the file `memory.kmem.slabinfo`.

use super::tab_separated::Rows;
use super::{ask, path_parser, pid_parser};
use crate::client::processes;
use crate::failure::Failure;
use crate::output;
use std::ffi::OsString;

/// What `memcg slabinfo` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg slabinfo
  memcg slabinfo 4242 /worker --json

Without a PID the only process under memcg is asked. A group has the kmem caches that were \
made for it and for the groups below it, and dead caches that it inherited; the root has \
all.")]
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

/// Shows the caches.
pub fn run(options: &Options) -> Result<(), Failure> {
    let pid = options.pid.map_or_else(processes::only_one, Ok)?;
    let mut file = options.path.clone();
    if file != "/" {
        file.push("/");
    }
    file.push("memory.kmem.slabinfo");
    let text = ask(pid, "get", &file, &[])?;
    let text = String::from_utf8_lossy(&text);
    let caches = Rows::parse(&text);
    if options.json {
        return output::emit_json(&caches.objects());
    }
    output::emit(caches.table().text())
}
