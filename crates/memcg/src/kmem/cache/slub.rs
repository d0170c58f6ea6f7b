//! Slab kind Slub: free lists in the slabs, a slab per thread, partial slabs listed, full ones
//! nobody's.
//!
//! A full slab is in no list. The free that makes an eighth of it free puts it among the returned
//! ones, without a lock; whoever needs a slab next looks there. A partial slab's last free sees to
//! it that it goes, unless few are kept. A cache with [`Ways::TRACKED`] has its full slabs in a
//! list as well: then both take the lock.

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

/// Returned slabs that may wait for somebody who needs one.
const MOST_RETURNED: u32 = 8;

/// Partial slabs looked at for one of the right tag.
const LOOK_FOR_TAG: usize = 4;

impl Kmem {
    /// Takes an object of a cache for `tag`, charged already, or for nobody. `None`: the kernel
    /// gives no memory, or the cache is dead. `own` is the calling thread's, if it has any.
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
            // SAFETY: out of every list, so ours alone.
            if !unsafe { slab.has_room() } {
                spare = self.fill_cached(cache, index, slab);
                continue;
            }
            // SAFETY: as above.
            let found = unsafe { slab.alloc_object(tag, &self.caches) };
            match own {
                Some(own) => self.install(own, cache, index, slab),
                None => self.relist_slab(cache, index, slab),
            }
            return Some(found);
        }
    }

    /// From the slab in the thread's slot. `Err`: what was freed into it while it was taken out,
    /// being full; it is ours now.
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
            // SAFETY: the slab of the thread's slot, in a look.
            if unsafe { slab.has_room() } {
                // SAFETY: as above.
                return Some(Ok(unsafe { slab.alloc_object(tag, &self.caches) }));
            }
            slot.empty();
            slab
        };
        self.fill_cached(cache, index, full).map(Err)
    }

    /// Lets go of a slab of ours that is used up. Answers it if something has been freed into it
    /// meanwhile: it is ours still.
    fn fill_cached(&self, cache: &Cache, index: CacheId, slab: SlabRef) -> Option<SlabRef> {
        let level = (slab.used.load(Relaxed) / 8).max(1);
        let tracked = cache.ways().has(Ways::TRACKED);
        // Who is on his way to it looks where it is, under the lock, before he says that he is
        // there.
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
        // From here to the end nobody can be on his way: nothing is told until it is armed.
        slab.listed.store(IN_NONE, Relaxed);
        if slab.word().arm(level) {
            return None;
        }
        slab.listed.store(IN_USE, Relaxed);
        Some(slab)
    }

    /// Puts a slab of ours that has room into the thread's slot, or where others find it.
    fn install(&self, own: Own<'_>, cache: &Cache, index: CacheId, slab: SlabRef) {
        let content = Content {
            cache: Some(index),
            nr: 0,
            at: slab.address(),
        };
        let slot = own.slot(index);
        let before = own.enter_slots().map(|_slots| {
            if slot.slab_of(index).is_some() || cache.is_dead() {
                // A signal handler was here first.
                return content;
            }
            let before = slot.empty();
            slot.fill(content);
            before
        });
        self.leave_slot(before.unwrap_or(content));
    }

    /// A slab that was in a slot goes back to its cache.
    pub(super) fn leave_slab(&self, index: CacheId, content: Content) {
        // SAFETY: it was put there by `install`, and belongs to who has taken it out.
        let slab = unsafe { &*(content.at as *const Slab) };
        self.relist_slab(self.caches.get(index), index, slab);
    }

    /// A slab with room, or a new one: ours, in no list.
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
                // SAFETY: ours now, under the lock: out of the list.
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
        // SAFETY: the first unit of a span just allocated.
        unsafe {
            Slab::begin_schedule(span.start);
        }
        // SAFETY: the first unit of a span just allocated.
        let slab = unsafe { Slab::of(span.start) };
        // SAFETY: as above.
        unsafe { slab.make_objects(index, &shape, Tag::to_word(tag), cache.ways()) };
        slab.listed.store(IN_USE, Relaxed);
        Some(slab)
    }

    /// Puts a slab of ours where it belongs.
    pub(super) fn relist_slab(&self, cache: &Cache, index: CacheId, slab: SlabRef) {
        let mut gone = Gone::default();
        self.caches.locked(index, || relist(cache, slab, &mut gone));
        self.give_units(cache, index, gone.slabs);
    }

    /// Frees an object that was uncharged, into a slab that is not in the thread's slot.
    ///
    /// # Safety
    /// The object at `offset` is live and ends here.
    unsafe fn free_slub(&self, slab: SlabRef, offset: u32, raw: bool) {
        let index = slab.cache();
        let pushed = slab.word().push(offset, |next| {
            // SAFETY: the object is the caller's until it is published.
            unsafe { slab.set_object_link(offset, next, raw) };
        });
        if pushed == Pushed::Notify {
            self.see_to(index, slab);
        }
    }

    /// A slab in flight, which we are to see to.
    #[cold]
    fn see_to(&self, index: CacheId, slab: SlabRef) {
        let cache = self.caches.get(index);
        // In flight, so it is not gone; whose it is may change any moment.
        let was_full = slab.listed.load(Relaxed) == IN_NONE;
        if was_full && !cache.is_dead() {
            cache.returned.push(slab);
            let many = cache.nr_returned.fetch_add(1, Relaxed) >= MOST_RETURNED;
            // Pairs with `die`: we see that it is dead, or `bury` finds the slab.
            let dead = cache.is_dead_surely();
            if !many && !dead {
                return;
            }
            self.collect_all_returned(cache, index);
            return;
        }
        self.arrive_where_it_is(slab);
    }

    /// A slab in flight, which is not gone before it arrives: to where it belongs, in the cache it
    /// is of by now.
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

    /// Looks at the returned slabs. Under the lock.
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

    /// What was taken out under the lock: units of empty slabs are given back, and what is another
    /// cache's by now arrives there.
    fn give_up(&self, cache: &Cache, index: CacheId, gone: Gone) {
        self.give_units(cache, index, gone.slabs);
        gone.elsewhere.pop_all(|slab| self.arrive_where_it_is(slab));
    }

    /// Gives back what is empty, and looks at what waits. It cannot fail.
    pub(super) fn shrink_slub(&self, index: CacheId) {
        let cache = self.caches.get(index);
        let mut gone = Gone::default();
        self.caches.locked(index, || {
            self.collect_returned(cache, index, &mut gone);
            let mut next = cache.partial.first();
            while let Some(slab) = next {
                // SAFETY: listed, under the lock; read before it may go.
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

    /// Frees an object that was no hit, and was uncharged since.
    ///
    /// # Safety
    /// The object at `offset` is live, uncharged, and ends here.
    pub(super) unsafe fn free_to_slot(
        &self,
        own: Option<Own<'_>>,
        slab: SlabRef,
        offset: u32,
        raw: bool,
    ) {
        // It may have lacked room in stock only.
        if let Some(own) = own
            && let Some(_slots) = own.enter_slots()
            && own.slot(slab.cache()).at.load(Relaxed) == slab.address()
        {
            // SAFETY: the slab of the thread's slot, in a look; the caller's.
            unsafe { slab.push_free(offset, raw) };
            return;
        }
        // SAFETY: the caller's; uncharged.
        unsafe { self.free_slub(slab, offset, raw) };
    }
}

/// Slabs to be given back once the lock is let go.
#[derive(Default)]
struct Gone {
    slabs: List,
    /// In flight, and another cache's.
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

/// A slab that was in flight: to where it belongs, unless somebody has it in use. Under the lock.
fn arrive(cache: &Cache, slab: SlabRef, gone: &mut Gone) {
    // In this order: who has it in use lets it go without the lock only while nobody is on his way.
    let in_use = slab.listed.load(Relaxed) == IN_USE;
    slab.word().arrive();
    if !in_use {
        unlist(cache, slab);
        relist(cache, slab, gone);
    }
}

/// A slab that is ours, under the lock: empty, partial or full, as it turns out.
fn relist(cache: &Cache, slab: SlabRef, gone: &mut Gone) {
    let used = loop {
        // SAFETY: ours.
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
