//! Spans: runs of units in chunks, taken and given back under one lock; chunks come from the kernel
//! and go back to it.
//!
//! Invariants: a unit is free in its chunk's bitmap, or belongs to one span. A free unit that was
//! used is dirty until its pages were given back. Dirty units are allocated first, since they have
//! pages. All lists and bitmaps change under the lock. The lock is held with all signals blocked;
//! the only system calls under it are those that map a chunk or resize a huge mapping. Discarding
//! first takes units out of the bitmap, as an allocation does.
//! Depends on: `chunk` for bitmaps, `address_map` for places, `os` for mappings.
//! Never: a look at what lies in a unit that is in use.

use super::address_map::{Map, Place, Window};
use super::chunk::{Chunk, NR_UNITS};
use super::huge::HugeCache;
use super::layout::{self, CHUNK, UNIT};
use crate::os::{clock, errno, mmap, sigmask};
use crate::sync::lock::{Lock, Rank};
use crate::sync::promise::{HeldOverFork, SoleThread};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The most units of one span.
pub const MAX_UNITS: usize = 256;

/// How many chunks are kept that have no used unit and no pages.
const EMPTY_CHUNKS: usize = 1;

/// A dirty chunk is cleaned when nothing was freed into it for this long. A program that soon comes
/// back for what it freed finds the pages there; a fresh unit costs as much as a thousand hits.
const DECAY_NS: u64 = 1_000_000_000;

/// Runs of units. Zero: none.
#[derive(Default)]
pub struct Spans {
    lock: Lock,
    /// What lies where.
    pub(super) map: Map,
    /// Lists of the chunks with a free unit, and of those without, linked by address.
    available: AtomicUsize,
    full: AtomicUsize,
    /// The chunk that was mapped last. 0: it was unmapped.
    newest: AtomicUsize,
    nr_chunks: AtomicUsize,
    nr_empty: AtomicUsize,
    nr_used: AtomicUsize,
    nr_dirty: AtomicUsize,
    looked_at: AtomicU64,
    /// One more than the most dirty units that may be kept. 0: only time limits them.
    most_dirty: AtomicUsize,
    huge: HugeCache,
}

/// A span just taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Its first byte.
    pub start: usize,
    /// Whether all of its bytes are zero.
    pub zeroed: bool,
    /// The window of readable records at that moment.
    pub window: Window,
}

/// What there is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpanStat {
    /// Mapped in chunks, of objects.
    pub mapped: usize,
    /// In use by slabs and large objects.
    pub used: usize,
    /// Free, with pages.
    pub dirty: usize,
    /// Freed mappings of huge objects, kept for a while.
    pub huge: usize,
}

impl Spans {
    pub(super) fn init(&self) -> Option<()> {
        self.map.init()
    }

    /// Takes `units` units, the first at a multiple of `align` units. `None` when the kernel gives
    /// no memory.
    pub fn alloc(&self, units: usize, align: usize) -> Option<Span> {
        debug_assert!(units <= MAX_UNITS);
        let _errno = errno::keep();
        let _signals = sigmask::block_all();
        let _held = self.lock.lock(Rank::Spans);
        if let Some(span) = self.find(units, align) {
            return Some(span);
        }
        self.add_chunk()?;
        self.find(units, align)
    }

    fn find(&self, units: usize, align: usize) -> Option<Span> {
        let mut clean = None;
        for chunk in self.chunks() {
            if chunk.nr_free() < units {
                continue;
            }
            if units == 1 && align == 1 {
                if let Some(unit) = chunk.dirty_unit() {
                    return Some(self.alloc_units(chunk, unit, 1));
                }
                clean = clean.or_else(|| chunk.run(1, 1).map(|unit| (chunk, unit)));
            } else if let Some(unit) = chunk.run(units, align) {
                return Some(self.alloc_units(chunk, unit, units));
            }
        }
        clean.map(|(chunk, unit)| self.alloc_units(chunk, unit, 1))
    }

