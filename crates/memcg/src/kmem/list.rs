//! Lists of slabs through their records, and stacks of returned slabs.
//!
//! A [`List`] is its heap's alone. A [`Returned`] is pushed by anybody and taken whole by who acts
//! for the heap.

use super::slab::{Slab, SlabRef};
use crate::sync::atomic;
use core::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// # Safety
/// `at` is 0 or the address of a record that is in a list.
unsafe fn slab_at(at: usize) -> Option<SlabRef> {
    // SAFETY: the caller's; listed records stay mapped.
    unsafe { (at as *const Slab).as_ref() }
}

/// A doubly linked list; zero: empty. All of it is used by one thread at a time.
#[derive(Default)]
pub struct List {
    first: AtomicUsize,
}

impl List {
    /// The first slab.
    pub fn first(&self) -> Option<SlabRef> {
        // SAFETY: only listed slabs are linked.
        unsafe { slab_at(self.first.load(Relaxed)) }
    }

    /// From the first to the last; the list must not change meanwhile.
    pub fn iter(&self) -> impl Iterator<Item = SlabRef> {
        // SAFETY: as above.
        core::iter::successors(self.first(), |slab| unsafe {
            slab_at(slab.next.load(Relaxed))
        })
    }

    /// Puts a slab that is in no list in front.
    pub fn push(&self, slab: SlabRef) {
        let first = self.first.load(Relaxed);
        slab.prev.store(0, Relaxed);
        slab.next.store(first, Relaxed);
        // SAFETY: as above.
        if let Some(first) = unsafe { slab_at(first) } {
            first.prev.store(slab.address(), Relaxed);
        }
        self.first.store(slab.address(), Relaxed);
    }

    /// Takes a slab of this list out.
    pub fn remove(&self, slab: SlabRef) {
        let (prev, next) = (slab.prev.load(Relaxed), slab.next.load(Relaxed));
        // SAFETY: as above.
        match unsafe { slab_at(prev) } {
            Some(before) => before.next.store(next, Relaxed),
            None => self.first.store(next, Relaxed),
        }
        // SAFETY: as above.
        if let Some(after) = unsafe { slab_at(next) } {
            after.prev.store(prev, Relaxed);
        }
    }
}

/// A stack of slabs in flight; zero: empty.
#[derive(Default)]
pub struct Returned {
    first: atomic::AtomicUsize,
}

impl Returned {
    /// Puts a slab in flight on it. Anybody who made it so.
    pub fn push(&self, slab: SlabRef) {
        let mut now = self.first.load(Relaxed);
        loop {
            slab.returned.store(now, Relaxed);
            // Release pairs with the Acquire of `take_all`.
            match self
                .first
                .compare_exchange_weak(now, slab.address(), Release, Relaxed)
            {
                Ok(_) => return,
                Err(changed) => now = changed,
            }
        }
    }

    /// Whether there is nothing to take.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.load(Relaxed) == 0
    }

    /// Takes all. Each is read before it is handed to `f`, which may push it elsewhere.
    pub fn pop_all(&self, mut f: impl FnMut(SlabRef)) {
        // Acquire pairs with the Release of `push`.
        let mut at = self.first.swap(0, Acquire);
        // SAFETY: slabs in flight stay mapped until they arrive.
        while let Some(slab) = unsafe { slab_at(at) } {
            at = slab.returned.load(Relaxed);
            f(slab);
        }
    }
}
