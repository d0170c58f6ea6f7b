//! Slab kind Slub: free lists in the slabs, one slab for each thread and cache, partial slabs in a
//! list, full ones in none.
//!
//! A full slab is in no list. The free that makes an eighth of it free pushes it on the stack of
//! returned slabs, without a lock, and the next thread that needs a slab looks there. The last free
//! of a partial slab gives it back, unless the cache keeps few. A cache with [`Ways::TRACKED`] has
//! its full slabs in a list as well; then both take the lock.
//!
//! Invariants: those of `cache`. `listed` says where a slab is; it changes under the lock of the
//! cache, or by the thread that has the slab in use while no thread is on its way to it.
//! Depends on: `objects` and `slab_word`, `slots` for a thread's slab.
//! Never: a slab given back while it is in flight.

use super::objects::Found;
use super::slab_word::{NEVER, Pushed};
use super::slots::{Content, Own};
use super::{Cache, Ways};
use crate::kmem::Kmem;
use crate::kmem::id::CacheId;
use crate::kmem::list::{List, Returned};
use crate::kmem::slab::{IN_NONE, IN_PARTIAL, IN_USE, Slab, SlabRef};
use crate::thread::Tag;
use core::sync::atomic::Ordering::Relaxed;

/// In the list of full slabs.
pub(super) const IN_FULL: u32 = 3;

/// Empty slabs are kept while a cache has no more partial ones than this.
const MIN_PARTIAL: u32 = 4;

/// The most returned slabs that wait for a thread that needs one.
const MOST_RETURNED: u32 = 8;

/// Partial slabs looked at for one of the right tag.
const LOOK_FOR_TAG: usize = 4;

impl Kmem {
    /// Takes an object of a cache for `tag`; its bytes are charged already, or charged to nobody.
    /// `own` is the calling thread's, if it has one. `None`: the kernel gives no memory, or the
    /// cache is dead.
    pub(super) fn alloc_slub(
        &self,
        own: Option<Own<'_>>,
        index: CacheId,
        tag: Option<Tag>,
    ) -> Option<Found> {
        let cache = self.caches.get(index);
        let mut spare = None;
        loop {
            let slab = match spare.take() {
                Some(slab) => slab,
                None => match own.and_then(|own| self.alloc_from_slot(own, cache, index, tag)) {
                    Some(Ok(found)) => return Some(found),
                    Some(Err(slab)) => slab,
                    None => self.find_cached(cache, index, tag)?,
                },
            };
            // SAFETY: `find_cached`, `alloc_from_slot` and `fill_cached` answer slabs that this
            // thread has taken out of every slot and list, so it acts for the slab.
            if !unsafe { slab.has_room() } {
                spare = self.fill_cached(cache, index, slab);
                continue;
            }
            // SAFETY: this thread still acts for the slab, and `has_room` has just said that it has
            // an object.
            let found = unsafe { slab.alloc_object(tag, &self.caches) };
            match own {
                Some(own) => self.install(own, cache, index, slab),
                None => self.relist_slab(cache, index, slab),
            }
            return Some(found);
        }
    }

    /// Takes an object from the slab in the thread's slot. `Err`: that slab was full and is taken
    /// out, but something was freed into it meanwhile; this thread acts for it now.
    fn alloc_from_slot(
        &self,
        own: Own<'_>,
        cache: &Cache,
        index: CacheId,
        tag: Option<Tag>,
    ) -> Option<Result<Found, SlabRef>> {
        let slot = own.slot(index);
        let full = {
            let _slots = own.enter_slots()?;
            let slab = slot.slab_of(index)?;
            // SAFETY: the slab is in the slot of this thread, which is in a look at its slots: it
            // acts for the slab.
            if unsafe { slab.has_room() } {
                // SAFETY: this thread is still in the look, and `has_room` has just said that the
                // slab has an object.
                return Some(Ok(unsafe { slab.alloc_object(tag, &self.caches) }));
            }
            slot.empty();
            slab
        };
        self.fill_cached(cache, index, full).map(Err)
    }

