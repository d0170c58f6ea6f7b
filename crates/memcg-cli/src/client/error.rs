//! Why a request got no answer, or a refusal.

use crate::failure::{Failure, REFUSED, UNREACHABLE, USAGE};
use memcg::internal::os::errno::Errno;
use std::fmt;
use std::io;

/// Why a request failed.
#[derive(Debug)]
pub enum ClientError {
    /// The engine said no.
    Refused {
        /// The error.
        errno: Errno,
        /// The engine's words.
        message: String,
    },
    /// The request does not fit in a line of the protocol.
    TooLong,
    /// The connection closed before the answer began.
    Closed,
    /// The connection closed inside the answer.
    Cut {
        /// Bytes that came.
        got: usize,
        /// Bytes that were promised.
        wanted: usize,
    },
    /// Nothing came in time.
    Silent,
    /// What came is not the protocol.
    Garbled(String),
    /// The socket failed.
    Io(io::Error),
}

impl ClientError {
    /// Has the other side gone away? That is how a process's end looks from here.
    pub fn is_gone(&self) -> bool {
        match self {
            ClientError::Closed | ClientError::Cut { .. } => true,
            ClientError::Io(e) => matches!(
                e.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ),
            ClientError::Refused { .. }
            | ClientError::TooLong
            | ClientError::Silent
            | ClientError::Garbled(_) => false,
        }
    }

    /// The failure of `what` (a command) on `place` (a file, a group) in process `pid`.
    pub fn at(self, what: &str, place: &str, pid: u32) -> Failure {
        let code = match self {
            ClientError::Refused { .. } => REFUSED,
            ClientError::TooLong => USAGE,
            ClientError::Closed
            | ClientError::Cut { .. }
            | ClientError::Silent
            | ClientError::Garbled(_)
            | ClientError::Io(_) => UNREACHABLE,
        };
        Failure::new(
            code,
            format_args!("{what}: {place} of process {pid}: {self}"),
        )
    }
}

impl From<io::Error> for ClientError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "std's enum of errors is open"
    )]
    fn from(e: io::Error) -> ClientError {
        match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Silent,
            _ => ClientError::Io(e),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Refused { errno, message } if message.is_empty() => write!(f, "{errno}"),
            ClientError::Refused { errno, message } => write!(f, "{errno}: {message}"),
            ClientError::TooLong => f.write_str("the request is too long: at most 8192 bytes fit"),
            ClientError::Closed => {
                f.write_str("the connection closed without an answer: has the process ended?")
            }
            ClientError::Cut { got, wanted } => {
                write!(
                    f,
                    "the connection closed after {got} of {wanted} bytes: has the process ended?"
                )
            }
            ClientError::Silent => f.write_str("no answer in time: is the process stopped?"),
            ClientError::Garbled(what) => {
                write!(
                    f,
                    "the answer is not understood ({what}): use the memcg of the version the process runs"
                )
            }
            ClientError::Io(e) => write!(f, "{e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_errno_and_exits_with_1() {
        let refused = ClientError::Refused {
            errno: Errno::EBUSY,
            message: "it has tasks".into(),
        };
        let failure = refused.at("rmdir", "/a", 42);
        assert_eq!(failure.code(), REFUSED);
        assert_eq!(
            failure.line(),
            Some("rmdir: /a of process 42: EBUSY: it has tasks")
        );
    }
}