    /// Chunks with a free unit.
    fn chunks(&self) -> impl Iterator<Item = &'static Chunk> {
        listed(&self.available)
    }

    fn alloc_units(&self, chunk: &'static Chunk, unit: usize, units: usize) -> Span {
        if chunk.nr_free() == NR_UNITS {
            self.nr_empty.fetch_sub(1, Relaxed);
        }
        let nr_dirty = chunk.alloc_units(unit, units);
        self.nr_dirty.fetch_sub(nr_dirty, Relaxed);
        self.nr_used.fetch_add(units, Relaxed);
        if chunk.nr_free() == 0 {
            chunk.unlink(&self.available);
            chunk.link(&self.full);
        }
        Span {
            start: chunk.address() + unit * UNIT,
            zeroed: nr_dirty == 0,
            window: self.map.window(),
        }
    }

    /// Gives units back, beginning with the one whose record is at `record`.
    pub fn free(&self, record: usize, units: usize) {
        let start = layout::start_of(record);
        let _errno = errno::keep();
        let signals = sigmask::block_all();
        let held = self.lock.lock(Rank::Spans);
        let spare = self.free_units(start, units, true);
        let due = self.is_cleaning_due();
        drop(held);
        drop(signals);
        if let Some(chunk) = spare {
            chunk.unmap();
        }
        if due {
            self.clean(false);
        }
    }

    /// Marks units free. Answers the chunk if it is to be unmapped; it is in no list any more.
    /// Under the lock.
    fn free_units(&self, start: usize, units: usize, dirty: bool) -> Option<Spare> {
        // SAFETY: the units are in use until this call marks them free, and a chunk with a used
        // unit is mapped.
        let chunk = unsafe { Chunk::of(start) };
        if chunk.nr_free() == 0 {
            chunk.unlink(&self.full);
            chunk.link(&self.available);
        }
        chunk.free_units(layout::unit_of(start), units, dirty);
        self.nr_used.fetch_sub(units, Relaxed);
        if dirty {
            self.nr_dirty.fetch_add(units, Relaxed);
            chunk.freed_at.store(clock::coarse_ns(), Relaxed);
        }
        if chunk.nr_free() < NR_UNITS {
            return None;
        }
        if chunk.nr_dirty() > 0 || self.nr_empty.load(Relaxed) < EMPTY_CHUNKS {
            self.nr_empty.fetch_add(1, Relaxed);
            return None;
        }
        chunk.unlink(&self.available);
        self.nr_chunks.fetch_sub(1, Relaxed);
        if self.newest.load(Relaxed) == chunk.address() {
            self.newest.store(0, Relaxed);
        }
        Some(Spare {
            at: chunk.address(),
            leaves_records: self.map.leave(chunk.address()),
        })
    }

    fn add_chunk(&self) -> Option<()> {
        let at = self.map.map_chunks(1, CHUNK, Place::Chunk)?;
        // SAFETY: `map_chunks` has just mapped this chunk, zeroed; zero bytes are a record with all
        // units in use.
        let chunk = unsafe { Chunk::of(at) };
        chunk.make();
        // A program that wrote to most of one chunk writes to most of the next, so the next may
        // have large pages. Where objects are larger than what is written to in them, a large page
        // would be cleared for a few small ones.
        // SAFETY: `newest` is 0 or a mapped chunk: `free_units` sets it to 0 before that chunk is
        // unmapped, under the same lock.
        if unsafe { Chunk::at(self.newest.load(Relaxed)) }.is_some_and(Chunk::is_filled) {
            let units = super::chunk::NR_UNITS * UNIT;
            // SAFETY: the range is whole pages of the chunk that was just mapped; the advice
            // changes no byte of it.
            unsafe { mmap::prefer_huge(at + UNIT, units) };
        }
        self.newest.store(at, Relaxed);
        chunk.link(&self.available);
        self.nr_chunks.fetch_add(1, Relaxed);
        self.nr_empty.fetch_add(1, Relaxed);
        Some(())
    }

    /// Makes a span longer where it lies. `None` when what follows is not free.
    pub fn extend(&self, start: usize, units: usize, more: usize) -> Option<Span> {
        let unit = layout::unit_of(start) + units;
        if unit + more > layout::END_UNIT {
            return None;
        }
        let _signals = sigmask::block_all();
        let _held = self.lock.lock(Rank::Spans);
        // SAFETY: the units of the span are in use until their user, who called this, frees them,
        // and a chunk with a used unit is mapped.
        let chunk = unsafe { Chunk::of(start) };
        chunk
            .is_free(unit, more)
            .then(|| self.alloc_units(chunk, unit, more))
    }

    fn is_too_many(&self, dirty: usize) -> bool {
        let bound = self.most_dirty.load(Relaxed);
        bound != 0 && dirty > bound - 1
    }

    /// The most bytes of dirty units that may be; `None`: only time bounds them.
    pub fn most_dirty(&self) -> Option<usize> {
        Some(self.most_dirty.load(Relaxed).checked_sub(1)? * UNIT)
    }

    /// Sets [`Self::most_dirty`], rounded down to units. It holds from the next free or cleaning
    /// on.
    pub fn set_most_dirty(&self, bytes: Option<usize>) {
        let bound = bytes.map_or(0, |bytes| bytes / UNIT + 1);
        self.most_dirty.store(bound, Relaxed);
    }

    /// Whether it is time to clean. A guess if the caller does not hold the lock.
    pub(super) fn is_cleaning_due(&self) -> bool {
        let dirty = self.nr_dirty.load(Relaxed);
        if self.is_too_many(dirty) {
            return true;
        }
        let now = clock::coarse_ns();
        let any = dirty > 0 || self.huge.bytes() > 0;
        any && now.wrapping_sub(self.looked_at.load(Relaxed)) > DECAY_NS
    }

    /// Gives the pages of dirty units back to the kernel, and unmaps chunks that have none left.
    /// With `everything` in all chunks, else in those into which nothing was freed for a while.
    pub fn clean(&self, everything: bool) {
        let now = clock::coarse_ns();
        self.looked_at.store(now, Relaxed);
        self.expire_huge(if everything {
            u64::MAX
        } else {
            now.saturating_sub(DECAY_NS)
        });
        loop {
            let Some((start, units)) = self.dirty_run(now, everything) else {
                return;
            };
            let (tags, tag_bytes) =
                layout::tag_range(layout::chunk_of(start), layout::unit_of(start), units);
            // SAFETY: `dirty_run` has marked these units used, for this call alone: no slab or
            // extent is in them, and nobody reads tags of units without a slab. The chunk stays
            // mapped while they are used.
            let done =
                unsafe { mmap::discard(start, units * UNIT) && mmap::discard(tags, tag_bytes) };
            let signals = sigmask::block_all();
            let held = self.lock.lock(Rank::Spans);
            let spare = self.free_units(start, units, !done);
            drop(held);
            drop(signals);
            if let Some(chunk) = spare {
                chunk.unmap();
            }
            if !done {
                return;
            }
        }
    }

    /// Takes a run of dirty units that is to be cleaned out of the bitmap.
    fn dirty_run(&self, now: u64, everything: bool) -> Option<(usize, usize)> {
        let _signals = sigmask::block_all();
        let _held = self.lock.lock(Rank::Spans);
        let too_many = self.is_too_many(self.nr_dirty.load(Relaxed));
        let chunk = self.chunks().find(|chunk| {
            chunk.nr_dirty() > 0
                && (everything
                    || too_many
                    || now.wrapping_sub(chunk.freed_at.load(Relaxed)) > DECAY_NS)
        })?;
        let (unit, units) = chunk.dirty_run()?;
        let span = self.alloc_units(chunk, unit, units);
        Some((span.start, units))
    }

    /// What there is now.
    pub fn stat(&self) -> SpanStat {
        SpanStat {
            mapped: self.nr_chunks.load(Relaxed) * NR_UNITS * UNIT,
            used: self.nr_used.load(Relaxed) * UNIT,
            dirty: self.nr_dirty.load(Relaxed) * UNIT,
            huge: self.huge.bytes(),
        }
    }

    /// The address of every chunk. The caller holds the lock, or no chunk comes or goes meanwhile.
    pub(super) fn each_chunk(&self) -> impl Iterator<Item = usize> {
        listed(&self.available)
            .chain(listed(&self.full))
            .map(Chunk::address)
    }

    /// A mapping of `bytes` for one huge object, and whether it is zero. The first of its `chunks`
    /// chunks is noted as huge. It is one that was freed of late, or a new one.
    pub(super) fn map_huge(&self, chunks: usize, bytes: usize) -> Option<(usize, bool)> {
        let (at, has) = {
            let _signals = sigmask::block_all();
            let _held = self.lock.lock(Rank::Spans);
            let Some((at, has)) = self.huge.find(bytes) else {
                let at = self.map.map_chunks(chunks, bytes, Place::Huge)?;
                return Some((at, true));
            };
            let had = has.div_ceil(CHUNK);
            self.map
                .set(at + chunks * CHUNK, had - chunks, Place::Nothing);
            (at, has)
        };
        // Unmaps the end that is too long. The map has forgotten it already. Until it is unmapped,
        // another mapping that is tried there is refused by the kernel.
        unmap(at + bytes, has - bytes);
        Some((at, false))
    }

    /// Takes back the mapping of a huge object: to keep it for a while, or to unmap it.
    pub(super) fn unmap_huge(&self, at: usize, bytes: usize) {
        let now = clock::coarse_ns();
        let kept = self.locked(|| {
            let kept = !self.is_too_many(bytes.div_ceil(UNIT)) && self.huge.keep((at, bytes), now);
            if !kept {
                // Before the unmapping, so that nobody takes what the kernel maps there next for an
                // object of this allocator.
                self.map.set(at, bytes.div_ceil(CHUNK), Place::Nothing);
            }
            kept
        });
        if !kept {
            unmap(at, bytes);
        }
        if self.is_cleaning_due() {
            self.clean(false);
        }
    }

    /// Whether a freed mapping that begins at `at` is kept.
    pub(super) fn keeps_huge(&self, at: usize) -> bool {
        self.huge.has(at)
    }

    /// Unmaps the mappings that have been kept since `since_ns` or longer.
    fn expire_huge(&self, since_ns: u64) {
        let oldest = || {
            self.locked(|| {
                let (at, bytes) = self.huge.oldest(since_ns)?;
                self.map.set(at, bytes.div_ceil(CHUNK), Place::Nothing);
                Some((at, bytes))
            })
        };
        while let Some((at, bytes)) = oldest() {
            unmap(at, bytes);
        }
    }

    /// Runs `f` under the lock.
    pub(super) fn locked<R>(&self, f: impl FnOnce() -> R) -> R {
        let _signals = sigmask::block_all();
        let _held = self.lock.lock(Rank::Spans);
        f()
    }

    /// Takes the lock before a fork. Signals are off already.
    pub(super) fn lock_for_fork(&self) {
        core::mem::forget(self.lock.lock(Rank::Spans));
    }

    /// Makes the lock free in a child that was cloned while a thread may have held it.
    pub(super) fn reset_lock_in_child(&self, sole: SoleThread) {
        self.lock.reset_in_child(sole);
    }

    /// Unlocks after a fork, in the parent or in the child.
    pub(super) fn unlock_after_fork(&self, held: HeldOverFork) {
        self.lock.unlock_forgotten(Rank::Spans, held);
    }
}

