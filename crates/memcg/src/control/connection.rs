//! One client: what it has sent of a line, what it has not read of a reply, how long it may take.

use super::request::{Reply, protocol_error};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The longest line, with its newline.
pub(super) const LINE: usize = 8192;
const HALF_A_LINE: Duration = Duration::from_secs(10);
const BETWEEN_LINES: Duration = Duration::from_secs(60);

pub(super) struct Connection {
    pub stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// When the client last did what it was waited for.
    since: Instant,
    closing: bool,
}

impl Connection {
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            since: Instant::now(),
            closing: false,
        }
    }

    /// Whether there is something to write; else it is read from.
    pub fn wants_to_write(&self) -> bool {
        self.written < self.output.len()
    }

    /// When it is given up.
    pub fn deadline(&self) -> Instant {
        let busy = !self.input.is_empty() || self.wants_to_write();
        self.since + if busy { HALF_A_LINE } else { BETWEEN_LINES }
    }

    /// Goes on as far as it can without waiting; `false` when the connection is over.
    pub fn step(&mut self, serve: &mut dyn FnMut(&[u8]) -> Reply) -> bool {
        if !self.flush() {
            return false;
        }
        let mut piece = [0u8; 1024];
        while !self.wants_to_write() && !self.closing {
            // A line that is complete already comes before more input.
            if let Some(end) = self.input.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                self.answer(serve(&line[..end]));
            } else if self.input.len() >= LINE {
                self.answer(protocol_error("a line has at most 8192 bytes"));
            } else {
                let room = piece.len().min(LINE - self.input.len());
                match self.stream.read(&mut piece[..room]) {
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
        }
        self.wants_to_write() || !self.closing
    }

    fn answer(&mut self, reply: Reply) {
        self.output = reply.text;
        self.written = 0;
        self.closing = reply.close;
        self.since = Instant::now();
        // What it cannot take now is written when it can; an error shows then.
        let _ = self.flush();
    }

    fn flush(&mut self) -> bool {
        while self.wants_to_write() {
            match self.stream.write(&self.output[self.written..]) {
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
