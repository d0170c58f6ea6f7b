//! How many objects and slabs caches have: for slabinfo, for the auditor, and for the totals.
//!
//! Invariants: none of its own; nothing is changed.
//! Depends on: the lock of the spans, under which no slab's units come or go.
//! Never: memory taken; a wait.

#![forbid(unsafe_code)]

use super::Caches;
use super::magazine::IDLE;
use crate::kmem::Kmem;
use crate::kmem::id::CacheId;
use crate::kmem::slab::{Slab, SlabKind};
use crate::sync::id::Id;
use crate::thread::Tag;
use core::sync::atomic::Ordering::Relaxed;

/// What one cache has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStat {
    /// Objects that are out.
    pub active: usize,
    /// Objects there is room for.
    pub objects: usize,
    /// Slabs.
    pub slabs: usize,
}

impl Caches {
    /// Calls `f` with the tag and the bytes of each live object of a slab. Nothing changes
    /// meanwhile.
    pub(in crate::kmem) fn each_live_of(
        &self,
        slab: &Slab,
        f: &mut impl FnMut(Option<Tag>, usize),
    ) {
        let bytes = slab.charged_bytes() as usize;
        slab.each_listed_live(|tag| {
            if !slab.has_magazines() || tag != Some(IDLE) {
                f(tag, bytes);
            }
        });
    }

    /// Bytes of a slab's live objects, of those freed and not collected, all its bytes, its units.
    pub(in crate::kmem) fn bytes_of(&self, slab: &Slab) -> (usize, usize, usize, usize) {
        let all = slab.bytes.load(Relaxed) as usize;
        let live = slab.nr_out() * slab.object_bytes();
        let live = live.min(all);
        let freed = slab.word().peek().count as usize * slab.object_bytes();
        let units = self.get(slab.cache()).shape().units;
        (live, freed.min(all - live), all, units)
    }
}

impl Slab {
    /// Objects that are handed out, those in magazines included.
    fn nr_out(&self) -> usize {
        let used = self.used.load(Relaxed);
        used.saturating_sub(self.word().peek().count) as usize
    }
}

impl Kmem {
    /// Fills `stats`, by the caches' numbers, with the counts of this moment. O(units in use). It
    /// neither allocates nor waits.
    pub fn cache_stats(&self, stats: &mut [CacheStat]) {
        self.spans.locked(|| {
            for slab in self.each_slab() {
                if slab.kind() != SlabKind::Cached {
                    continue;
                }
                let Some(stat) = stats.get_mut(slab.cache().raw() as usize) else {
                    continue;
                };
                stat.slabs += 1;
                stat.objects += slab.bytes.load(Relaxed) as usize / slab.object_bytes();
                stat.active += slab.nr_out();
            }
        });
        // An object in a magazine is out of its slab, but free.
        let caches = &self.caches;
        let mut less = |index: CacheId, nr: usize| {
            if let Some(stat) = stats.get_mut(index.raw() as usize) {
                stat.active = stat.active.saturating_sub(nr);
            }
        };
        for (index, cache) in caches.each() {
            less(index, cache.nr_shared.load(Relaxed) as usize);
        }
        for (_, table) in caches.tables.each() {
            for slot in table.all() {
                if let Some(index) = slot.cache.load(Relaxed) {
                    less(index, slot.nr_in_magazine());
                }
            }
        }
    }
}
