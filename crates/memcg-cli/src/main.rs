//! `memcg`: runs programs under memory control groups, looks at the groups, changes them.
//!
//! The rooms, each using those above it:
//!
//! - `sys`: the few system calls the standard library does not offer; all `unsafe` of this crate is there
//! - `failure`, `output`, `size`, `interval`, `table`, `terminal`: how results and errors are said
//! - `client`: the control socket of a process under the engine
//! - `snapshot`: what the engine says about its groups, as values, table and JSON
//! - `exec`: `memcg exec`
//! - `run`: `memcg run`; what runs is the crate `memcg-scenario`
//! - `lab`: `memcg lab`
//! - `commands`: the other commands, each in its file
//! - `args`: the command line
//!
//! The engine is linked for `run` and `lab` alone: the other commands speak the control socket's
//! protocol, and `exec` carries the preload library as bytes. This program's own memory is the C
//! library's.

mod args;
mod client;
mod commands;
mod exec;
mod failure;
mod interval;
mod lab;
mod output;
mod run;
mod size;
mod snapshot;
mod sys;
mod table;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = args::parse().and_then(args::Request::run);
    outcome.unwrap_or_else(|failure| output::report(&failure))
}
