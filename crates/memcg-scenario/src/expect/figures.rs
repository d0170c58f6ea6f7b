//! The table of figures: what may follow the name of a task, tag, cache or subsystem and a colon.
//!
//! Invariants: a figure is one row, with the function that reads it.
//! Depends on: `world`.
//! Never: a figure without a way to read it.

use crate::world::World;
use crate::world::fault::Fault;
use crate::world::things::{Part, Things};
use std::sync::atomic::Ordering;

/// One figure of a task, tag, cache or subsystem.
#[derive(Clone, Copy)]
pub struct Figure {
    /// Its name, after the colon.
    pub name: &'static str,
    /// What has it.
    pub of: &'static str,
    /// What it is, in a line.
    pub help: &'static str,
    /// Reads it.
    pub read: fn(&World, &[u8]) -> Result<u64, Fault>,
}

impl core::fmt::Debug for Figure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Figure {
    fn eq(&self, other: &Figure) -> bool {
        self.name == other.name
    }
}

impl Eq for Figure {}

macro_rules! figures {
    ($($name:literal of $of:literal = $read:expr, $help:literal)*) => {
        /// All figures, in the order of the documentation.
        pub static FIGURES: &[Figure] = &[$(Figure {
            name: $name,
            of: $of,
            help: $help,
            read: $read,
        },)*];
    };
}

figures! {
    "held" of "TASK" = |world, task| Ok(world.task(task)?.held()),
        "bytes that the task's things hold"
    "moved" of "TASK" = |world, task| Ok(world.last_move(task)?.moved),
        "bytes that its last move charged to the new group"
    "stayed" of "TASK" = |world, task| Ok(world.last_move(task)?.stayed),
        "bytes that its last move left behind"
    "pieces" of "TASK" = |world, task| Ok(world.last_move(task)?.pieces),
        "pieces that its last move was made in"
    "leaked" of "TASK" = |world, task| world.task(task).map(|_| world.leaked_by(task)),
        "bytes that moves of the task by `leaky` have lost"
    "walked" of "TASK" = |world, task| Ok(world.dentries.last_walk(task)?.names),
        "names that its last walk met"
    "hits" of "TASK" = |world, task| Ok(world.dentries.last_walk(task)?.hits),
        "those of them that were in the cache"
    "uncached" of "TASK" = |world, task| Ok(world.dentries.last_walk(task)?.uncached),
        "those of them that the cache had no room for"
    "left" of "TAG" = |world, tag| Ok(world.things.look(tag, left).unwrap_or(0)),
        "objects of the tag that are left"
    "pages" of "TAG" = |world, tag| {
            Ok(world.things.region(tag).map_or(0, |region| region.nr_pages()))
        },
        "pages of the region that have content"
    "entries" of "CACHE" = |world, cache| Ok(counts(world, cache)?.0),
        "objects in a cache that gives them up: dentry, reclaimable or registered"
    "reclaimed" of "CACHE" = |world, cache| Ok(counts(world, cache)?.1),
        "objects that it has given up"
    "can_attach" of "SUBSYSTEM" = |world, name| {
            Ok(world.subsystem(name)?.can_attach.load(Ordering::Relaxed))
        },
        "how often it was asked whether a task may come"
    "attach" of "SUBSYSTEM" = |world, name| {
            Ok(world.subsystem(name)?.attach.load(Ordering::Relaxed))
        },
        "how often it was told that a task has come"
    "cancel_attach" of "SUBSYSTEM" = |world, name| {
            Ok(world.subsystem(name)?.cancel_attach.load(Ordering::Relaxed))
        },
        "how often it was told that a task does not come after all"
    "evict" of "SUBSYSTEM" = |world, name| {
            Ok(world.subsystem(name)?.evict.load(Ordering::Relaxed))
        },
        "how often it was asked to evict bytes"
}

fn left(things: &Things) -> u64 {
    things.parts.iter().map(Part::left).sum()
}

/// Objects of a cache that gives them up, and those that it has given up.
fn counts(world: &World, cache: &[u8]) -> Result<(u64, u64), Fault> {
    match world.reclaimable.find(cache) {
        Some(found) => Ok(found.counts()),
        None => world.dentries.counts(cache),
    }
}
