//! The end of a cache: dead first, gone with its last slab.
//!
//! A dead cache gives no object to anybody. What threads hold of it is taken back, a slab goes the
//! moment it is empty, and who gives the last one back ends it. Its number is used again when no
//! thread can still be looking at it.
//!
//! Kept: a cache in a thread's slot has not ended. Its death counts as a slab until every thread's
//! slot was looked at; a thread that is in the middle of a hit for too long leaves that to who
//! comes by later.

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
/// Its last slab is gone; nobody has dated that yet.
const ENDED: u32 = 2;

impl Cache {
    /// Marks it dead; one slab more is counted until [`Cache::sub_slab`] says that no thread has
    /// anything of it in a slot. `false`: it was.
    pub(crate) fn die(&self) -> bool {
        self.slabs
            .fetch_update(AcqRel, Acquire, |n| {
                (n & DEAD == 0).then_some((n + 1) | DEAD)
            })
            .is_ok()
    }
}

impl Kmem {
    /// Makes a cache dead. Its objects stay what they are; the last one's free ends it. It cannot
    /// fail, and does not allocate.
    ///
    /// Cost: O(threads) and a membarrier, if it has slabs or magazines.
    pub fn bury(&self, tree: &Hierarchy, index: CacheId) {
        let cache = self.caches.get(index);
        if !cache.die() {
            return;
        }
        // Pairs with the fences of `make_child` and `make_table`.
        fence(SeqCst);
        self.bury_children(tree, index);
        self.shrink_dead(index);
        // A magazine may be in a slot also where all its objects, and all slabs, are gone: it would
        // be the next cache's of this number.
        let has_any = cache.nr_slabs() > 1 || cache.ways().has(Ways::MAGAZINES);
        if has_any {
            self.finish_burial(tree, index);
        } else {
            self.sub_slab(cache, index);
        }
    }

    /// The rest of a death, once no thread has anything of the cache; until then it is noted as
    /// stuck, for who comes by.
    fn finish_burial(&self, tree: &Hierarchy, index: CacheId) {
        let cache = self.caches.get(index);
        if !self.flush_slots(tree, index) {
            // In this order: who takes it finds it counted.
            self.caches.nr_stuck.fetch_add(1, Relaxed);
            // Release pairs with the Acquire of `tend_caches`.
            cache.stuck.store(1, Release);
            return;
        }
        self.shrink_dead(index);
        self.hand_over(cache, index);
        self.sub_slab(cache, index);
    }

    /// What is in nobody's hands of a dead cache.
    fn shrink_dead(&self, index: CacheId) {
        if self.caches.get(index).ways().has(Ways::MAGAZINES) {
            self.shrink_magazines(index, true);
        } else {
            self.shrink_slub(index);
        }
    }

    /// Takes back what threads have of a cache. `false`: one of them was in the middle of a hit for
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

    /// Gives back all that a thread has of caches, and its table, at its end.
    pub fn leave_caches(&self, rec: &ThreadRec) {
        let Some(table) = self.caches.table_of(rec) else {
            return;
        };
        // A drainer that is at it is done in a moment, and never waits for us.
        for slot in table.all() {
            while slot.at.load(Relaxed) != 0 {
                if let Some(content) = rec.enter().map(|_slots| slot.empty()) {
                    self.leave_slot(content);
                }
                crate::sync::relax();
            }
        }
        // In a look too: a drainer is either not yet at the table, or done with it.
        while rec
            .enter()
            .map(|_slots| self.caches.remove_table(rec))
            .is_none()
        {
            crate::sync::relax();
        }
        self.caches.free_table(table);
    }

    /// The same in the child of a fork, for a thread that is not here: nobody uses its slots. What
    /// it was cut off in the middle of costs what it had in hand: an object, a magazine, a slab.
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

    /// Tries again what a thread in the middle of a hit prevented, and dates what has ended. The
    /// caller is pinned.
    pub fn tend_caches(&self, tree: &Hierarchy) {
        if self.caches.nr_stuck.load(Relaxed) > 0 {
            for (index, cache) in self.caches.each() {
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
    /// A dead cache has given its last slab back.
    pub(super) fn end(&self, index: CacheId) {
        let cache = self.get(index);
        // Release pairs with the Acquire of `is_there`.
        cache.state.store(ENDED, Release);
        self.ended.push(index.raw(), &cache.link);
    }

    /// Notes when what has ended was found so. The caller is pinned.
    fn date_ended(&self, tree: &Hierarchy) {
        while let Some((index, cache)) = self.pop(&self.ended) {
            cache.state.store(0, Release);
            if let Some(owner) = cache.owner.swap(None, Relaxed) {
                tree.unref_objcg(owner);
            }
            cache.ended_at.store(tree.threads.epoch.now(), Relaxed);
            self.limbo.push(index.raw(), &cache.link);
        }
    }

    /// The number of a cache that has ended, and that nobody looks at any more.
    pub(super) fn recycle(&self, kmem: &Kmem, tree: &Hierarchy) -> Option<CacheId> {
        let (index, cache) = self.pop(&self.limbo)?;
        // What was pinned before it ended has looked for the last time three epochs later.
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
