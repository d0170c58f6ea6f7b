//! The command line: which command, with what.
//!
//! Each command's own options stand in its file. What clap says about a wrong command line is put
//! in one line here.

#![forbid(unsafe_code)]

use crate::commands;
use crate::exec;
use crate::failure::Failure;
use crate::run;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use memcg_lab as lab;
use std::ffi::OsString;
use std::process::ExitCode;

const AFTER: &str = "\
Examples:
  memcg exec --top -- ./server          run a program and watch its groups
  memcg top                             watch the only program under memcg
  memcg set 4242 /worker/memory.max 1G  limit a group of process 4242

A PID is that of a program under memcg, or of the `memcg exec` that runs it: a shell's $!, a \
supervisor's main PID.

Errors are one line on stderr: what, where, what to do. Exit codes:
  0    done
  1    the engine refused the request, and the line names the errno;
       memcg run: a step failed
  2    wrong usage
  3    no such process, not under memcg, or it cannot be connected to
  77   memcg run: the scenario needs what this build does not have
  125  memcg exec itself failed
  126  the program cannot be executed
  127  the program was not found

Environment:
  MEMCG_DIR   the folder of the control sockets; without it that is
              $XDG_RUNTIME_DIR/memcg, and without that /tmp/memcg-UID
  NO_COLOR    no colour, on a terminal either";

/// Memory control groups for the tenants inside one process
#[derive(Parser, Debug)]
#[command(name = "memcg", version, after_help = AFTER, max_term_width = 100)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Request {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a program under the engine
    Exec(exec::Options),
    /// Show the groups of a process, live
    Top(commands::top::Options),
    /// Run scenarios on an engine of their own
    Run(run::Options),
    /// Measure the published designs against each other
    Lab(lab::Options),
    /// List the processes under memcg
    Ps(commands::ps::Options),
    /// Read a file of a group
    Get(commands::get_set::Get),
    /// Write a file of a group
    Set(commands::get_set::Set),
    /// List a group's children and files
    Ls(commands::ls::Options),
    /// Make a group
    Mkdir(commands::groups::Mkdir),
    /// Remove a group
    Rmdir(commands::groups::Rmdir),
    /// Move a task to another group
    Move(commands::groups::Move),
    /// Show who holds a group's memory
    Owners(commands::owners::Options),
    /// Show the kmem caches of a group
    Slabinfo(commands::slabinfo::Options),
}

impl Request {
    /// Does what was asked.
    pub fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::Exec(options) => return exec::run(&options),
            Command::Run(options) => return run::run(&options),
            Command::Lab(options) => return lab::run(&options),
            Command::Top(options) => commands::top::run(&options)?,
            Command::Ps(options) => commands::ps::run(&options)?,
            Command::Get(options) => commands::get_set::get(&options)?,
            Command::Set(options) => commands::get_set::set(&options)?,
            Command::Ls(options) => commands::ls::run(&options)?,
            Command::Mkdir(options) => commands::groups::mkdir(&options)?,
            Command::Rmdir(options) => commands::groups::rmdir(&options)?,
            Command::Move(options) => commands::groups::move_task(&options)?,
            Command::Owners(options) => commands::owners::run(&options)?,
            Command::Slabinfo(options) => commands::slabinfo::run(&options)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads this process's command line. Help and version are printed here and end the command.
#[expect(clippy::wildcard_enum_match_arm, reason = "clap's enum is open")]
pub fn parse() -> Result<Request, Failure> {
    Request::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            Failure::silent(0)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Failure::silent(crate::failure::USAGE)
        }
        _ => {
            let command = command_named(std::env::args_os().nth(1));
            Failure::usage(summary(&error.render().to_string(), command.as_deref()))
        }
    })
}

