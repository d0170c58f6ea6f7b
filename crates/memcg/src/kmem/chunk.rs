//! A chunk's own record: which of its units are free, and which of those have pages.
//!
//! Invariants: a dirty unit is free. `nr_free` and `nr_dirty` are the numbers of bits set.
//! Depends on: the lock of the [`super::span::Spans`] that the chunk belongs to, which every caller
//! holds.
//! Never: a look at a unit's content, but for whether pages are there.

use super::layout::{self, CHUNK_RECORD, END_UNIT, FIRST_UNIT, UNIT};
use crate::os::mmap;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Units of a chunk that hold objects.
pub const NR_UNITS: usize = END_UNIT - FIRST_UNIT;

const WORDS: usize = END_UNIT / 64;
/// Pages of a unit.
const PAGES: usize = UNIT / 4096;

/// See the module. Zero bytes: all units in use.
#[repr(C)]
pub struct Chunk {
    free: [AtomicU64; WORDS],
    dirty: [AtomicU64; WORDS],
    nr_free: AtomicU32,
    nr_dirty: AtomicU32,
    /// When units of it were last given back dirty, ns.
    pub freed_at: AtomicU64,
    /// In the list of chunks with a free unit: addresses of chunks.
    pub next: AtomicUsize,
    prev: AtomicUsize,
}

const _: () = assert!(CHUNK_RECORD + size_of::<Chunk>() <= layout::UNIT);

fn bits(word: usize, from: usize, to: usize) -> u64 {
    let (low, high) = (from.max(word * 64), to.min(word * 64 + 64));
    if low >= high {
        return 0;
    }
    (u64::MAX >> (64 - (high - low))) << (low - word * 64)
}

fn words(from: usize, to: usize) -> impl Iterator<Item = (usize, u64)> {
    (from / 64..to.div_ceil(64)).map(move |word| (word, bits(word, from, to)))
}