    /// Lets go of a slab that is used up, for which the caller acts. Answers the slab if something
    /// was freed into it meanwhile: then the caller acts for it still.
    fn fill_cached(&self, cache: &Cache, index: CacheId, slab: SlabRef) -> Option<SlabRef> {
        let level = (slab.used.load(Relaxed) / 8).max(1);
        let tracked = cache.ways().has(Ways::TRACKED);
        // The thread that is on its way to the slab looks where it is, under the lock, before it
        // arrives.
        if tracked || slab.word().is_in_flight() {
            return self.caches.locked(index, || {
                if !slab.word().arm(level) {
                    return Some(slab);
                }
                if tracked {
                    slab.listed.store(IN_FULL, Relaxed);
                    cache.full.push(slab);
                } else {
                    slab.listed.store(IN_NONE, Relaxed);
                }
                None
            });
        }
        // From here on no thread can be on its way: no push is notified until the word is armed.
        slab.listed.store(IN_NONE, Relaxed);
        if slab.word().arm(level) {
            return None;
        }
        slab.listed.store(IN_USE, Relaxed);
        Some(slab)
    }

    /// Puts a slab with room, for which the caller acts, into the thread's slot, or where others
    /// find it.
    fn install(&self, own: Own<'_>, cache: &Cache, index: CacheId, slab: SlabRef) {
        let content = Content {
            cache: Some(index),
            nr: 0,
            at: slab.address(),
        };
        let slot = own.slot(index);
        let before = own.enter_slots().map(|_slots| {
            if slot.slab_of(index).is_some() || cache.is_dead() {
                // A signal handler has filled the slot, or the cache has died.
                return content;
            }
            let before = slot.empty();
            slot.fill(content);
            before
        });
        self.leave_slot(before.unwrap_or(content));
    }

    /// A slab that was taken out of a slot goes back to its cache.
    pub(super) fn leave_slab(&self, index: CacheId, content: Content) {
        // SAFETY: `install` put the address of a slab's record there; the slab was in use until
        // `Slot::empty` took it out for this caller, who now acts for it, so it is mapped.
        let slab = unsafe { &*(content.at as *const Slab) };
        self.relist_slab(self.caches.get(index), index, slab);
    }

    /// A slab with room, or a new one; in no list, and the caller acts for it.
    fn find_cached(&self, cache: &Cache, index: CacheId, tag: Option<Tag>) -> Option<SlabRef> {
        if cache.is_dead() {
            return None;
        }
        if cache.nr_partial.load(Relaxed) > 0 || !cache.returned.is_empty() {
            let mut gone = Gone::default();
            let found = self.caches.locked(index, || {
                self.collect_returned(cache, index, &mut gone);
                let fits = |slab: &SlabRef| slab.takes(tag) || slab.used.load(Relaxed) == 0;
                let found = cache
                    .partial
                    .iter()
                    .take(LOOK_FOR_TAG)
                    .find(fits)
                    .or_else(|| cache.partial.first())?;
                unlist(cache, found);
                found.listed.store(IN_USE, Relaxed);
                // SAFETY: it was in a list of this cache whose lock is held, and has just been
                // taken out by this thread.
                unsafe { found.gather() };
                Some(found)
            });
            self.give_up(cache, index, gone);
            if found.is_some() {
                return found;
            }
        }
        let shape = cache.shape();
        if !cache.add_slab() {
            return None;
        }
        let Some(span) = self.spans.alloc(shape.units, 1) else {
            self.sub_slab(cache, index);
            return None;
        };
        #[cfg(loom)]
        // SAFETY: `spans.alloc` has just answered the span, so the unit is mapped, has no slab, and
        // nobody else uses it.
        unsafe {
            Slab::begin_schedule(span.start);
        }
        // SAFETY: `spans.alloc` has just answered this span, so its chunk is mapped, and stays so
        // while the span is in use.
        let slab = unsafe { Slab::of(span.start) };
        // SAFETY: the span has `shape.units` units, just allocated, and nobody else uses them.
        unsafe { slab.make_objects(index, &shape, Tag::to_word(tag), cache.ways()) };
        slab.listed.store(IN_USE, Relaxed);
        Some(slab)
    }

