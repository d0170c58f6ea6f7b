//! `memcg top`: the groups of a process, once or live.
//!
//! On a terminal it is a program of its own ([`live`]); everywhere else it prints tables or JSON
//! ([`plain`]). Both ask a [`source::Source`].

mod live;
mod plain;
mod source;

use super::pid_parser;
use crate::client::processes;
use crate::failure::Failure;
use crate::interval::Interval;
use crate::terminal;
use source::Source;
use std::io;
use std::time::Duration;

/// What `memcg top` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  memcg top
  memcg top 4242 --interval 0.5
  memcg top 4242 --once
  memcg top 4242 --json --interval 5 >> groups.jsonl

Without a PID the only process under memcg is shown.

On a terminal the view is live; its keys:
  q, Esc           quit
  arrows, j, k     move; also PageUp, PageDown, Home, End
  Enter, Space     fold or unfold a group; also Left and Right
  s, r             sort by the next column; turn the order round
  p                pause
  + -              a longer or shorter time between two looks
  o                the owners of the group: who holds its memory
  ?                help

Elsewhere one table is printed, and with --interval one after the other. --json prints one \
snapshot; with --interval one a line. All of these end with the process, and say so.

RATE is the change of CURRENT since the look before; USED is CURRENT of MAX; EVENTS are \
those of memory.events that happened. Processes that this one started are counted, not \
shown: each has groups of its own, and `memcg ps` lists them.

Exit codes:
  0  done; also when you quit, when SIGINT, SIGTERM, SIGHUP or SIGQUIT came,
     or when the process that was watched has ended
  2  wrong usage, or several processes are under memcg and none was named
  3  no such process, not under memcg, or it cannot be asked (any more)")]
pub struct Options {
    /// The process: its PID, or that of its `memcg exec`
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

/// How the groups are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    OneTable,
    Tables,
    OneJson,
    JsonLines,
    Live,
}

/// Shows the groups.
pub fn run(options: &Options) -> Result<(), Failure> {
    let pid = options.pid.map_or_else(processes::only_one, Ok)?;
    let mut source = Source::connect(pid)?;
    let interval = options.interval.map(|interval| interval.0);
    let interval = interval.unwrap_or(Duration::from_secs(1));
    match mode(options, terminal::can_draw(&io::stdout())) {
        Mode::OneTable => plain::table(&mut source),
        Mode::Tables => plain::tables(&mut source, interval),
        Mode::OneJson => plain::json(&mut source),
        Mode::JsonLines => plain::json_lines(&mut source, interval),
        Mode::Live => live::run(source, interval),
    }
}

fn mode(options: &Options, on_terminal: bool) -> Mode {
    match (options.json, options.interval.is_some()) {
        (true, true) => Mode::JsonLines,
        (true, false) => Mode::OneJson,
        (false, _) if options.once => Mode::OneTable,
        (false, _) if on_terminal => Mode::Live,
        (false, true) => Mode::Tables,
        (false, false) => Mode::OneTable,
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
    fn the_view_is_live_on_a_terminal_only() {
        assert_eq!(mode(&options(false, false, false), true), Mode::Live);
        assert_eq!(mode(&options(false, false, true), true), Mode::Live);
        assert_eq!(mode(&options(true, false, false), true), Mode::OneTable);
        assert_eq!(mode(&options(false, false, false), false), Mode::OneTable);
        assert_eq!(mode(&options(false, false, true), false), Mode::Tables);
    }

    #[test]
    fn json_is_printed_once_unless_an_interval_is_given() {
        for on_terminal in [true, false] {
            let mode = |interval| mode(&options(false, true, interval), on_terminal);
            assert_eq!((mode(false), mode(true)), (Mode::OneJson, Mode::JsonLines));
        }
    }
}
