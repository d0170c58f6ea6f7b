//! The empty slabs that a heap keeps, so that the next slab of a class costs no lock.
//!
//! Invariants: an empty slab is in the list of its class, with its record still made, and counted
//! in `nr_empty`; the bit of its class is set. It has one unit.
//! Depends on: who acts for the heap; only that thread calls these functions.
//! Never: more slabs kept than the heap lately had in use at once.

#![forbid(unsafe_code)]

use super::Kmem;
use super::class;
use super::heap::Heap;
use super::slab::SlabRef;
use core::sync::atomic::Ordering::Relaxed;

/// The most empty slabs a heap keeps. It keeps as many as it lately had in use at once, up to this.
const MOST_EMPTY: u32 = 32;

impl Heap {
    /// Keeps an empty slab for the next use of its class, or gives its units back.
    pub(super) fn release(&self, kmem: &Kmem, slab: SlabRef) {
        let class = slab.class.load(Relaxed) as usize;
        let nr_empty = self.nr_empty.load(Relaxed);
        let lately = self.lately.load(Relaxed);
        if class::units_of(class) == 1 && nr_empty < lately.min(MOST_EMPTY) {
            self.empty[class].push(slab);
            let bits = self.has_empty.load(Relaxed);
            self.has_empty.store(bits | 1 << class, Relaxed);
            self.nr_empty.store(nr_empty + 1, Relaxed);
            return;
        }
        // A heap that keeps its most for a while keeps one less each time.
        self.lately.store(lately.saturating_sub(1), Relaxed);
        self.give_back(kmem, slab);
    }

    fn give_back(&self, kmem: &Kmem, slab: SlabRef) {
        let units = class::units_of(slab.class.load(Relaxed) as usize);
        slab.unmake();
        self.nr_slabs
            .store(self.nr_slabs.load(Relaxed) - 1, Relaxed);
        kmem.spans.free(slab.address(), units);
    }

    /// An empty slab, of `class` if there is one.
    pub(super) fn pop_empty(&self, class: usize) -> Option<SlabRef> {
        let bits = self.has_empty.load(Relaxed);
        if bits == 0 {
            return None;
        }
        let from = match bits >> class & 1 {
            0 => bits.trailing_zeros() as usize,
            _ => class,
        };
        let slab = self.empty[from].first()?;
        self.empty[from].remove(slab);
        if self.empty[from].first().is_none() {
            self.has_empty.store(bits & !(1 << from), Relaxed);
        }
        self.nr_empty
            .store(self.nr_empty.load(Relaxed) - 1, Relaxed);
        Some(slab)
    }

    /// Gives back all empty slabs and all freed large spans.
    pub(super) fn return_empty(&self, kmem: &Kmem) {
        while let Some(slab) = self.pop_empty(0) {
            self.give_back(kmem, slab);
        }
        self.lately.store(0, Relaxed);
        self.large.empty(kmem);
    }
}
