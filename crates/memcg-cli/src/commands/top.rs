//! `memcg top`: the groups of a process, once or live.

use super::pid_parser;
use crate::args::Interval;
use crate::client::{Client, ClientError, directory};
use crate::failure::{Failure, UNREACHABLE};
use crate::output::{self, note};
use crate::snapshot::{self, Snapshot};
use crate::sys::signals::Blocked;
use crate::terminal::{self, Line};
use std::io::{self, IsTerminal};
use std::time::Duration;

/// What `memcg top` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg top
  memcg top 4242 --interval 0.5
  memcg top 4242 --once
  memcg top 4242 --json --interval 5 >> groups.jsonl

Without a PID the only process under memcg is shown. When stdout is no terminal, one table is
printed. --json prints one snapshot; with --interval one a line until the process ends.

RATE is the change of CURRENT since the table before; EVENTS are those of memory.events that
happened.")]
pub struct Options {
    /// The process
    #[arg(value_name = "PID", value_parser = pid_parser())]
    pid: Option<u32>,
    /// Print one table
    #[arg(long)]
    once: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// How often to look [default: 1]
    #[arg(long, value_name = "SECONDS", conflicts_with = "once")]
    interval: Option<Interval>,
}

/// What is printed, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    OneTable,
    OneJson,
    LiveTable,
    JsonLines,
}

/// Shows the groups.
pub fn run(options: &Options) -> Result<(), Failure> {
    let pid = options.pid.map_or_else(directory::only_one, Ok)?;
    let mut source = Source {
        pid,
        client: Client::connect(pid)?,
    };
    let mode = mode(options, io::stdout().is_terminal());
    match mode {
        Mode::OneTable => {
            let lines = picture(&source.look().map_err(|e| source.failure(e))?, None);
            output::emit(terminal::text(&lines, terminal::colour(&io::stdout())))
        }
        Mode::OneJson => output::emit_json(&source.look().map_err(|e| source.failure(e))?),
        Mode::LiveTable | Mode::JsonLines => {
            let interval = options
                .interval
                .map_or(Duration::from_secs(1), |interval| interval.0);
            live(&mut source, mode, interval)
        }
    }
}

fn mode(options: &Options, on_terminal: bool) -> Mode {
    match (options.json, options.interval.is_some()) {
        (true, true) => Mode::JsonLines,
        (true, false) => Mode::OneJson,
        (false, _) if options.once || !on_terminal => Mode::OneTable,
        (false, _) => Mode::LiveTable,
    }
}

/// Looks again and again until the process ends or a signal comes; both are a good end.
fn live(source: &mut Source, mode: Mode, interval: Duration) -> Result<(), Failure> {
    let signals = Blocked::new(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP]);
    let mut before: Option<Snapshot> = None;
    loop {
        let now = match source.look() {
            Ok(now) => now,
            Err(error) => {
                let Some(last) = before.filter(|_| error.is_gone()) else {
                    return Err(source.failure(error));
                };
                note(&format!(
                    "the process has ended: {} ({})",
                    source.pid, last.comm
                ));
                return Ok(());
            }
        };
        if mode == Mode::JsonLines {
            output::emit_json_line(&now)?;
        } else {
            let lines = terminal::fit(
                picture(&now, before.as_ref()),
                terminal::size(libc::STDOUT_FILENO),
            );
            output::emit(terminal::full_screen(
                &lines,
                terminal::colour(&io::stdout()),
            ))?;
        }
        before = Some(now);
        if signals.wait(Some(interval)).is_some() {
            // The terminal has shown the key as ^C; the prompt gets a line of its own.
            let end = if mode == Mode::LiveTable { "\n" } else { "" };
            return output::emit(end);
        }
    }
}

fn picture(now: &Snapshot, before: Option<&Snapshot>) -> Vec<Line> {
    let seconds = now.uptime_ms as f64 / 1000.0;
    let mut lines = vec![Line::plain(format!(
        "process {} ({}), up {seconds:.1} s",
        now.pid, now.comm
    ))];
    lines.extend(snapshot::table::lines(now, before));
    lines
}

/// The process that is looked at.
struct Source {
    pid: u32,
    client: Client,
}

impl Source {
    fn look(&mut self) -> Result<Snapshot, ClientError> {
        let text = self.client.ask(&[b"snapshot"])?;
        snapshot::parse(&String::from_utf8_lossy(&text)).map_err(ClientError::Garbled)
    }

    fn failure(&self, error: ClientError) -> Failure {
        match error {
            ClientError::Garbled(reason) => {
                let advice = "use the memcg of the version the process runs";
                Failure::new(
                    UNREACHABLE,
                    format_args!("top: snapshot of process {}: {reason}: {advice}", self.pid),
                )
            }
            error => error.at("top", "snapshot", self.pid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(once: bool, json: bool, interval: bool) -> Options {
        let interval = interval.then_some(Interval(Duration::from_secs(1)));
        Options {
            pid: None,
            once,
            json,
            interval,
        }
    }

    #[test]
    fn a_table_is_live_on_a_terminal_only() {
        assert_eq!(mode(&options(false, false, false), true), Mode::LiveTable);
        assert_eq!(mode(&options(false, false, true), true), Mode::LiveTable);
        assert_eq!(mode(&options(true, false, false), true), Mode::OneTable);
        assert_eq!(mode(&options(false, false, true), false), Mode::OneTable);
    }

    #[test]
    fn json_is_printed_once_unless_an_interval_is_given() {
        for on_terminal in [true, false] {
            assert_eq!(
                mode(&options(false, true, false), on_terminal),
                Mode::OneJson
            );
            assert_eq!(
                mode(&options(true, true, false), on_terminal),
                Mode::OneJson
            );
            assert_eq!(
                mode(&options(false, true, true), on_terminal),
                Mode::JsonLines
            );
        }
    }
}
