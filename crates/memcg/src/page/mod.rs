//! Memory by the page: regions, whose pages an owner is charged for while they have content.
//!
//! docs/internals/pages.md tells how the parts work together.
//!
//! Invariants: a page is charged to one owner while it is in a frame or compressed. Each change of
//! its state is one compare and swap of its word; who wins it moves the charge.
//! Depends on: `thread` for what a thread has pinned; `sync`; `os` for files and memory.
//! Never: a charge, a wait for one, or code of the program (`engine` and `api` do that); a
//! collection that allocates.

pub mod chunk;
pub mod cost_balance;
mod directory;
pub mod dirty;
pub mod expiry;
pub mod fifo;
pub mod file;
pub mod frame;
pub mod id;
pub mod leaf;
mod list_records;
pub mod lists;
#[cfg(all(test, loom))]
mod loom;
pub mod mapping;
pub mod owner_heap;
pub mod pins;
pub mod reading;
pub mod region;
pub mod s3fifo;
pub mod swap;
pub mod waiting;
pub mod word;
pub mod workingset;
pub mod writeback_run;
pub mod zswap;

pub use id::{FileId, FrameId, MappingId, PAGE, PageId, RegionId, SlotId, SwapDeviceId, ZswapId};

use crate::sync::Zeroed;
use crate::sync::arena::Arena;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::promise::SoleThread;
use leaf::Page;
use region::{NewRegion, Region};

/// All that an engine has of pages.
#[derive(Default)]
pub struct Pages {
    /// Memory.
    pub frames: frame::Frames,
    /// The table of pages.
    pub leaves: leaf::Leaves,
    regions: Arena<RegionId, Region>,
    /// Who uses regions.
    pub mappings: mapping::Mappings,
    /// What threads have pinned.
    pub pins: pins::Pins,
    /// The order of pages.
    pub lists: lists::Lists,
    /// Where pages go that leave memory.
    pub swap: swap::Swap,
    /// Pages that are compressed.
    pub zswap: zswap::Zswap,
    /// Threads that wait for pages.
    pub waiting: waiting::Waiting,
    /// What file regions cache.
    pub files: file::Files,
    /// When files are written in the background.
    pub expiry: expiry::Expiry,
    /// See [`Self::clock`].
    clock: AtomicU64,
    /// Whose they are.
    whose: AtomicU32,
}

/// A mapping that is open, and its region.
#[derive(Clone, Copy)]
pub struct InUse<'p> {
    /// The mapping's index.
    pub id: MappingId,
    /// The mapping.
    pub mapping: &'p mapping::Mapping,
    /// Its region.
    pub region: &'p Region,
}

/// Nobody has had a region yet.
const NOBODYS: u32 = 0;
/// Regions are this process's.
const MINE: u32 = 1;
/// They are the parent's, who forked.
const PARENTS: u32 = 2;

// SAFETY: integers, and types that are Zeroed themselves.
unsafe impl Zeroed for Pages {}

impl Pages {
    /// Whether the pages are this process's: not in the child of a fork, once it has been told.
    #[inline(always)]
    pub fn are_mine(&self) -> bool {
        self.whose.load(Ordering::Relaxed) == MINE
    }

    /// Whether they are the parent's of this process, which is a fork's child.
    pub fn are_parents(&self) -> bool {
        self.whose.load(Ordering::Relaxed) == PARENTS
    }

    /// Makes the pages this process's, before it has the first. `false`: they are its parent's.
    pub fn claim(&self) -> bool {
        // Relaxed: a number by which nothing else is read.
        let set = self
            .whose
            .compare_exchange(NOBODYS, MINE, Ordering::Relaxed, Ordering::Relaxed);
        set != Err(PARENTS)
    }

    /// Time as the pages see it: how many were filled.
    #[inline(always)]
    pub fn clock(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// One more was filled.
    pub fn tick(&self) {
        self.clock.fetch_add(1, Ordering::Relaxed);
    }

    /// A new region with one name on it. `None`: no memory, or the process is a fork's child and
    /// the pages are its parent's. The names on the opener and on the file are the region's from
    /// now on.
    pub fn new_region(&self, new: NewRegion) -> Option<RegionId> {
        if !self.claim() {
            return None;
        }
        let id = self.regions.alloc(u32::MAX)?;
        let region = self.regions.get(id);
        region.open(NewRegion { len: 0, ..new });
        let held = region.lock();
        if region.make_room(new.len, &held).is_none() {
            drop(held);
            let _ = region.unref();
            self.regions.free(id);
            return None;
        }
        region.set_len(new.len, &held);
        Some(id)
    }

    /// A region by its index.
    #[inline]
    pub fn region(&self, id: RegionId) -> &Region {
        self.regions.get(id)
    }

    /// A mapping, with the region that it keeps.
    pub fn in_use(&self, id: MappingId) -> InUse<'_> {
        let mapping = self.mappings.get(id);
        InUse {
            id,
            mapping,
            region: self.region(mapping.region()),
        }
    }

    /// A page of a region, made if it is not there; and how many bytes of records that took.
    /// `None`: no memory.
    #[inline]
    pub fn page(&self, region: RegionId, index: u64) -> Option<(PageId, &Page, i64)> {
        self.region(region).make_page(&self.leaves, region, index)
    }

    /// Sets a region's length; answers the one before. `None`: no memory.
    pub fn set_region_len(&self, id: RegionId, len: u64) -> Option<u64> {
        let region = self.region(id);
        let held = region.lock();
        region.make_room(len, &held)?;
        let before = region.len();
        region.set_len(len, &held);
        Some(before)
    }

    /// The last name on a region, whose pages are all absent, has gone.
    pub fn end_region(&self, id: RegionId) {
        self.region(id).release_leaves(&self.leaves);
        self.regions.free(id);
    }

    /// All regions there ever were.
    pub fn regions(&self) -> impl Iterator<Item = (RegionId, &Region)> {
        self.regions.each()
    }

    /// In the child of a fork: the pages are the parent's, and no lock of a region is held.
    pub fn in_child(&self, sole: SoleThread) {
        if self.are_mine() {
            self.whose.store(PARENTS, Ordering::Relaxed);
            self.files.forget_in_child(sole);
        }
        self.lists.in_child(sole);
        self.swap.forget_in_child(sole);
        self.zswap.reset_in_child(sole);
        for (_, region) in self.regions.each() {
            region.reset_lock_in_child(sole);
        }
    }
}
