//! One connection to the control socket of one process.
//!
//! Invariants: what was read belongs to the request that was sent last.
//! Depends on: socket_folder, exec_child, escape, error.
//! Never: believes a length before the bytes have come.

use super::error::ClientError;
use super::escape::escape;
use super::exec_child::{self, Role};
use super::socket_folder;
use crate::failure::{Failure, UNREACHABLE};
use crate::sys;
use memcg::internal::os::errno::Errno;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long an answer may take: writing `memory.reclaim` works before it answers.
const ANSWER: Duration = Duration::from_secs(60);
/// The longest request, with its newline.
const MAX_REQUEST: usize = 8192;
/// The longest first line of an answer.
const MAX_HEADER: u64 = 16 * 1024;
/// The longest body; far above a snapshot of a million groups.
const MAX_BODY: usize = 1 << 30;

/// How long a socket may take to be there, of a process that is just starting.
const STARTING: Duration = Duration::from_secs(2);
const STARTING_PAUSE: Duration = Duration::from_millis(10);

/// A connection that can be asked any number of times.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the process `pid`, wherever its socket is, or to its program if it is `memcg
    /// exec`; says to which process. Waits up to 2 s for one that is just starting.
    pub fn connect(pid: u32) -> Result<(Client, u32), Failure> {
        let until = Instant::now() + STARTING;
        loop {
            let own = match Client::try_connect(pid) {
                Ok(client) => return Ok((client, pid)),
                Err(obstacle) => obstacle,
            };
            let role = exec_child::role(pid);
            let (obstacle, may_come) = match role {
                Role::Program => (own, false),
                Role::Starting => (own, true),
                Role::ExecOf(child) => match Client::try_connect(child) {
                    Ok(client) => return Ok((client, child)),
                    Err(obstacle) => (obstacle, exec_child::is_young(child)),
                },
            };
            if !may_come || until <= Instant::now() {
                return Err(explain(pid, role, obstacle));
            }
            thread::sleep(STARTING_PAUSE);
        }
    }

    /// Connects to the socket of process `pid`; else what stood in the way, if there was a socket.
    fn try_connect(pid: u32) -> Result<Client, Option<(PathBuf, io::Error)>> {
        let mut obstacle = None;
        for socket in socket_folder::sockets_of(pid) {
            match Client::connect_at(&socket, CONNECT, ANSWER) {
                Ok(client) => return Ok(client),
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(e) => obstacle = Some((socket, e)),
            }
        }
        Err(obstacle)
    }

    /// Connects to the socket at `path`.
    pub fn connect_at(path: &Path, connect: Duration, answer: Duration) -> io::Result<Client> {
        let stream = sys::socket::connect(path, connect)?;
        stream.set_read_timeout(Some(answer))?;
        Ok(Client {
            stream: BufReader::new(stream),
        })
    }

    /// Sends one request and returns the answer's body. After an error other than a refusal the
    /// connection is of no further use.
    pub fn ask(&mut self, words: &[&[u8]]) -> Result<Vec<u8>, ClientError> {
        let mut line = words
            .iter()
            .map(|word| escape(word))
            .collect::<Vec<_>>()
            .join(" ");
        line.push('\n');
        if line.len() > MAX_REQUEST {
            return Err(ClientError::TooLong);
        }
        self.stream.get_mut().write_all(line.as_bytes())?;
        read_reply(&mut self.stream)
    }
}

/// Reads `ok LENGTH` and a body, or `err ERRNO MESSAGE`.
fn read_reply(stream: &mut impl BufRead) -> Result<Vec<u8>, ClientError> {
    let mut header = Vec::new();
    stream
        .by_ref()
        .take(MAX_HEADER)
        .read_until(b'\n', &mut header)?;
    let Some(header) = header.strip_suffix(b"\n") else {
        return Err(match header.len() as u64 {
            MAX_HEADER => ClientError::Garbled("its first line has no end".into()),
            _ => ClientError::Closed,
        });
    };
    let header = String::from_utf8_lossy(header);
    match header.split_once(' ') {
        Some(("ok", length)) => read_body(stream, length),
        Some(("err", rest)) => {
            let (name, message) = rest.split_once(' ').unwrap_or((rest, ""));
            let errno = Errno::of_name(name).ok_or_else(|| {
                let name: String = name.chars().take(40).collect();
                ClientError::Garbled(format!("it names an error \"{name}\""))
            })?;
            Err(ClientError::Refused {
                errno,
                message: message.to_owned(),
            })
        }
        _ => Err(ClientError::Garbled(format!(
            "it begins with \"{}\"",
            header.chars().take(40).collect::<String>()
        ))),
    }
}

