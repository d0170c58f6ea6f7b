//! Pages compressed in memory.
//!
//! Invariants: what is compressed comes back as it was.
//! Depends on: `lz4_flex`, which decompresses.
//! Never: an allocation.

#![forbid(unsafe_code)]

pub mod lz4;