/// clap's message without its usage part, in one line: `what: tip: see 'memcg … --help'`.
fn summary(message: &str, command: Option<&str>) -> String {
    let said = message.lines().map(str::trim);
    let said = said.take_while(|line| {
        !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let mut line = String::new();
    for part in said.filter(|part| !part.is_empty()) {
        let separator = match line.as_str() {
            "" => "",
            before if before.ends_with(':') || part.starts_with('<') => " ",
            _ => ": ",
        };
        let part = part
            .trim_start_matches("error: ")
            .trim_start_matches("tip: ");
        line.extend([separator, part]);
    }
    match command {
        Some(command) => format!("{line}: see 'memcg {command} --help'"),
        None => format!("{line}: see 'memcg --help'"),
    }
}

/// The command the first argument names, if it is one.
fn command_named(argument: Option<OsString>) -> Option<String> {
    let name = argument?.into_string().ok()?;
    Request::command()
        .find_subcommand(&name)
        .map(|command| command.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(arguments: &[&str]) -> String {
        let error = Request::try_parse_from(arguments).expect_err("it is wrong");
        summary(
            &error.render().to_string(),
            command_named(arguments.get(1).map(OsString::from)).as_deref(),
        )
    }

    #[test]
    fn the_command_line_is_described_without_contradictions() {
        Request::command().debug_assert();
    }

    #[test]
    fn usage_errors_are_one_line_that_says_where_help_is() {
        assert_eq!(
            line(&["memcg", "top", "--onc"]),
            "unexpected argument '--onc' found: a similar argument exists: '--once': see 'memcg top --help'"
        );
        assert_eq!(
            line(&["memcg", "get"]),
            "the following required arguments were not provided: <PID> <PATH/FILE>: see 'memcg get --help'"
        );
        assert!(line(&["memcg", "get", "x", "/f"]).starts_with("invalid value 'x' for '<PID>': "));
        assert!(
            line(&["memcg", "exec", "--group", "a", "p"])
                .contains("there is no '=': write GLOB=PATH")
        );
    }

    #[test]
    fn every_command_has_examples() {
        for command in Request::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains(&format!("memcg {}", command.get_name())),
                "{}",
                command.get_name()
            );
        }
    }

    /// What clap does not wrap as it should: a line of a list (it begins with blanks) has to fit as
    /// it is, and a paragraph has to be one line of the source.
    fn badly_broken(text: &str) -> Option<&str> {
        let mut before = "";
        for line in text.lines() {
            let is_list = line.starts_with(' ');
            let goes_on = !line.is_empty()
                && !is_list
                && !before.is_empty()
                && !before.starts_with(' ')
                && !before.ends_with([':', '.']);
            if goes_on || (is_list && line.chars().count() > 80) {
                return Some(line);
            }
            before = line;
        }
        None
    }

    #[test]
    fn help_is_not_broken_inside_a_line_on_narrow_and_wide_terminals() {
        let root = Request::command();
        for command in root.get_subcommands().chain([&root]) {
            let after = command.get_after_help().map(ToString::to_string);
            let after = after.unwrap_or_default();
            assert_eq!(badly_broken(&after), None, "{}", command.get_name());
            for width in [80, 100, 120] {
                let text = command.clone().term_width(width).render_help().to_string();
                let longest = text.lines().max_by_key(|line| line.chars().count());
                let longest = longest.unwrap_or_default();
                assert!(
                    longest.chars().count() <= width,
                    "{} at {width}: {longest}",
                    command.get_name()
                );
            }
        }
        assert!(badly_broken("A text that is\nbroken.").is_some());
        assert!(badly_broken(&format!("List:\n  {}", "x".repeat(80))).is_some());
    }

    #[test]
    fn what_exec_does_not_show_is_said_before_its_options() {
        let mut command = Request::command();
        let exec = command.find_subcommand_mut("exec").expect("there is exec");
        let help = exec.render_help().to_string();
        let said = help.find("has a copy of every limit").expect("it is said");
        assert!(
            said < help.find("Options:").expect("there are options"),
            "{help}"
        );
    }

    #[test]
    fn the_programs_own_options_are_left_to_it() {
        let request = Request::try_parse_from(["memcg", "exec", "--strict", "ls", "--top", "-l"])
            .expect("it is right");
        let Command::Exec(options) = request.command else {
            panic!("it is exec")
        };
        assert_eq!(
            (options.command.len(), options.top.is_some(), options.strict),
            (3, false, true)
        );
        assert!(Request::try_parse_from(["memcg", "exec", "--bogus", "ls"]).is_err());
    }
}
