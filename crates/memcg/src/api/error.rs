//! Errors: one enum a verb. Each says which group, how much, which limit.

#![forbid(unsafe_code)]

use super::group_path::GroupPath;
use crate::attach;
use crate::engine::ChargeError;
use crate::group::tree::TreeError;
use core::fmt;

/// A charge was refused; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReserveError {
    /// The group that was full; empty where it is the owner itself, a task or a group, that can hold no more (8 TiB).
    pub group: GroupPath,
    /// Bytes asked for.
    pub bytes: u64,
    /// The group's usage then, in bytes.
    pub usage: u64,
    /// Its max, in bytes.
    pub max: u64,
}

impl ReserveError {
    pub(crate) fn new(refused: &ChargeError) -> Self {
        Self {
            group: GroupPath::of_index(refused.refusal.group),
            bytes: refused.bytes,
            usage: refused.refusal.usage,
            max: refused.refusal.max,
        }
    }
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = (self.usage.saturating_add(self.bytes)).saturating_sub(self.max);
        let full = match self.group.as_str() {
            "" => "no owner holds so much",
            group => group,
        };
        write!(
            f,
            "{full}: {} bytes do not fit: {} of {} bytes are in use, {over} too many",
            self.bytes, self.usage, self.max
        )
    }
}

impl core::error::Error for ReserveError {}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)* })
            }
        }

        impl core::error::Error for $name {}
    )*};
}

errors! {
    /// A group was not created.
    CreateError {
        /// Not a name for a group.
        Name => "a group's name has 1 to 255 bytes, no '/', no control characters, and is not '.' or '..'",
        /// There is one of that name.
        Exists => "a group of that name exists",
        /// The parent has been removed.
        Gone => "the parent group has been removed",
        /// Groups nest 255 deep.
        Depth => "groups nest at most 255 deep",
        /// No memory, or 16 million groups.
        NoMemory => "no memory for one more group",
    }
    /// A group was not removed; nothing has changed.
    RemoveError {
        /// It has children.
        HasChildren => "the group has children: remove them first",
        /// It has live tasks.
        HasTasks => "the group has live tasks: end or move them first",
        /// The root cannot be.
        Root => "the root cannot be removed",
        /// It has been already.
        Gone => "the group has been removed",
    }
    /// A task was not made.
    TaskError {
        /// The group has been removed.
        Gone => "the group has been removed",
        /// No memory for it.
        NoMemory => "no memory for one more task",
    }
    /// Two charges were not merged: both are as before.
    MergeError {
        /// They belong to different owners.
        OtherOwner => "the charges belong to different owners",
    }
}

impl CreateError {
    pub(super) fn of(e: TreeError) -> Self {
        match e {
            TreeError::Name => Self::Name,
            TreeError::Exists => Self::Exists,
            TreeError::Depth => Self::Depth,
            TreeError::NoMemory => Self::NoMemory,
            TreeError::Gone | TreeError::HasChildren | TreeError::HasTasks | TreeError::Root => {
                Self::Gone
            }
        }
    }
}

impl RemoveError {
    pub(super) fn of(e: TreeError) -> Self {
        match e {
            TreeError::HasChildren => Self::HasChildren,
            TreeError::HasTasks => Self::HasTasks,
            TreeError::Root => Self::Root,
            _ => Self::Gone,
        }
    }
}

impl TaskError {
    pub(super) fn of(e: TreeError) -> Self {
        match e {
            TreeError::NoMemory => Self::NoMemory,
            _ => Self::Gone,
        }
    }
}

/// A task was not moved; it is where it was, with all it holds (unless it says that it leaked).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MoveError {
    /// The target has been removed, or the task has ended.
    Gone,
    /// A group on the target's side is full; `bytes` is what the task holds.
    Full(ReserveError),
    /// A `memory.kmem.max` on the target's side has no room for the task's objects of caches; `bytes` is what it holds, of all kinds.
    KmemFull(ReserveError),
    /// The task charged faster than room could be made for it, for a second.
    Busy,
    /// Another move of the task is under way: for a second already, or it is the one that this thread is asked about.
    Moving,
    /// A subsystem's `can_attach` refused, or panicked.
    Refused {
        /// Its name.
        by: String,
        /// What it said.
        why: String,
    },
    /// Bytes of the task stay in too many groups already: a move by `transfer` brings them together.
    Scattered,
    /// No memory for a record.
    NoMemory,
    /// A move by `leaky` was refused, and could not move everything back: so many bytes are charged to nobody.
    Leaked(u64),
}

impl MoveError {
    pub(crate) fn new(e: attach::MoveError) -> Self {
        match e {
            attach::MoveError::NoGroup | attach::MoveError::NoTask => Self::Gone,
            attach::MoveError::Busy => Self::Busy,
            attach::MoveError::Moving => Self::Moving,
            attach::MoveError::Scattered => Self::Scattered,
            attach::MoveError::NoMemory => Self::NoMemory,
            attach::MoveError::Leaked(bytes) => Self::Leaked(bytes),
            // What the task holds: see `of_task`.
            attach::MoveError::Full(refusal) => {
                Self::Full(ReserveError::new(&ChargeError { bytes: 0, refusal }))
            }
            attach::MoveError::KmemFull(refusal) => {
                Self::KmemFull(ReserveError::new(&ChargeError { bytes: 0, refusal }))
            }
        }
    }

    /// The same of a task that holds `held` bytes.
    pub(crate) fn of_task(mut self, held: u64) -> Self {
        if let Self::Full(full) | Self::KmemFull(full) = &mut self {
            full.bytes = held;
        }
        self
    }
}

impl fmt::Display for MoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Full(full) => {
                return write!(
                    f,
                    "{}: no room for the task, which holds {} bytes: {} of {} bytes are in use",
                    full.group, full.bytes, full.usage, full.max
                );
            }
            Self::KmemFull(full) => {
                return write!(
                    f,
                    "{}: no room for the task's objects of caches: {} of {} bytes are in use: raise memory.kmem.max or free some",
                    full.group, full.usage, full.max
                );
            }
            Self::Refused { by, why } => return write!(f, "{by} refused the task: {why}"),
            Self::Leaked(bytes) => {
                return write!(
                    f,
                    "no room for the task, nor for all of it on its way back: {bytes} bytes are charged to nobody"
                );
            }
            Self::Gone => "the target group has been removed, or the task has ended",
            Self::Busy => "the task charges faster than room can be made for it: try again",
            Self::Moving => "another move of the task is under way: try again",
            Self::Scattered => {
                "bytes of the task stay in too many groups already: bring them together by transfer"
            }
            Self::NoMemory => "no memory for a record of what stays",
        };
        f.write_str(text)
    }
}

impl core::error::Error for MoveError {}
