//! `memory.owners` and `memory.owners.live`: the ledger. Who holds bytes in a group: those that
//! have ended or moved away, with the time; and those that live.
//!
//! Invariants: both have the same columns; an owner stands in one of the two.
//! Depends on: the group's owners.
//! Never: lists an owner that holds nothing.

#![forbid(unsafe_code)]

use super::At;
use crate::group::NameId;
use crate::group::objcg::State;
use crate::group::usage::OwnerLine;
use core::fmt::Write;

/// The names of the columns of both files.
pub const HEADER: &str = "ORIGIN\tSTATE\tENDED\tHELD\tHEAP\tMAPPED\tRESERVED\tID\tSLAB\n";

/// `memory.owners`: the owners that have ended or moved away.
pub fn owners(at: At<'_>) -> String {
    ledger(at, |state| match state {
        State::DeadTask => Some("ended-task"),
        State::DeadGroup => Some("removed-group"),
        State::Superseded => Some("left-by-task"),
        State::Residual => Some("rest-of-task"),
        State::Free | State::Group | State::Task | State::Lost => None,
    })
}

/// `memory.owners.live`: the owners whose task or group lives here.
pub fn live(at: At<'_>) -> String {
    ledger(at, |state| match state {
        State::Task => Some("live-task"),
        State::Group => Some("group"),
        State::DeadTask
        | State::DeadGroup
        | State::Superseded
        | State::Residual
        | State::Free
        | State::Lost => None,
    })
}

/// A line for each owner that holds bytes here and for which `state` gives a text, those that hold
/// most first.
fn ledger(at: At<'_>, state: impl Fn(State) -> Option<&'static str>) -> String {
    let mut all: Vec<OwnerLine> = Vec::new();
    at.engine.tree.each_owner(|line| {
        // What a group that lingers holds is found with the group above that it will go to.
        let tree = &at.engine.tree;
        let here = || tree.nearest_online(tree.memcgs.get(line.group)).index() == at.group.index();
        if state(line.state).is_some() && line.held > 0 && here() {
            all.push(line);
        }
    });
    all.sort_by_key(|line| (core::cmp::Reverse(line.held), line.tag));
    let mut text = String::from(HEADER);
    for line in all {
        let origin = origin(at, line.name);
        let state = state(line.state).unwrap_or_default();
        let heap = line
            .held
            .saturating_sub(line.mapped)
            .saturating_sub(line.reserved)
            .saturating_sub(line.slab);
        let ended = match line.ended_at {
            0 => String::from("-"),
            at => utc(at / 1_000_000_000),
        };
        let _ = writeln!(
            text,
            "{origin}\t{state}\t{ended}\t{}\t{heap}\t{}\t{}\t{}\t{}",
            line.held, line.mapped, line.reserved, line.id, line.slab
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
