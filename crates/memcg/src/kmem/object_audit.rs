//! The allocator's own account of who holds what. Tests, and a process at rest, compare it with
//! what owners are charged.
//!
//! Invariants: none of its own; nothing is changed.
//! Depends on: nothing being allocated or freed meanwhile.
//! Never: a repair. What does not add up is a panic.

use super::Kmem;
use super::address_map::Place;
use super::layout::{END_UNIT, FIRST_UNIT, UNIT};
use super::remote::NONE;
use super::slab::{Slab, SlabKind};
use crate::thread::Tag;
use core::sync::atomic::Ordering::Relaxed;

/// Objects of the smallest class in a unit.
const MOST: usize = UNIT / 16;

impl Kmem {
    /// Calls `f` with the tag and the bytes of every live object. Nothing may be allocated or freed
    /// meanwhile.
    ///
    /// # Panics
    /// When a slab's lists do not add up.
    pub fn each_live(&self, mut f: impl FnMut(Option<Tag>, usize)) {
        for slab in self.each_slab() {
            match slab.kind() {
                SlabKind::Objects => slab.each_live(&mut f),
                SlabKind::Cached => self.caches.each_live_of(slab, &mut f),
                SlabKind::Large => f(slab.extent_tag(), slab.extent.load(Relaxed)),
                SlabKind::Free | SlabKind::Huge | SlabKind::Inside => {}
            }
        }
        self.each_huge(|slab| f(slab.extent_tag(), slab.extent.load(Relaxed)));
    }

    /// Calls `f` with the record of every huge object.
    fn each_huge(&self, mut f: impl FnMut(&Slab)) {
        let mut all = 0;
        for (at, place) in self.spans.map.each() {
            let slab = match place {
                // SAFETY: the map says `HugeAligned` of this address, which is all that
                // `record_before` wants.
                Place::HugeAligned => unsafe { Kmem::record_before(at) },
                Place::Huge => match (FIRST_UNIT..END_UNIT)
                    // SAFETY: the map says that a huge object's mapping begins at `at`. Its first
                    // unit is mapped and holds the records of all its units.
                    .map(|unit| unsafe { Slab::of(at + unit * UNIT) })
                    .find(|slab| slab.kind() == SlabKind::Huge)
                {
                    Some(slab) => slab,
                    None if self.spans.keeps_huge(at) => continue,
                    None => panic!("a huge object without a record"),
                },
                Place::Nothing | Place::Chunk | Place::HugeRest | Place::Gone => continue,
            };
            assert_eq!(slab.kind(), SlabKind::Huge);
            all += slab.extent.load(Relaxed);
            f(slab);
        }
        let counted = self.huge_bytes.load(Relaxed);
        assert_eq!(all, counted, "huge objects are counted wrong");
    }
}

impl Slab {
    fn each_live(&self, f: &mut impl FnMut(Option<Tag>, usize)) {
        let mut free = [0u64; MOST / 64];
        let mut nr_free = 0;
        let remote = self.remote.peek();
        for first in [self.free.load(Relaxed), remote.first] {
            let mut at = first;
            while at != NONE {
                assert!(at < self.fresh.load(Relaxed), "a free list leads outside");
                let index = self.index_of(at);
                assert!(free[index / 64] >> (index % 64) & 1 == 0, "freed twice");
                free[index / 64] |= 1 << (index % 64);
                nr_free += 1;
                // SAFETY: `at` is on one of the slab's two lists of free objects, below `fresh`, so
                // it was linked; nothing changes meanwhile, as `each_live` of `Kmem` demands.
                at = unsafe { self.link(at) };
            }
        }
        let size = self.object_bytes();
        let handed_out = self.fresh.load(Relaxed) as usize / size;
        let nr_held = self.nr_held() - remote.count as usize;
        assert_eq!(nr_held, handed_out - nr_free, "a slab counts wrong");
        for index in (0..handed_out).filter(|i| free[i / 64] >> (i % 64) & 1 == 0) {
            f(self.tag_of((index * size) as u32), size);
        }
    }
}
