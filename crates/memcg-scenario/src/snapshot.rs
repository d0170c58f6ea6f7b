//! All that can be seen of the tree at one moment, to tell what a command has changed.
//!
//! Looked at: which groups there are, what every file says that can be written, what is held, who
//! holds what. Not looked at: events, pressure and peaks, which tell that somebody tried; and
//! usage, where something was reclaimed.
//!
//! Invariants: two snapshots with no command between them do not differ.
//! Depends on: `actor`, for files; `world`, for what is held.
//! Never: changes anything.

#![forbid(unsafe_code)]

use crate::actor::Actor;
use crate::text::word::show;
use crate::world::World;
use crate::world::fault::Fault;
use memcg::testing::files::{self, Entry, Mode};
use memcg::{Event, root};
use std::collections::BTreeMap;

/// All that could be seen at one moment.
pub struct Snapshot {
    seen: BTreeMap<String, String>,
    kills: u64,
    reclaimed: [u64; 2],
}

impl Snapshot {
    /// Looks at everything. O(groups).
    ///
    /// # Errors
    /// What could not be read.
    pub fn take(actor: &Actor<'_>) -> Result<Snapshot, Fault> {
        let mut seen = BTreeMap::new();
        let mut groups = vec![Vec::new()];
        while let Some(group) = groups.pop() {
            for entry in World::with(|engine, rec| files::list(engine, rec, &group))?? {
                match entry {
                    Entry::Group(name) => groups.push([&group[..], b"/", &name].concat()),
                    Entry::File(file, mode) => {
                        let is_seen = mode == Mode::ReadWrite && file != "memory.peak"
                            || matches!(file, "memory.current" | "memory.owners");
                        if is_seen {
                            let text = actor.read(&group, file)?;
                            seen.insert(format!("{}:{file}", show(&group)), text);
                        }
                    }
                }
            }
        }
        for (tag, what) in actor.world.things.holdings() {
            seen.insert(format!("tag '{}'", show(&tag)), what);
        }
        let kills = root().nr_events(Event::OomKill);
        let text = actor.read(b"/", "memory.stat")?;
        let number = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|number| number.trim().parse().ok())
                .unwrap_or(0)
        };
        // Bytes and pages: only whether it is as before matters.
        let reclaimed = [number("shrinker_freed "), number("pgsteal ")];
        Ok(Snapshot {
            seen,
            kills,
            reclaimed,
        })
    }

    /// What is not as it was, if anything, after a command has failed. `reclaims`: the command was
    /// to reclaim memory, so usage may have fallen.
    ///
    /// # Errors
    /// What could not be read.
    pub fn difference(&self, actor: &Actor<'_>, reclaims: bool) -> Result<Option<String>, Fault> {
        let after = Snapshot::take(actor)?;
        // A task was killed to make room. The failure tells of that, so nothing is compared.
        if after.kills != self.kills {
            return Ok(None);
        }
        // Less was there than asked for, and that was reclaimed: cgroup v2 says EAGAIN then. A
        // charge at the limit reclaims as well.
        let may_fall = reclaims || after.reclaimed != self.reclaimed;
        let is_usage =
            |place: &str| place.ends_with(":memory.current") || place.ends_with(":memory.owners");
        for (place, was) in &self.seen {
            match after.seen.get(place) {
                None => return Ok(Some(format!("{place} is gone"))),
                Some(is) if is != was && !(may_fall && is_usage(place)) => {
                    return Ok(Some(format!(
                        "{place} was '{}' and is '{}'",
                        was.trim(),
                        is.trim()
                    )));
                }
                Some(_) => {}
            }
        }
        let new = after
            .seen
            .keys()
            .find(|place| !self.seen.contains_key(*place));
        Ok(new.map(|place| format!("{place} is new")))
    }
}
