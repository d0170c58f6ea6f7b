//! Errors of caches: why there is no cache, or no object.
//!
//! Invariants: after an error nothing has changed.
//! Depends on: `error`.
//! Never: makes text before somebody reads it.

#![forbid(unsafe_code)]

use super::error::ReserveError;
use crate::engine::cached_objects::CacheRefusal;
use core::fmt;

/// A cache was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheError {
    /// The name is empty, longer than 32 bytes, or has control characters.
    Name,
    /// Objects of that size and alignment are not possible.
    Size,
    /// There is no memory for one more cache.
    NoMemory,
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "a cache's name has 1 to 32 bytes, no control characters",
            Self::Size => {
                "an object of a cache has at most 64 KiB with all that belongs to it, at a power of two to 4096"
            }
            Self::NoMemory => "no memory for one more cache",
        })
    }
}

impl core::error::Error for CacheError {}

/// An object was not allocated; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocError {
    /// A group has reached its `memory.max`.
    Max(ReserveError),
    /// A group has reached its `memory.kmem.max`.
    KmemMax(ReserveError),
    /// The cache has been dropped.
    Dead,
    /// The kernel gives no memory.
    NoMemory,
}

impl AllocError {
    #[cold]
    pub(crate) fn new(refused: CacheRefusal) -> Self {
        match refused {
            CacheRefusal::Max(why) => Self::Max(ReserveError::new(&why)),
            CacheRefusal::KmemMax(why) => Self::KmemMax(ReserveError::new(&why)),
            CacheRefusal::Dead => Self::Dead,
            CacheRefusal::NoMemory => Self::NoMemory,
        }
    }
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max(why) => write!(f, "memory.max: {why}"),
            Self::KmemMax(why) => write!(f, "memory.kmem.max: {why}"),
            Self::Dead => f.write_str("the cache has ended"),
            Self::NoMemory => f.write_str("the kernel gives no memory"),
        }
    }
}

impl core::error::Error for AllocError {}
