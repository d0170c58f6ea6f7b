//! Running other programs: cargo with its output passed on as it comes and counted on the way,
//! scripts with their output in files.
//!
//! Every program has a time limit and a session of its own ([`crate::signals`]); when it ends or
//! its time is up, whatever is left of its process group is killed. So neither a program that hangs
//! nor one that leaves children behind holds up the suite.
//!
//! Depends on: output, signals, temporary. Never: knows what it runs.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::output::pass_on;
use crate::signals::{self, Group};
use crate::{Counted, Failure, temporary};

/// How long cargo may take for what is neither tests nor a run of minutes: a cold build of
/// everything.
pub const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);

/// How long the output of a program that has ended may stay open.
const PATIENCE: Duration = Duration::from_secs(10);

/// `cargo ARGUMENTS` in the repository; the cargo that started us, if one did.
pub fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(root).args(arguments);
    command
}

/// Builds the command and the preloaded library in release mode.
pub fn build_release(root: &Path) -> Result<Counted, Failure> {
    // One by one: in one build the preload library would get the features that the command's other
    // crates ask for.
    let mut counted = Counted::default();
    for package in ["memcg-preload", "memcg-cli"] {
        counted = stream(cargo(root, &["build", "--release", "--package"]).arg(package))?;
    }
    Ok(counted)
}

/// Runs `command` for at most [`BUILD_LIMIT`]: [`stream_limited`].
pub fn stream(command: &mut Command) -> Result<Counted, Failure> {
    stream_limited(command, BUILD_LIMIT)
}

/// Runs `command` for at most `limit`, passing its output on as it comes; sums up its `test
/// result:` lines and notes what it says was not run.
pub fn stream_limited(command: &mut Command, limit: Duration) -> Result<Counted, Failure> {
    let name = describe(command);
    let (mut child, group) = start(command.stdout(Stdio::piped()))?;
    let output = child.stdout.take();
    let (send, counted) = mpsc::channel();
    std::thread::spawn(move || {
        let counted = output
            .map(|output| pass_on(output, std::io::stdout()))
            .unwrap_or_default();
        // Nobody listens any more where the program's output was given up.
        let _ = send.send(counted);
    });
    let ended = wait(&mut child, &group, limit).map_err(|e| format!("{name}: {e}"))?;
    // The group is gone; what left it for a session of its own may still hold the pipe.
    let counted = counted
        .recv_timeout(PATIENCE)
        .map_err(|_| format!("{name}: a program that it left behind keeps its output open"))?;
    match ended {
        Ended::With(status) if status.success() => Ok(counted),
        Ended::With(status) => Err(format!("{name}: {}", how_it_ended(status))),
        Ended::TimedOut => Err(format!("{name}: not done after {} s", limit.as_secs())),
    }
}

/// How a program under a time limit ended.
pub enum Ended {
    /// By itself or by a signal.
    With(ExitStatus),
    /// We killed it.
    TimedOut,
}

/// Runs `command` for at most `limit`, its standard output in the file `stdout` and its errors in
/// `stderr` (or with the output, if `None`); then kills what is left of its process group.
pub fn run_limited(
    command: &mut Command,
    limit: Duration,
    stdout: &Path,
    stderr: Option<&Path>,
) -> Result<Ended, Failure> {
    let name = describe(command);
    let open = |path: &Path| {
        File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()))
    };
    let output = open(stdout)?;
    let errors = match stderr {
        Some(path) => open(path)?,
        None => output
            .try_clone()
            .map_err(|e| format!("cannot share {}: {e}", stdout.display()))?,
    };
    let (mut child, group) = start(command.stdout(output).stderr(errors))?;
    wait(&mut child, &group, limit).map_err(|e| format!("{name}: {e}"))
}

