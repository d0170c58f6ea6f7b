//! A slab: objects of one size in one or eight units, its free list, its record.
//!
//! The free list runs through the free objects. The first four bytes of each are the offset of the
//! next, xored with the slab's key. So a write after free nearly always leads to an offset outside
//! the slab, and the next look at it ends the process. Objects behind `fresh` have never been
//! linked, and their bytes are untouched.
//!
//! Invariants, by field:
//!
//! * The first line (64 bytes) belongs to who acts for the owner, the heap in `owner`. A thread
//!   that holds an object of the slab may read `owner`, `start`, `size`, `bytes` and `kind`, and
//!   `tag` with Acquire.
//! * `remote` may be changed by any thread, by the rules of the module `remote`.
//! * `mixing` may be changed by any thread that holds an object of the slab, by the rules of the
//!   module `tags`.
//! * `next`, `prev`, `listed` and `held` belong to who acts for the owner. `returned` belongs to
//!   the thread that has the slab in flight.
//! * `used` counts the objects that are handed out. In the slab in use of a class it is one more,
//!   so that its last free takes no other path than any other free. In a full slab, which is in no
//!   list, it is 1 and `held` has the true count, so that the first free takes the slow path.
//!
//! Depends on: `class` and `layout` for sizes and places, `remote` for its word.
//! Never: a lock; a system call; a charge.

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

/// What the unit of a record holds.
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
    /// A later unit of a slab of many units; the slab's own record is `back` records before.
    Inside = 4,
    /// A slab of a kmem cache. `cache::objects` says what its fields mean.
    Cached = 5,
}

/// `tag` of a slab whose objects have each their own: above every tag there can be.
pub const MIXED: u32 = u32::MAX;

/// Values of `listed`: in which list a slab is. In none:
pub const IN_NONE: u32 = 0;
/// In its owner's partial list: it has room.
pub const IN_PARTIAL: u32 = 1;
/// In use: its heap, or a thread's slot, allocates from it.
pub const IN_USE: u32 = 2;

/// The number of an object is (offset · reciprocal) >> this, where `reciprocal` belongs to `size`.
const RECIPROCAL_SHIFT: u32 = 40;

/// The address of a heap's record, which is how a slab notes its owner.
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
    /// The process whose thread makes the slab mixed, 0: none does; see `tags`.
    pub(super) mixing: AtomicU32,
}

const _: () = assert!(size_of::<Slab>() == layout::RECORD);
const _: () = assert!(core::mem::offset_of!(Slab, remote) == 64);

/// A slab. Its record stays mapped while an object, a list or a flight leads to it. Nothing else
/// may keep such a reference.
pub type SlabRef = &'static Slab;

impl Slab {
    /// The record of the unit of an address.
    ///
    /// # Safety
    /// The first unit of the chunk that `at` lies in is mapped, and stays mapped while the record
    /// is used: `at` lies in a chunk of which a unit is in use, in the first 32 MiB of a huge
    /// object, or in a [`super::address_map::Window`].
    #[inline(always)]
    pub unsafe fn of(at: usize) -> SlabRef {
        // SAFETY: `record_of` answers an address in the chunk's first unit, aligned to 128, which
        // the caller promised is mapped. A `Slab` is atomics of integers: any bytes are a value,
        // and shared access is no data race.
        unsafe { &*(layout::record_of(at) as *const Slab) }
    }

