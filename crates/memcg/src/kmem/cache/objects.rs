//! The objects of a cache's slab: its record, its free list.
//!
//! The record is that of any unit. Of a cache's slab `class` is the cache, `size` the distance of
//! two objects, `extent` the bytes that an object is charged, `held` where in a free object its
//! link lies, `zeroed` how the cache works; `owner` is nobody, so no heap takes it for its own.
//! `used` is what is not on the slab's own list; what was pushed on its word is among it until it
//! is collected.
//!
//! A link is {next:31, raw:1}, xored with the slab's key. Raw is the object that it lies in: nobody
//! has had it since the slab was made, so its constructor has not run.
//!
//! Who may touch it: the thread that allocates from the slab, in a look at its slots; or whoever
//! holds the lock of the cache and found it in a list; or who has just made it, or taken it out of
//! either.

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
    /// Nobody has had it before.
    pub raw: bool,
}

impl Slab {
    /// Makes units a slab of a cache: see `Slab::make_cached`.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn make_objects(
        &'static self,
        cache: CacheId,
        shape: &super::shape::Shape,
        word: u32,
        ways: Ways,
    ) {
        // SAFETY: the caller's.
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

    /// Its cache. It may change only while the slab is in a list of a dead cache that keeps its
    /// full slabs in one (`hand_over`).
    #[inline]
    pub fn cache(&self) -> CacheId {
        self.cache_of_number(self.cache_number())
    }

    /// The number of its cache, unchecked: a hit compares it, and finds a thread's slot by it.
    #[inline(always)]
    pub(super) fn cache_number(&self) -> u32 {
        self.class.load(Relaxed)
    }

    /// The same for who goes on to look where it is listed.
    pub(super) fn cache_now(&self) -> CacheId {
        // Acquire pairs with the Release of `set_cache`.
        self.cache_of_number(self.class.load(Acquire))
    }

    #[inline]
    fn cache_of_number(&self, number: u32) -> CacheId {
        // No cache has the number 0: the record was overwritten.
        CacheId::from_raw(number).unwrap_or_else(|| bad::corrupt(self.start()))
    }

    /// Makes it another cache's, of the same shape. Under the lock of the one it is of, the slab
    /// being ours.
    pub(super) fn set_cache(&self, cache: CacheId) {
        // Release: who sees the cache sees that it is in use.
        self.class.store(cache.raw(), Release);
    }

    /// What one of its objects is charged.
    #[inline(always)]
    pub(super) fn charged_bytes(&self) -> u64 {
        self.extent.load(Relaxed) as u64
    }

    /// Whose a live object is, and what it is charged.
    pub fn owner_and_bytes(&self, offset: u32) -> (Option<Tag>, u64) {
        (self.tag_of(offset), self.charged_bytes())
    }

    #[inline(always)]
    fn link_place(&self, offset: u32) -> *mut u32 {
        (self.start() + offset as usize + self.held.load(Relaxed) as usize) as *mut u32
    }

    /// Where a free object leads, and whether it is raw.
    ///
    /// # Safety
    /// `offset` is a free object's of this slab.
    #[inline(always)]
    pub(super) unsafe fn object_link(&self, offset: u32) -> (u32, bool) {
        // SAFETY: the link of a free object is the list's.
        let link = unsafe { self.link_place(offset).read() } ^ self.key.load(Relaxed);
        let next = link >> 1;
        (if next == NO_NEXT { NONE } else { next }, link & 1 != 0)
    }

    /// Makes a free object lead to `next`.
    ///
    /// # Safety
    /// As [`Self::object_link`], the object not yet in a list others see.
    #[inline(always)]
    pub(super) unsafe fn set_object_link(&self, offset: u32, next: u32, raw: bool) {
        let link = (next << 1 | u32::from(raw)) ^ self.key.load(Relaxed);
        // SAFETY: as above.
        unsafe { self.link_place(offset).write(link) };
    }

    /// Takes `offset`, the first of the list.
    ///
    /// # Safety
    /// Who may touch the slab; `offset` is what `free` says, and in the slab.
    #[inline(always)]
    pub(super) unsafe fn pop_free(&self, offset: u32) -> Found {
        // In this order: cut off between the two, it leaks an object and frees none.
        self.used.store(self.used.load(Relaxed) + 1, Relaxed);
        // SAFETY: on the list, so free.
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
    /// Who may touch the slab; the object is live and ends here.
    #[inline(always)]
    pub(super) unsafe fn push_free(&self, offset: u32, raw: bool) {
        // SAFETY: the object is the caller's until it is on the list.
        unsafe { self.set_object_link(offset, self.free.load(Relaxed), raw) };
        self.free.store(offset, Relaxed);
        self.used.store(self.used.load(Relaxed) - 1, Relaxed);
    }

    /// Whether it has an object, or had one when it last was looked at. Collects what others freed,
    /// if its list is empty.
    ///
    /// # Safety
    /// Who may touch the slab.
    pub(super) unsafe fn has_room(&self) -> bool {
        let free = self.free.load(Relaxed);
        if free < self.bytes.load(Relaxed) {
            return true;
        }
        if free != NONE {
            bad::corrupt(self.start());
        }
        // SAFETY: the caller's, the list empty.
        unsafe { self.link_fresh() || self.gather() }
    }

    /// Links a page's worth of the objects that were never handed out. `false` when there are none.
    ///
    /// # Safety
    /// Who may touch the slab, the list empty.
    unsafe fn link_fresh(&self) -> bool {
        let (fresh, bytes) = (self.fresh.load(Relaxed), self.bytes.load(Relaxed));
        if fresh >= bytes {
            return false;
        }
        let size = self.size.load(Relaxed);
        let end = bytes.min(fresh + (4096 / size).max(1) * size);
        let link = |at: u32, next: u32| {
            if self.is_checked() {
                // SAFETY: never handed out, so nobody's; the red zone ends where the link begins.
                unsafe {
                    let zone = self.link_place(at).cast::<u8>().sub(RED_ZONE);
                    zone.write_bytes(ZONE_FREE, RED_ZONE);
                }
            }
            // SAFETY: as above.
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

    /// Takes what others have freed, and is told of nothing from here on. `true` if there was any.
    ///
    /// # Safety
    /// Who may touch the slab.
    pub(super) unsafe fn gather(&self) -> bool {
        let Some(found) = self.word().collect() else {
            return false;
        };
        let free = self.free.load(Relaxed);
        if free != NONE {
            // The last of what came must lead to what was there.
            let mut last = found.first;
            for _ in 1..found.count {
                // SAFETY: free objects, the caller's since collected.
                last = unsafe { self.object_link(last) }.0;
                if last >= self.bytes.load(Relaxed) {
                    bad::corrupt(self.start());
                }
            }
            // SAFETY: as above. What has been freed has been somebody's, so it is not raw, or was
            // left so for good reason.
            let raw = unsafe { self.object_link(last) }.1;
            // SAFETY: as above.
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

    /// Takes an object for `tag` out of a slab that has room: renames the slab if it is empty,
    /// gives each object a tag of its own if it must.
    ///
    /// # Safety
    /// Who may touch the slab; [`Self::has_room`] said so.
    pub(super) unsafe fn alloc_object(&self, tag: Option<Tag>, caches: &super::Caches) -> Found {
        if self.used.load(Relaxed) == 0 {
            self.accept(tag, true);
        } else if !self.takes(tag) {
            caches.mixing(|| self.mix_own());
        }
        let offset = self.free.load(Relaxed);
        self.note_tag(offset, tag);
        // SAFETY: the caller's; `has_room` saw the first of the list in the slab.
        unsafe { self.pop_free(offset) }
    }

    /// Whether its list, and what was never handed out, are used up.
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
                // SAFETY: a free object; nothing changes meanwhile.
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

    /// The next in its cache's list.
    ///
    /// # Safety
    /// It is in a list, under the lock of the cache.
    pub(super) unsafe fn next_listed(&self) -> Option<SlabRef> {
        // SAFETY: the caller's.
        unsafe { (self.next.load(Relaxed) as *const Slab).as_ref() }
    }
}
