//! The live view: a tree of groups that can be moved in, folded and sorted.
//!
//! One thread looks at the process ([`feed`]), one reads keys and one waits for signals
//! ([`events`]); each sends [`Message`]s to this one, which alone keeps the state ([`model`],
//! [`keys`], [`rows`]) and draws it ([`draw`]) on the [`screen`]. So a key is answered at once
//! however slowly the engine answers, and a signal is no handler.

mod cells;
mod columns;
mod draw;
mod events;
mod feed;
mod head;
mod keys;
mod message;
mod model;
mod owners;
mod paint;
mod rows;
mod screen;
mod window;

use super::plain::say_end;
use super::source::Source;
use crate::failure::Failure;
use crate::sys::signals::Blocked;
use crate::terminal;
use feed::Feed;
use keys::{Step, press};
use message::Message;
use model::Model;
use ratatui::crossterm::event::Event;
use screen::Screen;
use std::io;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// Why the view ends.
#[derive(Debug)]
enum End {
    Quit,
    Ended,
    Failed(Failure),
    Broken,
}

/// How often the picture is drawn although nothing has happened: it says how old it is.
const IDLE: Duration = Duration::from_millis(500);

/// Shows the groups until the user, a signal or the process ends it.
pub fn run(source: Source, interval: Duration) -> Result<(), Failure> {
    let pid = source.pid();
    // Before any thread is there, so that all of them have it blocked.
    let signals = Blocked::new(&events::signals());
    let mut screen = Screen::enter().map_err(|e| {
        let line = format!("top: cannot use the terminal: {e}: try --once");
        Failure::new(1, line)
    })?;
    let (sender, messages) = mpsc::channel();
    let mut model = Model::new(pid, interval);
    let feed = feed::start(source, model.order(), sender.clone());
    events::start(signals, sender);
    let end = watch(&mut screen, &mut model, &feed, &messages);
    drop(screen);
    match end {
        // Nobody is there to be told of a terminal that failed.
        Err(_) | Ok(End::Quit) => Ok(()),
        Ok(End::Ended) => {
            say_end(pid, model.comm());
            Ok(())
        }
        Ok(End::Failed(failure)) => Err(failure),
        Ok(End::Broken) => Err(Failure::silent(101)),
    }
}

fn watch(
    screen: &mut Screen,
    model: &mut Model,
    feed: &Feed,
    messages: &Receiver<Message>,
) -> io::Result<End> {
    let colour = terminal::colour(&io::stdout());
    loop {
        screen.draw(|frame| draw::picture(frame, model, colour))?;
        let Ok(first) = messages.recv_timeout(IDLE) else {
            continue;
        };
        // Keys that come faster than pictures are answered with one picture.
        for message in [first].into_iter().chain(messages.try_iter()) {
            if let Some(end) = take(message, screen, model)? {
                return Ok(end);
            }
        }
        feed.order(model.order());
    }
}

/// Does what one message asks for.
fn take(message: Message, screen: &mut Screen, model: &mut Model) -> io::Result<Option<End>> {
    match message {
        Message::Seen(snapshot, started) => {
            model.started = started;
            model.see(*snapshot);
        }
        Message::Owners(path, answer) => model.see_owners(&path, answer),
        Message::Lost => model.lose(),
        Message::Input(Event::Key(key)) => match press(model, key) {
            Step::Go => {}
            Step::Redraw => screen.clear()?,
            Step::Stop => screen.stop()?,
            Step::Quit => return Ok(Some(End::Quit)),
        },
        Message::Input(_) => {}
        Message::Signal(libc::SIGTSTP) => screen.stop()?,
        Message::Signal(libc::SIGCONT) => screen.again()?,
        Message::Signal(_) | Message::NoInput => return Ok(Some(End::Quit)),
        Message::Ended => return Ok(Some(End::Ended)),
        Message::Failed(failure) => return Ok(Some(End::Failed(failure))),
        Message::Broken => return Ok(Some(End::Broken)),
    }
    Ok(None)
}
