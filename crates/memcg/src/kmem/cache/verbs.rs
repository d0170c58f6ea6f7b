//! What is done with a cache whatever its slab kind: allocate, free, shrink, find.
//!
//! Invariants: those of `cache`.
//! Depends on: `slub` and `magazine`, of which each function here calls the right one.
//! Never: code of the program.

use super::objects::Found;
use super::slots::{Content, Own, Table};
use super::{Cache, Ways};
use crate::group::Hierarchy;
use crate::kmem::address_map::Place;
use crate::kmem::bad::BadFree;
use crate::kmem::id::CacheId;
use crate::kmem::list::List;
use crate::kmem::slab::{Slab, SlabKind, SlabRef};
use crate::kmem::{Kmem, layout};
use crate::thread::Tag;
use core::sync::atomic::Ordering::Relaxed;

impl Kmem {
    /// Takes an object of a cache for `tag`; its bytes are charged already, or charged to nobody.
    /// `own` is the calling thread's, if it has one. `None`: the kernel gives no memory, or the
    /// cache is dead.
    pub fn alloc_cached(
        &self,
        own: Option<Own<'_>>,
        index: CacheId,
        tag: Option<Tag>,
    ) -> Option<Found> {
        if self.caches.get(index).ways().has(Ways::MAGAZINES) {
            self.alloc_from_magazine(own, index, tag)
        } else {
            self.alloc_slub(own, index, tag)
        }
    }

    /// Frees an object that was no hit. Its bytes were uncharged before.
    ///
    /// # Safety
    /// The object at `offset` of `slab` is live, its bytes are uncharged, and nobody uses it after
    /// this call.
    pub unsafe fn free_cached(&self, own: Option<Own<'_>>, slab: SlabRef, offset: u32, raw: bool) {
        if slab.has_magazines() {
            // SAFETY: the caller gave the live object up; `free_to_magazine` wants no more.
            unsafe { self.free_to_magazine(own, slab, offset, raw) };
        } else {
            // SAFETY: the caller gave the live object up and has uncharged it; `free_to_slot` wants
            // no more.
            unsafe { self.free_to_slot(own, slab, offset, raw) };
        }
    }

    /// Gives back what a cache does not need: objects in threads' magazines, what others freed, and
    /// empty slabs. It cannot fail.
    pub fn shrink_cache(&self, tree: &Hierarchy, index: CacheId) {
        if self.caches.get(index).ways().has(Ways::MAGAZINES) {
            let _ = self.flush_slots(tree, index);
            self.shrink_magazines(index, true);
        } else {
            self.shrink_slub(index);
        }
    }

    /// Gives what was in a slot back to its cache.
    pub(super) fn leave_slot(&self, content: Content) {
        // Half filled or half emptied: so a fork's child finds the slots of a thread that does not
        // exist there.
        let Some(index) = content.cache.filter(|_| content.at != 0) else {
            return;
        };
        if self.caches.get(index).ways().has(Ways::MAGAZINES) {
            self.leave_magazine(index, content);
        } else {
            self.leave_slab(index, content);
        }
    }

    /// Gives back the units of empty slabs, which are in no list of the cache any more.
    pub(super) fn give_units(&self, cache: &Cache, index: CacheId, gone: List) {
        while let Some(slab) = gone.first() {
            gone.remove(slab);
            let units = cache.shape().units;
            slab.unmake_cached(units);
            self.spans.free(slab.address(), units);
            self.sub_slab(cache, index);
        }
    }

    /// Counts a slab less, and ends a dead cache with its last.
    pub(super) fn sub_slab(&self, cache: &Cache, index: CacheId) {
        if cache.sub_slab() {
            self.caches.end(index);
        }
    }

    /// Runs `f` on the table of each thread for which `concerns` says so, while that thread is not
    /// in a look at its slots. `false`: one stayed in a look for too long. What `concerns` sees is
    /// a moment old.
    pub(super) fn with_idle_threads(
        &self,
        tree: &Hierarchy,
        concerns: impl Fn(&Table) -> bool,
        f: impl Fn(&Table),
    ) -> bool {
        let threads = &tree.threads;
        let ticket = threads.drain_ticket();
        let (mut all, mut any) = (true, false);
        for (_, rec) in threads.each() {
            if !self.caches.table_of(rec).is_some_and(&concerns) {
                continue;
            }
            // The calling thread's own table is treated like any other's. The thread is in no look,
            // unless this is a signal handler that interrupted one.
            if rec.begin_drain() {
                rec.drainer.store(ticket, Relaxed);
                any = true;
            } else {
                all = false;
            }
        }
        if !any {
            return all;
        }
        // Pairs with `light` in `ThreadRec::enter`: from here on a thread is in a look, or sees its
        // flag and all that was stored before.
        threads.heavy_fence();
        for rec in threads.each_ever() {
            if rec.drainer.load(Relaxed) != ticket {
                continue;
            }
            if rec.await_idle() {
                // Not read before: a thread that ends takes its table off the record, with empty
                // slots.
                self.caches.table_of(rec).into_iter().for_each(&f);
            } else {
                all = false;
            }
            rec.drainer.store(0, Relaxed);
            rec.end_drain();
        }
        all
    }

    /// The cache that a live object lies in. `None`: it is not an object of a cache.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn cache_of(&self, at: usize) -> Option<CacheId> {
        self.locate_cached(at).ok().map(|(slab, _)| slab.cache())
    }

    /// Changes the owner of the live object at `offset` of a cache's slab from `from` to `to`. The
    /// caller holds the object, and changes the charges. `false`: it is another's by now. The first
    /// change in a slab with one tag takes a lock and writes a tag for each object; the others are
    /// one CAS.
    pub fn retag_cached(&self, slab: SlabRef, offset: u32, from: Tag, to: Tag) -> bool {
        if !slab.is_mixed() {
            self.caches.mixing(|| slab.mix_all());
        }
        slab.retag(offset, from, to)
    }

    /// The slab and the offset of the live object of a cache that begins at `at`.
    ///
    /// # Errors
    /// What is wrong with the address. Not every address that is wrong is found out.
    #[inline]
    pub fn locate_cached(&self, at: usize) -> Result<(SlabRef, u32), BadFree> {
        if self.place(at) != Place::Chunk {
            return Err(BadFree::Foreign);
        }
        let unit = layout::unit_of(at);
        if !(layout::FIRST_UNIT..layout::END_UNIT).contains(&unit) {
            return Err(BadFree::Inside);
        }
        // SAFETY: the map says that a chunk is mapped at `at`, and this unit is one of those with a
        // record.
        let slab = unsafe { Slab::of(at) }.lead();
        match slab.kind() {
            SlabKind::Cached => {}
            SlabKind::Free => return Err(BadFree::Double),
            SlabKind::Objects | SlabKind::Large | SlabKind::Huge | SlabKind::Inside => {
                return Err(BadFree::Foreign);
            }
        }
        let offset = slab.offset_of(at).ok_or(BadFree::Inside)?;
        if slab.free.load(Relaxed) == offset || slab.word().peek().first == offset {
            return Err(BadFree::Double);
        }
        Ok((slab, offset))
    }
}
