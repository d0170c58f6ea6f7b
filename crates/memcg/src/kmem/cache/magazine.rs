//! Slab kind Slab: a magazine of free objects for each thread and cache, an array that the threads
//! share, and slabs behind both.
//!
//! A free puts the object into the freeing thread's magazine, whatever slab it is from; an
//! allocation takes the last one that was put in. Both do so without an atomic instruction. A full
//! magazine gives half to the shared array. An empty one takes half from there, or from slabs,
//! under the lock of the cache. The `reaper` gives back what nobody touches for a while.
//!
//! Invariants: every object has a tag of its own, since a magazine has objects of many slabs. A
//! free object in a magazine or in the array has the tag IDLE, so a second free is found out. A
//! slab's own list changes under the lock of the cache alone, and its word is not used.
//! Depends on: `slots` for the look at a thread's magazine, `own` for the memory of magazines.
//! Never: an object in two places, but for a moment in which its magazine says that it is empty.

use super::Cache;
use super::objects::Found;
use super::slots::{Content, Own, Slot};
use crate::kmem::Kmem;
use crate::kmem::bad::{self, BadFree};
use crate::kmem::id::CacheId;
use crate::kmem::list::List;
use crate::kmem::remote::NONE;
use crate::kmem::slab::{IN_NONE, IN_PARTIAL, MIXED, Slab, SlabRef};
use crate::sync::id::Id;
use crate::thread::Tag;
use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    fence,
};

/// The tag of an object that is in a magazine or in the array.
pub(super) const IDLE: Tag = Tag::new(MIXED - 1);

/// Bytes of a magazine: its capacity, then addresses of objects, of which the lowest bit says raw.
const BYTES: usize = 512;
const MOST: usize = BYTES / size_of::<usize>() - 1;
/// Bytes of the array: as many magazines of the largest capacity.
pub(super) const ARRAY_BYTES: usize = 8 * BYTES;

/// In `nr` of a slot: the magazine was used since the reaper last came by.
pub(super) const TOUCHED: u32 = 1 << 31;

/// Empty slabs a cache keeps until the reaper comes by.
const MOST_EMPTY: u32 = 4;

/// `listed` of a slab.
const IN_FULL: u32 = 3;
const IN_EMPTY: u32 = 4;

/// A few objects on their way from one place to another.
pub(super) struct Batch {
    objects: [usize; MOST],
    nr: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            objects: [0; MOST],
            nr: 0,
        }
    }

    fn push(&mut self, entry: usize) {
        self.objects[self.nr] = entry;
        self.nr += 1;
    }

    fn pop(&mut self) -> Option<usize> {
        self.nr = self.nr.checked_sub(1)?;
        Some(self.objects[self.nr])
    }
}

/// A magazine, or the array: words of memory of this room's own.
#[derive(Clone, Copy)]
pub(super) struct Words(pub(super) usize);

impl Words {
    /// The word `n` of the block.
    ///
    /// # Safety
    /// `n` is below the number of words of the block: 0, or at most the capacity. The block has not
    /// been given back.
    #[inline(always)]
    unsafe fn at(self, n: usize) -> &'static AtomicUsize {
        // SAFETY: `own_alloc` made the block, aligned to 16, and the caller promised that word `n`
        // is in it. Who finds it in a slot inside a look, in `shared` under the lock, or made it,
        // uses it; who takes it out of there gives it back after.
        unsafe { &*(self.0 as *const AtomicUsize).add(n) }
    }

    #[inline(always)]
    pub(super) fn capacity(self) -> usize {
        // SAFETY: each block begins with its capacity, stored before the block was put into a slot
        // or into `shared`; so word 0 is in it.
        unsafe { self.at(0) }.load(Relaxed)
    }

    #[inline(always)]
    pub(super) fn get(self, n: usize) -> usize {
        debug_assert!(n < self.capacity());
        // SAFETY: every caller gives an `n` below the number of objects in the block, which is at
        // most its capacity; the words of that many objects follow the first.
        unsafe { self.at(n + 1) }.load(Relaxed)
    }

    #[inline(always)]
    fn set(self, n: usize, entry: usize) {
        debug_assert!(n < self.capacity());
        // SAFETY: every caller has asked that `n` is below the capacity; the words of that many
        // objects follow the first.
        unsafe { self.at(n + 1) }.store(entry, Relaxed);
    }
}

