//! `memory.events` and `memory.events.local`: how often what happened.
//!
//! Invariants: an event is counted in its group, and in `memory.events` also in all groups above.
//! Depends on: the group's event counts.
//! Never: resets a count.

#![forbid(unsafe_code)]

use super::At;
use crate::group::events::ALL;
use core::fmt::Write;

fn text(at: At<'_>, local: bool) -> String {
    ALL.iter().fold(String::new(), |mut text, &(event, name)| {
        let _ = writeln!(text, "{name} {}", at.group.nr_events(event, local));
        text
    })
}

pub fn hierarchical(at: At<'_>) -> String {
    text(at, false)
}

pub fn local(at: At<'_>) -> String {
    text(at, true)
}
