//! The thread that looks at the process, as often as it is told to.
//!
//! A program may close its engine's connections, or become another program by `exec`: then the
//! socket is looked for again while the process lives.

use super::message::{Message, Order};
use crate::client::ClientError;
use crate::commands::top::source::Source;
use crate::failure::Failure;
use crate::sys;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How long a lost socket is looked for. The engine notices within 5 s that somebody closed its
/// descriptors.
const SEARCH: Duration = Duration::from_secs(7);
const SEARCH_PAUSE: Duration = Duration::from_millis(200);

/// The way to the thread.
pub struct Feed {
    orders: Sender<Order>,
    last: RefCell<Order>,
}

impl Feed {
    /// Tells the thread, if it is something new.
    pub fn order(&self, order: Order) {
        if *self.last.borrow() != order {
            let _ = self.orders.send(order.clone());
            self.last.replace(order);
        }
    }
}

/// Starts the thread. It ends with the process, or when it has said that there is nothing to look
/// at any more.
pub fn start(source: Source, order: Order, sender: Sender<Message>) -> Feed {
    let (orders, receiver) = mpsc::channel();
    let last = RefCell::new(order.clone());
    thread::spawn(move || {
        let goodbye = Goodbye(sender.clone());
        let mut eye = Eye { source, sender };
        let last = match eye.watch(order, &receiver) {
            Ok(()) => return,
            Err(last) => last,
        };
        let _ = eye.sender.send(last);
        drop(goodbye);
    });
    Feed { orders, last }
}

/// Says that the thread is over, however it came to that. The view has ended by then unless it was
/// a panic.
struct Goodbye(Sender<Message>);

impl Drop for Goodbye {
    fn drop(&mut self) {
        let _ = self.0.send(Message::Broken);
    }
}

struct Eye {
    source: Source,
    sender: Sender<Message>,
}

impl Eye {
    /// Looks until the view is gone, or an error tells the last thing there is to say.
    fn watch(&mut self, mut order: Order, orders: &Receiver<Order>) -> Result<(), Message> {
        let mut looked: Option<Instant> = None;
        loop {
            let due = looked.map_or_else(Instant::now, |at| at + order.interval);
            let patience = match order.paused {
                true => Duration::MAX,
                false => due.saturating_duration_since(Instant::now()),
            };
            let owners_before = order.owners.clone();
            match orders.recv_timeout(patience) {
                Ok(new) => order = new,
                Err(RecvTimeoutError::Timeout) => {
                    let now = self.insist(Source::look)?;
                    self.send(Message::Seen(Box::new(now), self.source.started()));
                    looked = Some(Instant::now());
                    self.owners(order.owners.as_deref())?;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if order.owners != owners_before {
                self.owners(order.owners.as_deref())?;
            }
        }
    }

    fn owners(&mut self, path: Option<&[u8]>) -> Result<(), Message> {
        let Some(path) = path else { return Ok(()) };
        let answer = self.insist(|source| match source.owners(OsStr::from_bytes(path)) {
            Ok(text) => Ok(Ok(text)),
            Err(refused @ ClientError::Refused { .. }) => Ok(Err(refused.to_string())),
            Err(error) => Err(error),
        })?;
        self.send(Message::Owners(path.to_vec(), answer));
        Ok(())
    }

    /// Asks, and asks again over a new connection if the one there was is lost.
    fn insist<T>(
        &mut self,
        mut ask: impl FnMut(&mut Source) -> Result<T, ClientError>,
    ) -> Result<T, Message> {
        loop {
            match ask(&mut self.source) {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_gone() || matches!(error, ClientError::Silent) => {
                    self.send(Message::Lost);
                    self.reconnect()?;
                }
                Err(error) => return Err(Message::Failed(self.source.failure(error))),
            }
        }
    }

    fn reconnect(&mut self) -> Result<(), Message> {
        let pid = self.source.pid();
        let until = Instant::now() + SEARCH;
        let mut why: Option<Failure> = None;
        while Instant::now() < until {
            if !sys::process::lives(pid) {
                return Err(Message::Ended);
            }
            match Source::connect(pid) {
                Ok(source) => {
                    self.source = source;
                    return Ok(());
                }
                Err(failure) => why = Some(failure),
            }
            thread::sleep(SEARCH_PAUSE);
        }
        Err(why.map_or(Message::Ended, Message::Failed))
    }

    fn send(&self, message: Message) {
        // Without a view there is nobody to tell, and the process is about to end.
        let _ = self.sender.send(message);
    }
}