/// The slab and the offset of the object of an entry, and whether the object is raw.
#[inline(always)]
fn open(entry: usize) -> (SlabRef, u32, bool) {
    // SAFETY: an entry is the address of an object that is out of its slab, in a magazine, the
    // array or a batch. Such a slab is not empty, so its units are in use and the chunk is mapped.
    let slab = unsafe { Slab::of(entry) }.lead();
    let offset = (entry & !1) - slab.start();
    (slab, offset as u32, entry & 1 != 0)
}

/// Objects a magazine of a cache has at most.
fn capacity_of(cache: &Cache) -> usize {
    match cache.shape().stride {
        ..=256 => 60,
        257..=1024 => 32,
        1025..=4096 => 16,
        _ => 8,
    }
}

impl Slot {
    /// The magazine of `cache`, and what is in it.
    #[inline(always)]
    pub(super) fn magazine_of(&self, cache: CacheId) -> Option<(Words, usize)> {
        self.magazine_if(|| self.cache.is(Some(cache), Relaxed))
    }

    /// The magazine of the cache of `slab`, and what is in it.
    #[inline(always)]
    fn magazine_for(&self, slab: &Slab) -> Option<(Words, usize)> {
        self.magazine_if(|| self.cache.load(Relaxed).map_or(0, Id::raw) == slab.cache_number())
    }

    #[inline(always)]
    fn magazine_if(&self, is_its: impl FnOnce() -> bool) -> Option<(Words, usize)> {
        let at = self.at.load(Relaxed);
        if !is_its() || at == 0 {
            return None;
        }
        Some((Words(at), (self.nr.load(Relaxed) & !TOUCHED) as usize))
    }

    /// What is in the magazine; 0 where a slab is.
    pub(super) fn nr_in_magazine(&self) -> usize {
        (self.nr.load(Relaxed) & !TOUCHED) as usize
    }

    #[inline(always)]
    fn set_nr(&self, nr: usize) {
        self.nr.store(nr as u32 | TOUCHED, Relaxed);
    }
}

/// A hit: takes the last object that was put in, if `serves` says so. `None`: nothing was done.
#[inline(always)]
pub(super) fn alloc(
    own: Own<'_>,
    cache: CacheId,
    tag: Option<Tag>,
    serves: impl FnOnce() -> bool,
) -> Option<Found> {
    let busy = own.enter_slots()?;
    let slot = own.slot(cache);
    let (magazine, nr) = slot.magazine_of(cache)?;
    if !serves() {
        return None;
    }
    let last = nr.checked_sub(1)?;
    let (slab, offset, raw) = open(magazine.get(last));
    if let Some(tag) = tag
        && !busy.consume_slab(tag, slab.charged_bytes())
    {
        return None;
    }
    slot.set_nr(last);
    slab.note_tag(offset, tag);
    Some(Found {
        at: slab.start() + offset as usize,
        raw,
    })
}

/// A hit: puts the object into the thread's magazine. `false`: nothing was done.
#[inline(always)]
pub(super) fn free(own: Own<'_>, slab: SlabRef, offset: u32, raw: bool) -> bool {
    let Some(busy) = own.enter_slots() else {
        return false;
    };
    let slot = own.slot_of_slab(slab);
    let Some((magazine, nr)) = slot.magazine_for(slab) else {
        return false;
    };
    let tag = slab.tag_of(offset);
    if tag == Some(IDLE) {
        bad::bad_free(slab.start() + offset as usize, BadFree::Double);
    }
    if nr >= magazine.capacity() {
        return false;
    }
    if let Some(tag) = tag
        && !busy.give_slab(tag, slab.charged_bytes())
    {
        return false;
    }
    slab.note_tag(offset, Some(IDLE));
    magazine.set(nr, (slab.start() + offset as usize) | usize::from(raw));
    slot.set_nr(nr + 1);
    true
}

