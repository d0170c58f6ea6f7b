//! A few large spans that a thread has freed, for its next large objects: no lock and no system
//! call.
//!
//! Invariants: a cached span counts as used in its chunk. Its record says that nothing is there, so
//! a second free of it is found out.
//! Depends on: who acts for the heap; only that thread calls these functions.
//! Never: more than 4 MiB kept, or a span of more than 2 MiB.

#![forbid(unsafe_code)]

use super::Kmem;
use super::list::List;
use super::slab::SlabRef;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The most units a cache keeps, and of one span: 4 MiB, 2 MiB.
const MOST: u32 = 64;
const MOST_OF_ONE: usize = 32;
/// The most spans it keeps, since it is searched.
const MOST_SPANS: u32 = 16;

/// See the module. Zero: empty.
#[derive(Default)]
pub struct LargeCache {
    spans: List,
    nr_spans: AtomicU32,
    nr_units: AtomicU32,
}

impl LargeCache {
    /// Keeps a span whose record says that nothing is there. `false`: there is no room for it.
    pub fn keep(&self, slab: SlabRef) -> bool {
        let units = slab.units();
        let nr_units = self.nr_units.load(Relaxed) + units as u32;
        let nr_spans = self.nr_spans.load(Relaxed);
        if units > MOST_OF_ONE || nr_units > MOST || nr_spans >= MOST_SPANS {
            return false;
        }
        self.spans.push(slab);
        self.nr_units.store(nr_units, Relaxed);
        self.nr_spans.store(nr_spans + 1, Relaxed);
        true
    }

    /// A span of `units` units, or of a quarter more at most.
    pub fn find(&self, units: usize) -> Option<SlabRef> {
        if units > MOST_OF_ONE {
            return None;
        }
        let fits = |slab: &SlabRef| (units..=units + units / 4).contains(&slab.units());
        let slab = self.spans.iter().find(fits)?;
        self.remove(slab);
        Some(slab)
    }

    fn remove(&self, slab: SlabRef) {
        self.spans.remove(slab);
        self.nr_spans
            .store(self.nr_spans.load(Relaxed) - 1, Relaxed);
        self.nr_units
            .store(self.nr_units.load(Relaxed) - slab.units() as u32, Relaxed);
    }

    /// Gives all spans back to their chunks.
    pub fn empty(&self, kmem: &Kmem) {
        while let Some(slab) = self.spans.first() {
            self.remove(slab);
            kmem.spans.free(slab.address(), slab.units());
        }
    }
}
