//! `mkdir`, `rmdir`, `kmem-id`, `reap`: groups, and what becomes of removed ones.
//!
//! Invariants: of several paths, those before the first that is refused are done.
//! Depends on: the engine's directory of groups.
//! Never: more than one round of the reaper.

use crate::actor::Actor;
use crate::text::line::{Line, Name};
use crate::text::word::{Wrong, show};
use crate::world::World;
use crate::world::fault::Fault;
use memcg::testing::files;
use memcg::testing::os::errno::Errno;
use memcg::{IdError, root};

/// Reads `PATH…`.
pub fn paths(line: &mut Line<'_>) -> Result<Vec<Name>, Wrong> {
    line.paths()
}

/// Makes groups.
pub fn mkdir(_: &Actor<'_>, paths: &[Name]) -> Result<(), Fault> {
    paths.iter().try_for_each(|path| {
        World::with(|engine, rec| files::mkdir(engine, rec, path))??;
        Ok(())
    })
}

/// Removes groups.
pub fn rmdir(_: &Actor<'_>, paths: &[Name]) -> Result<(), Fault> {
    paths.iter().try_for_each(|path| {
        World::with(|engine, rec| files::rmdir(engine, rec, path))??;
        Ok(())
    })
}

/// Reads `PATH`.
pub fn path(line: &mut Line<'_>) -> Result<Name, Wrong> {
    line.path()
}

/// Gives a group its kmem id, as its first list or cache does.
pub fn take_kmem_id(_: &Actor<'_>, path: &[u8]) -> Result<(), Fault> {
    let Some(group) = root().lookup(path) else {
        let message = format!("{}: no such group", show(path));
        return Err(Fault::refused(Errno::ENOENT, message));
    };
    group.kmem_id().map(drop).map_err(|why| {
        let errno = match why {
            IdError::Gone => Errno::ENODEV,
            IdError::Exhausted => Errno::ENOSPC,
            // And what is added later: the enum is open.
            IdError::NoMemory | _ => Errno::ENOMEM,
        };
        Fault::refused(errno, format!("{}: {why}", show(path)))
    })
}

/// Reads nothing.
#[expect(
    clippy::unnecessary_wraps,
    reason = "as every function that reads a verb's words"
)]
pub fn nothing(_: &mut Line<'_>) -> Result<(), Wrong> {
    Ok(())
}

/// Runs one round of the zombie reaper.
pub fn reap(_: &Actor<'_>, (): &()) -> Result<(), Fault> {
    World::with(|engine, rec| {
        engine.reap(rec);
    })
}
