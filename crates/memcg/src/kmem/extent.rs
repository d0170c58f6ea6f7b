//! Objects larger than any class: whole pages, in units of a chunk (*large*) or in a mapping of
//! their own (*huge*).
//!
//! Invariants: the record of an extent's first unit tells its bytes and its tag, which only who
//! holds the extent changes (`adopt`). An extent belongs to no heap: it is allocated and freed
//! under the lock of the spans, or through its thread's `large` cache.
//! Depends on: `span` and `address_map` for places, `os` for moving and cutting mappings.
//! Never: a charge; a copy where pages can be moved more cheaply.

use super::Kmem;
use super::address_map::Place;
use super::heap::{Heap, Taken};
use super::layout::{self, CHUNK, UNIT};
use super::slab::{Slab, SlabKind, SlabRef};
use super::span::MAX_UNITS;
use crate::os::mmap;
use crate::thread::Tag;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

const PAGE: usize = 4096;

/// From this many bytes on it is cheaper to move pages than to copy them. A move leaves a mapping
/// of its own in the kernel's books, and a process may have 65,530 of these.
const WORTH_MOVING: usize = 512 << 10;

/// Bytes of an extent for `bytes`; as many are charged. `None`: more than there can be.
#[must_use]
pub fn extent_bytes(bytes: usize) -> Option<usize> {
    let all = bytes.max(1).checked_next_multiple_of(PAGE)?;
    (all <= isize::MAX as usize - 2 * CHUNK).then_some(all)
}

impl Kmem {
    /// Takes an extent of `bytes` (as [`extent_bytes`] says) at a multiple of `align`, a power of
    /// two, for `tag`: one that `own` freed of late, or a new one. `None`: the kernel gives no
    /// memory.
    ///
    /// # Safety
    /// If `own` is given, it is the calling thread's heap, and the thread is in a heap section.
    pub unsafe fn alloc_extent(
        &self,
        own: Option<&Heap>,
        bytes: usize,
        align: usize,
        tag: Option<Tag>,
    ) -> Option<Taken> {
        if align >= CHUNK {
            return self.alloc_aligned_huge(bytes, align, tag);
        }
        let align_units = (align / UNIT).max(1);
        let units = bytes.div_ceil(UNIT);
        if align_units == 1
            && let Some(slab) = own.and_then(|own| own.large.find(units))
        {
            slab.make_extent(SlabKind::Large, slab.start(), bytes, tag);
            return Some(Taken {
                at: slab.start(),
                zeroed: false,
            });
        }
        // An aligned place for so many units must fit in one chunk, or a new chunk would be mapped
        // in vain.
        let first = layout::FIRST_UNIT.next_multiple_of(align_units);
        if units <= MAX_UNITS && first + units <= layout::END_UNIT {
            let span = self.spans.alloc(units, align_units)?;
            // SAFETY: `spans.alloc` has just answered this span, so its chunk is mapped, and stays
            // so while the span is in use.
            let slab = unsafe { Slab::of(span.start) };
            slab.set_units(units);
            slab.make_extent(SlabKind::Large, span.start, bytes, tag);
            return Some(Taken {
                at: span.start,
                zeroed: span.zeroed,
            });
        }
        let unit = align_units.min(MAX_UNITS);
        let all = unit * UNIT + bytes;
        let (chunk, zeroed) = self.spans.map_huge(all.div_ceil(CHUNK), all)?;
        let at = chunk + unit * UNIT;
        // SAFETY: `map_huge` answered a mapping that begins with a chunk. Its first unit is mapped
        // and has room for the records of all units, and `unit` is at least 1 and at most
        // MAX_UNITS.
        let slab = unsafe { Slab::of(at) };
        slab.make_extent(SlabKind::Huge, at, bytes, tag);
        self.add_huge(bytes);
        Some(Taken { at, zeroed })
    }

    /// An extent that begins with a chunk. Its record is in a unit mapped 32 MiB before it.
    fn alloc_aligned_huge(&self, bytes: usize, align: usize, tag: Option<Tag>) -> Option<Taken> {
        let room = bytes.checked_add(align)?.checked_add(CHUNK)?;
        let start = mmap::map(room)?.as_ptr() as usize;
        let at = (start + CHUNK).next_multiple_of(align);
        let record = at - CHUNK;
        let (end, room_end) = (at + bytes, start + room);
        // SAFETY: the three ranges are parts of the mapping made above, which nobody else has seen,
        // and none of them overlaps the record's unit or the extent.
        unsafe {
            cut(start, record);
            cut(record + UNIT, at);
            cut(end, room_end);
        }
        // SAFETY: the unit at `record` stays mapped, zeroed, and `record` begins a chunk. So the
        // record of `record + UNIT` lies in it.
        let slab = unsafe { Slab::of(record + UNIT) };
        slab.make_extent(SlabKind::Huge, at, bytes, tag);
        self.spans.locked(|| {
            let map = &self.spans.map;
            map.set(at, bytes.div_ceil(CHUNK), Place::HugeRest);
            map.set(at, 1, Place::HugeAligned);
        });
        self.add_huge(bytes);
        Some(Taken { at, zeroed: true })
    }

