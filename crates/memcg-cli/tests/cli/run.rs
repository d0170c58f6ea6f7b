//! Running the command and looking at what came of it.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

/// What a run of the command gave.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Outcome {
    /// The exit code, or -1 if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Asserts an error: this exit code, nothing on stdout, one line on stderr that holds each of
    /// `parts`.
    #[track_caller]
    pub fn is_error(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code(), code, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(
            self.stderr.starts_with("memcg: ") && self.stderr.ends_with('\n'),
            "{self:?}"
        );
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {self:?}");
        }
    }

    /// Asserts success without a word on stderr, and gives stdout.
    #[track_caller]
    pub fn printed(&self) -> &str {
        assert_eq!((self.code(), self.stderr.as_str()), (0, ""), "{self:?}");
        &self.stdout
    }
}

/// The command with `arguments`, an environment that does not depend on who runs the test, and
/// sockets in `sockets`.
///
/// Programs get a library that does nothing in the place of the engine: these tests are about the
/// command.
pub fn command(sockets: &Path, arguments: &[&str]) -> Command {
    let mut command = with_engine(sockets, arguments);
    command.env("MEMCG_PRELOAD", inert_library());
    command
}

/// The same with the library the command carries.
pub fn with_engine(sockets: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memcg"));
    heed_signals(&mut command);
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.to_string_lossy().starts_with("MEMCG")) {
        command.env_remove(name);
    }
    for name in ["LD_PRELOAD", "PYTHONMALLOC", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
        .env("MEMCG_DIR", sockets)
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// Lets `command` start its program with no signal ignored.
///
/// Under `nohup`, or `&` in a script, the test and all that it starts ignore some of these. A shell
/// that is to trap one then never sees it, and the test waits for ever.
pub fn heed_signals(command: &mut Command) {
    // SAFETY: the closure makes system calls only, which are async-signal-safe, and owns no data.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGTERM] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
}

/// Sends a signal to a program that this test started and did not wait for yet.
pub fn send(pid: u32, signal: i32) {
    let pid = libc::pid_t::try_from(pid).expect("a process id");
    // SAFETY: takes numbers only; the id is still that program's.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

#[test]
fn a_program_does_not_inherit_that_signals_are_ignored() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap 'echo heard' HUP; kill -HUP $$"]);
    // SAFETY: one system call, which is async-signal-safe. It comes before those of `heed_signals`.
    unsafe {
        shell.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        });
    }
    heed_signals(&mut shell);
    assert_eq!(
        outcome(shell.output().expect("a shell")).printed(),
        "heard\n"
    );
}

/// The C library: every program has it already, so preloading it changes nothing.
pub fn inert_library() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("this test's mappings");
    let path = maps
        .split_whitespace()
        .find(|word| word.ends_with("/libc.so.6"));
    PathBuf::from(path.expect("the C library is mapped"))
}

/// Runs the command to its end.
pub fn memcg(sockets: &Path, arguments: &[&str]) -> Outcome {
    outcome(
        command(sockets, arguments)
            .output()
            .expect("the command starts"),
    )
}

/// What `Output` says, as text.
pub fn outcome(output: Output) -> Outcome {
    Outcome {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
