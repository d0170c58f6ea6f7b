//! Slab kind Slab: a magazine of free objects per thread and cache, an array the threads share,
//! slabs behind both.
//!
//! A free puts the object into the freeing thread's magazine, whoever's slab it is from, and an
//! allocation takes the last one in: both without an atomic instruction. A full magazine gives half
//! to the shared array, an empty one takes half from there, or from slabs, under the lock of the
//! cache. What nobody touches for a while goes back (`reaper`).
//!
//! Every object has a tag of its own, since a magazine's are of many slabs; that of a free object
//! in a magazine or in the array says so, and a second free is found out. A slab's own list is
//! changed under the lock alone, its word not used.

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

/// The tag of what is in a magazine or the array.
pub(super) const IDLE: Tag = Tag::new(MIXED - 1);

/// Bytes of a magazine: its capacity, then addresses of objects, the lowest bit of which says raw.
const BYTES: usize = 512;
const MOST: usize = BYTES / size_of::<usize>() - 1;
/// Bytes of the array: as many magazines of the largest capacity.
pub(super) const ARRAY_BYTES: usize = 8 * BYTES;

/// In `nr` of a slot: used since the reaper came by.
pub(super) const TOUCHED: u32 = 1 << 31;

/// Empty slabs a cache keeps until the reaper comes by.
const MOST_EMPTY: u32 = 4;

/// `listed` of a slab.
const IN_FULL: u32 = 3;
const IN_EMPTY: u32 = 4;

/// A few objects on their way.
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
    /// # Safety
    /// The word is in the block.
    #[inline(always)]
    unsafe fn at(self, n: usize) -> &'static AtomicUsize {
        // SAFETY: the caller's; blocks are aligned and live until who has taken them out gives them
        // back.
        unsafe { &*(self.0 as *const AtomicUsize).add(n) }
    }

    #[inline(always)]
    pub(super) fn capacity(self) -> usize {
        // SAFETY: the first word of any.
        unsafe { self.at(0) }.load(Relaxed)
    }

    #[inline(always)]
    pub(super) fn get(self, n: usize) -> usize {
        debug_assert!(n < self.capacity());
        // SAFETY: below the capacity.
        unsafe { self.at(n + 1) }.load(Relaxed)
    }

    #[inline(always)]
    fn set(self, n: usize, entry: usize) {
        debug_assert!(n < self.capacity());
        // SAFETY: below the capacity.
        unsafe { self.at(n + 1) }.store(entry, Relaxed);
    }
}

/// The slab and the offset of an entry's object, and whether it is raw.
#[inline(always)]
fn open(entry: usize) -> (SlabRef, u32, bool) {
    // SAFETY: entries are addresses of objects of slabs, which stay as long as an object of theirs
    // is out.
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

/// A hit: the last object in, if the cache `serves`. `None`: nothing was done.
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

/// A hit: into the thread's magazine. `false`: nothing was done.
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
                // It may have died since the slab was counted, and what was needed may have come
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
        // SAFETY: the first unit of a span just allocated.
        let slab = unsafe { Slab::of(span.start) };
        // SAFETY: as above.
        unsafe { slab.make_objects(index, &shape, MIXED, cache.ways()) };
        Some(slab)
    }

    /// Puts what fits of a batch into the thread's magazine, which it gets if it has none.
    fn load(&self, own: Own<'_>, cache: &Cache, index: CacheId, batch: &mut Batch) {
        let slot = own.slot(index);
        let has_one = |slot: &Slot| slot.magazine_of(index).is_some();
        let mut spare = None;
        if !has_one(slot) {
            spare = self.own_alloc(BYTES);
            if let Some(new) = spare {
                // SAFETY: the first word of a block nobody has seen.
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
            // SAFETY: of `own_alloc`, never installed.
            unsafe { self.own_free(unused, BYTES) };
        }
        self.leave_slot(before);
    }

    /// Frees an object that was no hit, and was uncharged since.
    ///
    /// # Safety
    /// The object at `offset` is live and ends here.
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

    /// A batch goes to the array, or to its slabs.
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

    /// The array, made now if there is none.
    fn array_of(&self, cache: &Cache) -> Option<Words> {
        let at = cache.shared.load(Acquire);
        if at != 0 || cache.is_dead() {
            return (at != 0).then_some(Words(at));
        }
        let new = self.own_alloc(ARRAY_BYTES)?;
        let words = Words(new.as_ptr() as usize);
        // SAFETY: the first word of a block nobody has seen.
        unsafe { words.at(0) }.store(8 * capacity_of(cache), Relaxed);
        // AcqRel: its capacity is seen by who finds it.
        match cache.shared.compare_exchange(0, words.0, AcqRel, Acquire) {
            Ok(_) => Some(words),
            Err(other) => {
                // SAFETY: of `own_alloc`, seen by nobody.
                unsafe { self.own_free(new, ARRAY_BYTES) };
                Some(Words(other))
            }
        }
    }

    /// The array of a cache that has ended, if somebody made one as it died.
    pub(super) fn forget_array(&self, index: CacheId) {
        let array = self.caches.get(index).shared.swap(0, Relaxed);
        if let Some(block) = NonNull::new(array as *mut u8) {
            // SAFETY: of `array_of`, of a cache that nobody looks at any more.
            unsafe { self.own_free(block, ARRAY_BYTES) };
        }
    }

    /// What was in a slot: its objects go on, its magazine ends.
    pub(super) fn leave_magazine(&self, index: CacheId, content: Content) {
        let magazine = Words(content.at);
        let mut batch = Batch::new();
        for n in 0..(content.nr & !TOUCHED) as usize {
            batch.push(magazine.get(n));
        }
        self.flush(index, batch);
        if let Some(block) = NonNull::new(content.at as *mut u8) {
            // SAFETY: installed by `load`, taken out by the caller.
            unsafe { self.own_free(block, BYTES) };
        }
    }
}

/// Moves the oldest `most` of a magazine into a batch; the others move down, and the caller says
/// then how many they are. Until then it is empty for who finds it cut off, in the child of a fork
/// or after a jump out of a signal handler: an object that is in two places of it would be given
/// out twice.
pub(super) fn pop_oldest(slot: &Slot, magazine: Words, nr: usize, most: usize, batch: &mut Batch) {
    slot.nr.store(0, Relaxed);
    // Before what follows, also for a child's copy of the memory.
    fence(Release);
    for n in 0..nr {
        match n.checked_sub(most) {
            None => batch.push(magazine.get(n)),
            Some(to) => magazine.set(to, magazine.get(n)),
        }
    }
    // The same for what the caller stores.
    fence(Release);
}

/// Draws up to `want` objects: of the array, of partial slabs, of empty ones. Under the lock.
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
        // SAFETY: in a list, under the lock.
        while batch.nr < want && unsafe { slab.has_room() } {
            let offset = slab.free.load(Relaxed);
            slab.note_tag(offset, Some(IDLE));
            // SAFETY: as above.
            let found = unsafe { slab.pop_free(offset) };
            batch.push(found.at | usize::from(found.raw));
        }
        unlist(cache, slab);
        list(cache, slab);
    }
}

/// An object goes back to its slab. Under the lock.
pub(super) fn free_to_slab(cache: &Cache, entry: usize, gone: &mut List) {
    let (slab, offset, raw) = open(entry);
    unlist(cache, slab);
    // SAFETY: under the lock; the object is nobody's.
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
