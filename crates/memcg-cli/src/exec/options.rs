//! The options of `memcg exec`.

use super::rules::{GroupRule, Setting};
use super::rules_file::RulesFile;
use crate::interval::Interval;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  memcg exec -- make -j8
  memcg exec --group 'worker-*=/workers' --set /workers/memory.max=512M ./server
  memcg exec --rules tenants.rules -- ./server
  memcg exec --top -- python3 script.py
  memcg exec --report groups.tsv -- ./batch input.csv

Without rules, each family of thread names is a group: worker-3 belongs to /worker.
A GLOB knows * and ?. GLOB and PATH/FILE end at the first '='.

With --top on a terminal the table is redrawn where the cursor is: redirect the program's
output to keep both.

Environment:
  MEMCG=off       run the program as it is, without the engine
  MEMCG_DIR       where control sockets are
  MEMCG_PRELOAD   use this file as the preload library

Exit codes:
  the program's own; if a signal killed it, memcg ends by the same signal
  2    wrong usage: an option, a rule, a rules file
  125  the program was not started: the engine refused a --set, memcg exec itself failed, or the
       engine cannot be put under the program: it is statically linked, built for musl or for
       another machine, setuid, or has capabilities
  126  the program cannot be executed
  127  the program was not found

A program under valgrind or built with a sanitizer (-fsanitize=address and others) runs without
the engine, as with MEMCG=off, and one line says so. docs/cli.md has the whole table.";

/// What `memcg exec` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, override_usage = "memcg exec [OPTIONS] [--] PROGRAM [ARGS]...")]
pub struct Options {
    /// Threads whose name matches GLOB belong to the group PATH; the first rule that matches counts
    #[arg(long = "group", value_name = "GLOB=PATH", value_parser = OsStringValueParser::new().try_map(|v| GroupRule::parse(&v)))]
    pub groups: Vec<GroupRule>,

    /// Read rules from FILE, one GLOB=PATH a line; lines that begin with # are comments. They come after those of --group
    #[arg(long = "rules", value_name = "FILE", value_parser = OsStringValueParser::new().try_map(|v| RulesFile::read(&v)))]
    pub files: Vec<RulesFile>,

    /// Write VALUE to a file of a group before the program starts
    #[arg(long = "set", value_name = "PATH/FILE=VALUE", value_parser = OsStringValueParser::new().try_map(|v| Setting::parse(&v)))]
    pub settings: Vec<Setting>,

    /// Show the groups on stderr: every SECONDS on a terminal (default 1), and at the end
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true)]
    pub top: Option<Option<Interval>>,

    /// Write the groups as they were at the end to FILE
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Do without the engine's helper thread, and so without a control socket
    #[arg(long)]
    pub no_thread: bool,

    /// Let threads above their group's memory.high pay the delay they owe inside malloc, at most 10 ms a call
    #[arg(long)]
    pub throttle: bool,

    /// Abort the program on an accounting inconsistency, instead of switching accounting off
    #[arg(long)]
    pub strict: bool,

    /// Leave Python's own allocator in place; without this PYTHONMALLOC=malloc is set
    #[arg(long)]
    pub keep_python_malloc: bool,

    /// The program, and what it is given
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

impl Options {
    /// All rules, in the order in which they are tried.
    pub fn rules(&self) -> impl Iterator<Item = &GroupRule> {
        let files = self.files.iter().flat_map(RulesFile::rules);
        self.groups.iter().chain(files)
    }

    /// How often the groups are looked at.
    pub fn interval(&self) -> Duration {
        self.top
            .flatten()
            .map_or(Duration::from_secs(1), |interval| interval.0)
    }
}