impl Chunk {
    /// The record of the chunk that an address is in.
    ///
    /// # Safety
    /// The chunk is mapped, and stays mapped while the record is used: one of its units is in use,
    /// or the chunk is in a list of its `Spans` whose lock is held.
    pub unsafe fn of(at: usize) -> &'static Chunk {
        // SAFETY: the caller promised that the chunk is mapped. The record lies in its first unit
        // (asserted above), aligned, and is atomics of integers: any bytes are a value.
        unsafe { &*((layout::chunk_of(at) + CHUNK_RECORD) as *const Chunk) }
    }

    /// As [`Self::of`]; `None` for address 0.
    ///
    /// # Safety
    /// `chunk` is 0, or the address of a chunk that is mapped and stays so while the record is
    /// used.
    pub unsafe fn at(chunk: usize) -> Option<&'static Chunk> {
        // SAFETY: `chunk` is not 0, so the caller promised a chunk that is mapped and stays so.
        (chunk != 0).then(|| unsafe { Chunk::of(chunk) })
    }

    /// The chunk's first address.
    pub fn address(&self) -> usize {
        core::ptr::from_ref(self) as usize - CHUNK_RECORD
    }

    /// Makes all units free and clean.
    pub fn make(&self) {
        for (word, mask) in words(FIRST_UNIT, END_UNIT) {
            self.free[word].store(mask, Relaxed);
        }
        self.nr_free.store(NR_UNITS as u32, Relaxed);
    }

    /// The number of free units.
    pub fn nr_free(&self) -> usize {
        self.nr_free.load(Relaxed) as usize
    }

    /// The number of free units that have pages.
    pub fn nr_dirty(&self) -> usize {
        self.nr_dirty.load(Relaxed) as usize
    }

    /// Whether at least half of the pages in use are there: then the program's objects are not much
    /// larger than what it writes to in them.
    pub fn is_filled(&self) -> bool {
        let mut there = 0;
        for (word, free) in self.free.iter().enumerate() {
            let mut pages = [0; 64 * PAGES];
            // SAFETY: `self` lies in this chunk, which is mapped whole: `free_units` unlinks it and
            // clears `newest` before it is unmapped. `pages` has a byte for each page of 64 units.
            if !unsafe { mmap::are_there(self.address() + word * 64 * UNIT, &mut pages) } {
                return false;
            }
            let free = free.load(Relaxed);
            let used = pages.chunks(PAGES).enumerate();
            let used = used.filter(|(unit, _)| free >> unit & 1 == 0);
            there += used
                .flat_map(|(_, pages)| pages)
                .filter(|&page| page & 1 != 0)
                .count();
        }
        there >= (END_UNIT - self.nr_free()) * PAGES / 2
    }

    /// Marks free units used; answers how many were dirty.
    pub fn alloc_units(&self, unit: usize, units: usize) -> usize {
        let mut nr_dirty = 0;
        for (word, mask) in words(unit, unit + units) {
            let free = self.free[word].load(Relaxed);
            debug_assert_eq!(free & mask, mask);
            self.free[word].store(free & !mask, Relaxed);
            let dirty = self.dirty[word].load(Relaxed);
            nr_dirty += (dirty & mask).count_ones();
            self.dirty[word].store(dirty & !mask, Relaxed);
        }
        self.nr_free
            .store(self.nr_free.load(Relaxed) - units as u32, Relaxed);
        self.nr_dirty
            .store(self.nr_dirty.load(Relaxed) - nr_dirty, Relaxed);
        nr_dirty as usize
    }

    /// Marks used units free.
    pub fn free_units(&self, unit: usize, units: usize, dirty: bool) {
        for (word, mask) in words(unit, unit + units) {
            let free = self.free[word].load(Relaxed);
            debug_assert_eq!(free & mask, 0);
            self.free[word].store(free | mask, Relaxed);
            if dirty {
                self.dirty[word].store(self.dirty[word].load(Relaxed) | mask, Relaxed);
            }
        }
        self.nr_free
            .store(self.nr_free.load(Relaxed) + units as u32, Relaxed);
        if dirty {
            self.nr_dirty
                .store(self.nr_dirty.load(Relaxed) + units as u32, Relaxed);
        }
    }

    /// Whether a range of units is free.
    pub fn is_free(&self, unit: usize, units: usize) -> bool {
        words(unit, unit + units).all(|(word, mask)| self.free[word].load(Relaxed) & mask == mask)
    }

    /// A free unit with pages.
    pub fn dirty_unit(&self) -> Option<usize> {
        if self.nr_dirty() == 0 {
            return None;
        }
        (0..WORDS).find_map(|word| {
            let dirty = self.dirty[word].load(Relaxed);
            (dirty != 0).then(|| word * 64 + dirty.trailing_zeros() as usize)
        })
    }

    /// The longest run of dirty units from the first on.
    pub fn dirty_run(&self) -> Option<(usize, usize)> {
        let first = self.dirty_unit()?;
        let is_dirty = |unit: &usize| {
            *unit < END_UNIT && self.dirty[unit / 64].load(Relaxed) >> (unit % 64) & 1 != 0
        };
        let units = (first..).take_while(is_dirty).count();
        Some((first, units))
    }

    /// The first run of `units` free units that begins at a multiple of `align` units.
    pub fn run(&self, units: usize, align: usize) -> Option<usize> {
        let mut unit = FIRST_UNIT.next_multiple_of(align);
        while unit + units <= END_UNIT {
            // The last unit of the range that is not free: nothing before it can be the beginning.
            let last_used = words(unit, unit + units)
                .filter_map(|(word, mask)| {
                    let used = !self.free[word].load(Relaxed) & mask;
                    (used != 0).then(|| word * 64 + used.ilog2() as usize)
                })
                .last();
            match last_used {
                None => return Some(unit),
                Some(used) => unit = (used + 1).next_multiple_of(align),
            }
        }
        None
    }

    /// Puts the chunk at the front of the list that begins at `first`.
    pub fn link(&self, first: &AtomicUsize) {
        let next = first.load(Relaxed);
        self.next.store(next, Relaxed);
        self.prev.store(0, Relaxed);
        // SAFETY: `first` leads to 0 or to a chunk in the list, and chunks are unlinked before they
        // are unmapped, under the lock that the caller holds.
        if let Some(next) = unsafe { Chunk::at(next) } {
            next.prev.store(self.address(), Relaxed);
        }
        first.store(self.address(), Relaxed);
    }

    /// Takes the chunk out of the list that begins at `first`, in which it is.
    pub fn unlink(&self, first: &AtomicUsize) {
        let (prev, next) = (self.prev.load(Relaxed), self.next.load(Relaxed));
        // SAFETY: `prev` of a listed chunk is 0 or a chunk of the same list, and listed chunks are
        // mapped.
        match unsafe { Chunk::at(prev) } {
            Some(before) => before.next.store(next, Relaxed),
            None => first.store(next, Relaxed),
        }
        // SAFETY: `next` of a listed chunk is 0 or a chunk of the same list, and listed chunks are
        // mapped.
        if let Some(after) = unsafe { Chunk::at(next) } {
            after.prev.store(prev, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk() -> &'static Chunk {
        let at = crate::os::mmap::map_aligned(layout::CHUNK, layout::CHUNK).unwrap();
        // SAFETY: the 32 MiB were just mapped, at a multiple of 32 MiB, and are never unmapped.
        let chunk = unsafe { Chunk::of(at.as_ptr() as usize) };
        chunk.make();
        chunk
    }

    #[test]
    fn runs_are_found_exactly_where_units_are_free() {
        let chunk = chunk();
        assert_eq!(chunk.run(1, 1), Some(FIRST_UNIT));
        assert_eq!(chunk.run(NR_UNITS, 1), Some(FIRST_UNIT));
        assert_eq!(chunk.run(NR_UNITS + 1, 1), None);
        chunk.alloc_units(60, 10);
        assert_eq!(chunk.run(60, 1), Some(70));
        assert_eq!(chunk.run(59, 1), Some(1));
        assert_eq!(chunk.run(2, 64), Some(128));
        assert!(!chunk.is_free(69, 2) && chunk.is_free(70, 2));
        chunk.free_units(60, 10, true);
        assert_eq!(chunk.dirty_run(), Some((60, 10)));
        assert_eq!(chunk.alloc_units(65, 10), 5);
        assert_eq!((chunk.nr_free(), chunk.nr_dirty()), (NR_UNITS - 10, 5));
    }

    #[test]
    fn random_takes_and_puts_keep_the_counts() {
        let chunk = chunk();
        let mut spans = Vec::new();
        let mut seed = 7u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let units = 1 + (seed >> 33) as usize % 40;
            match chunk.run(units, 1) {
                Some(unit) if seed >> 60 > 5 => {
                    chunk.alloc_units(unit, units);
                    spans.push((unit, units));
                }
                _ if !spans.is_empty() => {
                    let (unit, units) = spans.swap_remove((seed >> 40) as usize % spans.len());
                    chunk.free_units(unit, units, true);
                }
                _ => {}
            }
            let held: usize = spans.iter().map(|(_, units)| units).sum();
            assert_eq!(chunk.nr_free(), NR_UNITS - held);
        }
    }
}
