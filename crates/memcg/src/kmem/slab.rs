//! A slab: objects of one size in one or eight units, its free list, its record.
//!
//! The free list runs through the free objects: the first four bytes of each are the offset of the
//! next, xored with the slab's key, so a write after free leads to an offset outside the slab
//! nearly always, and that ends the process at the next look. Objects behind `fresh` have never
//! been linked and are not touched until they are.
//!
//! Who may touch what, when:
//!
//! * the first line is the owner's (the thread of the heap in `owner`), in a heap section. Others
//!   may read `owner`, `start`, `size`, `bytes`, `kind` of a slab in which they hold an object, and
//!   `tag` with Acquire.
//! * `remote` is everybody's, by its own rules (`remote`).
//! * `next`, `prev`, `listed`, `held` are the owner's; `returned` belongs to who has the slab in
//!   flight.
//!
//! `used` is one more than its objects for the slab a heap allocates from, so that the last free
//! there is like any other; and it is 1, with the truth in `held`, for a full slab in no list, so
//! that the first free is one of the rare ones.

use super::class;
use super::id::CacheId;
use super::layout;
use super::remote::{NONE, Remote};
use crate::sync::atomic;
use crate::sync::id::Id;
use crate::thread::Tag;
use core::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// What the unit of a record begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum SlabKind {
    /// Nothing.
    Free = 0,
    /// A slab of objects.
    Objects = 1,
    /// One object of whole pages, in units of its chunk.
    Large = 2,
    /// One object of whole pages, in a mapping of its own.
    Huge = 3,
    /// The inside of a slab of many units: `back` units behind its record.
    Inside = 4,
    /// A slab of a kmem cache: `cache::objects` says what its fields are.
    Cached = 5,
}

/// `tag` of a slab whose objects have each their own: above every tag there can be.
pub const MIXED: u32 = u32::MAX;

/// In which of its heap's lists a slab is.
pub const IN_NONE: u32 = 0;
/// Has room, waits for its turn.
pub const IN_PARTIAL: u32 = 1;
/// Is allocated from.
pub const IN_USE: u32 = 2;

/// Offset in a slab, as the reciprocal of `size` finds the object's number.
const RECIPROCAL_SHIFT: u32 = 40;

/// Where the record of a heap is: what a slab knows of its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeapAt(pub(super) usize);

/// The record of a slab. Zero bytes: a free unit.
#[derive(Default)]
#[repr(C, align(128))]
pub struct Slab {
    pub(super) owner: AtomicUsize,
    pub(super) start: AtomicUsize,
    pub(super) free: AtomicU32,
    pub(super) used: AtomicU32,
    pub(super) bytes: AtomicU32,
    pub(super) size: AtomicU32,
    pub(super) tag: AtomicU32,
    pub(super) key: AtomicU32,
    reciprocal: AtomicU64,
    pub(super) fresh: AtomicU32,
    kind: AtomicU32,
    pub(super) class: AtomicU32,

    pub(super) remote: Remote,
    pub(super) next: AtomicUsize,
    pub(super) prev: AtomicUsize,
    pub(crate) returned: atomic::AtomicUsize,
    /// Bytes of a large or huge object.
    pub(super) extent: AtomicUsize,
    pub(super) listed: AtomicU32,
    /// The objects of a full slab that are held; the units of a large extent.
    pub(super) held: AtomicU32,
    /// Units from the slab's record, for [`SlabKind::Inside`].
    back: AtomicU32,
    /// The units were zero when the slab was made: what is behind `fresh` still is.
    pub(super) zeroed: AtomicU32,
}

const _: () = assert!(size_of::<Slab>() == layout::RECORD);
const _: () = assert!(core::mem::offset_of!(Slab, remote) == 64);

/// A slab. Its record stays mapped while any object, list or flight leads to it, and nothing else
/// may.
pub type SlabRef = &'static Slab;

impl Slab {
    /// The record of the unit of an address.
    ///
    /// # Safety
    /// The address is in a mapped chunk.
    #[inline(always)]
    pub unsafe fn of(at: usize) -> SlabRef {
        // SAFETY: the caller's: the chunk's first unit is mapped, and zero bytes are a record.
        unsafe { &*(layout::record_of(at) as *const Slab) }
    }

    /// What it is.
    #[inline]
    pub fn kind(&self) -> SlabKind {
        // Acquire pairs with the Release of `set_kind`.
        match self.kind.load(Acquire) {
            1 => SlabKind::Objects,
            2 => SlabKind::Large,
            3 => SlabKind::Huge,
            4 => SlabKind::Inside,
            5 => SlabKind::Cached,
            _ => SlabKind::Free,
        }
    }