    /// Puts a slab for which the caller acts into the list it belongs in.
    pub(super) fn relist_slab(&self, cache: &Cache, index: CacheId, slab: SlabRef) {
        let mut gone = Gone::default();
        self.caches.locked(index, || relist(cache, slab, &mut gone));
        self.give_units(cache, index, gone.slabs);
    }

    /// Frees an object, whose bytes were uncharged, into a slab that is not in the thread's slot.
    ///
    /// # Safety
    /// The object at `offset` of `slab` is live, and nobody uses it after this call.
    unsafe fn free_slub(&self, slab: SlabRef, offset: u32, raw: bool) {
        let index = slab.cache();
        let pushed = slab.word().push(offset, |next| {
            // SAFETY: the object was live and the caller gave it up; until the CAS of `push`
            // publishes it no other thread can reach it.
            unsafe { slab.set_object_link(offset, next, raw) };
        });
        if pushed == Pushed::Notify {
            self.see_to(index, slab);
        }
    }

    /// Looks after a slab in flight whose push has notified this thread.
    #[cold]
    fn see_to(&self, index: CacheId, slab: SlabRef) {
        let cache = self.caches.get(index);
        // It is in flight, so it is not given back; but its cache may change at any moment.
        let was_full = slab.listed.load(Relaxed) == IN_NONE;
        if was_full && !cache.is_dead() {
            cache.returned.push(slab);
            let many = cache.nr_returned.fetch_add(1, Relaxed) >= MOST_RETURNED;
            // Pairs with `die`: this thread sees that the cache is dead, or `bury` finds the slab.
            let dead = cache.is_dead_surely();
            if !many && !dead {
                return;
            }
            self.collect_all_returned(cache, index);
            return;
        }
        self.arrive_where_it_is(slab);
    }

    /// Brings a slab in flight to where it belongs, in the cache that it belongs to by now. It is
    /// not given back before it arrives.
    fn arrive_where_it_is(&self, slab: SlabRef) {
        loop {
            let index = slab.cache_now();
            let cache = self.caches.get(index);
            let mut gone = Gone::default();
            let is_here = self.caches.locked(index, || {
                let is_here = slab.cache() == index;
                if is_here {
                    arrive(cache, slab, &mut gone);
                }
                is_here
            });
            self.give_units(cache, index, gone.slabs);
            if is_here {
                return;
            }
        }
    }

    fn collect_all_returned(&self, cache: &Cache, index: CacheId) {
        let mut gone = Gone::default();
        self.caches
            .locked(index, || self.collect_returned(cache, index, &mut gone));
        self.give_up(cache, index, gone);
    }

    /// Looks after the returned slabs. Under the lock.
    fn collect_returned(&self, cache: &Cache, index: CacheId, gone: &mut Gone) {
        if cache.returned.is_empty() {
            return;
        }
        cache.nr_returned.store(0, Relaxed);
        cache.returned.pop_all(|slab| {
            if slab.cache() == index {
                arrive(cache, slab, gone);
            } else {
                gone.elsewhere.push(slab);
            }
        });
    }

    /// What was taken out under the lock: units of empty slabs are given back, and a slab that is
    /// another cache's by now arrives there.
    fn give_up(&self, cache: &Cache, index: CacheId, gone: Gone) {
        self.give_units(cache, index, gone.slabs);
        gone.elsewhere.pop_all(|slab| self.arrive_where_it_is(slab));
    }

    /// Gives back empty slabs, and looks after those that were returned. It cannot fail.
    pub(super) fn shrink_slub(&self, index: CacheId) {
        let cache = self.caches.get(index);
        let mut gone = Gone::default();
        self.caches.locked(index, || {
            self.collect_returned(cache, index, &mut gone);
            let mut next = cache.partial.first();
            while let Some(slab) = next {
                // SAFETY: the slab is in a list of this cache, whose lock is held; `next` is read
                // before the slab may be given back.
                next = unsafe { slab.next_listed() };
                unlist(cache, slab);
                relist(cache, slab, &mut gone);
                if slab.listed.load(Relaxed) == IN_PARTIAL
                    && slab.used.load(Relaxed) == 0
                    && !slab.word().is_in_flight()
                {
                    unlist(cache, slab);
                    gone.slabs.push(slab);
                }
            }
        });
        self.give_up(cache, index, gone);
    }

