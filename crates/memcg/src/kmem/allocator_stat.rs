//! How much memory the allocator has of the kernel, and how much of it is in use.
//!
//! Invariants: none of its own; nothing is changed but the bound on spare memory.
//! Depends on: the lock of the spans, under which no chunk comes or goes.
//! Never: an exact number while other threads allocate. Each count is read by itself.

use super::Kmem;
use super::class;
use super::layout::{self, END_UNIT, FIRST_UNIT, UNIT};
use super::slab::{Slab, SlabKind};
use core::sync::atomic::Ordering::Relaxed;

/// In bytes; a moment's view, each number a little older than the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KmemStat {
    /// Address space in chunks and huge objects.
    pub mapped: usize,
    /// Held by live objects.
    pub live: usize,
    /// Held by objects that other threads freed, and that the slab's owner has not looked at yet.
    pub uncollected: usize,
    /// Free in slabs.
    pub free: usize,
    /// Free units that have pages, those that heaps keep included.
    pub spare: usize,
}

impl Kmem {
    /// The counts of this moment. O(units in use), under the lock of the spans.
    pub fn stat(&self) -> KmemStat {
        let huge = self.huge_bytes.load(Relaxed);
        self.spans.locked(|| {
            let spans = self.spans.stat();
            let mut stat = KmemStat {
                mapped: spans.mapped + huge + spans.huge,
                live: huge,
                uncollected: 0,
                free: 0,
                spare: spans.dirty + spans.used + spans.huge,
            };
            for slab in self.each_slab() {
                match slab.kind() {
                    SlabKind::Objects => {
                        let held = slab.nr_held() * slab.object_bytes();
                        let freed = slab.remote.peek().count as usize * slab.object_bytes();
                        stat.uncollected += freed.min(held);
                        stat.live += held.saturating_sub(freed);
                        stat.free += (slab.bytes.load(Relaxed) as usize).saturating_sub(held);
                        let units = class::units_of(slab.class.load(Relaxed) as usize);
                        stat.spare = stat.spare.saturating_sub(units * UNIT);
                    }
                    SlabKind::Cached => {
                        let (live, freed, all, units) = self.caches.bytes_of(slab);
                        stat.live += live;
                        stat.uncollected += freed;
                        stat.free += all - live - freed;
                        stat.spare = stat.spare.saturating_sub(units * UNIT);
                    }
                    SlabKind::Large => {
                        stat.live += slab.extent.load(Relaxed);
                        stat.spare = stat.spare.saturating_sub(slab.units() * UNIT);
                    }
                    SlabKind::Free | SlabKind::Huge | SlabKind::Inside => {}
                }
            }
            stat
        })
    }

    /// The most bytes of free units with pages that chunks keep; `None`: as many as seems good.
    /// What heaps keep is beside it.
    pub fn spare_max(&self) -> Option<usize> {
        self.spans.most_dirty()
    }

    /// Sets [`Self::spare_max`], and gives back what is too many now.
    pub fn set_spare_max(&self, bytes: Option<usize>) {
        self.spans.set_most_dirty(bytes);
        self.spans.clean(false);
    }

    /// The record of every unit. The caller holds the lock of the spans, or nothing changes
    /// meanwhile.
    pub(super) fn each_slab(&self) -> impl Iterator<Item = &'static Slab> {
        self.spans.each_chunk().flat_map(|chunk| {
            (FIRST_UNIT..END_UNIT).map(move |unit| {
                debug_assert_eq!(layout::unit_of(chunk + unit * UNIT), unit);
                // SAFETY: `each_chunk` answers chunks in the lists of the spans, which are mapped.
                // They stay mapped while the lock is held or nothing changes, as each caller of
                // this function sees to.
                unsafe { Slab::of(chunk + unit * UNIT) }
            })
        })
    }
}

impl Slab {
    /// The number of objects that are neither on its list nor behind `fresh`; the frees by others
    /// that were not collected are among them.
    pub(super) fn nr_held(&self) -> usize {
        let used = self.used.load(Relaxed);
        match (self.held.load(Relaxed), self.listed.load(Relaxed)) {
            (0, super::slab::IN_USE) => used.saturating_sub(1) as usize,
            (0, _) => used as usize,
            (held, _) => held as usize,
        }
    }
}