    pub(super) fn set_kind(&self, kind: SlabKind) {
        // Release pairs with the Acquire of `kind`: the record is whole.
        self.kind.store(kind as u32, Release);
    }

    #[inline(always)]
    pub(super) fn address(&self) -> usize {
        core::ptr::from_ref(self) as usize
    }

    /// The address of its first object.
    #[inline(always)]
    pub fn start(&self) -> usize {
        self.start.load(Relaxed)
    }

    /// Bytes an object may use, and is charged.
    #[inline(always)]
    pub fn object_bytes(&self) -> usize {
        self.size.load(Relaxed) as usize
    }

    #[inline(always)]
    pub(super) fn is_of(&self, heap: HeapAt) -> bool {
        self.owner.load(Relaxed) == heap.0
    }

    pub(super) fn set_owner(&self, heap: HeapAt) {
        self.owner.store(heap.0, Relaxed);
    }

    /// Makes the units of this record a slab of `class`, empty, owned by `heap`.
    ///
    /// # Safety
    /// The units of the class, from this record's on, are free and the caller's; zero if `zeroed`.
    pub(super) unsafe fn make(
        &'static self,
        heap: HeapAt,
        class: usize,
        tag: Option<Tag>,
        zeroed: bool,
    ) {
        let size = class::bytes_of(class);
        let units = class::units_of(class);
        let start = layout::start_of(self.address());
        self.start.store(start, Relaxed);
        self.size.store(size as u32, Relaxed);
        self.bytes
            .store((units * layout::UNIT / size * size) as u32, Relaxed);
        let reciprocal = (1u64 << RECIPROCAL_SHIFT).div_ceil(size as u64);
        self.reciprocal.store(reciprocal, Relaxed);
        self.class.store(class as u32, Relaxed);
        self.key.store(key_of(start), Relaxed);
        self.set_tag(tag);
        self.free.store(NONE, Relaxed);
        self.used.store(0, Relaxed);
        self.fresh.store(0, Relaxed);
        self.held.store(0, Relaxed);
        self.listed.store(IN_NONE, Relaxed);
        self.zeroed.store(zeroed.into(), Relaxed);
        self.remote.reset();
        for back in 1..units {
            // SAFETY: the unit is one of the slab's.
            let inside = unsafe { Slab::of(start + back * layout::UNIT) };
            inside.owner.store(0, Relaxed);
            inside.back.store(back as u32, Relaxed);
            inside.set_kind(SlabKind::Inside);
        }
        self.set_owner(heap);
        self.set_kind(SlabKind::Objects);
    }

    /// Loom's atomics are objects of one schedule, not bytes: makes those of the record of the unit
    /// at `at`.
    ///
    /// # Safety
    /// The unit is free and the caller's, and has no slab yet.
    #[cfg(loom)]
    pub(super) unsafe fn begin_schedule(at: usize) {
        let record = layout::record_of(at) as *mut Slab;
        // SAFETY: the caller's; nobody looks at what was there.
        unsafe {
            (&raw mut (*record).remote).write(Remote::default());
            (&raw mut (*record).returned).write(atomic::AtomicUsize::default());
        }
    }

    /// Makes the units of this record a slab of a kmem cache, empty, in no list: objects `size`
    /// bytes apart.
    ///
    /// # Safety
    /// The units, from this record's on, are free and the caller's.
    pub(super) unsafe fn make_cached(&'static self, cache: CacheId, size: usize, units: usize) {
        let start = layout::start_of(self.address());
        self.start.store(start, Relaxed);
        self.size.store(size as u32, Relaxed);
        self.bytes
            .store((units * layout::UNIT / size * size) as u32, Relaxed);
        let reciprocal = (1u64 << RECIPROCAL_SHIFT).div_ceil(size as u64);
        self.reciprocal.store(reciprocal, Relaxed);
        self.class.store(cache.raw(), Relaxed);
        self.key.store(key_of(start), Relaxed);
        self.set_tag(None);
        self.free.store(NONE, Relaxed);
        self.used.store(0, Relaxed);
        self.fresh.store(0, Relaxed);
        self.listed.store(IN_NONE, Relaxed);
        self.owner.store(0, Relaxed);
        for back in 1..units {
            // SAFETY: the unit is one of the slab's.
            let inside = unsafe { Slab::of(start + back * layout::UNIT) };
            inside.owner.store(0, Relaxed);
            inside.back.store(back as u32, Relaxed);
            inside.set_kind(SlabKind::Inside);
        }
    }

