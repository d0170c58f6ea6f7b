//! `memory.move` and `memory.offline`: what happens to a task's bytes when it moves, and to a group's when it ends.
//!
//! One way of each is built. The files show it and take it; they say of the others that they are not there, and so cannot
//! be set to what does not happen. There is nothing to remember, and nothing to inherit.

use super::{At, Errno, FileError};

/// A file of one choice.
struct Policy {
    /// What happens.
    built: &'static str,
    /// What does not yet.
    others: &'static [&'static str],
}

const MOVE: Policy = Policy {
    built: "transfer",
    others: &[
        "stay",
        "lazy",
        "best-effort",
        "reserve-both",
        "paged",
        "leaky",
    ],
};

const OFFLINE: Policy = Policy {
    built: "parent",
    others: &["evict", "mapper", "next-touch", "auto"],
};

impl Policy {
    fn show(&self) -> String {
        format!("{}\n", self.built)
    }

    fn take(&self, value: &[u8]) -> Result<(), FileError> {
        if value == self.built.as_bytes() {
            return Ok(());
        }
        match self.others.iter().find(|name| name.as_bytes() == value) {
            Some(name) => Err(FileError::new(
                Errno::EOPNOTSUPP,
                format!("'{name}' is not built yet: it stays {}", self.built),
            )),
            None => Err(FileError::invalid(format!("write {}", self.built))),
        }
    }
}

pub fn on_move(_: At<'_>) -> String {
    MOVE.show()
}

pub fn set_on_move(_: At<'_>, value: &[u8]) -> Result<(), FileError> {
    MOVE.take(value)
}

pub fn on_end(_: At<'_>) -> String {
    OFFLINE.show()
}

pub fn set_on_end(_: At<'_>, value: &[u8]) -> Result<(), FileError> {
    OFFLINE.take(value)
}
