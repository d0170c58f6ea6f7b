//! `walk`: looks up every name below a real directory.
//!
//! Invariants: a path without `/` begins where the program was started.
//! Depends on: `world::dentries`.
//! Never: changes a directory.

use crate::actor::Actor;
use crate::text::line::{Line, Name};
use crate::text::word::Wrong;
use crate::world::fault::Fault;

/// `TASK walk C DIR`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    task: Name,
    cache: Name,
    dir: Name,
}

/// Reads `C DIR`.
pub fn walk_of(task: Name, line: &mut Line<'_>) -> Result<Walk, Wrong> {
    Ok(Walk {
        task,
        cache: line.name("a cache")?,
        dir: line.next("a directory")?.bytes.clone(),
    })
}

/// Walks a directory for a task.
pub fn walk(actor: &Actor<'_>, Walk { task, cache, dir }: &Walk) -> Result<(), Fault> {
    let owner = actor.world.task(task)?;
    actor.world.dentries.walk(task, &owner, cache, dir)
}
