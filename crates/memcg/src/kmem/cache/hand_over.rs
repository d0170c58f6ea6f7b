//! The rival that was refused in 2014: at a group's end its caches' slabs are handed to the cache
//! they were split from, one by one.
//!
//! It needs full slabs in a list ([`Ways::TRACKED`](super::Ways::TRACKED)), which costs allocation
//! and free the lock of the cache whenever one becomes full or is so no longer. That is why it is
//! not what caches do; it is here to be measured.
//!
//! Kept: a slab is its cache's under that cache's lock; in between it is in use, by who hands it
//! over. Relied on: the cache is dead, so it takes in no slab but from threads that were in the
//! middle of something: what they bring stays, and goes by itself.

#![forbid(unsafe_code)]

use super::slub::{IN_FULL, unlist};
use super::{Cache, Ways};
use crate::kmem::Kmem;
use crate::kmem::id::CacheId;
use crate::kmem::slab::{IN_PARTIAL, IN_USE, SlabRef};
use core::sync::atomic::Ordering::Relaxed;

impl Kmem {
    /// Hands the slabs of a dead cache, which counts one more than it has, to the one it was split
    /// from. O(slabs).
    pub(super) fn hand_over(&self, cache: &Cache, index: CacheId) {
        let is_tracked = cache.ways().has(Ways::TRACKED) && !cache.ways().has(Ways::MAGAZINES);
        let Some(to) = cache.root().filter(|_| is_tracked) else {
            return;
        };
        let heir = self.caches.get(to);
        // The heir may die meanwhile: then the rest stays.
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

/// A listed slab of the cache, another's from here on, and ours. Under the cache's lock.
fn pop_slab(cache: &Cache, to: CacheId) -> Option<SlabRef> {
    let slab = cache.full.first().or_else(|| cache.partial.first())?;
    debug_assert!(matches!(slab.listed.load(Relaxed), IN_FULL | IN_PARTIAL));
    unlist(cache, slab);
    slab.listed.store(IN_USE, Relaxed);
    slab.set_cache(to);
    Some(slab)
}
