//! The reaper of the slab kind Slab: what no thread touches for a while goes back, objects to their
//! slabs and empty slabs to the kernel. (After the cache reaper of the kernel's slab allocator: a
//! fifth every two seconds.)
//!
//! Invariants: those of `magazine`.
//! Depends on: `with_idle_threads` for the magazines of threads; the lock of the cache for all
//! else.
//! Never: a wait for a thread in the middle of a hit; its magazine is left for the next time.

use super::Ways;
use super::magazine::{ARRAY_BYTES, Batch, TOUCHED, Words, free_to_slab, pop_oldest, unlist};
use super::slots::Slot;
use crate::group::Hierarchy;
use crate::kmem::Kmem;
use crate::kmem::id::CacheId;
use crate::kmem::list::List;
use crate::os::clock;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

impl Kmem {
    /// Empties the array and gives empty slabs back: all of them, or a fifth. The array of a dead
    /// cache is given back itself.
    pub(super) fn shrink_magazines(&self, index: CacheId, everything: bool) {
        let cache = self.caches.get(index);
        let mut gone = List::default();
        let array = self.caches.locked(index, || {
            let array = Words(cache.shared.load(Relaxed));
            if array.0 != 0 {
                let nr = cache.nr_shared.load(Relaxed) as usize;
                let most = if everything {
                    nr
                } else {
                    array.capacity().div_ceil(5).min(nr)
                };
                for n in nr - most..nr {
                    free_to_slab(cache, array.get(n), &mut gone);
                }
                cache.nr_shared.store((nr - most) as u32, Relaxed);
            }
            let nr_empty = cache.nr_empty.load(Relaxed);
            let most = if everything {
                nr_empty
            } else {
                nr_empty.div_ceil(5)
            };
            for _ in 0..most {
                if let Some(slab) = cache.empty.first() {
                    unlist(cache, slab);
                    gone.push(slab);
                }
            }
            if cache.is_dead() {
                cache.shared.swap(0, Relaxed)
            } else {
                0
            }
        });
        if let Some(block) = NonNull::new(array as *mut u8) {
            // SAFETY: `array_of` made it, of ARRAY_BYTES bytes, and the swap took it out of a dead
            // cache under the lock. It is used only under that lock, by who reads it from `shared`
            // there, or who has found there that the cache is not dead.
            unsafe { self.own_free(block, ARRAY_BYTES) };
        }
        self.give_units(cache, index, gone);
    }

    /// Gives back what caches with magazines have not used since the last call: a fifth of each
    /// magazine, of each array and of the empty slabs; or, with `everything`, all of it.
    ///
    /// Cost: O(threads × slots + caches), and a membarrier.
    pub fn reap_caches(&self, tree: &Hierarchy, everything: bool) {
        let caches = &self.caches;
        let is_magazine = |index: &CacheId| {
            let cache = caches.get(*index);
            cache.is_there() && cache.ways().has(Ways::MAGAZINES)
        };
        let in_slot = |slot: &Slot| slot.cache.load(Relaxed).filter(is_magazine);
        self.with_idle_threads(
            tree,
            |table| table.all().any(|slot| in_slot(slot).is_some()),
            |table| {
                for slot in table.all() {
                    if let Some(index) = in_slot(slot) {
                        self.reap_slot(slot, index, everything);
                    }
                }
            },
        );
        for (index, _) in caches.each().filter(|(index, _)| is_magazine(index)) {
            self.shrink_magazines(index, everything);
        }
    }

    /// As [`Self::reap_caches`], but only when two seconds have passed since the last time, and if
    /// there is a cache. For a thread that comes by now and then.
    pub fn reap_caches_at_times(&self, tree: &Hierarchy) {
        const EVERY_NS: u64 = 2_000_000_000;
        let now = clock::coarse_ns();
        let last = self.caches.reaped_at.load(Relaxed);
        let due = now.wrapping_sub(last) >= EVERY_NS && self.caches.high_water() > 1;
        // Of the threads that come by at once, one reaps.
        let swap = |from| {
            self.caches
                .reaped_at
                .compare_exchange(from, now, Relaxed, Relaxed)
        };
        if due && swap(last).is_ok() {
            self.reap_caches(tree, false);
        }
    }

    /// Reaps a thread's magazine. The thread is not in a look at its slots.
    fn reap_slot(&self, slot: &Slot, index: CacheId, everything: bool) {
        let touched = slot.nr.load(Relaxed) & TOUCHED != 0;
        let Some((magazine, nr)) = slot.magazine_of(index) else {
            return;
        };
        if touched && !everything {
            slot.nr.store(nr as u32, Relaxed);
            return;
        }
        let most = if everything {
            nr
        } else {
            magazine.capacity().div_ceil(5).min(nr)
        };
        let mut batch = Batch::new();
        pop_oldest(slot, magazine, nr, most, &mut batch);
        slot.nr.store((nr - most) as u32, Relaxed);
        self.flush(index, batch);
    }
}