    /// The record of an extent that begins with the chunk of `at`.
    ///
    /// # Safety
    /// The map says [`Place::HugeAligned`] of `at`, and the extent is not freed meanwhile.
    pub(super) unsafe fn record_before(at: usize) -> SlabRef {
        // SAFETY: only `alloc_aligned_huge` notes an address so, and it leaves the unit mapped in
        // which this record lies; `free_extent` forgets the note before it unmaps that unit.
        unsafe { Slab::of(layout::chunk_of(at) - CHUNK + UNIT) }
    }

    fn add_huge(&self, bytes: usize) {
        self.huge_bytes.fetch_add(bytes, Relaxed);
    }

    /// Gives an extent back.
    ///
    /// # Safety
    /// The slab is the record of a live extent, whose bytes are uncharged, and nobody uses it after
    /// this call. `own` is as for [`Self::alloc_extent`].
    pub(super) unsafe fn free_extent(&self, own: Option<&Heap>, slab: SlabRef) {
        let (at, bytes) = (slab.start(), slab.extent.load(Relaxed));
        let huge = slab.kind() == SlabKind::Huge;
        slab.unmake();
        if !huge {
            if !own.is_some_and(|own| own.large.keep(slab)) {
                self.spans.free(slab.address(), slab.units());
            }
            return;
        }
        self.huge_bytes.fetch_sub(bytes, Relaxed);
        if at % CHUNK != 0 {
            let chunk = layout::chunk_of(at);
            self.spans.unmap_huge(chunk, at + bytes - chunk);
            return;
        }
        // Before the unmapping, so that nobody takes what the kernel maps there next for an object
        // of this allocator.
        self.forget(at, bytes);
        // SAFETY: `alloc_aligned_huge` made exactly these two mappings for this extent: the
        // record's unit and the extent. It was live, its user has given it up, and the map has
        // forgotten it.
        unsafe {
            cut(at - CHUNK, at - CHUNK + UNIT);
            cut(at, at + bytes);
        }
    }

    /// Makes an extent `bytes` long where it lies. `false`: it does not fit there, nothing has
    /// changed.
    ///
    /// # Safety
    /// The slab is the record of a live extent that nobody but the caller uses. Nobody needs the
    /// bytes beyond the new end.
    pub(super) unsafe fn resize_extent(&self, slab: SlabRef, bytes: usize) -> bool {
        let (at, old) = (slab.start(), slab.extent.load(Relaxed));
        let done = match slab.kind() {
            SlabKind::Large => self.resize_large(slab, at, bytes),
            // A huge extent that shrinks to the size of a large one is better moved.
            _ if at % CHUNK == 0 || bytes <= MAX_UNITS * UNIT => false,
            SlabKind::Free
            | SlabKind::Objects
            | SlabKind::Huge
            | SlabKind::Inside
            | SlabKind::Cached => {
                // SAFETY: the caller has promised a live extent of its own, and that nothing of
                // what is cut off is needed.
                unsafe { self.resize_huge(at, old, bytes) }
            }
        };
        if done {
            slab.extent.store(bytes, Relaxed);
        }
        done
    }

    fn resize_large(&self, slab: SlabRef, at: usize, bytes: usize) -> bool {
        let (has, needs) = (slab.units(), bytes.div_ceil(UNIT));
        if needs > has {
            if needs > MAX_UNITS || self.spans.extend(at, has, needs - has).is_none() {
                return false;
            }
        } else if needs < has {
            self.spans
                .free(slab.address() + needs * layout::RECORD, has - needs);
        }
        slab.set_units(needs);
        true
    }

    /// # Safety
    /// A live huge extent of `old` bytes begins at `at`, not at the beginning of a chunk; nobody
    /// but the caller uses it, and nobody needs the bytes beyond `bytes`.
    unsafe fn resize_huge(&self, at: usize, old: usize, bytes: usize) -> bool {
        let chunk = layout::chunk_of(at);
        let (had, needs) = (at + old - chunk, at + bytes - chunk);
        let (had_chunks, new_chunks) = (had.div_ceil(CHUNK), needs.div_ceil(CHUNK));
        let map = &self.spans.map;
        let done = self.spans.locked(|| {
            let free =
                (had_chunks..new_chunks).all(|i| map.get(chunk + i * CHUNK) == Place::Nothing);
            // SAFETY: from `chunk` on, `had` bytes are the whole mapping that `map_huge` made for
            // this extent, or that a resize left. The caller needs nothing of what is cut off.
            if !free || !unsafe { mmap::resize(chunk, had, needs) } {
                return false;
            }
            if new_chunks > had_chunks {
                let more = new_chunks - had_chunks;
                map.set(chunk + had_chunks * CHUNK, more, Place::HugeRest);
            } else {
                let less = had_chunks - new_chunks;
                map.set(chunk + new_chunks * CHUNK, less, Place::Nothing);
            }
            true
        });
        if done {
            self.huge_bytes.fetch_add(bytes.wrapping_sub(old), Relaxed);
        }
        done
    }

