//! Mappings: who uses a region.
//!
//! Invariants: a mapping is in its region's list from its making to its end, and names its owner
//! and its region for as long.
//! Depends on: the region's lock for the list.
//! Never: a look at a page.

use super::id::{MappingId, RegionId};
use super::region::Region;
use crate::os::clock;
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::id::AtomicId;
use crate::thread::Tag;

/// See the module.
#[derive(Default)]
#[repr(C)]
pub struct Mapping {
    link: AtomicU32,
    region: AtomicId<RegionId>,
    /// Who uses it, named.
    tag: AtomicId<Tag>,
    /// The next of the region.
    next: AtomicId<MappingId>,
    /// When it was made, ns since 1970.
    since_ns: AtomicU64,
    /// What the pages' clock said when it was used last; see `Pages::clock`.
    used: AtomicU64,
}

// SAFETY: integers.
unsafe impl Zeroed for Mapping {}
// SAFETY: `link` is used by the arena alone.
unsafe impl Record for Mapping {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

impl Mapping {
    /// Who uses the region.
    ///
    /// # Panics
    /// If the record was never a mapping.
    #[inline(always)]
    pub fn tag(&self) -> Tag {
        self.tag.known(Ordering::Relaxed)
    }

    /// The region.
    ///
    /// # Panics
    /// As [`Self::tag`].
    #[inline]
    pub fn region(&self) -> RegionId {
        self.region.known(Ordering::Relaxed)
    }

    /// When it was made, ns since 1970.
    #[cfg(any(test, feature = "testing"))]
    pub fn since_ns(&self) -> u64 {
        self.since_ns.load(Ordering::Relaxed)
    }

    /// What the pages' clock said when it was used last.
    #[cfg(any(test, feature = "testing"))]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// It was used at `clock`.
    #[inline(always)]
    pub fn note_use(&self, clock: u64) {
        if self.used.load(Ordering::Relaxed) != clock {
            self.used.store(clock, Ordering::Relaxed);
        }
    }
}

/// All mappings.
#[derive(Default)]
pub struct Mappings(Arena<MappingId, Mapping>);

// SAFETY: an arena, which is Zeroed.
unsafe impl Zeroed for Mappings {}

/// Bytes of a mapping's record.
pub const MAPPING_BYTES: i64 = size_of::<Mapping>() as i64;

impl Mappings {
    /// A mapping by its index.
    #[inline]
    pub fn get(&self, id: MappingId) -> &Mapping {
        self.0.get(id)
    }

    /// Makes one; `None`: no memory. The names on the owner and on the region are its own from now
    /// on.
    pub fn open(&self, region: &Region, id: RegionId, tag: Tag, clock: u64) -> Option<MappingId> {
        let new = self.0.alloc(u32::MAX)?;
        let record = self.0.get(new);
        record.region.store(Some(id), Ordering::Relaxed);
        record.tag.store(Some(tag), Ordering::Relaxed);
        record.since_ns.store(clock::wall_ns(), Ordering::Relaxed);
        record.used.store(clock, Ordering::Relaxed);
        let held = region.lock();
        let first = region.first_mapping.load(Ordering::Relaxed);
        record.next.store(first, Ordering::Relaxed);
        // Release pairs with the Acquire of `of`: who walks the list finds it whole.
        region.first_mapping.store(Some(new), Ordering::Release);
        region.count_mapping(true, &held);
        Some(new)
    }

    /// Ends one. The names that were its own are the caller's to drop. O(mappings of the region).
    pub fn close(&self, region: &Region, id: MappingId) {
        {
            let held = region.lock();
            let next = self.0.get(id).next.load(Ordering::Relaxed);
            let mut place = &region.first_mapping;
            while let Some(at) = place.load(Ordering::Relaxed) {
                if at == id {
                    place.store(next, Ordering::Release);
                    break;
                }
                place = &self.0.get(at).next;
            }
            region.count_mapping(false, &held);
        }
        self.0.free(id);
    }

    /// The mappings of a region, newest first. Under its lock.
    #[cfg(any(test, feature = "testing"))]
    pub fn of<'m>(
        &'m self,
        region: &'m Region,
        _held: &'m crate::sync::lock::Held<'_>,
    ) -> impl Iterator<Item = (MappingId, &'m Mapping)> {
        let at = |id: Option<MappingId>| id.map(|id| (id, self.0.get(id)));
        // Acquire pairs with the Release of `open`.
        let first = at(region.first_mapping.load(Ordering::Acquire));
        core::iter::successors(first, move |(_, mapping)| {
            at(mapping.next.load(Ordering::Relaxed))
        })
    }
}