/// A chunk that is to go back to the kernel: in no list any more, and noted as gone.
#[must_use]
struct Spare {
    at: usize,
    /// Its first unit stays mapped: see [`Window`].
    leaves_records: bool,
}

impl Spare {
    /// Unmaps it, without the lock. Until this is done the kernel maps nothing else there.
    fn unmap(self) {
        if !self.leaves_records {
            unmap(self.at, CHUNK);
            return;
        }
        // The first unit is made zero first: once the rest is unmapped, the next chunk may come.
        // SAFETY: `free_units` found no used unit in this chunk, took it out of all lists and noted
        // it as gone, so nobody but this value leads to it. Its first unit is mapped.
        if !unsafe { mmap::discard(self.at, UNIT) } {
            // SAFETY: the same unit: mapped, `UNIT` bytes, and nobody but this value leads to it. A
            // stale reader of a record sees some bytes of integers.
            unsafe { core::ptr::write_bytes(self.at as *mut u8, 0, UNIT) };
        }
        unmap(self.at + UNIT, CHUNK - UNIT);
    }
}

/// Unmaps whole chunks, huge mappings, or the end of one. Called only for ranges that nobody uses,
/// and to which no list and no map leads any more.
fn unmap(at: usize, bytes: usize) {
    if let Some(p) = core::ptr::NonNull::new(at as *mut u8)
        && bytes > 0
    {
        // SAFETY: the callers, all in this file, took the range out of the lists and of the map
        // first: a `Spare` chunk, the cut-off end of a huge mapping, one that was not kept or has
        // expired. Nobody uses it.
        unsafe { mmap::unmap(p, bytes) };
    }
}

/// The chunks of a list. The caller holds the lock, or no chunk comes or goes meanwhile.
fn listed(first: &AtomicUsize) -> impl Iterator<Item = &'static Chunk> {
    // SAFETY: an address in a list is 0 or a mapped chunk: `free_units` unlinks a chunk before it
    // is unmapped, under the lock. The callers hold the lock, or run while nothing changes
    // (`each_chunk`).
    let chunk = |at: usize| unsafe { Chunk::at(at) };
    core::iter::successors(chunk(first.load(Relaxed)), move |now| {
        chunk(now.next.load(Relaxed))
    })
}

/// An engine's spans are never dropped; those of a model are, with every schedule.
#[cfg(loom)]
impl Drop for Spans {
    fn drop(&mut self) {
        for first in [&self.available, &self.full] {
            let mut at = first.load(Relaxed);
            // SAFETY: an address in a list is 0 or a mapped chunk, and `next` is read before the
            // chunk is unmapped. Drop has the only reference.
            while let Some(chunk) = unsafe { Chunk::at(at) } {
                at = chunk.next.load(Relaxed);
                unmap(chunk.address(), CHUNK);
            }
        }
        self.map.unmap();
    }
}
