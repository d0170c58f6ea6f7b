//! Objects of kmem caches: charged, then taken; uncharged, then given back.
//!
//! Invariants: an object is charged the bytes that its cache says an object may use, within the
//! limits of `memory.max` as any other memory. It is also counted as a cache's, within every
//! `memory.kmem.max`. A refused allocation changes nothing.
//! Depends on: `kmem::cache`, which takes and frees objects and charges from stock only.
//! Never: runs a constructor (`api` does that), or code of the program under a lock.

use super::configuration::Tracking;
use super::worker::Work;
use super::{Accounting, ChargeError, Engine, Flags, Request};
use crate::group::{GroupId, Kind, Memcg, ROOT, ROOT_TAG, Refusal, Tag};
use crate::kmem::bad;
use crate::kmem::cache::{Cache, Child, Found, Own, Plan, Ways, cache_hit, debug};
use crate::kmem::id::CacheId;
use crate::sync::lock::Rank;
use crate::sync::promise::SoleThread;
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

impl CacheRefusal {
    /// Which group was full; `None` if no limit was the reason.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Max(why) | Self::KmemMax(why) => Some(why.refusal),
            Self::Dead | Self::NoMemory => None,
        }
    }
}

/// Calls of a cache's shrinker for one allocation.
const ROUNDS: usize = 4;

/// Checks the poison and the red zone of an object that was just taken, if its cache has
/// [`Ways::CHECKED`].
#[inline(always)]
fn check_taken(cache: &Cache, found: Found) {
    if cache.ways().has(Ways::CHECKED) {
        // SAFETY: `found` is an object that `kmem::cache` has just handed out to this thread, and
        // nobody else knows it. It is of this cache, or of the group's own cache, which
        // `make_child` made with the same shape and the same `Ways`.
        unsafe { debug::on_alloc(cache, found) };
    }
}

impl Engine {
    /// A new cache; its number. `None`: no such objects can be, or there is no memory.
    pub fn create_cache(&self, rec: &ThreadRec, plan: &Plan<'_>) -> Option<CacheId> {
        let _pin = self.tree.threads.epoch.pin(rec);
        self.kmem.create_cache(&self.tree, plan)
    }

    /// Ends a cache: it gives out no more objects. Its record goes when its last object is freed.
    pub fn destroy_cache(&self, rec: &ThreadRec, index: CacheId) {
        let _pin = self.tree.threads.epoch.pin(rec);
        // A change: in a fork's child nobody would go on with it.
        self.change(|| {
            self.kmem.bury(&self.tree, index);
            self.kmem.tend_caches(&self.tree);
        });
    }

    /// Does what remains to be done for caches that were destroyed and whose last object has gone.
    /// Any thread that comes by may do it.
    #[cold]
    pub fn tend_caches(&self, rec: &ThreadRec) {
        let _pin = self.tree.threads.epoch.pin(rec);
        self.change(|| self.kmem.tend_caches(&self.tree));
    }

    /// The owner that an object of `cache` is charged to; `None`: it is not accounted.
    #[inline(always)]
    fn owner_of_object(&self, rec: &ThreadRec, cache: &Cache, flags: Flags) -> Option<Tag> {
        if cache.ways().has(Ways::NOACCOUNT) || flags.has(Flags::NOACCOUNT) {
            return None;
        }
        let current = rec.current();
        if self.options.tracks_simply() {
            return current;
        }
        self.owner_by_rules(rec, cache, current?)
    }

    /// The owner of an object where rules of [`Tracking`] are in force: `tag`, or `None` if a rule
    /// exempts the object.
    fn owner_by_rules(&self, rec: &ThreadRec, cache: &Cache, tag: Tag) -> Option<Tag> {
        let on = |which| self.options.tracking(which);
        if on(Tracking::OptIn) && !cache.ways().has(Ways::ACCOUNT) && cache.room_maker().is_none() {
            return None;
        }
        if on(Tracking::RootUntracked) && tag == ROOT_TAG {
            return None;
        }
        let _pin = self.tree.threads.epoch.pin(rec);
        // Where the task is now, if it went on without its bytes.
        let now = self.tree.objcgs.get(self.tree.live_tag(tag));
        let group = self.tree.resolve(now.cell()).group;
        if on(Tracking::RootUntracked) && group.index() == ROOT
            || on(Tracking::Filtered) && !self.kmem.caches.is_accounted_in(group, &cache.name())
        {
            return None;
        }
        Some(tag)
    }

