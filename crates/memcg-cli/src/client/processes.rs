//! The processes under memcg that answer.
//!
//! Invariants: a process is listed when its socket answered a `hello`.
//! Depends on: connection, socket_folder, escape.
//! Never: waits for one process longer than [`PATIENCE`].

use super::connection::Client;
use super::escape::{printable, unescape};
use super::socket_folder;
use crate::failure::{Failure, UNREACHABLE, USAGE};
use crate::sys::proc_stat::ProcStat;
use std::path::Path;
use std::time::Duration;

/// Processes nest no deeper than this.
const DEEPEST: usize = 64;
/// How long one process may take to answer when all are asked.
const PATIENCE: Duration = Duration::from_millis(500);

/// A process whose socket answered.
#[derive(Debug)]
pub struct Live {
    /// Its id, by the socket's name.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// The connection that was tried.
    pub client: Client,
}

/// The processes whose sockets answer, by id. Left-over sockets are passed over.
pub fn live() -> Vec<Live> {
    socket_folder::sockets()
        .into_iter()
        .filter_map(|(pid, path)| greet(pid, &path))
        .collect()
}

/// How many processes under memcg descend from `pid`: those with a socket whose parents lead there.
/// Nobody is asked.
pub fn below(pid: u32) -> usize {
    let descends = |other: &u32| {
        let mut at = *other;
        // Parents go up to 1; a bound, should one end and its id be used again meanwhile.
        for _ in 0..DEEPEST {
            let Some(stat) = ProcStat::read(at) else {
                return false;
            };
            if stat.parent == pid {
                return true;
            }
            at = stat.parent;
        }
        false
    };
    let sockets = socket_folder::sockets_beside(pid);
    sockets
        .iter()
        .map(|(other, _)| other)
        .filter(|other| descends(other))
        .count()
}

/// The process to look at when none was named: the only one there is.
pub fn only_one() -> Result<u32, Failure> {
    match live().as_slice() {
        [one] => Ok(one.pid),
        [] => Err(Failure::new(
            UNREACHABLE,
            "no process is under memcg: start one with `memcg exec PROGRAM`",
        )),
        several => {
            let list: Vec<String> = several
                .iter()
                .map(|p| format!("{} ({})", p.pid, p.comm))
                .collect();
            let list = list.join(", ");
            Err(Failure::new(
                USAGE,
                format_args!("several processes are under memcg: {list}: name one by its PID"),
            ))
        }
    }
}

fn greet(pid: u32, path: &Path) -> Option<Live> {
    let mut client = Client::connect_at(path, PATIENCE, PATIENCE).ok()?;
    let hello = client.ask(&[b"hello"]).ok()?;
    let hello = String::from_utf8_lossy(&hello);
    let comm = hello
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("comm="))?;
    let comm = unescape(comm).ok()?;
    Some(Live {
        pid,
        comm: printable(&comm),
        client,
    })
}