fn read_body(stream: &mut impl BufRead, length: &str) -> Result<Vec<u8>, ClientError> {
    let wanted = length.parse::<usize>().ok().filter(|n| *n <= MAX_BODY);
    let Some(wanted) = wanted else {
        return Err(ClientError::Garbled(format!(
            "a body of \"{length}\" bytes"
        )));
    };
    // The buffer grows with what really comes, whatever length was announced.
    let mut body = Vec::new();
    stream.by_ref().take(wanted as u64).read_to_end(&mut body)?;
    if body.len() < wanted {
        return Err(ClientError::Cut {
            got: body.len(),
            wanted,
        });
    }
    Ok(body)
}

/// Why no socket of `pid` could be used, and what to do about it.
fn explain(pid: u32, role: Role, obstacle: Option<(PathBuf, io::Error)>) -> Failure {
    let line = match obstacle {
        _ if !sys::process::exists(pid) => {
            format!("no such process: {pid}: `memcg ps` lists those under memcg")
        }
        None => match role {
            Role::ExecOf(child) => format!(
                "no socket: process {pid} is `memcg exec`, and its program, process {child}, serves no socket: \
                 was it started with --no-thread, or is it of another MEMCG_DIR?"
            ),
            Role::Program | Role::Starting => format!(
                "not under memcg: process {pid}: start it with `memcg exec`, or set MEMCG_DIR as it has it"
            ),
        },
        Some((path, e)) => {
            let path = path.display();
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "std's enum of errors is open"
            )]
            match e.kind() {
                ErrorKind::ConnectionRefused => {
                    format!(
                        "nobody listens: {path}: the process does not serve its socket (any more)"
                    )
                }
                ErrorKind::PermissionDenied => {
                    format!(
                        "permission denied: {path}: ask as the user of process {pid}, or as root"
                    )
                }
                ErrorKind::TimedOut => {
                    format!("cannot connect in time: {path}: is process {pid} stopped?")
                }
                _ => format!("cannot connect: {path}: {e}"),
            }
        }
    };
    Failure::new(UNREACHABLE, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(bytes: &[u8]) -> Result<Vec<u8>, ClientError> {
        read_reply(&mut BufReader::with_capacity(3, bytes))
    }

    #[test]
    fn a_body_is_as_long_as_announced_whatever_is_in_it() {
        assert_eq!(reply(b"ok 4\na\nb\nok 0\n").expect("a reply"), b"a\nb\n");
        assert_eq!(reply(b"ok 0\n").expect("a reply"), b"");
    }

    #[test]
    fn the_end_of_the_connection_is_told_from_an_answer() {
        assert!(matches!(reply(b""), Err(ClientError::Closed)));
        assert!(matches!(
            reply(b"ok 10\nabc"),
            Err(ClientError::Cut { got: 3, wanted: 10 })
        ));
        assert!(matches!(reply(b"ok 1"), Err(ClientError::Closed)));
    }

    #[test]
    fn a_refusal_keeps_errno_and_message() {
        match reply(b"err ENOENT no such group: /a\n") {
            Err(ClientError::Refused { errno, message }) => {
                assert_eq!(
                    (errno, message.as_str()),
                    (Errno::ENOENT, "no such group: /a")
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_the_protocol_is_said_to_be_garbled() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\n"[..],
            b"ok x\n",
            b"ok -1\n",
            b"ok 99999999999999\n",
            b"\n",
            b"err ENOTHING no such error\n",
            b"err\n",
        ] {
            assert!(
                matches!(reply(bytes), Err(ClientError::Garbled(_))),
                "{bytes:?}"
            );
        }
    }
}
