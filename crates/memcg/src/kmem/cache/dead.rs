//! The end of a cache: first it is dead, then it ends with its last slab.
//!
//! A dead cache gives out no object. What threads have of it in their slots is taken back. A slab
//! is given back as soon as it is empty, and giving back the last one ends the cache. The cache's
//! number is used again when no thread can still be looking at it.
//!
//! Invariants: a cache that is in a thread's slot has not ended. Its death counts as one more slab
//! until every thread's slot was looked at. If a thread stays in the middle of a hit for too long,
//! the cache is noted as stuck, and a later caller of `tend_caches` tries again.
//! Depends on: `with_idle_threads`, `slub` and `magazine` to take back, the epochs of `thread`.
//! Never: memory taken; a failure.

#![forbid(unsafe_code)]

use super::{Cache, Caches, DEAD, Ways};
use crate::group::Hierarchy;
use crate::kmem::Kmem;
use crate::kmem::id::CacheId;
use crate::sync::atomic::{
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};
use crate::sync::id::Id;
use crate::sync::promise::SoleThread;
use crate::sync::stack::Stack;
use crate::thread::ThreadRec;

/// `state` of a cache.
pub(super) const LIVE: u32 = 1;
/// Its last slab was given back; `date_ended` has not seen it yet.
const ENDED: u32 = 2;

impl Cache {
    /// Makes the cache dead. It counts one slab more until [`Cache::sub_slab`] is called for that,
    /// when no thread has anything of it in a slot. `false`: it was dead already.
    pub(crate) fn die(&self) -> bool {
        // AcqRel pairs with `add_slab`, `sub_slab` and `is_dead_surely`: all changes of this word
        // are in one order, and a later one sees what came before an earlier one.
        self.slabs
            .fetch_update(AcqRel, Acquire, |n| {
                (n & DEAD == 0).then_some((n + 1) | DEAD)
            })
            .is_ok()
    }
}

impl Kmem {
    /// Makes a cache dead. Its live objects stay as they are; freeing the last one ends the cache.
    /// It cannot fail and does not allocate.
    ///
    /// Cost: O(threads) and a membarrier, if it has slabs or magazines.
    pub fn bury(&self, tree: &Hierarchy, index: CacheId) {
        let cache = self.caches.get(index);
        if !cache.die() {
            return;
        }
        // Pairs with the fences of `make_child` and `make_table`: they see the cache dead, or we
        // find the child or the table.
        fence(SeqCst);
        self.bury_children(tree, index);
        self.shrink_dead(index);
        // A magazine may be in a slot even if all its objects and all slabs are gone. It would
        // belong to the next cache of this number.
        let has_any = cache.nr_slabs() > 1 || cache.ways().has(Ways::MAGAZINES);
        if has_any {
            self.finish_burial(tree, index);
        } else {
            self.sub_slab(cache, index);
        }
    }

    /// The second half of a death, done when no thread has anything of the cache in a slot. Until
    /// then the cache is noted as stuck.
    fn finish_burial(&self, tree: &Hierarchy, index: CacheId) {
        let cache = self.caches.get(index);
        if !self.flush_slots(tree, index) {
            // Counted first, so that who takes the note finds it counted.
            self.caches.nr_stuck.fetch_add(1, Relaxed);
            // Release pairs with the Acquire of `tend_caches`.
            cache.stuck.store(1, Release);
            return;
        }
        self.shrink_dead(index);
        self.hand_over(cache, index);
        self.sub_slab(cache, index);
    }

    /// Gives back what the cache itself keeps: what is in no thread's slot.
    fn shrink_dead(&self, index: CacheId) {
        if self.caches.get(index).ways().has(Ways::MAGAZINES) {
            self.shrink_magazines(index, true);
        } else {
            self.shrink_slub(index);
        }
    }

    /// Takes back what threads have of a cache. `false`: a thread stayed in the middle of a hit for
    /// too long.
    pub(super) fn flush_slots(&self, tree: &Hierarchy, index: CacheId) -> bool {
        self.with_idle_threads(
            tree,
            |_| true,
            |table| {
                let slot = table.slot(index);
                if slot.cache.load(Relaxed) == Some(index) {
                    self.leave_slot(slot.empty());
                }
            },
        )
    }

