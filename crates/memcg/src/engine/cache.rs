//! Objects of kmem caches: charged, then taken; uncharged, then given back.
//!
//! Kept: an object is charged what its cache says an object may use, as any memory is (`memory.max` and all that follows), and
//! counted as a cache's, within every `memory.kmem.max`. A refused allocation changes nothing.
//! Relied on: `kmem::cache`, which never charges but from stock.
//! Never done: a constructor (that is `api`); code of the program under a lock.

use super::worker::Work;
use super::{Accounting, ChargeError, Engine, Flags};
use crate::group::{Kind, NO_TAG, Refusal};
use crate::kmem::bad;
use crate::kmem::cache::{Cache, Child, Found, Plan, Ways, hit};
use crate::thread::ThreadRec;

/// Why there is no object; nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheRefusal {
    /// A group's `memory.max` stands in the way.
    Max(ChargeError),
    /// A group's `memory.kmem.max` does.
    KmemMax(ChargeError),
    /// The cache has ended.
    Dead,
    /// The kernel gives no memory.
    NoMemory,
}

impl Engine {
    /// A new cache; its number. `None`: no such objects can be, or there is no memory.
    pub fn create_cache(&self, rec: &ThreadRec, plan: &Plan<'_>) -> Option<u32> {
        let _pin = self.tree.threads.epoch.pin(rec);
        self.kmem.create_cache(&self.tree, plan)
    }

    /// Ends a cache: it gives no objects any more, and goes with its last one.
    pub fn destroy_cache(&self, rec: &ThreadRec, index: u32) {
        let _pin = self.tree.threads.epoch.pin(rec);
        self.kmem.bury(&self.tree, index);
        self.kmem.tend_caches(&self.tree);
    }

    /// Whom an object of a cache is for.
    #[inline(always)]
    fn owner_of_object(&self, rec: &ThreadRec, cache: &Cache, flags: Flags) -> u32 {
        if cache.ways().has(Ways::NOACCOUNT) || flags.has(Flags::NOACCOUNT) {
            return NO_TAG;
        }
        rec.current()
    }

