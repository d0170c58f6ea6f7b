//! What lies where: a byte for every 32 MiB of the address space, and the placing of chunks and
//! huge objects.
//!
//! Invariants: a byte that says `Chunk`, `Huge` or `HugeAligned` is written after the mapping was
//! made, and overwritten before it is unmapped. The window only grows, or begins anew; the first
//! unit of every 32 MiB in it stays mapped.
//! Depends on: the lock of the spans for all writes; `os` for mappings.
//! Never: a lock for a read. Any thread may ask about any address.

use super::layout::{
    self, ADDRESS_BITS, AREA_BYTES, AREA_START, CHUNK, HUGE_BYTES, HUGE_START, UNIT,
};
use crate::os::{ids, mmap};
use core::sync::atomic::{
    AtomicPtr, AtomicU8, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// How many places of chunks that have gone are tried for a new one.
const MOST_AGAIN: usize = 16;

const SLOTS: usize = 1 << (ADDRESS_BITS - CHUNK.ilog2());

/// What is in 32 MiB of the address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Place {
    /// Nothing of this allocator.
    Nothing = 0,
    /// A chunk.
    Chunk = 1,
    /// The beginning of a huge object's mapping, with its record.
    Huge = 2,
    /// A later part of a huge object.
    HugeRest = 3,
    /// A huge object begins exactly here; its record lies in the 32 MiB before.
    HugeAligned = 4,
    /// A chunk was here and was unmapped, all but its first unit, which is zero: its records say
    /// that nothing is there.
    Gone = 5,
}

/// See the module. Zero: not yet made.
#[derive(Default)]
pub struct Map {
    slots: AtomicPtr<AtomicU8>,
    /// Where the search for room goes on, in chunks: in the area of chunks, and in that of huge
    /// objects.
    cursors: [AtomicUsize; 2],
    /// The fields of the [`Window`]. Written under the lock of the spans.
    window: [AtomicUsize; 2],
    /// How many places are [`Place::Gone`].
    nr_gone: AtomicUsize,
}

/// A run in the area of chunks in which every 32 MiB have their first unit mapped for as long as
/// the process lives. So the record of any address in it can be read. Chunks lie in it one after
/// the other. A chunk that is unmapped leaves its first unit mapped, without pages. Where another
/// mapping ends the run, the next chunk begins a new window; objects in the old one are then freed
/// by the slower path that asks the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Window {
    /// The window's first address.
    pub start: usize,
    /// The window's length in bytes.
    pub bytes: usize,
}

impl Map {
    pub(super) fn init(&self) -> Option<()> {
        let slots = mmap::map(SLOTS)?;
        // Another place in every process, and for every engine of a process.
        for cursor in &self.cursors {
            let start = ids::random() as usize % (HUGE_BYTES / CHUNK / 2);
            cursor.store(start, Relaxed);
        }
        // Release pairs with the Acquire of `slot`.
        self.slots.store(slots.as_ptr().cast(), Release);
        Some(())
    }

    /// Unmaps the table. Nothing of this map is mapped any more, but for first units that chunks
    /// left.
    #[cfg(loom)]
    pub(super) fn unmap(&self) {
        let gone = self.each().filter(|&(_, place)| place == Place::Gone);
        for p in gone.filter_map(|(at, _)| core::ptr::NonNull::new(at as *mut u8)) {
            // SAFETY: `leave` noted this chunk as gone, and `Spare::unmap` left exactly its first
            // unit mapped. The model that used it has ended.
            unsafe { mmap::unmap(p, UNIT) };
        }
        if let Some(slots) = core::ptr::NonNull::new(self.slots.load(Acquire).cast()) {
            // Acquire pairs with the Release of `init`, as in `slot`; no thread is left.
            // SAFETY: `init` mapped SLOTS bytes here; the model has ended, so nobody looks at the
            // table.
            unsafe { mmap::unmap(slots, SLOTS) };
        }
    }

    fn slot(&self, at: usize) -> Option<&AtomicU8> {
        // Acquire pairs with the Release of `init`: the table is mapped.
        let slots = self.slots.load(Acquire);
        let slot = at / CHUNK;
        if slots.is_null() || slot >= SLOTS {
            return None;
        }
        // SAFETY: `slot` is below SLOTS, the table's bytes. `init` mapped the table and nothing
        // unmaps it while the engine lives; zero bytes are values of `AtomicU8`.
        Some(unsafe { &*slots.add(slot) })
    }

    /// What lies at an address.
    pub fn get(&self, at: usize) -> Place {
        // Acquire pairs with the Release of `set`: the chunk is mapped.
        match self.slot(at).map_or(0, |slot| slot.load(Acquire)) {
            1 => Place::Chunk,
            2 => Place::Huge,
            3 => Place::HugeRest,
            4 => Place::HugeAligned,
            5 => Place::Gone,
            _ => Place::Nothing,
        }
    }

    /// Every 32 MiB in which something of this allocator lies, and what. Nothing may come or go
    /// meanwhile.
    pub(super) fn each(&self) -> impl Iterator<Item = (usize, Place)> {
        const PAGE: usize = 4096;
        // Acquire pairs with the Release of `init`, as in `slot`.
        let slots: *const u8 = self.slots.load(Acquire).cast();
        (0..if slots.is_null() { 0 } else { SLOTS / PAGE })
            .filter(move |page| {
                // SAFETY: `page` is below SLOTS / PAGE, so these bytes are in the table, which
                // stays mapped. The caller sees to it that nobody writes the map meanwhile, so
                // plain reads are no race.
                let page = unsafe { core::slice::from_raw_parts(slots.add(page * PAGE), PAGE) };
                page != [0; PAGE]
            })
            .flat_map(|page| (page * PAGE..(page + 1) * PAGE).map(|slot| slot * CHUNK))
            .map(|at| (at, self.get(at)))
            .filter(|(_, place)| *place != Place::Nothing)
    }