    /// Sets the words by which a group, and all below that have none, account caches' objects;
    /// none: it inherits again. `false` without memory.
    pub fn set_cache_filter(&self, group: &Memcg, words: &[u8]) -> bool {
        let is_gone = |index: GroupId, generation: u32| {
            let group = self.tree.memcgs.get(index);
            group.generation() != generation || !group.is_online()
        };
        let _held = self.filters_lock.lock(Rank::Words);
        let any = self.kmem.caches.set_filter(group, words, is_gone);
        self.options
            .set_tracking(Tracking::Filtered, any.unwrap_or(true));
        any.is_some()
    }

    /// In the child of a fork: frees the lock, whose holder may be a thread that the child does not
    /// have.
    pub(super) fn reset_locks_in_child(&self, sole: SoleThread) {
        self.filters_lock.reset_in_child(sole);
    }

    /// Gives back the slabs that caches have not used for a while. Called now and then; does
    /// nothing if the last time was too recent.
    pub fn tick_caches(&self) {
        self.kmem.reap_caches_at_times(&self.tree);
    }

    /// Takes an object of a cache; it is charged to the owner that the thread works for.
    ///
    /// # Errors
    /// See [`CacheRefusal`].
    #[inline]
    pub fn alloc_cached(
        &self,
        rec: &ThreadRec,
        index: CacheId,
        flags: Flags,
    ) -> Result<Found, CacheRefusal> {
        let cache = self.kmem.caches.get(index);
        let tag = self.owner_of_object(rec, cache, flags);
        if let Some(own) = self.kmem.caches.own(rec) {
            let ways = cache.ways();
            let found = if ways.has(Ways::PER_GROUP)
                && let Some(tag) = tag
            {
                self.alloc_by_group(rec, own, (index, ways), tag)
            } else {
                cache_hit::alloc(own, ways, index, tag)
            };
            if let Some(found) = found {
                check_taken(cache, found);
                return Ok(found);
            }
        }
        // A superseded owner has no stock, so objects of a task that moved without its bytes come
        // this way, and are charged to its successor.
        let found = self.with_owner(rec, |now| {
            let tag = tag.and(now);
            self.alloc_cached_slow(rec, cache, index, tag, flags)
        })?;
        check_taken(cache, found);
        Ok(found)
    }

    /// A hit in the cache of the current owner's group. Apart, so that the hit of a cache for all
    /// stays as short as it is.
    #[inline(never)]
    fn alloc_by_group(
        &self,
        rec: &ThreadRec,
        own: Own<'_>,
        (index, ways): (CacheId, Ways),
        tag: Tag,
    ) -> Option<Found> {
        // The thread works for this owner, which keeps the owner's record alive. The cell is read
        // as it is, without resolving it: this is a hit.
        let cell = self.tree.objcgs.get(tag).cell_if_any();
        cache_hit::alloc_by_hint(own, &self.kmem.caches, (index, ways), cell, Some(tag))
            .or_else(|| self.alloc_of_child(rec, own, (index, ways), tag))
    }

    /// As `alloc_by_group` where its hint was no use: looks the group's cache up, and keeps a hint
    /// by which the next hit finds it.
    #[inline(never)]
    fn alloc_of_child(
        &self,
        rec: &ThreadRec,
        own: Own<'_>,
        (index, ways): (CacheId, Ways),
        tag: Tag,
    ) -> Option<Found> {
        let _pin = self.tree.threads.epoch.pin(rec);
        let cell = self.tree.objcgs.get(tag).cell();
        let group = self.tree.resolve(cell).group;
        let Child::Is(child) = self.kmem.child_of(&self.tree, rec, index, group) else {
            return None;
        };
        let found = cache_hit::alloc(own, ways, child, Some(tag))?;
        own.keep_hint(index, Some(cell), child);
        Some(found)
    }

