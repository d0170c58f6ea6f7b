//! `memory.move` and `memory.offline`: what happens to a task's bytes when it moves into the group,
//! and to a group's bytes when it ends.
//!
//! Invariants: each policy has one name, which is written and read.
//! Depends on: the group's policies.
//! Never: moves bytes; a policy takes effect at the next move or end.

#![forbid(unsafe_code)]

use super::{At, FileError};
use crate::group::{MovePolicy, OfflinePolicy};

/// A line of the words that can be chosen, the chosen one in brackets, as the kernel shows choices.
fn choice<T: PartialEq>(all: &[(T, &str)], chosen: &T) -> String {
    let words: Vec<String> = all
        .iter()
        .map(|(one, name)| {
            if one == chosen {
                format!("[{name}]")
            } else {
                (*name).to_string()
            }
        })
        .collect();
    words.join(" ") + "\n"
}

pub(super) fn chosen<T: Copy>(all: &[(T, &str)], value: &[u8]) -> Result<T, FileError> {
    let found = all.iter().find(|(_, name)| name.as_bytes() == value);
    found.map(|(one, _)| *one).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|(_, name)| *name).collect();
        FileError::invalid(format!("write one of: {}", names.join(" ")))
    })
}

pub fn on_move(at: At<'_>) -> String {
    choice(&MovePolicy::ALL, &at.group.move_policy())
}

pub fn set_on_move(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    at.group.set_move_policy(chosen(&MovePolicy::ALL, value)?);
    Ok(())
}

/// What may stand before a policy of `memory.offline`: the kind of things it is for. Objects are
/// the only kind there is.
const OBJECTS: &[u8] = b"objects=";

pub fn on_end(at: At<'_>) -> String {
    choice(&OfflinePolicy::ALL, &at.group.offline_policy())
}

pub fn set_on_end(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    let value = value.strip_prefix(OBJECTS).unwrap_or(value);
    at.group
        .set_offline_policy(chosen(&OfflinePolicy::ALL, value)?);
    Ok(())
}
