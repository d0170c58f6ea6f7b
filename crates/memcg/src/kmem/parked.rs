//! Heaps without a thread: parked with what they hold, borrowed for a moment, taken over whole.
//!
//! A heap whose thread has ended stays, with its slabs. Its slabs ask for notice, so the next free
//! into each brings it to the thread that frees. A thread that needs a slab looks in parked heaps
//! too, and a new thread takes over a parked heap.
//!
//! Invariants: only the thread whose `claim` succeeded acts for a parked heap, until it parks it
//! again. A slab that is returned to a heap while it is parked is looked at by the thread that
//! returned it, or by the one that parks the heap.
//! Depends on: `heap` for lists and states, `list` for the stack of returned slabs.
//! Never: a wait for another thread.

use super::Kmem;
use super::heap::{Heap, State};
use super::slab::SlabRef;
use core::sync::atomic::{
    Ordering::{Relaxed, SeqCst},
    fence,
};

impl Kmem {
    /// Parks the heap of a thread that ends, with what it holds.
    ///
    /// # Safety
    /// The calling thread is the heap's owner, in a heap section, and does not use the heap after
    /// this call.
    pub unsafe fn park(&self, heap: &Heap) {
        // SAFETY: the caller is the owner, in its last heap section of this heap: that is what
        // `Heap::park` wants.
        unsafe { heap.park(self) };
    }

    /// Gives up a heap that a fork cut off in the middle of a change. Nobody acts for it again.
    pub fn lose(&self, heap: &Heap) {
        heap.set_state(State::Lost);
    }

    /// Brings a slab in flight to its owner. If the owner is parked, the slab goes to `own`, the
    /// heap of the thread that freed into it.
    pub(super) fn deliver(&self, own: Option<&Heap>, slab: SlabRef) {
        // SAFETY: the push of the thread that called this has put the slab in flight. Such a slab
        // is owned by a heap and is not released before it arrives.
        let owner = unsafe { Heap::of(slab) };
        owner.returned.push(slab);
        // Pairs with the fence of `unborrow`: we see the heap parked, or the thread that parks it
        // sees the slab that was pushed above.
        fence(SeqCst);
        if owner.state() == State::Parked
            && let Some(own) = own
            && owner.claim(State::Borrowed)
        {
            owner.hand_over_returned(self, own);
            self.unborrow(owner);
        }
    }

    /// Ends a loan: parks the heap again. A slab that was returned meanwhile is looked at by the
    /// thread that returned it, or here.
    pub(super) fn unborrow(&self, heap: &Heap) {
        loop {
            heap.set_state(State::Parked);
            // Pairs with the fence of `deliver`: that thread saw the heap parked, or we see the
            // slab that it returned.
            fence(SeqCst);
            if heap.returned.is_empty() || !heap.claim(State::Borrowed) {
                return;
            }
            heap.arrivals(self);
        }
    }

    /// A slab of `class` with room out of a parked heap, now owned by `to`. The caller acts for
    /// `to`.
    pub(super) fn steal(&self, to: &Heap, class: usize) -> Option<SlabRef> {
        if self.nr_parked.load(Relaxed) == 0 {
            return None;
        }
        self.heaps
            .each()
            .map(|(_, heap)| heap)
            .filter(|heap| heap.state() == State::Parked)
            .take(4)
            .find_map(|heap| {
                if !heap.claim(State::Borrowed) {
                    return None;
                }
                let found = heap.hand_over(self, class, to);
                self.unborrow(heap);
                found
            })
    }
}

impl Heap {
    /// Parks the heap. Empty slabs are given back; all others ask for notice.
    ///
    /// # Safety
    /// The calling thread is the owner, in its last heap section of this heap.
    unsafe fn park(&self, kmem: &Kmem) {
        self.set_state(State::Borrowed);
        // SAFETY: the owner has just set the state to Borrowed, so it alone acts for the heap.
        unsafe { self.trim(kmem) };
        kmem.nr_parked.fetch_add(1, Relaxed);
        kmem.unborrow(self);
    }

    /// Hands a partial slab of `class` of this borrowed heap to `to`.
    fn hand_over(&self, kmem: &Kmem, class: usize, to: &Heap) -> Option<SlabRef> {
        self.arrivals(kmem);
        let slab = self.partial[class].first()?;
        self.unlist(slab);
        self.change_owner(kmem, slab, to);
        Some(slab)
    }

    /// Hands every slab that was returned to this borrowed heap to `to`. The caller acts for both
    /// heaps.
    fn hand_over_returned(&self, kmem: &Kmem, to: &Heap) {
        self.returned.pop_all(|slab| {
            // SAFETY: a slab on a stack of returned slabs is in flight: owned by a heap, and not
            // released before `arrive`, which comes below.
            let owner = unsafe { Heap::of(slab) };
            if !core::ptr::eq(owner, self) {
                owner.returned.push(slab);
                return;
            }
            slab.remote.arrive();
            self.unlist(slab);
            self.change_owner(kmem, slab, to);
            to.relist(kmem, slab);
        });
    }

    fn change_owner(&self, kmem: &Kmem, slab: SlabRef, to: &Heap) {
        // SAFETY: `steal` and `deliver` pass the calling thread's own heap as `to`, inside its heap
        // section, so no other thread touches that window.
        unsafe { to.window.learn(kmem.spans.map.window()) };
        self.nr_slabs
            .store(self.nr_slabs.load(Relaxed) - 1, Relaxed);
        to.nr_slabs.store(to.nr_slabs.load(Relaxed) + 1, Relaxed);
        // Relaxed is enough: a thread that frees reads the old owner or the new one, and each
        // passes on a slab that it does not own.
        slab.set_owner(to.at());
    }
}
