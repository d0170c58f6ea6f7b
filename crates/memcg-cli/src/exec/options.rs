//! The options of `memcg exec`.

use super::rules::{GroupRule, Setting};
use super::rules_file::RulesFile;
use crate::interval::Interval;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The help of `exec`: before the options it says what is not seen. The text between the braces is
/// not wrapped by clap.
const TEMPLATE: &str = "\
{about-with-newline}
Every process has groups of its own: --top, --report and `memcg top` show those
of PROGRAM alone. What a shell or make starts is under the engine too, but not
shown, and each of those processes has a copy of every limit for itself. To see
and to limit a program that a script starts, write `memcg exec` before it in
the script.

{usage-heading} {usage}

{all-args}{after-help}";

const EXAMPLES: &str = "\
Examples:
  memcg exec --top -- python3 script.py
  memcg exec --set /server/memory.max=512M -- ./server
  memcg exec --group 'worker-*=/workers' --set /workers/memory.max=512M ./server
  memcg exec --rules tenants.rules -- ./server
  memcg exec --report groups.tsv -- ./batch input.csv

Without rules, each family of thread names is a group: worker-3 belongs to /worker. A GLOB \
knows * and ?. GLOB and PATH/FILE end at the first '='.

With --top on a terminal the table is redrawn where the cursor is: redirect the program's \
output to keep both.

A line at the end names each group of a --set that no thread ever entered: it may be \
misspelt.

Environment:
  MEMCG=off       run the program as it is, without the engine
  MEMCG_DIR       where control sockets are
  MEMCG_PRELOAD   use this file as the preload library

Exit codes:
  the program's own; if a signal killed it, memcg ends by the same signal
  2    wrong usage: an option, a rule, a rules file
  125  the program was not started: the engine refused a --set, memcg exec
       itself failed, or the engine cannot be put under the program: it is
       statically linked, built for musl or for another machine, setuid, or
       has capabilities
  126  the program cannot be executed
  127  the program was not found

A program under valgrind or built with a sanitizer (-fsanitize=address and others) runs \
without the engine, as with MEMCG=off, and one line says so. docs/cli.md has the whole \
table.";

/// What `memcg exec` was asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, help_template = TEMPLATE)]
#[command(override_usage = "memcg exec [OPTIONS] [--] PROGRAM [ARGS]...")]
pub struct Options {
    /// Put threads whose name matches GLOB into the group PATH; the first rule that matches counts
    #[arg(long = "group", value_name = "GLOB=PATH", value_parser = OsStringValueParser::new().try_map(|v| GroupRule::parse(&v)))]
    pub groups: Vec<GroupRule>,

    /// Read rules from FILE, one GLOB=PATH a line; lines that begin with # are comments. They come
    /// after those of --group
    #[arg(long = "rules", value_name = "FILE", value_parser = OsStringValueParser::new().try_map(|v| RulesFile::read(&v)))]
    pub files: Vec<RulesFile>,

    /// Write VALUE to a file of a group before the program starts
    #[arg(long = "set", value_name = "PATH/FILE=VALUE", value_parser = OsStringValueParser::new().try_map(|v| Setting::parse(&v)))]
    pub settings: Vec<Setting>,

    /// Show the groups on stderr: every SECONDS on a terminal (default 1), and at the end with
    /// their peaks
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true)]
    pub top: Option<Option<Interval>>,

    /// Write the groups as they were at the end to FILE
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Do without the engine's helper thread, and so without a control socket
    #[arg(long)]
    pub no_thread: bool,

    /// Let threads above their group's memory.high pay the delay they owe inside malloc, at most 10
    /// ms a call
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

    /// Whether something is to be said of the groups at the end.
    pub fn is_summary_wanted(&self) -> bool {
        self.top.is_some() || !self.settings.is_empty()
    }

    /// How often the groups are looked at.
    pub fn interval(&self) -> Duration {
        self.top
            .flatten()
            .map_or(Duration::from_secs(1), |interval| interval.0)
    }
}