    /// At a thread's end: gives back all that it has of caches, and its table.
    pub fn leave_caches(&self, rec: &ThreadRec) {
        let Some(table) = self.caches.table_of(rec) else {
            return;
        };
        // A drainer that empties these slots is done in a moment, and never waits for this thread.
        for slot in table.all() {
            while slot.at.load(Relaxed) != 0 {
                if let Some(content) = rec.enter().map(|_slots| slot.empty()) {
                    self.leave_slot(content);
                }
                crate::sync::relax();
            }
        }
        // In a look too, so a drainer has not yet come to the table, or is done with it.
        while rec
            .enter()
            .map(|_slots| self.caches.remove_table(rec))
            .is_none()
        {
            crate::sync::relax();
        }
        self.caches.free_table(table);
    }

    /// As [`Self::leave_caches`] in the child of a fork, for a thread that does not exist there:
    /// nobody uses its slots. If the fork cut it off in the middle of a change, an object, a
    /// magazine or a slab may be lost.
    pub fn abandon_caches(&self, _sole: SoleThread, rec: &ThreadRec) {
        if let Some(table) = self.caches.table_of(rec) {
            for slot in table.all() {
                self.leave_slot(slot.empty());
            }
            self.caches.remove_table(rec);
            self.caches.free_table(table);
        }
    }

    /// Whether [`Self::tend_caches`] has something to do.
    #[inline]
    pub fn have_caches_ended(&self) -> bool {
        !self.caches.ended.is_empty() || self.caches.nr_stuck.load(Relaxed) > 0
    }

    /// Finishes deaths that a thread in the middle of a hit prevented, and dates caches that have
    /// ended. The caller is pinned.
    pub fn tend_caches(&self, tree: &Hierarchy) {
        if self.caches.nr_stuck.load(Relaxed) > 0 {
            for (index, cache) in self.caches.each() {
                // Acquire pairs with the Release in `finish_burial`.
                if cache.stuck.swap(0, AcqRel) != 0 {
                    self.caches.nr_stuck.fetch_sub(1, Relaxed);
                    self.finish_burial(tree, index);
                }
            }
        }
        self.caches.date_ended(tree);
    }
}

impl Caches {
    /// Ends a dead cache that has given its last slab back.
    pub(super) fn end(&self, index: CacheId) {
        let cache = self.get(index);
        // Release pairs with the Acquire of `is_there`.
        cache.state.store(ENDED, Release);
        self.ended.push(index.raw(), &cache.link);
    }

    /// Notes the epoch in which a cache was found to have ended. The caller is pinned.
    fn date_ended(&self, tree: &Hierarchy) {
        while let Some((index, cache)) = self.pop(&self.ended) {
            // Release pairs with the Acquire of `is_there`.
            cache.state.store(0, Release);
            if let Some(owner) = cache.owner.swap(None, Relaxed) {
                tree.unref_objcg(owner);
            }
            cache.ended_at.store(tree.threads.epoch.now(), Relaxed);
            self.limbo.push(index.raw(), &cache.link);
        }
    }

    /// The number of a cache that has ended and that nobody looks at any more.
    pub(super) fn recycle(&self, kmem: &Kmem, tree: &Hierarchy) -> Option<CacheId> {
        let (index, cache) = self.pop(&self.limbo)?;
        // A reader that was pinned before the cache ended is gone three epochs later.
        if tree.threads.epoch.now() >= cache.ended_at.load(Relaxed) + 3 {
            self.forget_family(kmem, index);
            kmem.forget_array(index);
            return Some(index);
        }
        self.limbo.push(index.raw(), &cache.link);
        tree.collect();
        None
    }

    /// Pops a cache of one of the two lists of those that have ended.
    fn pop(&self, list: &Stack) -> Option<(CacheId, &Cache)> {
        let record = |index| CacheId::from_raw(index).map(|id| self.get(id));
        let index = list.pop(|index| match record(index) {
            Some(cache) => &cache.link,
            None => unreachable!("a stack holds no 0"),
        })?;
        let id = CacheId::from_raw(index)?;
        Some((id, self.get(id)))
    }
}