    /// What the unit holds. A load.
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
        // Release pairs with the Acquire of `kind`: who sees the kind sees the whole record.
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
    /// As many units as a slab of the class has, from this record's on, are mapped and nobody else
    /// uses them (`Spans::alloc` has just answered them, or their last slab was unmade). All their
    /// bytes are zero if `zeroed` is `true`. `heap` is the address of a heap record.
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
        self.mixing.store(0, Relaxed);
        self.remote.reset();
        for back in 1..units {
            // SAFETY: `back` is below the number of the slab's units, all in one mapped chunk, as
            // the caller promised.
            let inside = unsafe { Slab::of(start + back * layout::UNIT) };
            inside.owner.store(0, Relaxed);
            inside.back.store(back as u32, Relaxed);
            inside.set_kind(SlabKind::Inside);
        }
        self.set_owner(heap);
        self.set_kind(SlabKind::Objects);
    }

    /// Under loom an atomic belongs to one schedule and is not just bytes: makes those of the
    /// record of the unit at `at` anew.
    ///
    /// # Safety
    /// The unit is mapped, has no slab yet, and nobody else uses it.
    #[cfg(loom)]
    pub(super) unsafe fn begin_schedule(at: usize) {
        let record = layout::record_of(at) as *mut Slab;
        // SAFETY: the record lies in the chunk's first unit, which is mapped. The caller promised
        // that nobody else uses the unit, so nobody reads the old values; they are overwritten
        // without a drop.
        unsafe {
            (&raw mut (*record).remote).write(Remote::default());
            (&raw mut (*record).returned).write(atomic::AtomicUsize::default());
        }
    }

    /// Makes the units of this record a slab of a kmem cache, empty, in no list: objects `size`
    /// bytes apart.
    ///
    /// # Safety
    /// `units` units, from this record's on, are mapped and nobody else uses them: `Spans::alloc`
    /// has just answered them.
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
            // SAFETY: `back` is below the number of the slab's units, all in one mapped chunk, as
            // the caller promised.
            let inside = unsafe { Slab::of(start + back * layout::UNIT) };
            inside.owner.store(0, Relaxed);
            inside.back.store(back as u32, Relaxed);
            inside.set_kind(SlabKind::Inside);
        }
    }

    /// Ends a slab of a kmem cache that has `units` units: the records say again that nothing is
    /// there.
    pub(super) fn unmake_cached(&'static self, units: usize) {
        for back in 1..units {
            // SAFETY: the slab has `units` units in one chunk, mapped until the caller gives them
            // back to `Spans`.
            unsafe { Slab::of(self.start() + back * layout::UNIT) }.set_kind(SlabKind::Free);
        }
        self.set_kind(SlabKind::Free);
    }

    /// Ends a slab of a heap, or an extent: the records say again that nothing is there.
    pub(super) fn unmake(&'static self) {
        if self.kind() == SlabKind::Objects {
            for back in 1..class::units_of(self.class.load(Relaxed) as usize) {
                // SAFETY: a slab of this class has `units_of` units in one chunk, mapped until the
                // caller gives them back to `Spans`.
                unsafe { Slab::of(self.start() + back * layout::UNIT) }.set_kind(SlabKind::Free);
            }
        }
        self.owner.store(0, Relaxed);
        self.set_kind(SlabKind::Free);
    }

    /// Whether the object at `offset` is the first of the slab's list or of the frees by others:
    /// then it was freed before. Neither list begins with an object that is held, for both words
    /// were changed before it was handed out.
    #[inline]
    pub(super) fn begins_a_list(&self, offset: u32) -> bool {
        self.free.load(Relaxed) == offset || self.remote.peek().first == offset
    }

    /// The record of the slab that this unit belongs to: itself, or for a later unit the slab's
    /// first.
    pub(super) fn lead(&'static self) -> SlabRef {
        match self.kind() {
            SlabKind::Inside => {
                let back = self.back.load(Relaxed) as usize;
                // SAFETY: `Slab::make` stored `back` before the kind `Inside`: the slab's first
                // record lies so many records before this one, in the same mapped unit of records.
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

    /// The offset of the object that begins at `at`. `None`: none begins there, or it was never
    /// handed out.
    pub(super) fn offset_of(&self, at: usize) -> Option<u32> {
        let offset = u32::try_from(at.checked_sub(self.start())?).ok()?;
        let begins = self.index_of(offset) * self.object_bytes() == offset as usize;
        (begins && offset < self.fresh.load(Relaxed)).then_some(offset)
    }

    #[inline(always)]
    fn link_at(&self, offset: u32) -> *mut u32 {
        (self.start() + offset as usize) as *mut u32
    }

    /// The offset that a free object's link leads to.
    ///
    /// # Safety
    /// `offset` is that of a free object of this slab which has been linked, and the calling thread
    /// acts for the slab's owner, or nothing changes meanwhile.
    #[inline(always)]
    pub(super) unsafe fn link(&self, offset: u32) -> u32 {
        // SAFETY: the caller promised a free object: its first four bytes are the link, written by
        // `set_link` or `push_at`. Objects lie at multiples of 16, so the address is aligned.
        unsafe { self.link_at(offset).read() ^ self.key.load(Relaxed) }
    }

    /// Makes a free object's link lead to `next`.
    ///
    /// # Safety
    /// `offset` is that of an object of this slab which nobody holds and which no other thread can
    /// reach: it is in no list yet, or in one that only the calling thread uses.
    #[inline(always)]
    pub(super) unsafe fn set_link(&self, offset: u32, next: u32) {
        // SAFETY: the object lies in the slab, at a multiple of 16, and has at least 16 bytes. The
        // caller promised that no other thread uses them.
        unsafe { self.link_at(offset).write(next ^ self.key.load(Relaxed)) };
    }

    /// Takes the first object of the list. `None`: it is empty, or leads outside the slab.
    ///
    /// # Safety
    /// The calling thread acts for the slab's owner.
    #[inline(always)]
    pub(super) unsafe fn pop(&self) -> Option<u32> {
        let offset = self.free.load(Relaxed);
        if offset >= self.bytes.load(Relaxed) {
            return None;
        }
        // SAFETY: the caller acts for the owner; `offset` was just read from `free` and is inside
        // the slab.
        unsafe { self.pop_first(offset) };
        Some(offset)
    }

    /// Takes `offset`, the first of the list; answers the object's address.
    ///
    /// # Safety
    /// The calling thread acts for the slab's owner. `offset` is what `free` says, and below
    /// `bytes`.
    #[inline(always)]
    pub(super) unsafe fn pop_first(&self, offset: u32) -> usize {
        let at = self.start() + offset as usize;
        // In this order: cut off between the two (a jump out of a signal handler), it leaks an
        // object and frees none.
        self.used.store(self.used.load(Relaxed) + 1, Relaxed);
        // SAFETY: the first of the list is a free object of this slab, aligned to 16; its first
        // four bytes are the link, and only who acts for the owner writes them.
        let next = unsafe { (at as *const u32).read() } ^ self.key.load(Relaxed);
        self.free.store(next, Relaxed);
        at
    }

    /// Puts an object on the list.
    ///
    /// # Safety
    /// The calling thread acts for the slab's owner. The object at `offset` is live, and nobody
    /// uses it after this call.
    #[inline(always)]
    pub(super) unsafe fn push(&self, offset: u32) {
        // SAFETY: the caller promised for this slab what `push_at` wants, and the object at
        // `offset` begins at that address.
        unsafe { self.push_at(self.start() + offset as usize, offset) };
    }

    /// Puts the object at the address `at`, whose offset is `offset`, on the list.
    ///
    /// # Safety
    /// As for [`Self::push`]; `at` is `start` plus `offset`.
    #[inline(always)]
    pub(super) unsafe fn push_at(&self, at: usize, offset: u32) {
        let link = self.free.load(Relaxed) ^ self.key.load(Relaxed);
        // SAFETY: the caller gave up a live object, aligned to 16. Until `free` names it, below, no
        // other code reads or writes its bytes.
        unsafe { (at as *mut u32).write(link) };
        self.free.store(offset, Relaxed);
        self.used.store(self.used.load(Relaxed) - 1, Relaxed);
    }

    /// Links some of the objects behind `fresh`, a page's worth. `false` when there are none.
    ///
    /// # Safety
    /// The calling thread acts for the slab's owner, and the list is empty.
    pub(super) unsafe fn extend(&self) -> bool {
        let (fresh, bytes) = (self.fresh.load(Relaxed), self.bytes.load(Relaxed));
        if fresh >= bytes {
            return false;
        }
        let size = self.size.load(Relaxed);
        let end = bytes.min(fresh + (4096 / size).max(1) * size);
        let mut at = fresh;
        while at + size < end {
            // SAFETY: `at` is from `fresh` on and whole inside the slab: such an object was never
            // handed out, so nobody has its address. Only who acts for the owner gets here.
            unsafe { self.set_link(at, at + size) };
            at += size;
        }
        // SAFETY: `at` is the last whole object before `end`; it was never handed out either.
        unsafe { self.set_link(at, NONE) };
        self.fresh.store(end, Relaxed);
        self.free.store(fresh, Relaxed);
        true
    }

    /// Takes one object from behind `fresh` without touching its bytes.
    ///
    /// # Safety
    /// The calling thread acts for the slab's owner.
    pub(super) unsafe fn pop_fresh(&self) -> Option<u32> {
        let (fresh, bytes) = (self.fresh.load(Relaxed), self.bytes.load(Relaxed));
        if fresh >= bytes {
            return None;
        }
        self.used.store(self.used.load(Relaxed) + 1, Relaxed);
        self.fresh.store(fresh + self.size.load(Relaxed), Relaxed);
        Some(fresh)
    }

    /// Takes the objects that other threads have freed onto the slab's own list. `true`: there were
    /// some.
    ///
    /// # Safety
    /// The calling thread acts for the slab's owner. `used` is the true count, or one more for the
    /// slab in use; it is not the 1 of a full slab.
    pub(super) unsafe fn collect(&self) -> bool {
        let Some(found) = self.remote.collect() else {
            return false;
        };
        let free = self.free.load(Relaxed);
        if free != NONE {
            // The last of the objects that came is linked to the first of the list.
            let mut last = found.first;
            for _ in 1..found.count {
                // SAFETY: the objects from `found.first` on were freed and linked by `remote.push`,
                // and this thread has taken them all with `collect`, so no other can reach them.
                // Each offset was checked to be inside the slab, or came from the word.
                last = unsafe { self.link(last) };
                if last >= self.bytes.load(Relaxed) {
                    super::bad::corrupt(self.start());
                }
            }
            // SAFETY: `last` is one of the collected objects, which only this thread can reach; it
            // is not yet in the slab's list.
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

/// The key that the links of the slab at `start` are xored with. It differs from slab to slab and
/// from process to process.
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