/// Starts `command` without input, in a session of its own.
fn start(command: &mut Command) -> Result<(Child, Group), Failure> {
    signals::detach(command.stdin(Stdio::null()));
    temporary::give(command);
    let child = command
        .spawn()
        .map_err(|e| format!("cannot run {}: {e}", describe(command)))?;
    let group = Group::new(child.id());
    Ok((child, group))
}

/// Waits for at most `limit`; kills what is left of the group then.
fn wait(child: &mut Child, group: &Group, limit: Duration) -> std::io::Result<Ended> {
    let start = Instant::now();
    let ended = loop {
        match child.try_wait()? {
            Some(status) => break Ended::With(status),
            None if start.elapsed() >= limit => break Ended::TimedOut,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    group.kill();
    if matches!(ended, Ended::TimedOut) {
        child.wait()?;
    }
    Ok(ended)
}

/// "exit status 3" or "killed by signal 11".
pub fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => String::from("ended in an unknown way"),
    }
}

/// The last `lines` lines of a file, each indented: what to show of a program that failed.
pub fn tail(path: &Path, lines: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    last.iter().map(|line| format!("    {line}\n")).collect()
}

/// An empty folder `target/xtask/NAME`.
pub fn scratch(root: &Path, name: &str) -> Result<std::path::PathBuf, Failure> {
    let dir = crate::target_dir(root).join("xtask").join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)
            .map_err(|e| format!("cannot empty {}: {e}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
    Ok(dir)
}

/// The command line as one would type it, for messages.
fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program
        .file_name()
        .unwrap_or(command.get_program())
        .to_string_lossy()
        .into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temporary::Folder;

    fn bash(script: &str) -> Command {
        let mut shell = Command::new("bash");
        shell.args(["-c", script]);
        shell
    }

    /// The names of the live processes of the group that `leader` began, by /proc.
    fn group_of(leader: i32) -> Vec<String> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // PID (NAME) STATE PARENT GROUP …
            let Some((head, rest)) = stat.rsplit_once(") ") else {
                continue;
            };
            let words: Vec<&str> = rest.split(' ').collect();
            if words[0] != "Z" && words[2] == leader.to_string() {
                names.push(head.to_owned());
            }
        }
        names
    }

    #[test]
    fn a_program_that_hangs_is_stopped_with_its_children() {
        let folder = Folder::new("limit");
        let out = folder.path().join("out");
        let mut shell = bash("echo $$; sleep 600 & while :; do :; done");
        let start = Instant::now();
        let ended = run_limited(&mut shell, Duration::from_millis(300), &out, None).unwrap();
        assert!(matches!(ended, Ended::TimedOut));
        assert!(start.elapsed() < Duration::from_secs(60));
        let leader: i32 = tail(&out, 1).trim().parse().unwrap();
        let gone = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            group_of(leader).is_empty()
        });
        assert!(gone, "{:?}", group_of(leader));
    }

    #[test]
    fn what_is_streamed_has_a_time_limit_too() {
        let start = Instant::now();
        let ended = stream_limited(
            &mut bash("sleep 600 & sleep 600"),
            Duration::from_millis(300),
        );
        assert!(ended.unwrap_err().contains("not done after 0 s"));
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_program_does_not_inherit_that_signals_are_ignored() {
        let folder = Folder::new("signals");
        let out = folder.path().join("out");
        // A shell cannot trap what was ignored when it started.
        let script = "for s in HUP INT QUIT TERM; do trap \"echo $s\" $s; kill -$s $$; done";
        let mut shell = bash(script);
        // SAFETY: system calls only, and no data. They come before those of `detach`.
        unsafe {
            use std::os::unix::process::CommandExt as _;
            shell.pre_exec(|| {
                for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                    libc::signal(signal, libc::SIG_IGN);
                }
                Ok(())
            });
        }
        run_limited(&mut shell, Duration::from_secs(60), &out, None).unwrap();
        assert_eq!(tail(&out, 9), "    HUP\n    INT\n    QUIT\n    TERM\n");
    }
}
