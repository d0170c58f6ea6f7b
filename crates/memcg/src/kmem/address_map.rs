//! What lies where: a byte for every 32 MiB of the address space, and the placing of chunks.
//!
//! Written under the lock of the spans; read by anybody who doubts a pointer.

use super::layout::{
    self, ADDRESS_BITS, AREA_BYTES, AREA_START, CHUNK, HUGE_BYTES, HUGE_START, UNIT,
};
use crate::os::{ids, mmap};
use core::sync::atomic::{
    AtomicPtr, AtomicU8, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// Places of chunks that went which are tried for a new one.
const MOST_AGAIN: usize = 16;

const SLOTS: usize = 1 << (ADDRESS_BITS - CHUNK.ilog2());

/// What is in 32 MiB of the address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Place {
    /// Nothing of ours.
    Nothing = 0,
    /// A chunk.
    Chunk = 1,
    /// The first of a huge object, with its record.
    Huge = 2,
    /// A later part of a huge object.
    HugeRest = 3,
    /// A huge object that begins with the 32 MiB; its record is in those before.
    HugeAligned = 4,
    /// A chunk was here. Its first unit is mapped still, and zero: no record of it says anything.
    Gone = 5,
}

/// See the module. Zero: not yet made.
#[derive(Default)]
pub struct Map {
    slots: AtomicPtr<AtomicU8>,
    /// Where in the area of chunks, and in that of huge objects, the search for room goes on, in
    /// chunks.
    cursors: [AtomicUsize; 2],
    /// See [`Window`]. Written under the lock.
    window: [AtomicUsize; 2],
    /// Places of [`Place::Gone`].
    nr_gone: AtomicUsize,
}

/// A run of the area of chunks in which every 32 MiB have their first unit mapped, for as long as
/// the process lives: the records of an address in it can be read, whatever the address is. Chunks
/// lie in it one after the other; one that goes back to the kernel leaves its first unit, without
/// pages. Where somebody else's mapping ends the run, the next chunk begins another, and objects of
/// the old one are freed without the help of this.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Window {
    /// Its first address.
    pub start: usize,
    /// Its bytes.
    pub bytes: usize,
}

impl Map {
    pub(super) fn init(&self) -> Option<()> {
        let slots = mmap::map(SLOTS)?;
        // Not at the same place in every process, nor in every engine of one.
        for cursor in &self.cursors {
            let start = ids::random() as usize % (HUGE_BYTES / CHUNK / 2);
            cursor.store(start, Relaxed);
        }
        // Release pairs with the Acquire of `slot`.
        self.slots.store(slots.as_ptr().cast(), Release);
        Some(())
    }

    /// Gives the table back: nobody has anything mapped any more.
    #[cfg(loom)]
    pub(super) fn unmap(&self) {
        let gone = self.each().filter(|&(_, place)| place == Place::Gone);
        for p in gone.filter_map(|(at, _)| core::ptr::NonNull::new(at as *mut u8)) {
            // SAFETY: the first unit of a chunk that has gone is mapped.
            unsafe { mmap::unmap(p, UNIT) };
        }
        if let Some(slots) = core::ptr::NonNull::new(self.slots.load(Acquire).cast()) {
            // SAFETY: mapped by `init`, and nobody looks any more.
            unsafe { mmap::unmap(slots, SLOTS) };
        }
    }

    fn slot(&self, at: usize) -> Option<&AtomicU8> {
        let slots = self.slots.load(Acquire);
        let slot = at / CHUNK;
        if slots.is_null() || slot >= SLOTS {
            return None;
        }
        // SAFETY: within the table, which is never unmapped; zero bytes are values.
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

    /// Every 32 MiB in which something of ours lies, and what. Nothing may come or go meanwhile.
    pub(super) fn each(&self) -> impl Iterator<Item = (usize, Place)> {
        const PAGE: usize = 4096;
        let slots: *const u8 = self.slots.load(Acquire).cast();
        (0..if slots.is_null() { 0 } else { SLOTS / PAGE })
            .filter(move |page| {
                // SAFETY: a page of the table, which is never unmapped; nobody writes it now.
                let page = unsafe { core::slice::from_raw_parts(slots.add(page * PAGE), PAGE) };
                page != [0; PAGE]
            })
            .flat_map(|page| (page * PAGE..(page + 1) * PAGE).map(|slot| slot * CHUNK))
            .map(|at| (at, self.get(at)))
            .filter(|(_, place)| *place != Place::Nothing)
    }

    /// The run of chunks in which the newest lies. Exact under the lock.
    pub(super) fn window(&self) -> Window {
        Window {
            start: self.window[0].load(Relaxed),
            bytes: self.window[1].load(Relaxed),
        }
    }

    /// A chunk has been mapped at `at`: the window reaches it from here on.
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

    /// Notes that a chunk goes. `true`: its first unit is to stay, zeroed; all of it goes
    /// otherwise. Under the lock.
    pub(super) fn leave(&self, at: usize) -> bool {
        let stays = layout::in_area(at);
        self.set(at, 1, if stays { Place::Gone } else { Place::Nothing });
        self.nr_gone.fetch_add(stays.into(), Relaxed);
        stays
    }

    /// Maps a chunk where one was before. `None`: there is no such place, or all are somebody
    /// else's by now.
    fn map_again(&self) -> Option<usize> {
        let Window { start, bytes } = self.window();
        if self.nr_gone.load(Relaxed) == 0 {
            return None;
        }
        let gone = (start..start + bytes)
            .step_by(CHUNK)
            .filter(|&at| self.get(at) == Place::Gone);
        // While the chunk that was there is on its way to the kernel, its place is taken.
        let at = gone
            .take(MOST_AGAIN)
            .find(|at| mmap::map_at(at + UNIT, CHUNK - UNIT).is_ok())?;
        self.nr_gone.fetch_sub(1, Relaxed);
        Some(at)
    }

    /// Notes what lies in `chunks` chunks from `at` on.
    pub(super) fn set(&self, at: usize, chunks: usize, place: Place) {
        for i in 0..chunks {
            if let Some(slot) = self.slot(at + i * CHUNK) {
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
        // SAFETY: mapped above, of that length.
        unsafe {
            crate::os::mmap::unmap(core::ptr::NonNull::new(at as *mut u8).unwrap(), 5 * 4096)
        };
    }
}
