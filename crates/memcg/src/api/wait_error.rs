//! Why a wait for room ended without any.
//!
//! Invariants: whatever the reason, nothing is charged, and the error says which group was full.
//! Depends on: `error`.
//! Never: makes text before somebody reads it.

#![forbid(unsafe_code)]

use super::error::ReserveError;
use core::fmt;

/// Nothing was reserved by [`Memcg::reserve`](super::Memcg::reserve); nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// It was not waited for, or no longer: the request is larger than the max of the group or of
    /// one above it.
    Refused(ReserveError),
    /// The time was over.
    TimedOut(ReserveError),
    /// Nothing in the full group or below was freed, and no task there was told to end, for 10 s.
    Stuck(ReserveError),
}

impl WaitError {
    /// Which group was full at the end, what was asked for, and how full it was.
    #[must_use]
    pub fn refusal(&self) -> &ReserveError {
        match self {
            Self::Refused(refusal) | Self::TimedOut(refusal) | Self::Stuck(refusal) => refusal,
        }
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, full) = match self {
            Self::Refused(full) => ("they can never fit", full),
            Self::TimedOut(full) => ("the time to wait is over", full),
            Self::Stuck(full) => ("nothing was freed there for 10 s", full),
        };
        write!(
            f,
            "{}: no room for {} bytes, {what}: {} of {} bytes are in use",
            full.group, full.bytes, full.usage, full.max
        )
    }
}

impl core::error::Error for WaitError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(self.refusal())
    }
}