    #[cold]
    fn alloc_cached_slow(
        &self,
        rec: &ThreadRec,
        cache: &Cache,
        index: CacheId,
        tag: Option<Tag>,
        flags: Flags,
    ) -> Result<Found, CacheRefusal> {
        if cache.is_dead() {
            return Err(CacheRefusal::Dead);
        }
        let tag = tag.filter(|_| self.accounting() == Accounting::On);
        let bytes = cache.charged_bytes();
        if let Some(tag) = tag {
            self.charge_object(rec, cache, Request::heap(tag, bytes, flags))?;
        }
        self.alloc_charged(rec, cache, index, tag, flags)
            .ok_or_else(|| {
                self.undo_object(rec, tag, bytes);
                CacheRefusal::NoMemory
            })
    }

    /// Takes an object for `owner`, which is charged for it already, from the cache that serves the
    /// owner's group.
    fn alloc_charged(
        &self,
        rec: &ThreadRec,
        cache: &Cache,
        index: CacheId,
        owner: Option<Tag>,
        flags: Flags,
    ) -> Option<Found> {
        let own = self.kmem.caches.own(rec);
        let Some(tag) = owner.filter(|_| cache.ways().has(Ways::PER_GROUP)) else {
            return self.kmem.alloc_cached(own, index, owner);
        };
        let _pin = self.tree.threads.epoch.pin(rec);
        let group = self.tree.resolve(self.tree.objcgs.get(tag).cell()).group;
        let child = match self.kmem.child_of(&self.tree, rec, index, group) {
            Child::Is(child) => child,
            Child::Missing if flags.has(Flags::WAIT) => {
                // The group gets a kmem id as the policy of ids allows. If it gets none, the cache
                // of the nearest group above that has an id serves.
                let _ = self.kmem_id(rec, group, flags);
                let group = self.tree.resolve(self.tree.objcgs.get(tag).cell()).group;
                self.kmem
                    .make_child(&self.tree, rec, index, group)
                    .unwrap_or(index)
            }
            Child::Missing => {
                let group = group.index();
                self.defer(Work::Split {
                    cache: index,
                    group,
                });
                index
            }
        };
        let found = self.kmem.alloc_cached(own, child, owner);
        // The group may have ended meanwhile: then the cache itself serves, whatever happens.
        found.or_else(|| {
            (child != index)
                .then(|| self.kmem.alloc_cached(own, index, owner))
                .flatten()
        })
    }

    /// Makes the group's own cache, which an allocation that could not wait has deferred. Does
    /// nothing if the cache or the group has ended since.
    pub(super) fn split_cache(&self, rec: &ThreadRec, index: CacheId, group: GroupId) {
        let _pin = self.tree.threads.epoch.pin(rec);
        let group = self.tree.memcgs.get(group);
        let cache = self.kmem.caches.get(index);
        if group.is_online() && cache.is_there() && !cache.is_dead() {
            let _ = self.kmem_id(rec, group, Flags::WAIT);
            // Without memory the next allocation asks again.
            let _ = self.kmem.make_child(&self.tree, rec, index, group);
        }
    }

    /// Charges an object within the limits. Where one refuses, the cache's own shrinker is asked
    /// for room, [`ROUNDS`] times at most, if the request may run code of the program.
    fn charge_object(
        &self,
        rec: &ThreadRec,
        cache: &Cache,
        request: Request,
    ) -> Result<(), CacheRefusal> {
        let may_ask = request.flags.has(Flags::WAIT | Flags::USER);
        let Some(maker) = cache.room_maker().filter(|_| may_ask) else {
            return self.try_charge_object(rec, request);
        };
        // Before anybody goes into debt or is killed for it.
        let early = request.with_flags(request.flags | Flags::EARLY);
        let mut outcome = self.try_charge_object(rec, early);
        for _ in 0..ROUNDS {
            let Err(why) = outcome else { break };
            let full = why.refusal().and_then(|refusal| refusal.group);
            if full.is_none_or(|full| maker.make_room(full, request.bytes) == 0) {
                break;
            }
            outcome = self.try_charge_object(rec, early);
        }
        match outcome {
            Err(CacheRefusal::Max(_)) => self.try_charge_object(rec, request),
            other => other,
        }
    }

