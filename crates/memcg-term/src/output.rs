//! Writing to stdout and stderr without panicking when nobody reads.

use crate::failure::Failure;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

/// Writes `bytes` to stdout. A reader that went away (`memcg ls 42 | head -1`) ends the command
/// quietly.
pub fn emit(bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Err(Failure::silent(0)),
        Err(e) => Err(Failure::new(1, format_args!("cannot write: stdout: {e}"))),
    }
}

/// Writes `value` to stdout as indented JSON.
pub fn emit_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(json_failure)?;
    text.push('\n');
    emit(text)
}

/// Writes `value` to stdout as one line of JSON.
pub fn emit_json_line(value: &impl serde::Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string(value).map_err(json_failure)?;
    text.push('\n');
    emit(text)
}

/// One line on stderr, prefixed with the command's name. Nobody can be told when stderr is closed.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "memcg: {line}");
}

/// Ends the command with `failure`: prints its line and gives the exit code.
pub fn report(failure: &Failure) -> ExitCode {
    if let Some(line) = failure.line() {
        note(line);
    }
    ExitCode::from(failure.code())
}

/// Whether `stream` is a terminal on which the cursor can be moved.
pub fn can_draw(stream: &impl IsTerminal) -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
    stream.is_terminal() && !dumb
}

fn json_failure(e: serde_json::Error) -> Failure {
    Failure::new(1, format_args!("cannot write JSON: {e}"))
}
