//! `fails` insists that what failed changed nothing: all that can be seen of the tree before is there after.
//!
//! Looked at: which groups there are, what every file that can be written says, what is held, who holds what. Not looked
//! at: events, pressure and peaks, which tell that somebody tried; and usage, where something was reclaimed.

use crate::act::Actor;
use crate::command::Command;
use crate::words::show;
use crate::world::{Fault, World};
use memcg::testing::files::{self, Entry, Mode};
use memcg::{Event, root};
use std::collections::BTreeMap;

/// All that can be seen at one moment.
pub struct Before {
    seen: BTreeMap<String, String>,
    kills: u64,
    reclaimed: u64,
}

impl Before {
    /// Looks at everything. O(groups).
    pub fn look(actor: &Actor<'_>) -> Result<Before, Fault> {
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
        for (tag, what) in actor.world.holdings() {
            seen.insert(format!("tag '{}'", show(&tag)), what);
        }
        let kills = root().nr_events(Event::OomKill);
        let text = actor.read(b"/", "memory.stat")?;
        let freed = text
            .lines()
            .find_map(|line| line.strip_prefix("shrinker_freed "));
        let reclaimed = freed.and_then(|freed| freed.parse().ok()).unwrap_or(0);
        Ok(Before {
            seen,
            kills,
            reclaimed,
        })
    }

    /// What is not as it was, if anything, after `command` has failed.
    pub fn difference(
        &self,
        actor: &Actor<'_>,
        command: &Command,
    ) -> Result<Option<String>, Fault> {
        let after = Before::look(actor)?;
        // Somebody was killed to make room: that is what the failure is about.
        if after.kills != self.kills {
            return Ok(None);
        }
        // What could be reclaimed has been, though less than asked: cgroup v2 says EAGAIN then. A charge at the limit does so as well.
        let may_fall = matches!(command, Command::Write { file, .. } if file == "memory.reclaim")
            || after.reclaimed != self.reclaimed;
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
