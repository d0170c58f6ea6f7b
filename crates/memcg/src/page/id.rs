//! Index types of the tables for pages.
//!
//! Invariants: an index is that of one table; see [`crate::sync::id`].
//! Depends on: `sync`.
//! Never: anything about what lies under an index.

#![forbid(unsafe_code)]

use crate::sync::id::{Id, ids};

ids! {
    /// 512 pages of a region that lie together in the table of pages.
    pub LeafId;
    /// A region.
    pub RegionId;
    /// A mapping of a region.
    pub MappingId;
    /// What an owner has of pages.
    pub PageOwnerId;
    /// What a group has of pages.
    pub PageGroupId;
    /// 64 entries of a list of pages.
    pub ChunkId;
    /// A page, in the table of all pages: its leaf's number times 512, and its place there.
    pub PageId;
    /// A frame of the pool, from 1.
    pub FrameId;
    /// A file behind a region.
    pub FileId;
    /// A place in swap: 4 KiB of a device. From 64, so that 64 of them that a multiple of 64 begins
    /// are a cluster; below 2²⁸.
    pub SlotId;
    /// A swap device that is on, from 1.
    pub SwapDeviceId;
    /// A compressed page, below 2²⁸.
    pub ZswapId;
}

/// Pages in a leaf: 2 MiB of a region.
pub const LEAF: u32 = 512;

/// Bytes of a page, and of a frame.
pub const PAGE: usize = 4096;

impl PageId {
    /// The page at place `at` (below [`LEAF`]) of a leaf.
    #[inline(always)]
    pub fn of(leaf: LeafId, at: u32) -> Self {
        debug_assert!(at < LEAF);
        Self::new(leaf.raw() * LEAF + at)
    }

    /// Its leaf, and its place there.
    #[inline(always)]
    pub fn place(self) -> (LeafId, u32) {
        (LeafId::new(self.raw() / LEAF), self.raw() % LEAF)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_its_place() {
        for (leaf, at) in [(1, 0), (1, 511), (77, 3), (u32::MAX / LEAF, 511)] {
            let leaf = LeafId::new(leaf);
            assert_eq!(PageId::of(leaf, at).place(), (leaf, at));
        }
    }
}
