//! A charge as it is asked for.
//!
//! Invariants: a request does not change while it is worked on: what is tried again is the same
//! charge.
//! Depends on: `group` for tags and kinds.
//! Never: charges.

#![forbid(unsafe_code)]

use super::Flags;
use crate::group::{Kind, Tag};

/// Which owner to charge, how many bytes, of which kind, and what may be done to find room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The owner. The caller makes sure that it is there: by a handle, a scope, or a thing that is
    /// charged to it.
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

    /// Whether an allocator asks that may be charged above a limit.
    #[inline]
    pub fn is_of_allocator(self) -> bool {
        self.flags.has(Flags::INFALLIBLE) || self.flags.has(Flags::MALLOC)
    }

    /// The same request with `flags` in the place of its own.
    pub const fn with_flags(self, flags: Flags) -> Self {
        Self { flags, ..self }
    }
}
