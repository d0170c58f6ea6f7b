//! `fails`: a command that must fail with a given error, and change nothing.
//!
//! Invariants: errors are compared by their number.
//! Depends on: `snapshot`, for what has changed.
//! Never: knows which command it is.

use crate::actor::{Actor, Said};
use crate::snapshot::Snapshot;
use crate::text::line::Line;
use crate::text::word::Wrong;
use crate::world::fault::Fault;
use memcg::testing::os::errno::Errno;

/// Reads `ERRNO`.
pub fn errno(line: &mut Line<'_>) -> Result<Errno, Wrong> {
    let word = line.next("an error's name, as ENOMEM")?;
    let found = Errno::TABLE.iter().find(|(name, _)| word.is(name));
    found.map(|(_, errno)| *errno).ok_or_else(|| {
        let names: Vec<&str> = Errno::TABLE.iter().map(|(name, _)| *name).collect();
        Wrong::new(
            word.column,
            format!(
                "'{}' is no error a command fails with: expected one of {}",
                word.show(),
                names.join(" ")
            ),
        )
    })
}

/// Runs `act`, which must fail with `expected` and change nothing. `reclaims`: it was to reclaim
/// memory, so usage may have fallen.
pub fn must_fail(
    actor: &Actor<'_>,
    expected: Errno,
    reclaims: bool,
    act: impl FnOnce() -> Result<Said, Fault>,
) -> Result<Said, Fault> {
    // In a `parallel` block others change things meanwhile.
    let before = actor.is_alone.then(|| Snapshot::take(actor)).transpose()?;
    let (errno, message) = match act() {
        Err(Fault::Refused { errno, message }) => (errno, message),
        Err(other @ (Fault::Wrong(_) | Fault::Lacks { .. })) => return Err(other),
        Ok(_) => {
            return Err(Fault::Wrong(format!(
                "it does not fail, and {expected} is expected"
            )));
        }
    };
    if errno.number() != expected.number() {
        return Err(Fault::Wrong(format!(
            "it fails, but with {errno}, not {expected}: {message}"
        )));
    }
    if let Some(changed) = before
        .map(|before| before.difference(actor, reclaims))
        .transpose()?
        .flatten()
    {
        return Err(Fault::Wrong(format!(
            "it fails with {expected}, but something has changed: {changed}"
        )));
    }
    Ok(Said::found(format!("{errno}: {message}")))
}
