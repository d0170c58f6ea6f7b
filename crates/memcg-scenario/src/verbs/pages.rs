//! `share`, `swap`, `zswap`, `map`, `unmap`, `sync`: commands that need pages. This build has none.
//! Such a line is read all the same, and ends the run when it is its turn.
//!
//! Invariants: a line that is wrong is refused, with or without pages.
//! Depends on: `text`.
//! Never: calls the engine.

use crate::actor::Actor;
use crate::text::line::{Line, Name};
use crate::text::number;
use crate::text::word::Wrong;
use crate::world::fault::Fault;

/// A command that needs pages, by its verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedsPages(&'static str);

/// Says that the build has no pages.
pub fn lacking(_: &Actor<'_>, NeedsPages(verb): &NeedsPages) -> Result<(), Fault> {
    Err(Fault::lacks_pages(verb))
}

/// Reads `TAG TASK TASK`.
pub fn share(line: &mut Line<'_>) -> Result<NeedsPages, Wrong> {
    for what in ["a tag", "the task that maps it", "the task that shall"] {
        line.name(what)?;
    }
    Ok(NeedsPages("share"))
}

/// Reads `SIZE [FILE]`.
pub fn swap(line: &mut Line<'_>) -> Result<NeedsPages, Wrong> {
    number::size(line.next("a size")?)?;
    if line.peek().is_some() {
        line.next("a file")?;
    }
    Ok(NeedsPages("swap"))
}

/// Reads `SIZE`.
pub fn zswap(line: &mut Line<'_>) -> Result<NeedsPages, Wrong> {
    number::size(line.next("a size")?)?;
    Ok(NeedsPages("zswap"))
}

/// Reads `TAG SIZE anon|shmem|file=PATH`.
pub fn map(_: Name, line: &mut Line<'_>) -> Result<NeedsPages, Wrong> {
    line.name("a tag")?;
    number::size(line.next("a size")?)?;
    let kind = line.next("anon, shmem or file=PATH")?;
    if !kind.is("anon") && !kind.is("shmem") && !kind.bytes.starts_with(b"file=") {
        return Err(Wrong::new(
            kind.column,
            format!("'{}': expected anon, shmem or file=PATH", kind.show()),
        ));
    }
    Ok(NeedsPages("map"))
}

/// Reads `TAG`.
pub fn unmap(_: Name, line: &mut Line<'_>) -> Result<NeedsPages, Wrong> {
    line.name("a tag")?;
    Ok(NeedsPages("unmap"))
}

/// Reads `TAG`.
pub fn sync(_: Name, line: &mut Line<'_>) -> Result<NeedsPages, Wrong> {
    line.name("a tag")?;
    Ok(NeedsPages("sync"))
}
