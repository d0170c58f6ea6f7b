//! `memcg ps`: which processes are under memcg.

use crate::client::processes::{self, Live};
use crate::failure::Failure;
use crate::output;
use crate::size::human;
use crate::snapshot;
use crate::table::{Align, Table};
use serde::Serialize;

/// What `memcg ps` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg ps
  memcg ps --json

A process is listed when its control socket answers. CURRENT is what its root group holds.")]
pub struct Options {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A process under memcg.
#[derive(Debug, Serialize)]
struct Process {
    pid: u32,
    comm: String,
    current: Option<u64>,
}

/// Lists the processes.
pub fn run(options: &Options) -> Result<(), Failure> {
    let processes: Vec<Process> = processes::live().into_iter().map(process).collect();
    if options.json {
        return output::emit_json(&processes);
    }
    let mut table = Table::new([
        ("PID", Align::Right),
        ("COMM", Align::Left),
        ("CURRENT", Align::Right),
    ]);
    for process in processes {
        let current = process.current.map_or_else(|| "-".to_owned(), human);
        table.push(vec![process.pid.to_string(), process.comm, current]);
    }
    output::emit(table.text())
}

fn process(mut live: Live) -> Process {
    let current = live.client.ask(&[b"snapshot"]).ok().and_then(|text| {
        let snapshot = snapshot::parse(&String::from_utf8_lossy(&text)).ok()?;
        snapshot
            .groups
            .iter()
            .find(|group| group.path == b"/")
            .map(|root| root.current)
    });
    Process {
        pid: live.pid,
        comm: live.comm,
        current,
    }
}
