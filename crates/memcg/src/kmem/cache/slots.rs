//! What a thread has of caches: for each the slab it allocates from, or its magazine.
//!
//! Invariants: a slot is used and filled by its thread inside a look at the slots
//! (`ThreadRec::enter`). It is emptied by its thread in a look, or by another thread that has
//! raised the drain flag and found the thread outside of a look. So a hit needs no lock and no
//! atomic instruction, and a dead cache gets back what threads have of it. A table belongs to the
//! thread's record from the thread's first use of a cache to its end; who drains the record drains
//! the table. After that the next thread that uses caches gets the table, so there are as many as
//! were ever in use at once.
//! Depends on: `thread` for looks and drains.
//! Never: a look at what lies in a slab or magazine.

use super::Caches;
use crate::group::CellId;
use crate::kmem::id::{CacheId, TableId};
use crate::kmem::slab::{Slab, SlabRef};
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, fence};
use crate::sync::id::{AtomicId, Id};
use crate::thread::{SlotsGuard, ThreadRec};
use core::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
};

/// Caches a thread has something of at once, at most.
pub const SLOTS: usize = if cfg!(loom) { 2 } else { 256 };

/// Caches of groups that a thread finds without looking them up, at most.
const HINTS: usize = 128;

/// What a thread has of one cache.
#[derive(Default)]
pub struct Slot {
    /// The cache; `None`: the slot is empty.
    pub(super) cache: AtomicId<CacheId>,
    /// How many objects are in the magazine.
    pub(super) nr: AtomicU32,
    /// The address of a slab's record, or of a magazine; 0: none.
    pub(super) at: AtomicUsize,
}

/// A thread's slots.
#[repr(C, align(64))]
pub struct Table {
    slots: [Slot; SLOTS],
    link: AtomicU32,
    /// Its own index in the arena.
    index: AtomicId<TableId>,
    /// By cache and cell: the number of the cache that last served the group of the cell. It is a
    /// guess, for the number may be another cache's by now. So the caller checks it against what
    /// the slot of that cache has.
    hints: [AtomicId<CacheId>; HINTS],
}

impl Default for Table {
    fn default() -> Self {
        Self {
            slots: core::array::from_fn(|_| Slot::default()),
            link: AtomicU32::default(),
            index: AtomicId::default(),
            hints: core::array::from_fn(|_| AtomicId::default()),
        }
    }
}
// SAFETY: the table is made of atomic integers and of indices, so zero bytes are a table with empty
// slots.
unsafe impl Zeroed for Table {}
// SAFETY: the answer is always the same field, and nothing in this room reads or writes `link`; the
// arena alone uses it.
unsafe impl Record for Table {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// The calling thread's record and table.
#[derive(Clone, Copy)]
pub struct Own<'a> {
    /// Its record.
    pub rec: &'a ThreadRec,
    /// Its table.
    pub table: &'a Table,
}

/// What was in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Content {
    /// The cache; `None`: the slot was empty.
    pub cache: Option<CacheId>,
    pub nr: u32,
    pub at: usize,
}

impl Table {
    /// The slot for `cache`. Several caches share one.
    #[inline(always)]
    pub(super) fn slot(&self, cache: CacheId) -> &Slot {
        self.slot_at(cache.raw())
    }

    #[inline(always)]
    fn slot_at(&self, number: u32) -> &Slot {
        &self.slots[number as usize % SLOTS]
    }

    /// Where the cache is noted that serves the group of a cell for `cache`. Only the table's
    /// thread uses it.
    #[inline(always)]
    pub(super) fn hint(&self, cache: CacheId, cell: Option<CellId>) -> &AtomicId<CacheId> {
        let cell = cell.map_or(0, CellId::raw);
        // Cells are numbered in a row and caches are few: an odd step keeps a few caches of many
        // groups apart.
        &self.hints[cell.wrapping_add(cache.raw().wrapping_mul(45)) as usize % HINTS]
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }
}

impl Slot {
    /// The slab that `cache` is allocated from here.
    #[inline(always)]
    pub(super) fn slab_of(&self, cache: CacheId) -> Option<SlabRef> {
        if !self.cache.is(Some(cache), Relaxed) {
            return None;
        }
        // SAFETY: `fill` stored this address together with `cache`: a slab's record, of a cache
        // without magazines. A slab in a slot is in use, so it stays mapped until it is taken out,
        // in a look or a drain.
        unsafe { (self.at.load(Relaxed) as *const Slab).as_ref() }
    }

