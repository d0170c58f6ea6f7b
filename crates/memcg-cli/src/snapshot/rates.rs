//! How fast groups grow and shrink, from two snapshots.

use super::groups::{Group, Snapshot};
use std::collections::HashMap;

/// What each group held before, and how long ago that was by the engine's own clock.
pub struct Rates<'a> {
    before: HashMap<&'a [u8], u64>,
    seconds: f64,
}

impl<'a> Rates<'a> {
    /// The rates of `now` since `before`; none without it.
    pub fn new(now: &Snapshot, before: Option<&'a Snapshot>) -> Rates<'a> {
        // A younger engine is another one: the process has executed another program.
        let before = before.filter(|b| b.uptime_ms < now.uptime_ms && b.pid == now.pid);
        let milliseconds = before.map_or(0, |b| now.uptime_ms - b.uptime_ms);
        let groups = before.map_or(&[][..], |b| b.groups.as_slice());
        Rates {
            before: groups
                .iter()
                .map(|g| (g.path.as_slice(), g.current))
                .collect(),
            seconds: milliseconds as f64 / 1000.0,
        }
    }

    /// Bytes a second; none for a group that was not there before.
    pub fn of(&self, group: &Group) -> Option<f64> {
        let before = *self.before.get(group.path.as_slice())?;
        Some((group.current as f64 - before as f64) / self.seconds)
    }
}