    /// Ends a slab of a kmem cache of so many units.
    pub(super) fn unmake_cached(&'static self, units: usize) {
        for back in 1..units {
            // SAFETY: the unit is one of the slab's.
            unsafe { Slab::of(self.start() + back * layout::UNIT) }.set_kind(SlabKind::Free);
        }
        self.set_kind(SlabKind::Free);
    }

    /// Ends what the record was.
    pub(super) fn unmake(&'static self) {
        if self.kind() == SlabKind::Objects {
            for back in 1..class::units_of(self.class.load(Relaxed) as usize) {
                // SAFETY: the unit is one of the slab's.
                unsafe { Slab::of(self.start() + back * layout::UNIT) }.set_kind(SlabKind::Free);
            }
        }
        self.owner.store(0, Relaxed);
        self.set_kind(SlabKind::Free);
    }

    /// Whether the object at `offset` was freed last, here or elsewhere. Who holds an object sees
    /// neither list begin with it: the two were written before it was handed out.
    #[inline]
    pub(super) fn begins_a_list(&self, offset: u32) -> bool {
        self.free.load(Relaxed) == offset || self.remote.peek().first == offset
    }

    /// The record a slab of many units is found by.
    pub(super) fn lead(&'static self) -> SlabRef {
        match self.kind() {
            SlabKind::Inside => {
                let back = self.back.load(Relaxed) as usize;
                // SAFETY: `back` records before this one, in the same chunk, is the slab's.
                unsafe { &*((self.address() - back * layout::RECORD) as *const Slab) }
            }
            SlabKind::Free
            | SlabKind::Objects
            | SlabKind::Large
            | SlabKind::Huge
            | SlabKind::Cached => self,
        }
    }

    /// The number of the object at `offset`.
    #[inline(always)]
    pub(super) fn index_of(&self, offset: u32) -> usize {
        ((u64::from(offset) * self.reciprocal.load(Relaxed)) >> RECIPROCAL_SHIFT) as usize
    }

    /// The offset of the object that begins at `at`; `None` when none does, or it was never handed
    /// out.
    pub(super) fn offset_of(&self, at: usize) -> Option<u32> {
        let offset = u32::try_from(at.checked_sub(self.start())?).ok()?;
        let begins = self.index_of(offset) * self.object_bytes() == offset as usize;
        (begins && offset < self.fresh.load(Relaxed)).then_some(offset)
    }

    #[inline(always)]
    fn link_at(&self, offset: u32) -> *mut u32 {
        (self.start() + offset as usize) as *mut u32
    }

    /// The offset a free object leads to.
    ///
    /// # Safety
    /// `offset` is a free object's of this slab.
    #[inline(always)]
    pub(super) unsafe fn link(&self, offset: u32) -> u32 {
        // SAFETY: a free object's first bytes are the list's.
        unsafe { self.link_at(offset).read() ^ self.key.load(Relaxed) }
    }

    /// Makes a free object lead to `next`.
    ///
    /// # Safety
    /// As [`Self::link`], the object not yet in a list others see.
    #[inline(always)]
    pub(super) unsafe fn set_link(&self, offset: u32, next: u32) {
        // SAFETY: as above.
        unsafe { self.link_at(offset).write(next ^ self.key.load(Relaxed)) };
    }

    /// Takes the first object of the list. `None`: it is empty, or leads outside the slab.
    ///
    /// # Safety
    /// The owner, in a heap section.
    #[inline(always)]
    pub(super) unsafe fn pop(&self) -> Option<u32> {
        let offset = self.free.load(Relaxed);
        if offset >= self.bytes.load(Relaxed) {
            return None;
        }
        // SAFETY: the caller's; the first of the list.
        unsafe { self.pop_first(offset) };
        Some(offset)
    }

    /// Takes `offset`, the first of the list; answers where the object is.
    ///
    /// # Safety
    /// As [`Self::pop`]; `offset` is what `free` says, and in the slab.
    #[inline(always)]
    pub(super) unsafe fn pop_first(&self, offset: u32) -> usize {
        let at = self.start() + offset as usize;
        // In this order: cut off between the two (a jump out of a signal handler), it leaks an
        // object and frees none.
        self.used.store(self.used.load(Relaxed) + 1, Relaxed);
        // SAFETY: on the list, so free: its first bytes are the list's.
        let next = unsafe { (at as *const u32).read() } ^ self.key.load(Relaxed);
        self.free.store(next, Relaxed);
        at
    }