    /// Takes an object of a cache, for whom the thread works for.
    ///
    /// # Errors
    /// See [`CacheRefusal`].
    #[inline]
    pub fn alloc_cached(
        &self,
        rec: &ThreadRec,
        index: u32,
        flags: Flags,
    ) -> Result<Found, CacheRefusal> {
        let cache = self.kmem.caches.get(index);
        let tag = self.owner_of_object(rec, cache, flags);
        if let Some(own) = self.kmem.caches.own(rec) {
            let found = if cache.ways().has(Ways::PER_GROUP) && tag != NO_TAG {
                let _pin = self.tree.threads.epoch.pin(rec);
                let group = self.tree.resolve(self.tree.objcgs.get(tag).cell()).group;
                match self.kmem.child_of(&self.tree, rec, index, group) {
                    Child::Is(child) => hit::alloc(own, child, tag),
                    Child::Missing => None,
                }
            } else {
                hit::alloc(own, index, tag)
            };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        self.alloc_cached_slow(rec, cache, index, tag, flags)
    }

    #[cold]
    fn alloc_cached_slow(
        &self,
        rec: &ThreadRec,
        cache: &Cache,
        index: u32,
        tag: u32,
        flags: Flags,
    ) -> Result<Found, CacheRefusal> {
        if cache.is_dead() {
            return Err(CacheRefusal::Dead);
        }
        let tag = if self.accounting() == Accounting::On {
            tag
        } else {
            NO_TAG
        };
        let bytes = cache.charged_bytes();
        self.charge_object(rec, tag, bytes, flags)?;
        self.take_cached(rec, cache, index, tag, flags)
            .ok_or_else(|| {
                self.uncharge_object(rec, tag, bytes);
                CacheRefusal::NoMemory
            })
    }

    /// An object for `tag`, charged already, from the cache that serves its group.
    fn take_cached(
        &self,
        rec: &ThreadRec,
        cache: &Cache,
        index: u32,
        tag: u32,
        flags: Flags,
    ) -> Option<Found> {
        let own = self.kmem.caches.own(rec);
        if !cache.ways().has(Ways::PER_GROUP) || tag == NO_TAG {
            return self.kmem.take_slub(own, index, tag);
        }
        let _pin = self.tree.threads.epoch.pin(rec);
        let group = self.tree.resolve(self.tree.objcgs.get(tag).cell()).group;
        let child = match self.kmem.child_of(&self.tree, rec, index, group) {
            Child::Is(child) => child,
            Child::Missing if flags.has(Flags::WAIT) => self
                .kmem
                .make_child(&self.tree, rec, index, group)
                .unwrap_or(index),
            Child::Missing => {
                let group = group.index();
                self.defer(Work::Split {
                    cache: index,
                    group,
                });
                index
            }
        };
        let found = self.kmem.take_slub(own, child, tag);
        // The group may have ended meanwhile: then the cache itself serves, whatever happens.
        found.or_else(|| {
            (child != index)
                .then(|| self.kmem.take_slub(own, index, tag))
                .flatten()
        })
    }

    /// What an allocation that could not wait had deferred: the group's own cache, if there still are the two.
    pub(super) fn split_cache(&self, rec: &ThreadRec, index: u32, group: u32) {
        let _pin = self.tree.threads.epoch.pin(rec);
        let group = self.tree.memcgs.get(group);
        let cache = self.kmem.caches.get(index);
        if group.is_online() && cache.is_there() && !cache.is_dead() {
            // Without memory the next allocation asks again.
            let _ = self.kmem.make_child(&self.tree, rec, index, group);
        }
    }

    fn charge_object(
        &self,
        rec: &ThreadRec,
        tag: u32,
        bytes: u64,
        flags: Flags,
    ) -> Result<(), CacheRefusal> {
        if tag == NO_TAG {
            return Ok(());
        }
        self.charge(rec, tag, bytes, Kind::Heap, flags)
            .map_err(CacheRefusal::Max)?;
        let forced = flags.has(Flags::FORCE);
        self.count_object(rec, tag, bytes, forced)
            .or_else(|refusal| {
                // What threads have counted in advance is in nobody's hands. Usually there is none under such a limit.
                {
                    let _pin = self.tree.threads.epoch.pin(rec);
                    self.tree.drain(rec, self.tree.memcgs.get(refusal.group));
                }
                self.count_object(rec, tag, bytes, forced)
            })
            .map_err(|refusal| {
                self.uncharge(rec, tag, bytes, Kind::Heap);
                CacheRefusal::KmemMax(ChargeError { bytes, refusal })
            })
    }

    fn count_object(
        &self,
        rec: &ThreadRec,
        tag: u32,
        bytes: u64,
        forced: bool,
    ) -> Result<(), Refusal> {
        let _pin = self.tree.threads.epoch.pin(rec);
        self.tree.charge_slab(rec, tag, bytes, forced)
    }

    fn uncharge_object(&self, rec: &ThreadRec, tag: u32, bytes: u64) {
        if tag == NO_TAG || self.accounting() == Accounting::Broken {
            return;
        }
        {
            let _pin = self.tree.threads.epoch.pin(rec);
            self.tree.uncharge_slab(rec, tag, bytes);
        }
        self.uncharge(rec, tag, bytes, Kind::Heap);
    }

    /// Frees an object; `raw`: its constructor has not run, or failed.
    ///
    /// # Safety
    /// `at` is a live object of a cache of this engine, which ends here.
    #[inline]
    pub unsafe fn free_cached(&self, rec: &ThreadRec, at: usize, raw: bool) {
        let (slab, offset) = match self.kmem.locate_cached(at) {
            Ok(found) => found,
            Err(why) => bad::bad_pointer(b"kmem_cache_free", at, why),
        };
        let own = self.kmem.caches.own(rec);
        // SAFETY: the caller's.
        if own.is_some_and(|own| unsafe { hit::free(own, slab, offset, raw) }) {
            return;
        }
        let (tag, bytes) = slab.owner_and_bytes(offset);
        self.uncharge_object(rec, tag, bytes);
        // SAFETY: the caller's; uncharged.
        unsafe { self.kmem.put_cached(own, slab, offset, raw) };
        if self.kmem.have_caches_ended() {
            let _pin = self.tree.threads.epoch.pin(rec);
            self.kmem.tend_caches(&self.tree);
        }
    }
}
