//! Why a file was not read or written: an error number by name, and a line for people.

use super::text::visible;
use crate::attach::MoveError;
use crate::group::charge::Refusal;
use crate::group::tree::TreeError;
use std::fmt;

macro_rules! errnos {
    ($($(#[$doc:meta])* $variant:ident $name:literal $number:ident;)*) => {
        /// Error numbers, those of cgroup v2 for the same mistakes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Errno { $($(#[$doc])* $variant,)* }

        impl Errno {
            /// The symbolic name, as in `ENOENT`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The number on this machine.
            #[must_use]
            pub fn number(self) -> i32 {
                match self { $(Self::$variant => libc::$number,)* }
            }
        }
    };
}

errnos! {
    /// No such group or file.
    NoEntry "ENOENT" ENOENT;
    /// What was written is no value of this file.
    Invalid "EINVAL" EINVAL;
    /// A number of the right form that this file does not take.
    Range "ERANGE" ERANGE;
    /// The group has children or tasks.
    Busy "EBUSY" EBUSY;
    /// There is one of that name.
    Exists "EEXIST" EEXIST;
    /// A name longer than 255 bytes.
    NameTooLong "ENAMETOOLONG" ENAMETOOLONG;
    /// No such task.
    NoTask "ESRCH" ESRCH;
    /// The group was removed meanwhile.
    Gone "ENODEV" ENODEV;
    /// A thing of cgroup v2 that does not exist here.
    NotSupported "EOPNOTSUPP" EOPNOTSUPP;
    /// Not now, or not all of it.
    Again "EAGAIN" EAGAIN;
    /// The file is not for reading, or not for writing.
    Access "EACCES" EACCES;
    /// A limit or the kernel has no room for it.
    NoMemory "ENOMEM" ENOMEM;
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A refusal; nothing has changed. `Display` is one line: where, what and what to do, the error's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The error number.
    pub errno: Errno,
    /// The path it is about, printable.
    pub place: String,
    /// What is wrong and what to do, without the place. One line, printable.
    pub message: String,
}

impl FileError {
    pub(crate) fn new(errno: Errno, message: impl Into<String>) -> Self {
        Self {
            errno,
            place: String::new(),
            message: message.into(),
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Errno::Invalid, message)
    }

    pub(super) fn gone() -> Self {
        Self::new(Errno::Gone, "the group has been removed meanwhile")
    }

    /// Says where, unless that is said already.
    pub(super) fn at(mut self, place: &[u8]) -> Self {
        if self.place.is_empty() {
            self.place = match place {
                b"" => "/".to_owned(),
                place => visible(place),
            };
        }
        self
    }

    /// A charge found `full` without room for `bytes` more.
    pub(super) fn full(full: &str, bytes: u64, refusal: &Refusal) -> Self {
        let message = if refusal.max == u64::MAX {
            format!("{bytes} bytes more than {full} can count")
        } else {
            format!(
                "{full} has no room for {bytes} bytes: {} of {} are in use: free some or raise its memory.max",
                refusal.usage, refusal.max
            )
        };
        Self::new(Errno::NoMemory, message)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => write!(f, "{} ({})", self.message, self.errno),
            place => write!(f, "{place}: {} ({})", self.message, self.errno),
        }
    }
}

impl std::error::Error for FileError {}

impl From<TreeError> for FileError {
    fn from(why: TreeError) -> Self {
        let (errno, message) = match why {
            TreeError::Name => (
                Errno::Invalid,
                "a group's name has no '/' and no control characters, and is not '.' or '..'",
            ),
            TreeError::Exists => (Errno::Exists, "there is a group of that name"),
            TreeError::Gone => return Self::gone(),
            TreeError::HasChildren => (Errno::Busy, "it has child groups: remove them first"),
            TreeError::HasTasks => (Errno::Busy, "it has live tasks: end or move them first"),
            TreeError::Root => (Errno::Busy, "the root cannot be removed"),
            TreeError::Depth => (Errno::Again, "groups nest at most 255 deep"),
            TreeError::NoMemory => (Errno::NoMemory, "no memory for one more group"),
        };
        Self::new(errno, message)
    }
}

impl FileError {
    /// A refused move; `path_of` says what a group is called.
    pub(super) fn of_move(why: MoveError, path_of: impl FnOnce(u32) -> String) -> Self {
        match why {
            MoveError::NoTask => {
                Self::new(Errno::NoTask, "no live task of that id: see cgroup.procs")
            }
            MoveError::NoGroup => Self::gone(),
            MoveError::Busy => Self::new(
                Errno::Again,
                "the task charges faster than room can be made for it: try again",
            ),
            MoveError::Full(refusal) if refusal.group != 0 => Self::new(
                Errno::NoMemory,
                format!(
                    "{} has no room for the task: {} of {} bytes are in use: free some or raise its memory.max",
                    path_of(refusal.group),
                    refusal.usage,
                    refusal.max
                ),
            ),
            MoveError::Full(_) => {
                Self::new(Errno::NoMemory, "the task holds more than one owner can")
            }
        }
    }
}
