//! What a thread has of caches: for each the slab it allocates from, or its magazine.
//!
//! A slot is used, and filled, by its thread inside a look (`ThreadRec::enter`); it is emptied by
//! its thread in a look, or by another that has raised the thread's drain flag and found it off its
//! slots. So a hit needs neither a lock nor an atomic instruction, and a dead cache gets back what
//! threads hold of it.
//!
//! The table belongs to the thread's record from the thread's first use of a cache until its end:
//! who drains the record drains the table. Then the next thread that uses caches gets it, so there
//! are as many as ever were in use at once.

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

/// One cache's.
#[derive(Default)]
pub struct Slot {
    /// Whose; none: nobody's.
    pub(super) cache: AtomicId<CacheId>,
    /// What is in the magazine.
    pub(super) nr: AtomicU32,
    /// The address of a slab's record, or of a magazine; 0: none.
    pub(super) at: AtomicUsize,
}

/// A thread's slots.
#[repr(C, align(64))]
pub struct Table {
    slots: [Slot; SLOTS],
    link: AtomicU32,
    /// Its own, in the arena.
    index: AtomicId<TableId>,
    /// By cache and cell: the number of the cache that served the group of the cell last. A guess:
    /// it may be another cache's by now, so who uses it asks what it finds in that cache's slot.
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
// SAFETY: integers only.
unsafe impl Zeroed for Table {}
// SAFETY: `link` is the arena's alone.
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
    /// Whose; none: nobody's.
    pub cache: Option<CacheId>,
    pub nr: u32,
    pub at: usize,
}

impl Table {
    /// Where `cache` is looked for.
    #[inline(always)]
    pub(super) fn slot(&self, cache: CacheId) -> &Slot {
        self.slot_at(cache.raw())
    }

    #[inline(always)]
    fn slot_at(&self, number: u32) -> &Slot {
        &self.slots[number as usize % SLOTS]
    }

    /// Where the cache that serves the group of a cell for `cache` is noted. The thread's alone.
    #[inline(always)]
    pub(super) fn hint(&self, cache: CacheId, cell: Option<CellId>) -> &AtomicId<CacheId> {
        let cell = cell.map_or(0, CellId::raw);
        // Cells come in a row, caches are few: an odd step keeps a few caches of many groups apart.
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
        // SAFETY: set by `fill` to a slab in use, which stays mapped until it is taken out.
        unsafe { (self.at.load(Relaxed) as *const Slab).as_ref() }
    }

    /// Takes out what is in it. Whoever may empty it.
    pub(super) fn empty(&self) -> Content {
        Content {
            cache: self.cache.swap(None, Relaxed),
            nr: self.nr.swap(0, Relaxed),
            at: self.at.swap(0, Relaxed),
        }
    }

    /// Fills it. Its thread, in a look.
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
    /// The table of a record, the calling thread's, made now if it has none. `None` without memory.
    #[inline(always)]
    pub fn own<'a>(&'a self, rec: &'a ThreadRec) -> Option<Own<'a>> {
        // Acquire pairs with the AcqRel of `make_table`, which a signal handler may have called.
        let at = rec.caches.load(Acquire);
        if at == 0 {
            return self.make_table(rec);
        }
        // SAFETY: set by `make_table` to a record of the arena, which lives for ever.
        let table = unsafe { &*(at as *const Table) };
        Some(Own { rec, table })
    }

    #[cold]
    fn make_table<'a>(&'a self, rec: &'a ThreadRec) -> Option<Own<'a>> {
        let index = self.tables.alloc(1 << 22)?;
        let table = self.tables.get(index);
        table.index.store(Some(index), Relaxed);
        let new = core::ptr::from_ref(table) as usize;
        // A signal handler may have been first.
        match rec.caches.compare_exchange(0, new, AcqRel, Acquire) {
            Ok(_) => {
                // Pairs with the fence of `bury`: it finds the table, or we see that a cache is
                // dead.
                fence(SeqCst);
                Some(Own { rec, table })
            }
            Err(_) => {
                self.tables.free(index);
                self.own(rec)
            }
        }
    }

    /// Takes a record's table away. Its thread, in a look; its slots are empty.
    pub(super) fn remove_table(&self, rec: &ThreadRec) {
        // Release pairs with the Acquire of `table_of`.
        rec.caches.store(0, Release);
    }

    /// Gives a table that was taken away to whoever needs one next. A drainer may still look
    /// whether it concerns him.
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
        // SAFETY: as in `own`.
        unsafe { (rec.caches.load(Acquire) as *const Table).as_ref() }
    }
}
