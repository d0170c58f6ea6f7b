//! The design that was refused in 2014: at a group's end the slabs of its caches are handed, one by
//! one, to the cache they were split from. Here it is measured against the others.
//!
//! It needs full slabs in a list ([`Ways::TRACKED`](super::Ways::TRACKED)). So an allocation and a
//! free take the cache's lock whenever a slab becomes full or is full no longer. That cost is why
//! caches do not do this by default.
//!
//! Invariants: a slab belongs to a cache under that cache's lock. While it is handed over it is in
//! use, by the thread that hands it over.
//! Depends on: the cache being dead. It takes in no slab, except from threads that were in the
//! middle of something; such a slab stays, and is given back when it is empty.
//! Never: a change of an object's owner or charge.

#![forbid(unsafe_code)]

use super::slub::{IN_FULL, unlist};
use super::{Cache, Ways};
use crate::kmem::Kmem;
use crate::kmem::id::CacheId;
use crate::kmem::slab::{IN_PARTIAL, IN_USE, SlabRef};
use core::sync::atomic::Ordering::Relaxed;

impl Kmem {
    /// Hands the slabs of a dead cache to the one it was split from. The dead cache counts one slab
    /// more than it has, so it does not end here. O(slabs).
    pub(super) fn hand_over(&self, cache: &Cache, index: CacheId) {
        let is_tracked = cache.ways().has(Ways::TRACKED) && !cache.ways().has(Ways::MAGAZINES);
        let Some(to) = cache.root().filter(|_| is_tracked) else {
            return;
        };
        let heir = self.caches.get(to);
        // The heir may die meanwhile; then the other slabs stay.
        while heir.add_slab() {
            let Some(slab) = self.caches.locked(index, || pop_slab(cache, to)) else {
                self.sub_slab(heir, to);
                return;
            };
            self.relist_slab(heir, to, slab);
            self.sub_slab(cache, index);
        }
    }
}

/// Takes a listed slab out of the cache; it is cache `to`'s from here on, and in use by the caller.
/// Under the cache's lock.
fn pop_slab(cache: &Cache, to: CacheId) -> Option<SlabRef> {
    let slab = cache.full.first().or_else(|| cache.partial.first())?;
    debug_assert!(matches!(slab.listed.load(Relaxed), IN_FULL | IN_PARTIAL));
    unlist(cache, slab);
    slab.listed.store(IN_USE, Relaxed);
    slab.set_cache(to);
    Some(slab)
}
