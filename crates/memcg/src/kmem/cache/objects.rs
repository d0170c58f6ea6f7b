//! The objects of a cache's slab: the meaning of its record, and its free list.
//!
//! In the record of a cache's slab `class` is the cache, `size` the distance of two objects,
//! `extent` the bytes that an object is charged, `held` where in a free object its link lies, and
//! `zeroed` how the cache works. `owner` is 0, so no heap takes the slab for its own. `used` counts
//! the objects that are not on the slab's own list; those that were pushed on its word are among
//! them until they are collected.
//!
//! A link is {next:31, raw:1}, xored with the slab's key. The bit says that the object is *raw*:
//! nobody has had it since the slab was made, so its constructor has not run.
//!
//! *To act for a slab* means one of these: to allocate from it, in a look at the slots of the
//! thread that has it in its slot; to have found it in a list of its cache, whose lock is held; or
//! to have just made it, or taken it out of either.
//!
//! Invariants: one thread at a time acts for a slab.
//! Depends on: `slab` for the record, `shape` for the layout, `slab_word` for frees by others.
//! Never: a constructor; a charge.

use super::Ways;
use super::shape::{RED_ZONE, ZONE_FREE};
use super::slab_word::Word;
use crate::kmem::bad;
use crate::kmem::id::CacheId;
use crate::kmem::layout::UNIT;
use crate::kmem::remote::NONE;
use crate::kmem::slab::{Slab, SlabKind, SlabRef};
use crate::sync::id::Id;
use crate::thread::Tag;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const NO_NEXT: u32 = NONE >> 1;

/// An object just taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its address.
    pub at: usize,
    /// Nobody has had it since its slab was made.
    pub raw: bool,
}

impl Slab {
    /// Makes units a slab of a cache, with `word` as its tag. See `Slab::make_cached`.
    ///
    /// # Safety
    /// `shape.units` units, from this record's on, are mapped and nobody else uses them:
    /// `Spans::alloc` has just answered them.
    pub(super) unsafe fn make_objects(
        &'static self,
        cache: CacheId,
        shape: &super::shape::Shape,
        word: u32,
        ways: Ways,
    ) {
        // SAFETY: the caller promised exactly the units that `make_cached` wants.
        unsafe { self.make_cached(cache, shape.stride, shape.units) };
        self.extent.store(shape.bytes, Relaxed);
        self.held.store(shape.link_at as u32, Relaxed);
        self.tag.store(word, Relaxed);
        self.zeroed.store(ways.0, Relaxed);
        self.word().reset();
        self.set_kind(SlabKind::Cached);
    }

    /// Whether its cache is of the slab kind Slab.
    #[inline(always)]
    pub(super) fn has_magazines(&self) -> bool {
        Ways(self.zeroed.load(Relaxed)).has(Ways::MAGAZINES)
    }

    /// Whether its objects are checked.
    #[inline(always)]
    pub fn is_checked(&self) -> bool {
        Ways(self.zeroed.load(Relaxed)).has(Ways::CHECKED)
    }