impl Kmem {
    /// As `alloc_slub`, of a cache with magazines.
    pub(super) fn alloc_from_magazine(
        &self,
        own: Option<Own<'_>>,
        index: CacheId,
        tag: Option<Tag>,
    ) -> Option<Found> {
        let cache = self.caches.get(index);
        if cache.is_dead() {
            return None;
        }
        let want = own.map_or(1, |_| capacity_of(cache) / 2);
        let mut batch = Batch::new();
        self.caches.locked(index, || draw(cache, want, &mut batch));
        if batch.nr == 0 {
            let slab = self.new_slab_of_magazines(cache, index)?;
            let gone = List::default();
            self.caches.locked(index, || {
                list(cache, slab);
                draw(cache, want, &mut batch);
                // The cache may have died since the slab was counted, and the objects may have come
                // from elsewhere.
                if cache.is_dead() && slab.used.load(Relaxed) == 0 {
                    unlist(cache, slab);
                    gone.push(slab);
                }
            });
            self.give_units(cache, index, gone);
        }
        let (slab, offset, raw) = open(batch.pop()?);
        slab.note_tag(offset, tag);
        if let Some(own) = own {
            self.load(own, cache, index, &mut batch);
        }
        self.flush(index, batch);
        Some(Found {
            at: slab.start() + offset as usize,
            raw,
        })
    }

    fn new_slab_of_magazines(&self, cache: &Cache, index: CacheId) -> Option<SlabRef> {
        if !cache.add_slab() {
            return None;
        }
        let shape = cache.shape();
        let Some(span) = self.spans.alloc(shape.units, 1) else {
            self.sub_slab(cache, index);
            return None;
        };
        // SAFETY: `spans.alloc` has just answered this span, so its chunk is mapped, and stays so
        // while the span is in use.
        let slab = unsafe { Slab::of(span.start) };
        // SAFETY: the span has `shape.units` units, just allocated, and nobody else uses them.
        unsafe { slab.make_objects(index, &shape, MIXED, cache.ways()) };
        Some(slab)
    }

    /// Puts what fits of a batch into the thread's magazine. A thread without one gets one.
    fn load(&self, own: Own<'_>, cache: &Cache, index: CacheId, batch: &mut Batch) {
        let slot = own.slot(index);
        let has_one = |slot: &Slot| slot.magazine_of(index).is_some();
        let mut spare = None;
        if !has_one(slot) {
            spare = self.own_alloc(BYTES);
            if let Some(new) = spare {
                // SAFETY: word 0 of a block of BYTES bytes, which `own_alloc` has just made and
                // nobody else has seen.
                unsafe { Words(new.as_ptr() as usize).at(0) }.store(capacity_of(cache), Relaxed);
            }
        }
        let mut before = Content::default();
        if let Some(_slots) = own.enter_slots() {
            if !has_one(slot)
                && !cache.is_dead()
                && let Some(new) = spare.take()
            {
                before = slot.empty();
                slot.fill(Content {
                    cache: Some(index),
                    nr: 0,
                    at: new.as_ptr() as usize,
                });
            }
            if let Some((magazine, mut nr)) = slot.magazine_of(index) {
                while nr < magazine.capacity()
                    && let Some(entry) = batch.pop()
                {
                    magazine.set(nr, entry);
                    nr += 1;
                }
                slot.set_nr(nr);
            }
        }
        if let Some(unused) = spare {
            // SAFETY: `own_alloc` made this block of BYTES bytes above, and it was not put into a
            // slot, so nobody else has seen it.
            unsafe { self.own_free(unused, BYTES) };
        }
        self.leave_slot(before);
    }

