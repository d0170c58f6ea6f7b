//! Heaps without a thread: parked with what they hold, borrowed for a moment, taken over.

use super::Kmem;
use super::heap::{Heap, State};
use super::slab::SlabRef;
use core::sync::atomic::{
    Ordering::{Relaxed, SeqCst},
    fence,
};

impl Kmem {
    /// Leaves a heap with what it holds to whoever needs it next.
    ///
    /// # Safety
    /// The calling thread is the owner, in a heap section, and does not use it again.
    pub unsafe fn park(&self, heap: &Heap) {
        // SAFETY: the caller's.
        unsafe { heap.park(self) };
    }

    /// Gives up a heap that a fork cut off in the middle of a change.
    pub fn lose(&self, heap: &Heap) {
        heap.set_state(State::Lost);
    }

    /// A slab in flight goes to its owner; if that is nobody, to the thread that freed into it.
    pub(super) fn deliver(&self, own: Option<&Heap>, slab: SlabRef) {
        // SAFETY: a slab in flight is of a heap, and is not unmade before it arrives.
        let owner = unsafe { Heap::of(slab) };
        owner.returned.push(slab);
        // Pairs with the fence of `Heap::park`.
        fence(SeqCst);
        if owner.state() == State::Parked
            && let Some(own) = own
            && owner.claim(State::Borrowed)
        {
            owner.hand_over_returned(self, own);
            self.unborrow(owner);
        }
    }

    /// Ends a loan. What was returned meanwhile is looked at by who returned it, or here.
    pub(super) fn unborrow(&self, heap: &Heap) {
        loop {
            heap.set_state(State::Parked);
            // Pairs with the fence of `deliver`: it saw the heap parked, or we see what it
            // returned.
            fence(SeqCst);
            if heap.returned.is_empty() || !heap.claim(State::Borrowed) {
                return;
            }
            heap.arrivals(self);
        }
    }

    /// A slab of `class` with room from a heap nobody uses, now owned by `to`.
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
    /// Leaves the heap to whoever comes next. What is empty goes back, everything else asks for notice.
    ///
    /// # Safety
    /// In the last heap section of the owner.
    unsafe fn park(&self, kmem: &Kmem) {
        self.set_state(State::Borrowed);
        // SAFETY: the caller's.
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

    /// Hands every slab that was returned to this borrowed heap to `to`, in whose section we are.
    fn hand_over_returned(&self, kmem: &Kmem, to: &Heap) {
        self.returned.pop_all(|slab| {
            // SAFETY: as in `arrivals`.
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
        // SAFETY: the caller is in a section of the owner of `to`.
        unsafe { to.window.learn(kmem.spans.map.window()) };
        self.nr_slabs
            .store(self.nr_slabs.load(Relaxed) - 1, Relaxed);
        to.nr_slabs.store(to.nr_slabs.load(Relaxed) + 1, Relaxed);
        // Relaxed is enough: who frees reads either owner, and both forward what is not theirs.
        slab.set_owner(to.at());
    }
}
