//! Running other programs: cargo with its output passed on as it comes and counted on the way, scripts with a time limit.
//!
//! A program with a time limit gets its own process group and writes to a file; when it ends or its time is up, whatever is
//! left of the group is killed. So neither a program that hangs nor one that leaves children behind holds up the suite.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::{Counted, Failure};

/// `cargo ARGUMENTS` in the repository; the cargo that started us, if one did.
pub fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(root).args(arguments);
    command
}

/// Builds the command and the preloaded library in release mode.
pub fn build_release(root: &Path) -> Result<Counted, Failure> {
    let packages = ["--package", "memcg-cli", "--package", "memcg-preload"];
    stream(cargo(root, &["build", "--release"]).args(packages))
}

/// Runs `command`, passing its output on as it comes, and sums up its `test result:` lines.
pub fn stream(command: &mut Command) -> Result<Counted, Failure> {
    let name = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run {name}: {e}"))?;
    let mut counted = Counted::default();
    if let Some(mut output) = child.stdout.take() {
        let mut line = Vec::new();
        let mut chunk = [0u8; 8192];
        // A broken stdout of ours is no reason to stop counting.
        while let Ok(n @ 1..) = output.read(&mut chunk) {
            let mut stdout = std::io::stdout().lock();
            let _ = stdout.write_all(&chunk[..n]).and_then(|()| stdout.flush());
            for &byte in &chunk[..n] {
                if byte == b'\n' {
                    count(&String::from_utf8_lossy(&line), &mut counted);
                    line.clear();
                } else {
                    line.push(byte);
                }
            }
        }
        count(&String::from_utf8_lossy(&line), &mut counted);
    }
    let status = child
        .wait()
        .map_err(|e| format!("cannot wait for {name}: {e}"))?;
    if status.success() {
        Ok(counted)
    } else {
        Err(format!("{name}: {}", how_it_ended(status)))
    }
}

/// Adds a line `test result: ok. 3 passed; 0 failed; 1 ignored; …` to the count; other lines count nothing.
fn count(line: &str, counted: &mut Counted) {
    let Some(result) = line.strip_prefix("test result:") else {
        return;
    };
    for part in result.split([';', '.']) {
        match part.split_whitespace().collect::<Vec<_>>()[..] {
            [n, "passed"] => counted.passed += n.parse::<u64>().unwrap_or(0),
            [n, "ignored"] => counted.ignored += n.parse::<u64>().unwrap_or(0),
            _ => {}
        }
    }
}

/// How a program under a time limit ended.
pub enum Ended {
    /// By itself or by a signal.
    With(ExitStatus),
    /// We killed it.
    TimedOut,
}

/// Runs `command` for at most `limit`, its standard output in the file `stdout` and its errors in `stderr` (or with the
/// output, if `None`); then kills what is left of its process group.
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
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|e| format!("cannot run {name}: {e}"))?;
    let start = Instant::now();
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ended::With(status),
            Ok(None) if start.elapsed() >= limit => break Ended::TimedOut,
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(e) => return Err(format!("cannot wait for {name}: {e}")),
        }
    };
    kill_group(child.id());
    if matches!(ended, Ended::TimedOut) {
        let _ = child.wait();
    }
    Ok(ended)
}

/// Kills the process group that `leader` began. An empty group is no error.
fn kill_group(leader: u32) {
    let _ = Command::new("kill")
        .args(["-KILL", "--", &format!("-{leader}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
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

    #[test]
    fn test_result_lines_are_summed_up() {
        let mut counted = Counted::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 7 filtered out; finished in 0.05s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            "  test result: ok. 100 passed;",
            "test a ... ok",
        ] {
            count(line, &mut counted);
        }
        assert_eq!((counted.passed, counted.ignored), (13, 3));
    }

    #[test]
    fn a_program_that_hangs_is_stopped_with_its_children() {
        let dir = std::env::temp_dir().join(format!("xtask-limit-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let out = dir.join("out");
        let mut shell = Command::new("bash");
        shell.args(["-c", "echo begun; sleep 600 & sleep 600"]);
        let start = Instant::now();
        let ended = run_limited(&mut shell, Duration::from_millis(300), &out, None).unwrap();
        assert!(matches!(ended, Ended::TimedOut));
        assert!(start.elapsed() < Duration::from_secs(60));
        assert_eq!(tail(&out, 3), "    begun\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
