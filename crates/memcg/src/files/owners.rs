//! `memory.owners` and `memory.owners.live`: the ledger. Who holds bytes in a group: those that
//! have ended or moved away, with the time; and those that live.
//!
//! Invariants: both have the same columns; an owner stands in one of the two. Owners that have
//! ended and are alike (of one origin, in one state) stand in one line, as a service leaves a
//! hundred thousand of them under one name; those that live stand alone, each with its id.
//! Depends on: the group's owners.
//! Never: lists an owner that holds nothing.

#![forbid(unsafe_code)]

use super::At;
use crate::group::NameId;
use crate::group::objcg::State;
use crate::group::usage::OwnerLine;
use core::fmt::Write;
use std::collections::HashMap;

/// The names of the columns of both files.
pub const HEADER: &str = "ORIGIN\tSTATE\tENDED\tHELD\tHEAP\tMAPPED\tRESERVED\tID\tSLAB\tCOUNT\n";

/// A line: an owner, or several that are alike, with the sums of what they hold.
struct Line {
    origin: String,
    state: &'static str,
    /// The first that was met; its `ended_at` is that of the one that ended first, and its bytes
    /// are the sums.
    all: OwnerLine,
    count: u64,
}

/// `memory.owners`: the owners that have ended or moved away.
pub fn owners(at: At<'_>) -> String {
    let mut lines: Vec<Line> = Vec::new();
    let mut known: HashMap<(&'static str, String), usize> = HashMap::new();
    each_here(at, ended, |state, line| {
        let key = (state, origin(at, line.name));
        if let Some(&known) = known.get(&key) {
            lines[known].add(&line);
            return;
        }
        lines.push(Line::new(key.1.clone(), state, line));
        known.insert(key, lines.len() - 1);
    });
    text(lines)
}

fn ended(state: State) -> Option<&'static str> {
    match state {
        State::DeadTask => Some("ended-task"),
        State::DeadGroup => Some("removed-group"),
        State::Superseded => Some("left-by-task"),
        State::Residual => Some("rest-of-task"),
        State::Free | State::Group | State::Task | State::Lost => None,
    }
}

/// `memory.owners.live`: the owners whose task or group lives here.
pub fn live(at: At<'_>) -> String {
    let mut lines = Vec::new();
    let state = |state| match state {
        State::Task => Some("live-task"),
        State::Group => Some("group"),
        State::DeadTask
        | State::DeadGroup
        | State::Superseded
        | State::Residual
        | State::Free
        | State::Lost => None,
    };
    each_here(at, state, |state, line| {
        lines.push(Line::new(origin(at, line.name), state, line));
    });
    text(lines)
}

/// Each owner that holds bytes here and for which `state` gives a text.
fn each_here(
    at: At<'_>,
    state: impl Fn(State) -> Option<&'static str>,
    mut each: impl FnMut(&'static str, OwnerLine),
) {
    let tree = &at.engine.tree;
    tree.each_owner(|line| {
        // What a group that lingers holds is found with the group above that it will go to.
        let here = || tree.nearest_online(tree.memcgs.get(line.group)).index() == at.group.index();
        if let Some(state) = state(line.state)
            && line.held > 0
            && here()
        {
            each(state, line);
        }
    });
}

impl Line {
    fn new(origin: String, state: &'static str, all: OwnerLine) -> Self {
        Self {
            origin,
            state,
            all,
            count: 1,
        }
    }

    /// One more that is alike.
    fn add(&mut self, other: &OwnerLine) {
        let all = &mut self.all;
        all.ended_at = all.ended_at.min(other.ended_at);
        all.held += other.held;
        all.mapped += other.mapped;
        all.reserved += other.reserved;
        all.slab += other.slab;
        // Of several no task's id.
        all.id = 0;
        self.count += 1;
    }
}

/// The lines, those that hold most first.
fn text(mut lines: Vec<Line>) -> String {
    lines.sort_by_key(|line| (core::cmp::Reverse(line.all.held), line.all.tag));
    let mut text = String::from(HEADER);
    for line in lines {
        let all = &line.all;
        let heap = all
            .held
            .saturating_sub(all.mapped)
            .saturating_sub(all.reserved)
            .saturating_sub(all.slab);
        let ended = match all.ended_at {
            0 => String::from("-"),
            at => utc(at / 1_000_000_000),
        };
        let (origin, state) = (&line.origin, line.state);
        let _ = writeln!(
            text,
            "{origin}\t{state}\t{ended}\t{}\t{heap}\t{}\t{}\t{}\t{}\t{}",
            all.held, all.mapped, all.reserved, all.id, all.slab, line.count
        );
    }
    text
}

/// The path a name ends, fit for a line.
pub(super) fn origin(at: At<'_>, name: NameId) -> String {
    let mut origin = Vec::new();
    at.engine
        .tree
        .with_path(name, |piece| origin.extend_from_slice(piece));
    String::from_utf8_lossy(&origin)
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Seconds since 1970 as RFC 3339 in UTC.
pub(super) fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days, in 400-year eras that begin on 1 March of year 0.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_are_the_calendar_s() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(utc(4_102_444_800), "2100-01-01T00:00:00Z");
    }
}
