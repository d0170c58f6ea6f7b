//! `memcg`: runs programs under memory control groups, looks at the groups, changes them.
//!
//! The rooms, each using those above it:
//!
//! - `sys`: the few system calls the standard library does not offer; all `unsafe` of this crate is
//!   there
//! - `size`, `interval`, `terminal`: how results are said, beside the crate `memcg-term`
//! - `client`: the control socket of a process under the engine
//! - `snapshot`: what the engine says about its groups, as values, table and JSON
//! - `exec`: `memcg exec`
//! - `run`: `memcg run`; what runs is the crate `memcg-scenario`, as `memcg lab` is the crate
//!   `memcg-lab`
//! - `commands`: the other commands, each in its file
//! - `args`: the command line
//!
//! The engine is linked for `run`, `lab` and its error numbers alone: the other commands speak the
//! control socket's protocol, and `exec` carries the preload library as bytes. This program's own
//! memory is the C library's.

mod args;
mod client;
mod commands;
mod exec;
mod interval;
mod run;
mod size;
mod snapshot;
mod sys;
mod terminal;

use memcg_term::{failure, output, table};
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = args::parse().and_then(args::Request::run);
    outcome.unwrap_or_else(|failure| output::report(&failure))
}