    /// Takes out what is in it. Called by its thread in a look, or by a drainer.
    pub(super) fn empty(&self) -> Content {
        Content {
            cache: self.cache.swap(None, Relaxed),
            nr: self.nr.swap(0, Relaxed),
            at: self.at.swap(0, Relaxed),
        }
    }

    /// Fills it. Called by its thread, in a look, when it is empty.
    pub(super) fn fill(&self, content: Content) {
        self.nr.store(content.nr, Relaxed);
        self.at.store(content.at, Relaxed);
        self.cache.store(content.cache, Relaxed);
    }
}

impl<'a> Own<'a> {
    /// Begins a look at the slots.
    #[inline(always)]
    pub(super) fn enter_slots(&self) -> Option<SlotsGuard<'a>> {
        self.rec.enter()
    }

    #[inline(always)]
    pub(super) fn slot(&self, cache: CacheId) -> &'a Slot {
        self.table.slot(cache)
    }

    /// The slot in which a cache's slab, or its cache's magazine, would be.
    #[inline(always)]
    pub(super) fn slot_of_slab(&self, slab: &Slab) -> &'a Slot {
        self.table.slot_at(slab.cache_number())
    }

    /// Notes that `child` serves the group of a cell for `cache`.
    pub fn keep_hint(&self, cache: CacheId, cell: Option<CellId>, child: CacheId) {
        self.table.hint(cache, cell).store(Some(child), Relaxed);
    }
}

impl Caches {
    /// The table of the calling thread's record, made now if it has none. `None` without memory.
    #[inline(always)]
    pub fn own<'a>(&'a self, rec: &'a ThreadRec) -> Option<Own<'a>> {
        // Acquire pairs with the AcqRel of `make_table`, which a signal handler may have called.
        let at = rec.caches.load(Acquire);
        if at == 0 {
            return self.make_table(rec);
        }
        // SAFETY: `make_table` stored the address of a record of the arena, whose records are never
        // unmapped.
        let table = unsafe { &*(at as *const Table) };
        Some(Own { rec, table })
    }

    #[cold]
    fn make_table<'a>(&'a self, rec: &'a ThreadRec) -> Option<Own<'a>> {
        let index = self.tables.alloc(1 << 22)?;
        let table = self.tables.get(index);
        table.index.store(Some(index), Relaxed);
        let new = core::ptr::from_ref(table) as usize;
        // A signal handler may have made a table meanwhile.
        // Release pairs with the Acquire of `own` and `table_of`; Acquire pairs with itself.
        match rec.caches.compare_exchange(0, new, AcqRel, Acquire) {
            Ok(_) => {
                // Pairs with the fence of `bury`: it finds the table, or this thread sees that a
                // cache is dead.
                fence(SeqCst);
                Some(Own { rec, table })
            }
            Err(_) => {
                self.tables.free(index);
                self.own(rec)
            }
        }
    }

    /// Takes a record's table away. Called by its thread, in a look, when all slots are empty.
    pub(super) fn remove_table(&self, rec: &ThreadRec) {
        // Release pairs with the Acquire of `table_of`.
        rec.caches.store(0, Release);
    }

    /// Frees a table that was taken away, for the next thread that needs one. A drainer may still
    /// read its slots to see whether the cache it looks for is there.
    pub(super) fn free_table(&self, table: &Table) {
        if let Some(index) = table.index.load(Relaxed) {
            self.tables.free(index);
        }
    }

    /// Tables in use, and that ever were at once.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn nr_tables(&self) -> (u32, u32) {
        (self.tables.in_use(), self.tables.high_water() - 1)
    }

    /// The table of any record, if it has one.
    pub(super) fn table_of<'a>(&'a self, rec: &'a ThreadRec) -> Option<&'a Table> {
        // SAFETY: the word is 0, or `make_table` stored the address of a record of the arena, whose
        // records are never unmapped. Acquire pairs with the Release of `make_table`.
        unsafe { (rec.caches.load(Acquire) as *const Table).as_ref() }
    }
}
