//! `memory.move` and `memory.offline`: what happens to a task's bytes when it moves into the group, and to a group's when it ends.

use super::{At, Errno, FileError};
use crate::group::MovePolicy;

/// Words of which one is chosen, that one in brackets, as the kernel shows choices.
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

/// What a group's bytes do when it ends: one way is built, and there is nothing to remember.
const OFFLINE: &str = "parent";
const OFFLINE_OTHERS: [&str; 4] = ["evict", "mapper", "next-touch", "auto"];

pub fn on_end(_: At<'_>) -> String {
    format!("{OFFLINE}\n")
}

pub fn set_on_end(_: At<'_>, value: &[u8]) -> Result<(), FileError> {
    if value == OFFLINE.as_bytes() {
        return Ok(());
    }
    match OFFLINE_OTHERS.iter().find(|name| name.as_bytes() == value) {
        Some(name) => Err(FileError::new(
            Errno::EOPNOTSUPP,
            format!("'{name}' is not built yet: it stays {OFFLINE}"),
        )),
        None => Err(FileError::invalid(format!("write {OFFLINE}"))),
    }
}
