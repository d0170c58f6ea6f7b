//! What the view's threads tell each other.
//!
//! Invariants: plain values; who sends one keeps nothing of it.
//! Depends on: snapshot.
//! Never: waits.

use crate::failure::Failure;
use crate::snapshot::Snapshot;
use ratatui::crossterm::event::Event;
use std::time::Duration;

/// What the other threads have to say.
#[derive(Debug)]
pub enum Message {
    /// The groups now, and how many processes that were started are not among them.
    Seen(Box<Snapshot>, usize),
    /// The owners of the group of that path, or why they cannot be told.
    Owners(Vec<u8>, Result<String, String>),
    /// The connection was lost; another is being tried for.
    Lost,
    /// The process has ended.
    Ended,
    /// It cannot be looked at any more.
    Failed(Failure),
    /// A key, or another size of the terminal.
    Input(Event),
    /// The terminal is gone.
    NoInput,
    /// A signal.
    Signal(i32),
    /// A thread ended that should not have: it panicked, and has said so.
    Broken,
}

/// What the view wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// How often to look.
    pub interval: Duration,
    /// Whether not to look for now.
    pub paused: bool,
    /// The group whose owners are wanted as well.
    pub owners: Option<Vec<u8>>,
}