    /// Frees an object that was no hit. Its bytes were uncharged before.
    ///
    /// # Safety
    /// The object at `offset` of `slab` is live, and nobody uses it after this call.
    pub(super) unsafe fn free_to_magazine(
        &self,
        own: Option<Own<'_>>,
        slab: SlabRef,
        offset: u32,
        raw: bool,
    ) {
        let index = slab.cache();
        let cache = self.caches.get(index);
        let at = slab.start() + offset as usize;
        if slab.tag_of(offset) == Some(IDLE) {
            bad::bad_free(at, BadFree::Double);
        }
        slab.note_tag(offset, Some(IDLE));
        let mut batch = Batch::new();
        if let Some(own) = own
            && let Some(_slots) = own.enter_slots()
            && let Some((magazine, nr)) = own.slot(index).magazine_of(index)
            && nr == magazine.capacity()
        {
            let half = nr / 2;
            pop_oldest(own.slot(index), magazine, nr, half, &mut batch);
            own.slot(index).set_nr(nr - half);
        }
        self.flush(index, batch);
        let mut batch = Batch::new();
        batch.push(at | usize::from(raw));
        if let Some(own) = own
            && !cache.is_dead()
        {
            self.load(own, cache, index, &mut batch);
        }
        self.flush(index, batch);
    }

    /// Puts a batch into the array, or back into the objects' slabs.
    pub(super) fn flush(&self, index: CacheId, mut batch: Batch) {
        if batch.nr == 0 {
            return;
        }
        let cache = self.caches.get(index);
        let array = self.array_of(cache);
        let mut gone = List::default();
        self.caches.locked(index, || {
            while let Some(entry) = batch.pop() {
                let nr = cache.nr_shared.load(Relaxed) as usize;
                match array {
                    Some(array) if nr < array.capacity() && !cache.is_dead() => {
                        array.set(nr, entry);
                        cache.nr_shared.store((nr + 1) as u32, Relaxed);
                    }
                    _ => free_to_slab(cache, entry, &mut gone),
                }
            }
        });
        self.give_units(cache, index, gone);
    }

    /// The array; made now if the cache has none and is not dead.
    fn array_of(&self, cache: &Cache) -> Option<Words> {
        // Acquire pairs with the Release of the compare_exchange below.
        let at = cache.shared.load(Acquire);
        if at != 0 || cache.is_dead() {
            return (at != 0).then_some(Words(at));
        }
        let new = self.own_alloc(ARRAY_BYTES)?;
        let words = Words(new.as_ptr() as usize);
        // SAFETY: word 0 of a block of ARRAY_BYTES bytes, which `own_alloc` has just made and
        // nobody else has seen.
        unsafe { words.at(0) }.store(8 * capacity_of(cache), Relaxed);
        // Release pairs with the Acquire, here and at the head of this function, of a thread that
        // finds the array: its capacity.
        match cache.shared.compare_exchange(0, words.0, AcqRel, Acquire) {
            Ok(_) => Some(words),
            Err(other) => {
                // SAFETY: `own_alloc` made this block of ARRAY_BYTES bytes; the other thread's won,
                // so nobody else has seen this one.
                unsafe { self.own_free(new, ARRAY_BYTES) };
                Some(Words(other))
            }
        }
    }

    /// Gives back the array of a cache that has ended, if a thread made one while the cache died.
    pub(super) fn forget_array(&self, index: CacheId) {
        let array = self.caches.get(index).shared.swap(0, Relaxed);
        if let Some(block) = NonNull::new(array as *mut u8) {
            // SAFETY: `array_of` made it, of ARRAY_BYTES bytes, and the swap has taken it out of
            // the cache, which has ended three epochs ago: nobody looks at it.
            unsafe { self.own_free(block, ARRAY_BYTES) };
        }
    }

    /// What was in a slot: flushes its objects and gives the magazine's memory back.
    pub(super) fn leave_magazine(&self, index: CacheId, content: Content) {
        let magazine = Words(content.at);
        let mut batch = Batch::new();
        for n in 0..(content.nr & !TOUCHED) as usize {
            batch.push(magazine.get(n));
        }
        self.flush(index, batch);
        if let Some(block) = NonNull::new(content.at as *mut u8) {
            // SAFETY: `load` put this block of BYTES bytes into the slot, and `Slot::empty` has
            // taken it out inside a look or a drain: only this content names it.
            unsafe { self.own_free(block, BYTES) };
        }
    }
}

