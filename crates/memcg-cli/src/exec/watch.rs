//! Looking at the program while it runs, over its control socket, in a thread of its own: however
//! slowly the engine answers, signals and the program's end are seen at once.

use super::options::Options;
use crate::client::{Client, socket_folder};
use crate::snapshot::{self, Snapshot};
use crate::terminal::{self, Line};
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The first look comes early, so that something is known of a short program too.
const FIRST_LOOK: Duration = Duration::from_millis(200);
/// How long connecting and an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the groups are shown while the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picture {
    /// Not at all; only remembered.
    Hidden,
    /// Redrawn in place on the terminal.
    InPlace,
    /// One block after the other.
    Blocks,
}

impl Picture {
    /// What was asked for: in place on a terminal, else blocks if an interval was given.
    pub fn wanted(options: &Options) -> Picture {
        match options.top {
            None => Picture::Hidden,
            Some(_) if io::stderr().is_terminal() => Picture::InPlace,
            Some(Some(_)) => Picture::Blocks,
            Some(None) => Picture::Hidden,
        }
    }
}

/// A snapshot with the text it was read from.
#[derive(Debug)]
pub struct Seen {
    /// The text.
    pub text: Vec<u8>,
    /// What it says.
    pub snapshot: Snapshot,
}

/// The thread that looks.
pub struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<Option<Seen>>,
}

impl Watch {
    /// Starts to look at process `pid` every `interval`.
    pub fn start(pid: u32, picture: Picture, interval: Duration) -> Watch {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut eye = Eye {
                pid,
                client: None,
                seen: None,
                picture,
                height: 0,
            };
            let mut pause = interval.min(FIRST_LOOK);
            // Dropping the sender stops the thread as well.
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
                eye.look();
                pause = interval;
            }
            eye.close()
        });
        Watch { stop, thread }
    }

    /// Stops looking and gives back what was seen last.
    pub fn finish(self) -> Option<Seen> {
        drop(self.stop);
        self.thread.join().ok().flatten()
    }
}

struct Eye {
    pid: u32,
    client: Option<Client>,
    seen: Option<Seen>,
    picture: Picture,
    height: usize,
}

impl Eye {
    fn look(&mut self) {
        let Some(now) = self.snapshot() else {
            // The process may have executed another program, whose engine has a new socket.
            self.client = None;
            return;
        };
        let lines =
            snapshot::table::lines(&now.snapshot, self.seen.as_ref().map(|seen| &seen.snapshot));
        self.draw(lines);
        self.seen = Some(now);
    }

    fn snapshot(&mut self) -> Option<Seen> {
        if self.client.is_none() {
            let sockets = socket_folder::sockets_of(self.pid);
            self.client = sockets
                .iter()
                .find_map(|path| Client::connect_at(path, PATIENCE, PATIENCE).ok());
        }
        let text = self.client.as_mut()?.ask(&[b"snapshot"]).ok()?;
        let snapshot = snapshot::parse(&String::from_utf8_lossy(&text)).ok()?;
        Some(Seen { text, snapshot })
    }

    fn draw(&mut self, lines: Vec<Line>) {
        let stderr = io::stderr();
        let colour = terminal::colour(&stderr);
        let text = match self.picture {
            Picture::Hidden => return,
            Picture::Blocks => terminal::text(&lines, colour) + "\n",
            Picture::InPlace => {
                let lines = terminal::fit(lines, terminal::size(libc::STDERR_FILENO));
                let before = std::mem::replace(&mut self.height, lines.len());
                terminal::erase(before) + &terminal::text(&lines, colour)
            }
        };
        let _ = stderr.lock().write_all(text.as_bytes());
    }

    /// Takes the last picture away: the final table takes its place.
    fn close(self) -> Option<Seen> {
        if self.picture == Picture::InPlace {
            let _ = io::stderr()
                .lock()
                .write_all(terminal::erase(self.height).as_bytes());
        }
        self.seen
    }
}
