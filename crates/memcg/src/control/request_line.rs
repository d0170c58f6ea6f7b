//! One request line in, one reply out.
//!
//! Invariants: every line has one reply, an error if the line is wrong.
//! Depends on: `files` for what requests do; `escape` for words; `snapshot`.
//! Never: waits, or unwinds for a mistake of a client.

#![forbid(unsafe_code)]

use super::escape::{escape, unescape};
use super::snapshot::{comm, snapshot};
use crate::engine::Engine;
use crate::files::{self, Entry, FileError, Reader};
use crate::os::errno::Errno;
use crate::thread::ThreadRec;
use std::cell::OnceCell;

/// The protocol's number, which `hello` answers.
const PROTOCOL: u32 = 1;

/// A line, without its newline, and who sent it.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub text: &'a [u8],
    pub reader: &'a OnceCell<Reader>,
}

/// A reply and whether the connection goes on.
pub(super) struct Reply {
    pub text: Vec<u8>,
    pub close: bool,
}

fn ok(body: impl AsRef<[u8]>) -> Reply {
    let mut text = format!("ok {}\n", body.as_ref().len()).into_bytes();
    text.extend_from_slice(body.as_ref());
    Reply { text, close: false }
}

/// The reply to a line that is no request.
pub(super) fn protocol_error(why: &str) -> Reply {
    Reply {
        text: format!("err {} {why}\n", Errno::EPROTO).into_bytes(),
        close: true,
    }
}

fn refused(why: &FileError) -> Reply {
    let message: String = why
        .message
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    Reply {
        text: format!("err {} {message}\n", why.errno.name()).into_bytes(),
        close: false,
    }
}

fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|&b| b == b'/')?;
    Some((&path[..slash], &path[slash + 1..]))
}

/// Does what one line asks, and answers its reply.
pub(super) fn serve(engine: &'static Engine, rec: &ThreadRec, line: Line<'_>) -> Reply {
    let reader = line.reader.get_or_init(|| Reader::new(engine));
    let line = line.text.strip_suffix(b"\r").unwrap_or(line.text);
    let Some(words) = line
        .split(|&b| b == b' ')
        .map(unescape)
        .collect::<Option<Vec<_>>>()
    else {
        return protocol_error("a % is followed by two hexadecimal digits");
    };
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let answer = match words.as_slice() {
        [b"hello"] => Ok(format!(
            "memcg {PROTOCOL} pid={} comm={}\n",
            std::process::id(),
            escape(&comm())
        )
        .into_bytes()),
        [b"snapshot"] => Ok(snapshot(engine, rec).into_bytes()),
        [b"ls", path] => files::list(engine, rec, path).map(|all| listing(&all)),
        [b"mkdir", path] => files::mkdir(engine, rec, path).map(|()| Vec::new()),
        [b"rmdir", path] => files::rmdir(engine, rec, path).map(|()| Vec::new()),
        [b"owners", path] => {
            files::read(engine, rec, path, b"memory.owners").map(String::into_bytes)
        }
        [b"move", task, path] => match core::str::from_utf8(task)
            .ok()
            .and_then(|id| id.parse().ok())
        {
            Some(id) => files::move_task(engine, rec, id, path).map(|()| Vec::new()),
            None => return protocol_error("move takes the id of a task, a number, and a path"),
        },
        [b"get", file] => match split(file) {
            Some((path, file)) => reader.read(rec, path, file).map(String::into_bytes),
            None => return protocol_error("get takes PATH/FILE"),
        },
        [b"set", file, values @ ..] if !values.is_empty() => match split(file) {
            Some((path, file)) => reader
                .write(rec, path, file, &values.join(&b' '))
                .map(|()| Vec::new()),
            None => return protocol_error("set takes PATH/FILE VALUE"),
        },
        _ => {
            return protocol_error(
                "no such request: hello get set ls mkdir rmdir move owners snapshot",
            );
        }
    };
    match answer {
        Ok(body) => ok(body),
        Err(why) => refused(&why),
    }
}

fn listing(all: &[Entry]) -> Vec<u8> {
    let mut text = String::new();
    for entry in all {
        text += &match entry {
            Entry::Group(name) => format!("d {}\n", escape(name)),
            Entry::File(name, mode) => format!("f {} {}\n", escape(name.as_bytes()), mode.text()),
        };
    }
    text.into_bytes()
}
