//! Tests of the process's one engine: each in a process of its own, since others use that engine
//! too and are never at rest.

use std::process::{Command, Output};

const INSIDE: &str = "MEMCG_TEST_INSIDE";

/// What [`again`] was given, in the process that it started. From then on a panic of any thread
/// ends that process: others may wait for it.
pub(super) fn argument() -> Option<String> {
    let argument = std::env::var(INSIDE).ok()?;
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        // SAFETY: ends the process, or the child of a fork.
        unsafe { libc::_exit(101) };
    }));
    Some(argument)
}

/// Runs the calling test once more, alone in a process, where [`argument`] is `argument`.
pub(super) fn again(test: &str, argument: &str) -> Output {
    inside(test, argument).output().unwrap()
}

fn inside(test: &str, argument: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, argument);
    command
}

/// As [`again`].
///
/// # Panics
/// When it fails.
pub(super) fn passes_again(test: &str, argument: &str) -> String {
    let output = again(test, argument);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{argument}: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