    /// The window in which the newest chunk lies. Exact under the lock of the spans, else a guess.
    pub(super) fn window(&self) -> Window {
        Window {
            start: self.window[0].load(Relaxed),
            bytes: self.window[1].load(Relaxed),
        }
    }

    /// Makes the window include the chunk that was mapped at `at`. Under the lock of the spans.
    fn reach(&self, at: usize) {
        let Window { start, bytes } = self.window();
        if !layout::in_area(at) || at.wrapping_sub(start) < bytes {
            return;
        }
        if bytes > 0 && at == start + bytes {
            self.window[1].store(bytes + CHUNK, Relaxed);
        } else {
            self.window[0].store(at, Relaxed);
            self.window[1].store(CHUNK, Relaxed);
        }
    }

    /// Notes that the chunk at `at` will be unmapped. `true`: its first unit is to stay mapped, and
    /// zeroed. Under the lock of the spans.
    pub(super) fn leave(&self, at: usize) -> bool {
        let stays = layout::in_area(at);
        self.set(at, 1, if stays { Place::Gone } else { Place::Nothing });
        self.nr_gone.fetch_add(stays.into(), Relaxed);
        stays
    }

    /// Maps a chunk where one was before. `None`: there is no such place, or others have mapped all
    /// of them. Under the lock of the spans.
    fn map_again(&self) -> Option<usize> {
        let Window { start, bytes } = self.window();
        if self.nr_gone.load(Relaxed) == 0 {
            return None;
        }
        let gone = (start..start + bytes)
            .step_by(CHUNK)
            .filter(|&at| self.get(at) == Place::Gone);
        // A chunk that another thread is still unmapping refuses the mapping, and the next place is
        // tried.
        let at = gone
            .take(MOST_AGAIN)
            .find(|at| mmap::map_at(at + UNIT, CHUNK - UNIT).is_ok())?;
        self.nr_gone.fetch_sub(1, Relaxed);
        Some(at)
    }

    /// Notes what lies in `chunks` chunks, beginning at `at`. Under the lock of the spans.
    pub(super) fn set(&self, at: usize, chunks: usize, place: Place) {
        for i in 0..chunks {
            if let Some(slot) = self.slot(at + i * CHUNK) {
                // Release pairs with the Acquire of `get`: what lies there is mapped.
                slot.store(place as u8, Release);
            }
        }
    }

    /// Maps `bytes` at the beginning of `chunks` chunks of the area for `place` that have nothing
    /// in them; notes the first as `place`, the others as [`Place::HugeRest`]. Under the lock.
    pub(super) fn map_chunks(&self, chunks: usize, bytes: usize, place: Place) -> Option<usize> {
        let again = (place == Place::Chunk).then(|| self.map_again()).flatten();
        let at = again
            .or_else(|| self.map_in_area(chunks, bytes, place))
            .or_else(|| Some(mmap::map_aligned(bytes, CHUNK)?.as_ptr() as usize))?;
        self.set(at + CHUNK, chunks - 1, Place::HugeRest);
        self.set(at, 1, place);
        if place == Place::Chunk {
            self.reach(at);
        }
        Some(at)
    }

    fn map_in_area(&self, chunks: usize, bytes: usize, place: Place) -> Option<usize> {
        let (area, bytes_of_area, cursor) = match place {
            Place::Chunk => (AREA_START, AREA_BYTES, &self.cursors[0]),
            Place::Nothing | Place::Huge | Place::HugeRest | Place::HugeAligned | Place::Gone => {
                (HUGE_START, HUGE_BYTES, &self.cursors[1])
            }
        };
        let all = bytes_of_area / CHUNK;
        if chunks > all {
            return None;
        }
        let start = cursor.load(Relaxed);
        let (mut slot, mut looked, mut tries) = (start, 0, 0);
        while looked < all + chunks && tries < 16 {
            if slot + chunks > all {
                looked += all - slot.min(all);
                slot = 0;
                continue;
            }
            let used = (0..chunks)
                .rev()
                .find(|i| self.get(area + (slot + i) * CHUNK) != Place::Nothing);
            if let Some(used) = used {
                looked += used + 1;
                slot += used + 1;
                continue;
            }
            let at = area + slot * CHUNK;
            match mmap::map_at(at, bytes) {
                Ok(_) => {
                    cursor.store(slot + chunks, Relaxed);
                    return Some(at);
                }
                // Somebody else's mapping lies there.
                Err(true) => {
                    looked += 1;
                    slot += 1;
                    tries += 1;
                }
                Err(false) => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again_and_forgotten() {
        let map = Map::default();
        assert_eq!(map.get(AREA_START), Place::Nothing);
        map.init().unwrap();
        let at = map.map_chunks(3, 5 * 4096, Place::Huge).unwrap();
        assert_eq!(map.get(at + 4096), Place::Huge);
        assert_eq!(map.get(at + 2 * CHUNK), Place::HugeRest);
        assert_eq!(map.get(at + 3 * CHUNK), Place::Nothing);
        map.set(at, 3, Place::Nothing);
        assert_eq!(map.get(at), Place::Nothing);
        assert_eq!(map.get(usize::MAX), Place::Nothing);
        // SAFETY: `map_chunks` mapped these five pages above, and nothing else uses them.
        unsafe {
            crate::os::mmap::unmap(core::ptr::NonNull::new(at as *mut u8).unwrap(), 5 * 4096)
        };
    }
}
