//! A charge as it is asked for.
//!
//! Invariants: while a charge is worked on its request stays the same: what is tried again is the
//! same charge. Depends on: `group` for tags and kinds. Never: the charge itself.

#![forbid(unsafe_code)]

use super::Flags;
use crate::group::{Kind, Tag};

/// Whom to charge, how much, as what, and what may be done for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The owner, which the caller names: by a handle, a scope, or a thing that is charged to it.
    pub tag: Tag,
    /// Bytes. The books count in multiples of 8; [`Engine::charge`](super::Engine::charge) rounds
    /// up.
    pub bytes: u64,
    /// What the bytes are counted as.
    pub kind: Kind,
    /// What the charge may do.
    pub flags: Flags,
}

impl Request {
    /// A request for `bytes` of the heap.
    pub const fn heap(tag: Tag, bytes: u64, flags: Flags) -> Self {
        Self {
            tag,
            bytes,
            kind: Kind::Heap,
            flags,
        }
    }

    /// A request for a reservation of `bytes`.
    pub const fn reserved(tag: Tag, bytes: u64, flags: Flags) -> Self {
        Self {
            tag,
            bytes,
            kind: Kind::Reserved,
            flags,
        }
    }

    /// The same request with `flags` in the place of its own.
    pub const fn with_flags(self, flags: Flags) -> Self {
        Self { flags, ..self }
    }
}
