//! What ends a command early: an exit code and at most one line.
//!
//! Lines follow one pattern, `memcg: what: where: what to do`, so that a script can show them and a
//! person can act on them.

use std::fmt::Display;

/// The engine refused the request.
pub const REFUSED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// No such process, not under memcg, or its socket cannot be used.
pub const UNREACHABLE: u8 = 3;
/// A scenario needs what this build does not have.
pub const LACKING: u8 = 77;
/// `memcg exec` itself failed.
pub const EXEC_FAILED: u8 = 125;
/// The program cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The program was not found.
pub const NOT_FOUND: u8 = 127;

/// A command's early end.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    line: Option<String>,
}

impl Failure {
    /// A failure told in one line; `line` has no prefix and no newline.
    pub fn new(code: u8, line: impl Display) -> Failure {
        Failure {
            code,
            line: Some(one_line(&line.to_string())),
        }
    }

    /// A wrong command line.
    pub fn usage(line: impl Display) -> Failure {
        Failure::new(USAGE, line)
    }

    /// `memcg exec` could not do its own part.
    pub fn exec(line: impl Display) -> Failure {
        Failure::new(EXEC_FAILED, line)
    }

    /// An end without a word.
    pub fn silent(code: u8) -> Failure {
        Failure { code, line: None }
    }

    /// The line for stderr; none for a silent end.
    pub fn line(&self) -> Option<&str> {
        self.line.as_deref()
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

/// Text from elsewhere (a file name, an engine's message) can neither break the line nor steer the
/// terminal.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_it_quotes() {
        let failure = Failure::new(REFUSED, "no such file: /a\n\x1b[2Jb");
        assert_eq!(failure.line(), Some("no such file: /a??[2Jb"));
    }
}
