//! Whose socket a `memcg exec` stands for: its program's.
//!
//! A shell's `$!` and a supervisor's main PID are those of `memcg exec`, which has no engine and no
//! socket; its one child, the program, has.
//!
//! Invariants: only a process that runs `memcg exec` stands for another one.
//! Depends on: sys.
//! Never: connects, waits.

use crate::sys::proc_stat::{self, ProcStat};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// A process younger than this may be on its way to its socket.
const YOUNG: Duration = Duration::from_secs(2);

/// What a process is to somebody who looks for its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A program, or none.
    Program,
    /// It was started a moment ago, and may be about to become `memcg exec`, or to start its
    /// program.
    Starting,
    /// It is `memcg exec`, and this is its program.
    ExecOf(u32),
}

/// The role of process `pid` at the moment.
pub fn role(pid: u32) -> Role {
    let Some(stat) = ProcStat::read(pid) else {
        return Role::Program;
    };
    if !is_memcg_exec(pid) {
        return match stat.is_fork && stat.age < YOUNG {
            true => Role::Starting,
            false => Role::Program,
        };
    }
    match proc_stat::children(pid).first() {
        Some(child) => Role::ExecOf(*child),
        None if stat.age < YOUNG => Role::Starting,
        None => Role::Program,
    }
}

/// Was process `pid` started a moment ago, so that its socket may be there soon?
pub fn is_young(pid: u32) -> bool {
    ProcStat::read(pid).is_some_and(|stat| stat.age < YOUNG)
}

/// Is it `memcg exec` by its command line?
fn is_memcg_exec(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|b| *b == 0);
    let program = words.next().unwrap_or_default();
    let name = Path::new(OsStr::from_bytes(program)).file_name();
    let own = std::env::current_exe().ok();
    let is_memcg = name.is_some_and(|name| {
        name == "memcg" || own.as_deref().and_then(Path::file_name) == Some(name)
    });
    is_memcg && words.next() == Some(b"exec")
}
