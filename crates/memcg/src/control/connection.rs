//! One client of the control socket: what it has sent of a line, what it has not yet read of a
//! reply, and how long it may take.
//!
//! Invariants: a line has 8192 bytes at most. Lines are answered in order, one at a time. A
//! connection ends after 10 s of half a line or of an unread reply, and after 60 s without a line.
//! Depends on: `descriptor` for the socket, `request_line` for answers.
//! Never: waits; the server's poll does.

#![forbid(unsafe_code)]

use super::descriptor::Kept;
use super::request_line::{Line, Reply, protocol_error};
use crate::files::Reader;
use std::cell::OnceCell;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The most bytes of a line, with its newline.
pub(super) const LINE: usize = 8192;
const HALF_A_LINE: Duration = Duration::from_secs(10);
const BETWEEN_LINES: Duration = Duration::from_secs(60);

pub(super) struct Connection {
    pub stream: Kept<UnixStream>,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// When the client last did what this connection waited for.
    since: Instant,
    closing: bool,
    /// The connection's own reader, which has peaks of its own. Made by the first request.
    reader: OnceCell<Reader>,
}

impl Connection {
    pub fn new(stream: Kept<UnixStream>) -> Self {
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            since: Instant::now(),
            closing: false,
            reader: OnceCell::new(),
        }
    }

    /// Whether there is a reply to write. If not, the connection reads.
    pub fn wants_to_write(&self) -> bool {
        self.written < self.output.len()
    }

    /// When the connection is given up, if nothing happens until then.
    pub fn deadline(&self) -> Instant {
        let busy = !self.input.is_empty() || self.wants_to_write();
        self.since + if busy { HALF_A_LINE } else { BETWEEN_LINES }
    }

    /// Whether there is a whole line to answer, so that `step` goes on without more input.
    pub fn is_ready(&self) -> bool {
        !self.wants_to_write() && (self.input.contains(&b'\n') || self.input.len() >= LINE)
    }

    /// Goes on as far as it can without waiting, and by one line at most: others have their turn in
    /// between. `false` when the connection is over.
    pub fn step(&mut self, serve: &mut dyn FnMut(Line<'_>) -> Reply) -> bool {
        if !self.flush() {
            return false;
        }
        if self.wants_to_write() {
            return true;
        }
        // A line that is complete already comes before more input.
        if !self.is_ready() && !self.fill() {
            return false;
        }
        if let Some(end) = self.input.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let reply = serve(Line {
                text: &line[..end],
                reader: &self.reader,
            });
            self.answer(reply);
        } else if self.input.len() >= LINE {
            self.answer(protocol_error("a line has at most 8192 bytes"));
        }
        self.wants_to_write() || !self.closing
    }

    /// Reads what there is, up to a line's end or length; `false` when there will be no more.
    fn fill(&mut self) -> bool {
        let mut piece = [0u8; 1024];
        while !self.is_ready() {
            let room = piece.len().min(LINE - self.input.len());
            let read = self
                .stream
                .get()
                .and_then(|mut stream| stream.read(&mut piece[..room]));
            match read {
                Ok(0) => return false,
                Ok(n) => {
                    if self.input.is_empty() {
                        self.since = Instant::now();
                    }
                    self.input.extend_from_slice(&piece[..n]);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }

    fn answer(&mut self, reply: Reply) {
        self.output = reply.text;
        self.written = 0;
        self.closing = reply.close;
        self.since = Instant::now();
        // What the socket does not take now is written when poll says that it can; an error shows
        // then.
        let _ = self.flush();
    }

    fn flush(&mut self) -> bool {
        while self.wants_to_write() {
            let rest = &self.output[self.written..];
            match self.stream.get().and_then(|mut stream| stream.write(rest)) {
                Ok(0) => return false,
                Ok(n) => {
                    self.written += n;
                    self.since = Instant::now();
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == ErrorKind::WouldBlock,
            }
        }
        self.output = Vec::new();
        self.written = 0;
        !self.closing
    }
}
