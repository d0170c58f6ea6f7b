//! Lists of slabs through their records, and stacks of returned slabs.
//!
//! Invariants: a slab is in one [`List`] at most, by `prev` and `next`, and in one [`Returned`] at
//! most, by `returned`. A record that is linked stays mapped.
//! Depends on: `slab` for the links.
//! Never: a `List` used by two threads at a time. Any thread pushes on a `Returned`; who acts for
//! its heap, or holds its cache's lock, takes all.

use super::slab::{Slab, SlabRef};
use crate::sync::atomic;
use core::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// The slab at an address; `None` for 0.
///
/// # Safety
/// `at` is 0, or the address of the record of a slab that is in a list or in flight.
unsafe fn slab_at(at: usize) -> Option<SlabRef> {
    // SAFETY: the caller promised 0 or the record of a linked slab. Such a record is in a mapped
    // chunk, because a linked slab's units are in use; it is atomics, so sharing it is sound.
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
        // SAFETY: `first` is 0 or a slab that `push` put into this list and `remove` has not taken
        // out.
        unsafe { slab_at(self.first.load(Relaxed)) }
    }

    /// From the first to the last; the list must not change meanwhile.
    pub fn iter(&self) -> impl Iterator<Item = SlabRef> {
        // SAFETY: `next` of a listed slab is 0 or a slab of the same list; the list does not change
        // meanwhile.
        core::iter::successors(self.first(), |slab| unsafe {
            slab_at(slab.next.load(Relaxed))
        })
    }

    /// Puts a slab that is in no list in front.
    pub fn push(&self, slab: SlabRef) {
        let first = self.first.load(Relaxed);
        slab.prev.store(0, Relaxed);
        slab.next.store(first, Relaxed);
        // SAFETY: `first` is 0 or a slab that is in this list.
        if let Some(first) = unsafe { slab_at(first) } {
            first.prev.store(slab.address(), Relaxed);
        }
        self.first.store(slab.address(), Relaxed);
    }

    /// Takes a slab of this list out.
    pub fn remove(&self, slab: SlabRef) {
        let (prev, next) = (slab.prev.load(Relaxed), slab.next.load(Relaxed));
        // SAFETY: `slab` is in this list, so its `prev` is 0 or a slab of the list.
        match unsafe { slab_at(prev) } {
            Some(before) => before.next.store(next, Relaxed),
            None => self.first.store(next, Relaxed),
        }
        // SAFETY: `slab` is in this list, so its `next` is 0 or a slab of the list.
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
    /// Pushes a slab in flight. The thread whose push or CAS has put it in flight calls this.
    pub fn push(&self, slab: SlabRef) {
        let mut now = self.first.load(Relaxed);
        loop {
            slab.returned.store(now, Relaxed);
            // Release pairs with the Acquire of `pop_all`: the link, and the slab as it was.
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

    /// Takes all slabs and calls `f` with each. Its link is read before, so `f` may push it on
    /// another stack.
    pub fn pop_all(&self, mut f: impl FnMut(SlabRef)) {
        // Acquire pairs with the Release of `push`.
        let mut at = self.first.swap(0, Acquire);
        // SAFETY: `returned` leads to 0 or to a slab that `push` put here. It is in flight until
        // `f` ends that, so it is not released and its record is mapped.
        while let Some(slab) = unsafe { slab_at(at) } {
            at = slab.returned.load(Relaxed);
            f(slab);
        }
    }
}