    /// Charges an object's bytes and counts them as a cache's, or does neither.
    fn try_charge_object(&self, rec: &ThreadRec, request: Request) -> Result<(), CacheRefusal> {
        let Request { tag, bytes, .. } = request;
        self.charge(rec, request).map_err(CacheRefusal::Max)?;
        self.count_object(rec, request)
            .or_else(|refusal| {
                // What threads have counted in advance is in nobody's hands. Usually there is none
                // under such a limit.
                {
                    let _pin = self.tree.threads.epoch.pin(rec);
                    if let Some(full) = self.tree.group_of_refusal(&refusal) {
                        self.tree.drain(rec, full);
                    }
                }
                self.count_object(rec, request)
            })
            .map_err(|refusal| {
                self.undo_charge(rec, tag, bytes);
                CacheRefusal::KmemMax(ChargeError { bytes, refusal })
            })
    }

    /// Counts an object that is charged already as a cache's; with [`Flags::FORCE`] whatever the
    /// limits say.
    pub(super) fn count_object(&self, rec: &ThreadRec, request: Request) -> Result<(), Refusal> {
        let Request {
            tag, bytes, flags, ..
        } = request;
        let _pin = self.tree.threads.epoch.pin(rec);
        self.tree
            .charge_slab(rec, tag, bytes, flags.has(Flags::FORCE))
    }

    /// Takes back what [`Self::charge_object`] charged, for an object that is not to be had.
    #[cold]
    pub(super) fn undo_object(&self, rec: &ThreadRec, tag: Option<Tag>, bytes: u64) {
        let Some(tag) = tag.filter(|_| self.accounting() != Accounting::Broken) else {
            return;
        };
        {
            let _pin = self.tree.threads.epoch.pin(rec);
            self.tree.uncharge_slab(rec, tag, bytes);
        }
        self.undo_charge(rec, tag, bytes);
    }

    /// Uncharges an object of a cache: its bytes, and their count as a cache's.
    pub(super) fn uncharge_object(&self, rec: &ThreadRec, tag: Option<Tag>, bytes: u64) {
        let Some(tag) = tag.filter(|_| self.accounting() != Accounting::Broken) else {
            return;
        };
        {
            let _pin = self.tree.threads.epoch.pin(rec);
            self.tree.uncharge_slab(rec, tag, bytes);
        }
        self.uncharge(rec, tag, bytes, Kind::Heap);
    }

    /// Frees an object; `raw`: its constructor has not run, or has failed, or what it made was
    /// overwritten. It runs again before the object is handed out as constructed.
    ///
    /// # Safety
    /// `at` is a live object of a cache of this engine, which ends here.
    #[inline]
    pub unsafe fn free_cached(&self, rec: &ThreadRec, at: usize, raw: bool) {
        let (slab, offset) = match self.kmem.locate_cached(at) {
            Ok(found) => found,
            Err(why) => bad::bad_pointer(b"kmem_cache_free", at, why),
        };
        let mut raw = raw;
        if slab.is_checked() {
            let cache = self.kmem.caches.get(slab.cache());
            // SAFETY: `at` is a live object that the caller of `free_cached` gives up, so its bytes
            // and its red zone are ours. `locate_cached` found its slab, and `slab.cache()` is the
            // cache that the slab belongs to.
            if !unsafe { debug::on_free(cache, at) } {
                return;
            }
            // What has been poisoned is looked at when it is taken again.
            raw &= cache.ways().has(Ways::CONSTRUCTED);
        }
        let own = self.kmem.caches.own(rec);
        // SAFETY: the object at `offset` of `slab` is the one at `at`, by `locate_cached`. It is
        // live and ends here, as the caller of `free_cached` promises.
        if own.is_some_and(|own| unsafe { cache_hit::free(own, slab, offset, raw) }) {
            return;
        }
        let (tag, bytes) = slab.owner_and_bytes(offset);
        self.uncharge_object(rec, tag, bytes);
        // SAFETY: the hit above did nothing, so the object is still live, and it ends here, as the
        // caller of `free_cached` promises. It was uncharged one line above.
        unsafe { self.kmem.free_cached(own, slab, offset, raw) };
        if self.kmem.have_caches_ended() {
            self.tend_caches(rec);
        }
    }
}