    #[inline(always)]
    pub(super) fn word(&self) -> Word<'_> {
        Word(self.remote.word())
    }

    /// Its cache. It changes only while the slab is in a list of a dead cache that keeps its full
    /// slabs in one (`hand_over`).
    #[inline]
    pub fn cache(&self) -> CacheId {
        self.cache_of_number(self.cache_number())
    }

    /// The number of its cache, unchecked. A hit compares it, and finds a thread's slot by it.
    #[inline(always)]
    pub(super) fn cache_number(&self) -> u32 {
        self.class.load(Relaxed)
    }

    /// As [`Self::cache`], for a caller that then looks where the slab is listed.
    pub(super) fn cache_now(&self) -> CacheId {
        // Acquire pairs with the Release of `set_cache`.
        self.cache_of_number(self.class.load(Acquire))
    }

    #[inline]
    fn cache_of_number(&self, number: u32) -> CacheId {
        // No cache has the number 0, so the record was overwritten.
        CacheId::from_raw(number).unwrap_or_else(|| bad::corrupt(self.start()))
    }

    /// Makes it the slab of another cache with the same shape. The caller acts for it, under the
    /// lock of the cache it belonged to.
    pub(super) fn set_cache(&self, cache: CacheId) {
        // Release pairs with the Acquire of `cache_now`: who sees the new cache sees that the slab
        // is in use.
        self.class.store(cache.raw(), Release);
    }

    /// The bytes that each of its objects is charged.
    #[inline(always)]
    pub(super) fn charged_bytes(&self) -> u64 {
        self.extent.load(Relaxed) as u64
    }

    /// The owner of a live object, and the bytes it is charged.
    pub fn owner_and_bytes(&self, offset: u32) -> (Option<Tag>, u64) {
        (self.tag_of(offset), self.charged_bytes())
    }

    #[inline(always)]
    fn link_place(&self, offset: u32) -> *mut u32 {
        (self.start() + offset as usize + self.held.load(Relaxed) as usize) as *mut u32
    }

    /// Where a free object's link leads, and whether the object is raw.
    ///
    /// # Safety
    /// `offset` is that of a free object of this slab which has been linked. The calling thread
    /// acts for the slab, or has collected the object, or nothing changes meanwhile.
    #[inline(always)]
    pub(super) unsafe fn object_link(&self, offset: u32) -> (u32, bool) {
        // SAFETY: the caller promised a free object, so the four bytes at its link's place are the
        // link. `Shape` puts that inside the object's stride, at a multiple of 4.
        let link = unsafe { self.link_place(offset).read() } ^ self.key.load(Relaxed);
        let next = link >> 1;
        (if next == NO_NEXT { NONE } else { next }, link & 1 != 0)
    }

    /// Makes a free object's link lead to `next`.
    ///
    /// # Safety
    /// `offset` is that of an object of this slab which nobody holds and which no other thread can
    /// reach: it is in no list yet, or in one that only the calling thread uses.
    #[inline(always)]
    pub(super) unsafe fn set_object_link(&self, offset: u32, next: u32, raw: bool) {
        let link = (next << 1 | u32::from(raw)) ^ self.key.load(Relaxed);
        // SAFETY: the place lies inside the object's stride, at a multiple of 4, and the caller
        // promised that no other thread uses the object.
        unsafe { self.link_place(offset).write(link) };
    }

    /// Takes `offset`, the first of the list.
    ///
    /// # Safety
    /// The calling thread acts for the slab. `offset` is what `free` says, and below `bytes`.
    #[inline(always)]
    pub(super) unsafe fn pop_free(&self, offset: u32) -> Found {
        // In this order: a thread that is cut off between the two leaks an object and frees none.
        self.used.store(self.used.load(Relaxed) + 1, Relaxed);
        // SAFETY: the first of the list is a free object that was linked, and the caller acts for
        // the slab.
        let (next, raw) = unsafe { self.object_link(offset) };
        self.free.store(next, Relaxed);
        Found {
            at: self.start() + offset as usize,
            raw,
        }
    }

    /// Puts an object on the list.
    ///
    /// # Safety
    /// The calling thread acts for the slab. The object at `offset` is live, and nobody uses it
    /// after this call.
    #[inline(always)]
    pub(super) unsafe fn push_free(&self, offset: u32, raw: bool) {
        // SAFETY: the caller gave up a live object; until `free` names it, below, no other code can
        // reach it.
        unsafe { self.set_object_link(offset, self.free.load(Relaxed), raw) };
        self.free.store(offset, Relaxed);
        self.used.store(self.used.load(Relaxed) - 1, Relaxed);
    }

    /// Whether the slab has an object to take. Links fresh objects or collects what others freed,
    /// if its list is empty.
    ///
    /// # Safety
    /// The calling thread acts for the slab (see the module).
    pub(super) unsafe fn has_room(&self) -> bool {
        let free = self.free.load(Relaxed);
        if free < self.bytes.load(Relaxed) {
            return true;
        }
        if free != NONE {
            bad::corrupt(self.start());
        }
        // SAFETY: the caller acts for the slab, and `free` is NONE, so the list is empty.
        unsafe { self.link_fresh() || self.gather() }
    }

    /// Links a page's worth of the objects that were never handed out. `false`: there are none.
    ///
    /// # Safety
    /// The calling thread acts for the slab, and its list is empty.
    unsafe fn link_fresh(&self) -> bool {
        let (fresh, bytes) = (self.fresh.load(Relaxed), self.bytes.load(Relaxed));
        if fresh >= bytes {
            return false;
        }
        let size = self.size.load(Relaxed);
        let end = bytes.min(fresh + (4096 / size).max(1) * size);
        let link = |at: u32, next: u32| {
            if self.is_checked() {
                // SAFETY: the object was never handed out, so nobody has its address. In a checked
                // cache the RED_ZONE bytes before the link are its red zone.
                unsafe {
                    let zone = self.link_place(at).cast::<u8>().sub(RED_ZONE);
                    zone.write_bytes(ZONE_FREE, RED_ZONE);
                }
            }
            // SAFETY: the object at `at` was never handed out, and the caller, who acts for the
            // slab, has it in no list yet.
            unsafe { self.set_object_link(at, next, true) };
        };
        let mut at = fresh;
        while at + size < end {
            link(at, at + size);
            at += size;
        }
        link(at, NONE);
        self.fresh.store(end, Relaxed);
        self.free.store(fresh, Relaxed);
        true
    }

    /// Takes what others have freed onto the slab's own list. No push is notified from here on.
    /// `true`: there was something.
    ///
    /// # Safety
    /// The calling thread acts for the slab (see the module).
    pub(super) unsafe fn gather(&self) -> bool {
        let Some(found) = self.word().collect() else {
            return false;
        };
        let free = self.free.load(Relaxed);
        if free != NONE {
            // The last of the objects that came is linked to the first of the list.
            let mut last = found.first;
            for _ in 1..found.count {
                // SAFETY: `collect` took these objects off the word, where they were freed and
                // linked, so only this thread can reach them. Each offset was checked to be inside
                // the slab, or came from the word.
                last = unsafe { self.object_link(last) }.0;
                if last >= self.bytes.load(Relaxed) {
                    bad::corrupt(self.start());
                }
            }
            // SAFETY: `last` is one of the collected objects. It has been handed out, so it is raw
            // only if its user freed it without constructing it.
            let raw = unsafe { self.object_link(last) }.1;
            // SAFETY: `last` was collected and is not yet in the slab's list, so only this thread
            // can reach it.
            unsafe { self.set_object_link(last, free, raw) };
        }
        let used = self.used.load(Relaxed);
        if used < found.count {
            bad::corrupt(self.start());
        }
        self.free.store(found.first, Relaxed);
        self.used.store(used - found.count, Relaxed);
        true
    }

    /// Takes an object for `tag` out of a slab that has room. An empty slab gets this tag; another
    /// is made mixed if need be.
    ///
    /// # Safety
    /// The calling thread acts for the slab, and [`Self::has_room`] has just answered `true`.
    pub(super) unsafe fn alloc_object(&self, tag: Option<Tag>, caches: &super::Caches) -> Found {
        if self.used.load(Relaxed) == 0 {
            self.accept(tag, true);
        } else if !self.takes(tag) {
            caches.mixing(|| self.mix_own());
        }
        let offset = self.free.load(Relaxed);
        self.note_tag(offset, tag);
        // SAFETY: the caller acts for the slab, and `has_room` found that `free` is an object
        // inside the slab; nothing has changed since.
        unsafe { self.pop_free(offset) }
    }

    /// Whether its list is empty and no object is left that was never handed out.
    pub(super) fn is_full(&self) -> bool {
        self.free.load(Relaxed) == NONE && self.fresh.load(Relaxed) >= self.bytes.load(Relaxed)
    }

    /// The number of objects handed out at any time.
    pub(super) fn nr_fresh(&self) -> usize {
        self.fresh.load(Relaxed) as usize / self.object_bytes()
    }

    /// Calls `f` with the tag of each object that is on none of the slab's two lists. Nothing
    /// changes meanwhile.
    ///
    /// # Panics
    /// When the lists do not add up.
    pub(super) fn each_listed_live(&self, mut f: impl FnMut(Option<Tag>)) {
        let mut free = [0u64; UNIT / 16 / 64];
        let mut nr_free = 0;
        for first in [self.free.load(Relaxed), self.word().peek().first] {
            let mut at = first;
            while at != NONE {
                assert!(at < self.fresh.load(Relaxed), "a free list leads outside");
                let index = self.index_of(at);
                assert!(free[index / 64] >> (index % 64) & 1 == 0, "freed twice");
                free[index / 64] |= 1 << (index % 64);
                nr_free += 1;
                // SAFETY: `at` is on one of the two lists of free objects, below `fresh`, so it was
                // linked; nothing changes meanwhile.
                at = unsafe { self.object_link(at) }.0;
            }
        }
        let live = self.nr_fresh() - nr_free;
        let held = (self.used.load(Relaxed) - self.word().peek().count) as usize;
        assert_eq!(held, live, "a slab of a cache counts wrong");
        for index in (0..self.nr_fresh()).filter(|i| free[i / 64] >> (i % 64) & 1 == 0) {
            let offset = index * self.object_bytes();
            f(self.tag_of(offset as u32));
        }
    }

    /// The next slab in its cache's list.
    ///
    /// # Safety
    /// The slab is in a list, and the lock of its cache is held.
    pub(super) unsafe fn next_listed(&self) -> Option<SlabRef> {
        // SAFETY: `next` of a listed slab is 0 or a slab in the same list. The lock that the caller
        // holds keeps it listed, so its record is mapped.
        unsafe { (self.next.load(Relaxed) as *const Slab).as_ref() }
    }
}
