//! An eviction: how far it goes, what it did, and of which group.
//!
//! Invariants: none.
//! Depends on: `page::lists` for how lists know a group.
//! Never: evicts.

#![forbid(unsafe_code)]

use crate::group::Memcg;
use crate::page::lists::Group;

/// How far an eviction may go for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effort {
    /// Only what can go at once, and so many pages that are compressed.
    #[cfg_attr(
        not(any(test, feature = "testing")),
        allow(dead_code, reason = "tests alone make it")
    )]
    Little(u32),
    /// Also what has to be written to a device.
    Full,
}

/// What an eviction did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Evicted {
    /// Pages that were looked at.
    pub scanned: u64,
    /// Pages that left their frames.
    pub pages: u64,
    /// Bytes of memory that are charged less.
    pub bytes: u64,
}

impl Evicted {
    pub(super) fn add(&mut self, bytes: u64) {
        self.pages += 1;
        self.bytes += bytes;
    }
}

/// A group, as lists know it.
pub fn listed_group(group: &Memcg) -> Group {
    Group {
        index: group.index(),
        cell: group.cell(),
    }
}