    /// Moves a huge extent to where it can be `bytes` long, without copying a byte; answers where.
    /// `None`: not possible, nothing has changed.
    ///
    /// # Safety
    /// As for [`Self::resize_extent`]; on success nobody uses the old address either.
    pub(super) unsafe fn move_extent(&self, slab: SlabRef, bytes: usize) -> Option<usize> {
        let (at, old) = (slab.start(), slab.extent.load(Relaxed));
        if slab.kind() != SlabKind::Huge || at % CHUNK == 0 || bytes <= MAX_UNITS * UNIT {
            return None;
        }
        let chunk = layout::chunk_of(at);
        let (had, needs) = (at + old - chunk, at + bytes - chunk);
        let (to, _) = self.spans.map_huge(needs.div_ceil(CHUNK), needs)?;
        // SAFETY: `had` bytes from `chunk` on are the extent's whole mapping; the target was just
        // mapped by `map_huge` for this, with `needs` bytes, and nobody else uses it.
        if !unsafe { mmap::remap(chunk, had, to, needs) } {
            self.forget(to, needs);
            // SAFETY: `map_huge` mapped these bytes for this call, the map has forgotten them, and
            // no pointer into them has left this function.
            unsafe { cut(to, to + needs) };
            return None;
        }
        self.forget(chunk, had);
        let new = to + (at - chunk);
        // SAFETY: `remap` moved all pages of the mapping, the first unit with the records among
        // them; `new` lies as far behind `to` as `at` did behind `chunk`.
        let slab = unsafe { Slab::of(new) };
        slab.start.store(new, Relaxed);
        slab.extent.store(bytes, Relaxed);
        self.huge_bytes.fetch_add(bytes.wrapping_sub(old), Relaxed);
        Some(new)
    }

    /// Moves a large extent to a new one of `bytes` bytes; answers where. Its pages are moved if
    /// the new one has none, else what is in them is copied to those that are there. `None`: not
    /// worth it or not possible, nothing has changed.
    ///
    /// # Safety
    /// As for [`Self::resize_extent`]; on success nobody uses the old address either.
    pub(super) unsafe fn move_large(&self, slab: SlabRef, bytes: usize) -> Option<usize> {
        let (at, old) = (slab.start(), slab.extent.load(Relaxed));
        let kept = old.min(bytes);
        if slab.kind() != SlabKind::Large || kept < WORTH_MOVING {
            return None;
        }
        // SAFETY: `own` is `None`, so `alloc_extent` asks nothing of the caller.
        let new = unsafe { self.alloc_extent(None, bytes, UNIT, slab.extent_tag())? };
        // SAFETY: both ranges are whole pages: the first `kept` bytes of a live extent that the
        // caller alone uses, and of the new extent, whose address nobody else has.
        if !new.zeroed || !unsafe { mmap::move_pages(at, kept, new.at) } {
            // SAFETY: `kept` is at most the bytes of either extent. Both are live, so they do not
            // overlap.
            unsafe { core::ptr::copy_nonoverlapping(at as *const u8, new.at as *mut u8, kept) };
        }
        // SAFETY: the old extent is live and only the caller uses it; its content is in the new
        // one, so nobody uses it after this. `own` is `None`. The caller charges extents, not this
        // function.
        unsafe { self.free_extent(None, slab) };
        Some(new.at)
    }

    fn forget(&self, chunk: usize, bytes: usize) {
        self.spans.locked(|| {
            self.spans
                .map
                .set(chunk, bytes.div_ceil(CHUNK), Place::Nothing);
        });
    }
}

/// Unmaps `from..to`; nothing if that is empty.
///
/// # Safety
/// The range is of mappings that this room made, and nobody uses it or holds a pointer into it.
unsafe fn cut(from: usize, to: usize) {
    if let Some(p) = NonNull::new(from as *mut u8)
        && to > from
    {
        // SAFETY: the caller promised a range of this room's mappings, which `os::mmap` made, and
        // that nobody uses it.
        unsafe { mmap::unmap(p, to - from) };
    }
}

impl Slab {
    /// Units of a large extent.
    pub(super) fn units(&self) -> usize {
        self.held.load(Relaxed) as usize
    }

    fn set_units(&self, units: usize) {
        self.held.store(units as u32, Relaxed);
    }

    fn make_extent(&self, kind: SlabKind, at: usize, bytes: usize, tag: Option<Tag>) {
        self.owner.store(0, Relaxed);
        self.start.store(at, Relaxed);
        self.extent.store(bytes, Relaxed);
        self.set_tag(tag);
        self.set_kind(kind);
    }
}
