//! Why a page, or a region, was not to be had.
//!
//! Invariants: after an error nothing has changed.
//! Depends on: `error` for who was full.
//! Never: makes text before somebody reads it.

#![forbid(unsafe_code)]

use super::error::ReserveError;
use crate::engine::pages::TouchError;
use crate::os::errno::Errno;
use core::fmt;

/// A page was not to be had; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageError {
    /// A group was full. ENOMEM.
    Full(ReserveError),
    /// There is no memory for a frame, or for a record of the engine. ENOMEM.
    NoMemory,
    /// Beyond the end of the region. EINVAL.
    OutOfRange,
    /// Others have the page pinned, and the call would not wait or has waited for 10 s; or this
    /// thread has it pinned for another task. EBUSY.
    Busy,
    /// This thread has the page pinned for the same task: it would wait for itself. EDEADLK.
    Deadlock,
    /// The file or the device failed. EIO too where others have cut the file off; ESTALE where it
    /// is gone.
    Io(Errno),
    /// The file was opened to be read alone. EACCES.
    ReadOnly,
    /// The region caches a file, for which this is not done. EOPNOTSUPP.
    IsFile,
    /// Regions are the parent's: it had some when it forked this process. ESTALE.
    ParentProcess,
}

impl PageError {
    pub(crate) fn new(error: TouchError) -> Self {
        match error {
            TouchError::Full(refused) => Self::Full(ReserveError::new(&refused)),
            TouchError::NoMemory => Self::NoMemory,
            TouchError::Range => Self::OutOfRange,
            TouchError::Busy => Self::Busy,
            TouchError::Deadlock => Self::Deadlock,
            TouchError::Io(errno) => Self::Io(errno),
            TouchError::ReadOnly => Self::ReadOnly,
            TouchError::IsFile => Self::IsFile,
            TouchError::Child => Self::ParentProcess,
        }
    }

    /// The error's number in C.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Full(_) | Self::NoMemory => Errno::ENOMEM,
            Self::OutOfRange => Errno::EINVAL,
            Self::Busy => Errno::EBUSY,
            Self::Deadlock => Errno::EDEADLK,
            Self::Io(errno) => *errno,
            Self::ReadOnly => Errno::EACCES,
            Self::IsFile => Errno::EOPNOTSUPP,
            Self::ParentProcess => Errno::ESTALE,
        }
    }
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(refused) => refused.fmt(f),
            Self::NoMemory => f.write_str("no memory for a page"),
            Self::OutOfRange => f.write_str("beyond the end of the region"),
            Self::Busy => f.write_str("others have the page pinned"),
            Self::Deadlock => f.write_str("this thread has the page pinned itself"),
            Self::Io(errno) => write!(f, "the page could not be read or written: {errno}"),
            Self::ReadOnly => f.write_str("the file may not be written"),
            Self::IsFile => f.write_str("the region caches a file"),
            Self::ParentProcess => {
                f.write_str("regions are the parent process's, which had some when it forked")
            }
        }
    }
}

impl core::error::Error for PageError {}

impl From<PageError> for std::io::Error {
    fn from(error: PageError) -> Self {
        // With the text, and with the kind that the number has.
        let kind = std::io::Error::from_raw_os_error(error.errno().number()).kind();
        Self::new(kind, error)
    }
}
