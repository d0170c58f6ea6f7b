//! Tables and JSON, where no terminal is or none is wanted.

use super::source::Source;
use crate::failure::Failure;
use crate::output::{self, note};
use crate::size::human_time;
use crate::snapshot::{self, Snapshot};
use crate::sys::signals::{self, Blocked};
use crate::terminal::{self, Line};
use std::io;
use std::time::Duration;

/// Prints one table.
pub fn table(source: &mut Source) -> Result<(), Failure> {
    let now = source.look().map_err(|e| source.failure(e))?;
    emit_table(&now, None, source.started())
}

/// Prints one snapshot.
pub fn json(source: &mut Source) -> Result<(), Failure> {
    output::emit_json(&source.look().map_err(|e| source.failure(e))?)
}

/// Prints a table every `interval`, an empty line between them.
pub fn tables(source: &mut Source, interval: Duration) -> Result<(), Failure> {
    repeat(source, interval, |now, before, started| {
        if before.is_some() {
            output::emit("\n")?;
        }
        emit_table(now, before, started)
    })
}

/// Prints a snapshot a line every `interval`.
pub fn json_lines(source: &mut Source, interval: Duration) -> Result<(), Failure> {
    repeat(source, interval, |now, _, _| output::emit_json_line(now))
}

/// Says that the process that was watched has ended.
pub fn say_end(pid: u32, comm: &str) {
    note(&format!("the process has ended: {pid} ({comm})"));
}

/// Looks again and again until the process ends or a signal comes; both are a good end.
fn repeat(
    source: &mut Source,
    interval: Duration,
    show: impl Fn(&Snapshot, Option<&Snapshot>, usize) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let signals = Blocked::new(&signals::not_ignored(&signals::ENDING));
    let mut before: Option<Snapshot> = None;
    loop {
        let now = match source.look() {
            Ok(now) => now,
            Err(error) => {
                let Some(last) = before.filter(|_| error.is_gone()) else {
                    return Err(source.failure(error));
                };
                say_end(source.pid(), &last.comm);
                return Ok(());
            }
        };
        show(&now, before.as_ref(), source.started())?;
        before = Some(now);
        if signals.wait(Some(interval)).is_some() {
            return Ok(());
        }
    }
}

/// `started` is how many processes this one started that are not shown.
fn emit_table(now: &Snapshot, before: Option<&Snapshot>, started: usize) -> Result<(), Failure> {
    let up = human_time(now.uptime_ms);
    let mut lines = vec![Line::plain(format!(
        "process {} ({}), up {up}",
        now.pid, now.comm
    ))];
    lines.extend(snapshot::table::lines(now, before));
    if started > 0 {
        lines.push(Line::plain(snapshot::table::not_shown(&now.comm, started)));
    }
    output::emit(terminal::text(&lines, terminal::colour(&io::stdout())))
}