/// Moves the oldest `most` objects of a magazine into a batch; the others move down, and the caller
/// then stores how many they are. Until then the magazine says that it is empty. It may be found
/// cut off, in the child of a fork or after a jump out of a signal handler, and an object that is
/// in two places of it would be handed out twice.
pub(super) fn pop_oldest(slot: &Slot, magazine: Words, nr: usize, most: usize, batch: &mut Batch) {
    slot.nr.store(0, Relaxed);
    // Pairs with no load of a thread: it orders the count before the moves for a copy of the memory
    // (the child of a fork) and for a signal handler of this thread.
    fence(Release);
    for n in 0..nr {
        match n.checked_sub(most) {
            None => batch.push(magazine.get(n)),
            Some(to) => magazine.set(to, magazine.get(n)),
        }
    }
    // Pairs with no load of a thread either: the moves come before the count that the caller
    // stores.
    fence(Release);
}

/// Draws up to `want` objects: out of the array, then partial slabs, then empty ones. Under the
/// lock.
fn draw(cache: &Cache, want: usize, batch: &mut Batch) {
    let array = Words(cache.shared.load(Relaxed));
    while array.0 != 0 && batch.nr < want {
        let Some(last) = cache.nr_shared.load(Relaxed).checked_sub(1) else {
            break;
        };
        batch.push(array.get(last as usize));
        cache.nr_shared.store(last, Relaxed);
    }
    while batch.nr < want {
        let Some(slab) = cache.partial.first().or_else(|| cache.empty.first()) else {
            return;
        };
        // SAFETY: the slab was found in a list of the cache whose lock is held, so this thread may
        // touch it.
        while batch.nr < want && unsafe { slab.has_room() } {
            let offset = slab.free.load(Relaxed);
            slab.note_tag(offset, Some(IDLE));
            // SAFETY: the lock is still held, and `has_room` has just said that `free` is an object
            // inside the slab.
            let found = unsafe { slab.pop_free(offset) };
            batch.push(found.at | usize::from(found.raw));
        }
        unlist(cache, slab);
        list(cache, slab);
    }
}

/// Puts an object back into its slab. Under the lock.
pub(super) fn free_to_slab(cache: &Cache, entry: usize, gone: &mut List) {
    let (slab, offset, raw) = open(entry);
    unlist(cache, slab);
    // SAFETY: the lock of the slab's cache is held, which alone changes lists of such slabs. The
    // entry was taken out of a magazine, the array or a batch, so nobody else has the object.
    unsafe { slab.push_free(offset, raw) };
    let is_empty = slab.used.load(Relaxed) == 0;
    if is_empty && (cache.is_dead() || cache.nr_empty.load(Relaxed) >= MOST_EMPTY) {
        gone.push(slab);
    } else {
        list(cache, slab);
    }
}

/// Puts a slab in the list it belongs in. Under the lock.
fn list(cache: &Cache, slab: SlabRef) {
    let used = slab.used.load(Relaxed);
    let full = slab.free.load(Relaxed) == NONE && slab.is_full();
    let (listed, list) = match used {
        0 => (IN_EMPTY, &cache.empty),
        _ if full => (IN_FULL, &cache.full),
        _ => (IN_PARTIAL, &cache.partial),
    };
    slab.listed.store(listed, Relaxed);
    list.push(slab);
    if listed == IN_EMPTY {
        cache
            .nr_empty
            .store(cache.nr_empty.load(Relaxed) + 1, Relaxed);
    }
}

/// Takes a slab out of its list. Under the lock.
pub(super) fn unlist(cache: &Cache, slab: SlabRef) {
    match slab.listed.load(Relaxed) {
        IN_EMPTY => {
            cache.empty.remove(slab);
            cache
                .nr_empty
                .store(cache.nr_empty.load(Relaxed) - 1, Relaxed);
        }
        IN_FULL => cache.full.remove(slab),
        IN_PARTIAL => cache.partial.remove(slab),
        _ => {}
    }
    slab.listed.store(IN_NONE, Relaxed);
}
