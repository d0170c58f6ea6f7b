//! The allocator's own account of who holds what, to be held against the books. For tests and for a process at rest.

use super::Kmem;
use super::layout::UNIT;
use super::remote::NONE;
use super::slab::{Slab, SlabKind};
use core::sync::atomic::Ordering::Relaxed;

/// Objects of the smallest class in a unit.
const MOST: usize = UNIT / 16;

impl Kmem {
    /// Calls `f` with the tag and the bytes of every live object. Nothing may be allocated or freed meanwhile.
    ///
    /// # Panics
    /// When a slab's lists do not add up.
    pub fn each_live(&self, mut f: impl FnMut(u32, usize)) {
        for slab in self.each_slab() {
            match slab.kind() {
                SlabKind::Objects => slab.each_live(&mut f),
                SlabKind::Large => f(slab.tag.load(Relaxed), slab.extent.load(Relaxed)),
                _ => {}
            }
        }
    }
}

impl Slab {
    fn each_live(&self, f: &mut impl FnMut(u32, usize)) {
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
                // SAFETY: a free object; nothing changes meanwhile.
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