    /// Frees an object that was no hit. Its bytes were uncharged before.
    ///
    /// # Safety
    /// The object at `offset` of `slab` is live, its bytes are uncharged, and nobody uses it after
    /// this call.
    pub(super) unsafe fn free_to_slot(
        &self,
        own: Option<Own<'_>>,
        slab: SlabRef,
        offset: u32,
        raw: bool,
    ) {
        // The hit may have failed for lack of room in stock only.
        if let Some(own) = own
            && let Some(_slots) = own.enter_slots()
            && own.slot(slab.cache()).at.load(Relaxed) == slab.address()
        {
            // SAFETY: the slot of this thread names the slab, and the thread is in a look: it acts
            // for the slab. The caller gave the live object up.
            unsafe { slab.push_free(offset, raw) };
            return;
        }
        // SAFETY: the caller gave up a live, uncharged object, which is all that `free_slub` wants.
        unsafe { self.free_slub(slab, offset, raw) };
    }
}

/// Slabs to be given back once the lock is let go.
#[derive(Default)]
struct Gone {
    slabs: List,
    /// In flight, and another cache's by now.
    elsewhere: Returned,
}

/// Takes a slab out of the list it is in. Under the lock.
pub(super) fn unlist(cache: &Cache, slab: SlabRef) {
    match slab.listed.load(Relaxed) {
        IN_PARTIAL => {
            cache.partial.remove(slab);
            let nr_partial = cache.nr_partial.load(Relaxed);
            cache.nr_partial.store(nr_partial - 1, Relaxed);
        }
        IN_FULL => cache.full.remove(slab),
        _ => {}
    }
    slab.listed.store(IN_NONE, Relaxed);
}

/// A slab that was in flight arrives: into the list it belongs in, unless a thread has it in use.
/// Under the lock.
fn arrive(cache: &Cache, slab: SlabRef, gone: &mut Gone) {
    // In this order: a thread that has the slab in use lets it go without the lock only when no
    // thread is on its way to it.
    let in_use = slab.listed.load(Relaxed) == IN_USE;
    slab.word().arrive();
    if !in_use {
        unlist(cache, slab);
        relist(cache, slab, gone);
    }
}

/// Puts a slab for which the caller acts into the list it belongs in, as an empty, partial or full
/// one. Under the lock.
fn relist(cache: &Cache, slab: SlabRef, gone: &mut Gone) {
    let used = loop {
        // SAFETY: every caller acts for the slab: it has taken it out of a list or a slot, or the
        // slab has just arrived, and holds the cache's lock.
        unsafe { slab.gather() };
        let used = slab.used.load(Relaxed);
        let level = match used {
            0 => NEVER,
            _ if slab.is_full() => (used / 8).max(1),
            _ => used,
        };
        if slab.word().arm(level) {
            break used;
        }
    };
    if slab.is_full() {
        if cache.ways().has(Ways::TRACKED) {
            slab.listed.store(IN_FULL, Relaxed);
            cache.full.push(slab);
        } else {
            slab.listed.store(IN_NONE, Relaxed);
        }
        return;
    }
    let keep = !cache.is_dead() && cache.nr_partial.load(Relaxed) < MIN_PARTIAL;
    if used == 0 && !keep && !slab.word().is_in_flight() {
        slab.listed.store(IN_NONE, Relaxed);
        gone.slabs.push(slab);
        return;
    }
    slab.listed.store(IN_PARTIAL, Relaxed);
    cache.partial.push(slab);
    let nr_partial = cache.nr_partial.load(Relaxed);
    cache.nr_partial.store(nr_partial + 1, Relaxed);
}