    /// Puts an object on the list.
    ///
    /// # Safety
    /// The owner, in a heap section; the object is live and ends here.
    #[inline(always)]
    pub(super) unsafe fn push(&self, offset: u32) {
        // SAFETY: the caller's.
        unsafe { self.push_at(self.start() + offset as usize, offset) };
    }

    /// Puts the object at the address `at`, which is `offset`, on the list.
    ///
    /// # Safety
    /// As [`Self::push`].
    #[inline(always)]
    pub(super) unsafe fn push_at(&self, at: usize, offset: u32) {
        let link = self.free.load(Relaxed) ^ self.key.load(Relaxed);
        // SAFETY: the object is the caller's until it is on the list.
        unsafe { (at as *mut u32).write(link) };
        self.free.store(offset, Relaxed);
        self.used.store(self.used.load(Relaxed) - 1, Relaxed);
    }

    /// Links some of the objects behind `fresh`, a page's worth. `false` when there are none.
    ///
    /// # Safety
    /// The owner, in a heap section, the list empty.
    pub(super) unsafe fn extend(&self) -> bool {
        let (fresh, bytes) = (self.fresh.load(Relaxed), self.bytes.load(Relaxed));
        if fresh >= bytes {
            return false;
        }
        let size = self.size.load(Relaxed);
        let end = bytes.min(fresh + (4096 / size).max(1) * size);
        let mut at = fresh;
        while at + size < end {
            // SAFETY: never handed out, so nobody's.
            unsafe { self.set_link(at, at + size) };
            at += size;
        }
        // SAFETY: as above.
        unsafe { self.set_link(at, NONE) };
        self.fresh.store(end, Relaxed);
        self.free.store(fresh, Relaxed);
        true
    }

    /// Takes one object from behind `fresh` without touching it.
    ///
    /// # Safety
    /// The owner, in a heap section.
    pub(super) unsafe fn pop_fresh(&self) -> Option<u32> {
        let (fresh, bytes) = (self.fresh.load(Relaxed), self.bytes.load(Relaxed));
        if fresh >= bytes {
            return None;
        }
        self.used.store(self.used.load(Relaxed) + 1, Relaxed);
        self.fresh.store(fresh + self.size.load(Relaxed), Relaxed);
        Some(fresh)
    }

    /// Takes what others have freed. `true` if there was any.
    ///
    /// # Safety
    /// The owner, in a heap section; `used` true (not that of a full slab).
    pub(super) unsafe fn collect(&self) -> bool {
        let Some(found) = self.remote.collect() else {
            return false;
        };
        let free = self.free.load(Relaxed);
        if free != NONE {
            // The last of what came must lead to what was there.
            let mut last = found.first;
            for _ in 1..found.count {
                // SAFETY: free objects, the caller's since collected.
                last = unsafe { self.link(last) };
                if last >= self.bytes.load(Relaxed) {
                    super::bad::corrupt(self.start());
                }
            }
            // SAFETY: as above.
            unsafe { self.set_link(last, free) };
        }
        self.free.store(found.first, Relaxed);
        let used = self.used.load(Relaxed);
        if used < found.count {
            super::bad::corrupt(self.start());
        }
        self.used.store(used - found.count, Relaxed);
        true
    }
}

/// What the links of the slab at `start` are xored with: differs from slab to slab and from process
/// to process.
fn key_of(start: usize) -> u32 {
    let secret = core::ptr::from_ref(&SEED) as u64 ^ SEED.load(Relaxed);
    let mut x = (start as u64) ^ secret;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // The top bit is set: four zero bytes lead outside any slab.
    (x >> 32) as u32 | 1 << 31
}

static SEED: AtomicU64 = AtomicU64::new(0);

/// Makes the keys of later slabs differ from those of other processes.
pub(super) fn seed(random: u64) {
    SEED.store(random, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reciprocal_divides_every_offset_of_every_class() {
        for class in 0..class::NR_CLASSES {
            let size = class::bytes_of(class) as u64;
            let reciprocal = (1u64 << RECIPROCAL_SHIFT).div_ceil(size);
            for offset in 0..(class::units_of(class) * layout::UNIT) as u64 {
                assert_eq!((offset * reciprocal) >> RECIPROCAL_SHIFT, offset / size);
            }
        }
    }
}
