//! `memory.overhead.max`: how much free memory the allocator may keep.
//!
//! Invariants: the value is the process's, so the file is the root's only.
//! Depends on: `kmem`.
//! Never: gives memory back by a read.

#![forbid(unsafe_code)]

use super::{At, FileError};
use crate::units::{Limit, parse_limit};

pub fn max(at: At<'_>) -> String {
    let bytes = at.engine.kmem.spare_max();
    let limit = bytes.map_or(Limit::MAX, |bytes| Limit::bytes(bytes as u64));
    format!("{limit}\n")
}

pub fn set_max(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    let limit = parse_limit(value)
        .map_err(|why| FileError::invalid(format!("{why}: write bytes, as 100M, or max")))?;
    at.engine.set_spare_max(limit);
    Ok(())
}
