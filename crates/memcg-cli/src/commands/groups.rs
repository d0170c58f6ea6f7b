//! `memcg mkdir`, `memcg rmdir` and `memcg move`: the tree and who is where in it.

use super::{ask, path_parser, pid_parser, send};
use crate::failure::Failure;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// What `memcg mkdir` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg mkdir 4242 /batch
  memcg mkdir 4242 /batch/nightly")]
pub struct Mkdir {
    /// The process: its PID, or that of its `memcg exec`
    #[arg(value_name = "PID", value_parser = pid_parser())]
    pid: u32,
    /// The new group
    #[arg(value_name = "PATH", value_parser = path_parser())]
    path: OsString,
}

/// What `memcg rmdir` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg rmdir 4242 /batch

A group with children or live tasks is busy (EBUSY). Whatever else it holds lives on under \
its parent.")]
pub struct Rmdir {
    /// The process: its PID, or that of its `memcg exec`
    #[arg(value_name = "PID", value_parser = pid_parser())]
    pid: u32,
    /// The group
    #[arg(value_name = "PATH", value_parser = path_parser())]
    path: OsString,
}

/// What `memcg move` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg get 4242 /worker/cgroup.procs
  memcg move 4242 17 /batch

A task moves with the memory it holds, all or nothing.")]
pub struct Move {
    /// The process: its PID, or that of its `memcg exec`
    #[arg(value_name = "PID", value_parser = pid_parser())]
    pid: u32,
    /// The task's id, as the file cgroup.procs lists it
    #[arg(value_name = "TASK")]
    task: OsString,
    /// The group it goes to
    #[arg(value_name = "PATH", value_parser = path_parser())]
    path: OsString,
}

/// Makes the group.
pub fn mkdir(options: &Mkdir) -> Result<(), Failure> {
    ask(options.pid, "mkdir", &options.path, &[]).map(drop)
}

/// Removes the group.
pub fn rmdir(options: &Rmdir) -> Result<(), Failure> {
    ask(options.pid, "rmdir", &options.path, &[]).map(drop)
}

/// Moves the task.
pub fn move_task(options: &Move) -> Result<(), Failure> {
    let words = [
        b"move".as_slice(),
        options.task.as_bytes(),
        options.path.as_bytes(),
    ];
    let mut what = OsString::from("task ");
    what.extend([
        options.task.as_os_str(),
        " to ".as_ref(),
        options.path.as_os_str(),
    ]);
    send(options.pid, &words, "move", &what).map(drop)
}
