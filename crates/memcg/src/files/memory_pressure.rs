//! `memory.pressure`: how long tasks stalled, in the kernel's two lines.
//!
//! Invariants: the format is the kernel's.
//! Depends on: the group's stall times.
//! Never: waits for a stall to end.

#![forbid(unsafe_code)]

use super::At;
use crate::group::pressure::Reading;

pub fn pressure(at: At<'_>) -> String {
    let (some, full) = at.engine.tree.pressure(at.group);
    line("some", some) + &line("full", full)
}

fn line(name: &str, reading: Reading) -> String {
    let [ten, sixty, three_hundred] = reading
        .averages
        .map(|share| format!("{}.{:02}", share / 100, share % 100));
    format!(
        "{name} avg10={ten} avg60={sixty} avg300={three_hundred} total={}\n",
        reading.total_us
    )
}
