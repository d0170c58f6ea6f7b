//! The threads that wait for keys and for signals.

use super::message::Message;
use crate::sys::signals::{self, Blocked, ENDING};
use ratatui::crossterm::event;
use std::sync::mpsc::Sender;
use std::thread;

/// The signals the view answers: those that end it, and those that stop and continue it.
pub fn signals() -> Vec<i32> {
    signals::not_ignored(&[&ENDING[..], &[libc::SIGTSTP, libc::SIGCONT]].concat())
}

/// Starts both. They end with the process.
pub fn start(signals: Blocked, sender: Sender<Message>) {
    let keys = sender.clone();
    thread::spawn(move || {
        let sent = |event| keys.send(Message::Input(event)).is_ok();
        while event::read().is_ok_and(sent) {}
        let _ = keys.send(Message::NoInput);
    });
    thread::spawn(move || {
        loop {
            if let Some(received) = signals.wait(None)
                && sender.send(Message::Signal(received.signal)).is_err()
            {
                return;
            }
        }
    });
}
