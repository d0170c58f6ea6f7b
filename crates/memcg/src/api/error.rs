//! Errors of the Rust face: one enum for each verb.
//!
//! Invariants: after an error nothing has changed, unless its text says otherwise. A refusal says
//! which group was full, how much was asked for, and which limit.
//! Depends on: `group_path`.
//! Never: makes text before somebody reads it.

#![forbid(unsafe_code)]

use super::group_path::GroupPath;
use crate::attach;
use crate::engine::ChargeError;
use crate::group::name::NAME_RULE;
use crate::group::tree::TreeError;
use core::fmt;

/// A charge was refused; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReserveError {
    /// The group that was full. Empty if it is the owner itself, a task or a group, that can hold
    /// no more (8 TiB).
    pub group: GroupPath,
    /// Bytes that were asked for.
    pub bytes: u64,
    /// The group's usage at that time, in bytes.
    pub usage: u64,
    /// The group's max, in bytes.
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
        if over == 0 {
            return write!(
                f,
                "{full}: {} bytes would fit ({} of {} bytes are in use), but others stand in line",
                self.bytes, self.usage, self.max
            );
        }
        write!(
            f,
            "{full}: {} bytes do not fit: {} of {} bytes are in use, {over} too many",
            self.bytes, self.usage, self.max
        )
    }
}

impl core::error::Error for ReserveError {}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:expr,)* })*) => {$(
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
        /// The name cannot be a group's: the message says why.
        Name => NAME_RULE,
        /// The parent has a group of that name.
        Exists => "a group of that name exists",
        /// The parent has been removed.
        Gone => "the parent group has been removed",
        /// The parent is 255 groups deep, which is the most.
        Depth => "groups nest at most 255 deep",
        /// There is no memory for it, or there are 16 million groups.
        NoMemory => "no memory for one more group",
    }
    /// A group was not removed; nothing has changed.
    RemoveError {
        /// The group has children.
        HasChildren => "the group has children: remove them first",
        /// The group has live tasks.
        HasTasks => "the group has live tasks: end or move them first",
        /// The root cannot be removed.
        Root => "the root cannot be removed",
        /// The group has been removed already.
        Gone => "the group has been removed",
    }
    /// A limit, or another setting of a group, was not set; nothing has changed.
    LimitError {
        /// The group has been removed.
        Gone => "the group has been removed",
        /// There is no memory to remember it.
        NoMemory => "no memory to remember that",
        /// The process has more already than a budget (the root's `memory.max`) would leave it.
        InUse => "the process has more already: with that budget it would end at once",
        /// The root has no such setting.
        Root => "the root has no such setting",
        /// Only the root has this setting.
        NotRoot => "only the root has this setting",
    }
    /// A task was not made.
    TaskError {
        /// The group has been removed.
        Gone => "the group has been removed",
        /// There is no memory for one more task.
        NoMemory => "no memory for one more task",
    }
    /// Two charges were not merged: both are as before.
    MergeError {
        /// The two charges belong to different owners.
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
            TreeError::Name
            | TreeError::Exists
            | TreeError::Gone
            | TreeError::Depth
            | TreeError::NoMemory => Self::Gone,
        }
    }
}

impl TaskError {
    pub(super) fn of(e: TreeError) -> Self {
        match e {
            TreeError::NoMemory => Self::NoMemory,
            TreeError::Name
            | TreeError::Exists
            | TreeError::Gone
            | TreeError::HasChildren
            | TreeError::HasTasks
            | TreeError::Root
            | TreeError::Depth => Self::Gone,
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
    /// A `memory.kmem.max` on the target's side has no room for the task's objects of caches.
    /// `bytes` is what the task holds, of all kinds.
    KmemFull(ReserveError),
    /// The task charged faster than room could be made for it, for a second.
    Busy,
    /// Another move of the task is under way. It has been for a second, or it is the move that a
    /// subsystem on this thread is being asked about.
    Moving,
    /// A subsystem's `can_attach` refused, or panicked.
    Refused {
        /// The subsystem's name.
        by: String,
        /// What the subsystem said.
        why: String,
    },
    /// Bytes of the task stay in too many groups already. A move by `transfer` brings them
    /// together.
    Scattered,
    /// There is no memory for a record of what stays.
    NoMemory,
    /// A move by `leaky` was refused, and could not move everything back. So many bytes are charged
    /// to nobody.
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
            // `bytes` is what the task holds, and `of_task` sets it.
            attach::MoveError::Full(refusal) => {
                Self::Full(ReserveError::new(&ChargeError { bytes: 0, refusal }))
            }
            attach::MoveError::KmemFull(refusal) => {
                Self::KmemFull(ReserveError::new(&ChargeError { bytes: 0, refusal }))
            }
        }
    }

    /// The same error of a task that holds `held` bytes.
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
