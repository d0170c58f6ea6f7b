//! A thread's heap: for each size class the slab it allocates from, the slabs with room, and a few
//! empty slabs.
//!
//! *To act for a heap* means one of three things: to be its thread, inside a *heap section* or, for
//! a hit, a look at the thread's slots (a signal handler of the same thread sees either and does
//! not touch the heap); to hold the lock of the shared heap with signals blocked; or to have set
//! its state to [`State::Borrowed`].
//!
//! Invariants: one thread at a time acts for a heap. A slab with an owner is in use (one for each
//! class), or in its owner's partial or empty list, or full and in no list. Only who acts for the
//! owner takes objects from the slab or frees into its list, and does so without an atomic
//! instruction.
//! Depends on: `slab` for the record and the free list, `remote` for frees by other threads, `span`
//! for units, `empty` for empty slabs, `parked` for slabs of heaps without a thread.
//! Never: a charge; a lock while the heap has a slab with room.

use super::class::{self, NR_CLASSES};
use super::large::LargeCache;
use super::list::{List, Returned};
use super::remote::NONE;
use super::slab::{HeapAt, IN_NONE, IN_PARTIAL, IN_USE, Slab, SlabRef};
use super::window::OwnWindow;
use super::{Kmem, bad};
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::AtomicU32;
use crate::thread::Tag;
use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Who acts for a heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum State {
    /// The record has not been made a heap yet.
    New = 0,
    /// The heap's thread acts for it; for the shared heap, whoever holds its lock.
    Owned = 1,
    /// Nobody: the heap's thread has ended.
    Parked = 2,
    /// Another thread acts for it until it is parked again.
    Borrowed = 3,
    /// Nobody ever again: a fork cut the heap off in the middle of a change. Objects freed into it
    /// are never used again.
    Lost = 4,
}

/// How many partial slabs are searched for one that takes the tag, before a slab of another tag is
/// made mixed.
const LOOK_FOR_TAG: usize = 4;

/// See the module. Zero bytes: not yet made.
#[repr(C, align(128))]
pub struct Heap {
    /// The window of readable records, as the owner saw it last. Only who acts for the heap touches
    /// it.
    pub(super) window: OwnWindow,
    /// Addresses of the slabs in use; that of [`NO_SLAB`] where there is none.
    pub(super) active: [AtomicUsize; NR_CLASSES],
    pub(super) partial: [List; NR_CLASSES],
    pub(super) returned: Returned,
    state: AtomicU32,
    link: AtomicU32,
    /// Slabs the heap owns; how many of them are empty and kept; the most it owned at once of late.
    pub(super) nr_slabs: AtomicU32,
    pub(super) nr_empty: AtomicU32,
    pub(super) lately: AtomicU32,
    /// Empty slabs by class, with their records still made; one bit for each class that has any.
    pub(super) empty: [List; NR_CLASSES],
    pub(super) has_empty: AtomicU64,
    /// Freed large spans.
    pub(super) large: LargeCache,
}

/// The slab of a class that has none: `bytes` is 0, so no object fits in it.
// SAFETY: a `Slab` is atomics of integers only, for which all bits zero are a valid value.
static NO_SLAB: Slab = unsafe { core::mem::MaybeUninit::zeroed().assume_init() };

impl Default for Heap {
    fn default() -> Self {
        // SAFETY: a `Heap` is atomics of integers, lists and caches of such, and an `OwnWindow` of
        // two `usize`; all bits zero are a valid value of each.
        unsafe { core::mem::MaybeUninit::zeroed().assume_init() }
    }
}
// SAFETY: as in `default` above: every field is made of integers, and a record of zero bytes is a
// heap in state `New`, which nobody uses before `make`.
unsafe impl Zeroed for Heap {}
// SAFETY: the answer is always the same field, and nothing in this room reads or writes `link`; the
// arena alone uses it.
unsafe impl Record for Heap {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// An object just taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Its address.
    pub at: usize,
    /// Its bytes are zero.
    pub zeroed: bool,
}

impl Heap {
    /// Makes a new heap its thread's.
    pub(super) fn make(&self) {
        for active in &self.active {
            active.store(NO_SLAB.address(), Relaxed);
        }
        self.set_state(State::Owned);
    }

    /// The address of its record, as its slabs note it in `owner`.
    #[inline(always)]
    pub(super) fn at(&self) -> HeapAt {
        HeapAt(core::ptr::from_ref(self) as usize)
    }

    /// The owner of a slab.
    ///
    /// # Safety
    /// The slab was made by [`Slab::make`] for a heap and has not been unmade since: the caller
    /// acts for the owner, or has the slab in flight, which keeps it from being released.
    pub(super) unsafe fn of(slab: SlabRef) -> &'static Heap {
        // SAFETY: `Slab::make` and `set_owner` store only addresses of heap records, and `unmake`,
        // which stores 0, has not run, as the caller promised. Records of the arena are never
        // unmapped.
        unsafe { &*(slab.owner.load(Relaxed) as *const Heap) }
    }

    /// Who acts for it.
    pub fn state(&self) -> State {
        // Acquire pairs with the Release of `set_state`.
        match self.state.load(Acquire) {
            0 => State::New,
            1 => State::Owned,
            2 => State::Parked,
            3 => State::Borrowed,
            _ => State::Lost,
        }
    }

    pub(super) fn set_state(&self, state: State) {
        // Release pairs with the Acquire of `claim` and of `state`: who claims the heap sees its
        // lists as they were left.
        self.state.store(state as u32, Release);
    }

    /// Makes a parked heap the caller's to act for. `false`: it was not parked.
    pub(super) fn claim(&self, state: State) -> bool {
        // Acquire pairs with the Release of `set_state`: the lists as they were left. Release pairs
        // with the Acquire of `state`.
        self.state
            .compare_exchange(State::Parked as u32, state as u32, AcqRel, Relaxed)
            .is_ok()
    }

    /// The slab a class allocates from.
    pub(super) fn active(&self, class: usize) -> SlabRef {
        assert!(class < NR_CLASSES);
        // SAFETY: the assertion above has just checked that `class` is below `NR_CLASSES`.
        unsafe { self.active_unchecked(class) }
    }

    /// As [`Self::active`].
    ///
    /// # Safety
    /// `class` is below [`NR_CLASSES`]: an index of `active`.
    #[inline(always)]
    pub(super) unsafe fn active_unchecked(&self, class: usize) -> SlabRef {
        debug_assert!(class < NR_CLASSES);
        // SAFETY: `active` has NR_CLASSES elements, and the caller promised a `class` below that.
        let active = unsafe { self.active.get_unchecked(class) };
        // SAFETY: `make`, `use_slab`, `fill_up` and `retire_active` store only the address of
        // `NO_SLAB` or of a slab this heap owns. An owned slab's record is mapped: `give_back`
        // comes after it is taken out.
        unsafe { &*(active.load(Relaxed) as *const Slab) }
    }

    /// Whether the record of the unit of `at` can be read, as far as the owner knows. The records
    /// of all the heap's own slabs can.
    ///
    /// # Safety
    /// The calling thread acts for this heap (see the module).
    #[inline(always)]
    pub(super) unsafe fn can_read(&self, at: usize) -> bool {
        // SAFETY: `contains` wants that no other thread touches the window; the caller acts for
        // this heap, and only who does touches it.
        unsafe { self.window.contains(at) }
    }

    /// Takes an object of `class` for `tag`. `None`: the kernel gives no memory.
    ///
    /// # Safety
    /// The calling thread acts for this heap: it is the owner in a heap section, or holds the lock
    /// of the shared heap.
    pub(super) unsafe fn alloc(
        &self,
        kmem: &Kmem,
        class: usize,
        tag: Option<Tag>,
        want_zeroed: bool,
    ) -> Option<Taken> {
        loop {
            let slab = self.active(class);
            // SAFETY: the caller acts for this heap, and `slab` is the slab in use of one of its
            // classes.
            if slab.listed.load(Relaxed) == IN_USE && unsafe { self.make_room(slab) } {
                if !slab.takes(tag) && !self.is_idle(slab) {
                    // Another partial slab may take this tag without being made mixed.
                    if let Some(better) = self.partial_of(class, tag) {
                        self.retire_active(kmem, slab);
                        self.use_slab(better);
                        continue;
                    }
                }
                slab.accept(tag, self.is_idle(slab));
                // SAFETY: the caller acts for this heap, which owns `slab`; `make_room` has found
                // an object in it, and `accept` has made it take `tag`.
                return Some(unsafe { alloc_from(slab, tag, want_zeroed) });
            }
            if slab.listed.load(Relaxed) == IN_USE && !self.fill_up(slab) {
                continue;
            }
            self.use_slab(self.find_slab(kmem, class, tag)?);
        }
    }

    /// Whether nobody holds an object of a slab in use.
    fn is_idle(&self, slab: &Slab) -> bool {
        slab.used.load(Relaxed) == 1
    }

    /// Makes sure that the slab's list, or the part that was never used, has an object. `false`:
    /// the slab is full.
    ///
    /// # Safety
    /// The calling thread acts for this heap, and `slab` is one of its slabs in use.
    unsafe fn make_room(&self, slab: SlabRef) -> bool {
        let free = slab.free.load(Relaxed);
        if free < slab.bytes.load(Relaxed) {
            return true;
        }
        if free != NONE {
            bad::corrupt(slab.start());
        }
        // SAFETY: the caller acts for the slab's owner. The slab is in use, so `used` holds the
        // true count plus one, and not the 1 of a full slab.
        slab.fresh.load(Relaxed) < slab.bytes.load(Relaxed) || unsafe { slab.collect() }
    }

    /// Takes a full slab out of use. `false`: something was freed into it meanwhile.
    fn fill_up(&self, slab: SlabRef) -> bool {
        if !slab
            .remote
            .ask_notice(level_of(slab.used.load(Relaxed) - 1))
        {
            return false;
        }
        let class = slab.class.load(Relaxed) as usize;
        self.active[class].store(NO_SLAB.address(), Relaxed);
        slab.listed.store(IN_NONE, Relaxed);
        slab.held.store(slab.used.load(Relaxed) - 1, Relaxed);
        slab.used.store(1, Relaxed);
        true
    }

    /// Moves the true count of a full slab from `held` back to `used`.
    fn unfill(&self, slab: SlabRef) {
        let held = slab.held.load(Relaxed);
        if held != 0 {
            slab.used.store(held, Relaxed);
            slab.held.store(0, Relaxed);
        }
    }

    fn use_slab(&self, slab: SlabRef) {
        let class = slab.class.load(Relaxed) as usize;
        slab.listed.store(IN_USE, Relaxed);
        slab.used.store(slab.used.load(Relaxed) + 1, Relaxed);
        self.active[class].store(slab.address(), Relaxed);
    }

    /// Takes a slab out of use that is not full.
    fn retire_active(&self, kmem: &Kmem, slab: SlabRef) {
        let class = slab.class.load(Relaxed) as usize;
        self.active[class].store(NO_SLAB.address(), Relaxed);
        slab.used.store(slab.used.load(Relaxed) - 1, Relaxed);
        slab.listed.store(IN_NONE, Relaxed);
        self.list_or_release(kmem, slab);
    }

    /// Puts a slab that is in no list into the partial list, or releases it if it is empty. The
    /// caller acts for this heap; the slab is not a full one.
    fn list_or_release(&self, kmem: &Kmem, slab: SlabRef) {
        if self.state() != State::Owned {
            // No thread will look at this slab by itself: the next free has to bring it to
            // somebody.
            while !slab.remote.ask_notice(0) {
                // SAFETY: every caller acts for this heap, which owns the slab, and has called
                // `unfill` or `retire_active`, so `used` is the true count.
                unsafe { slab.collect() };
            }
        }
        if slab.used.load(Relaxed) == 0 && !slab.remote.is_in_flight() {
            self.release(kmem, slab);
            return;
        }
        slab.listed.store(IN_PARTIAL, Relaxed);
        self.partial[slab.class.load(Relaxed) as usize].push(slab);
    }

    pub(super) fn unlist(&self, slab: SlabRef) {
        if slab.listed.load(Relaxed) == IN_PARTIAL {
            self.partial[slab.class.load(Relaxed) as usize].remove(slab);
            slab.listed.store(IN_NONE, Relaxed);
        }
    }

    /// A partial slab that takes `tag` (all its objects have that tag, or it is mixed already),
    /// taken out of the list. Only the first few are looked at.
    fn partial_of(&self, class: usize, tag: Option<Tag>) -> Option<SlabRef> {
        let found = self.partial[class]
            .iter()
            .take(LOOK_FOR_TAG)
            .find(|slab| slab.takes(tag))?;
        self.unlist(found);
        Some(found)
    }

    /// A slab of `class` with room, one that takes `tag` if there is one near; it is in no list.
    fn find_slab(&self, kmem: &Kmem, class: usize, tag: Option<Tag>) -> Option<SlabRef> {
        self.arrivals(kmem);
        if let Some(slab) = self.partial_of(class, tag) {
            return Some(slab);
        }
        if let Some(slab) = self.partial[class].first() {
            self.unlist(slab);
            return Some(slab);
        }
        if let Some(slab) = kmem.steal(self, class) {
            return Some(slab);
        }
        self.new_slab(kmem, class, tag)
    }

    fn new_slab(&self, kmem: &Kmem, class: usize, tag: Option<Tag>) -> Option<SlabRef> {
        let units = class::units_of(class);
        let empty = (units == 1).then(|| self.pop_empty(class)).flatten();
        let (slab, zeroed) = match empty {
            Some(slab) if slab.class.load(Relaxed) as usize == class => return Some(slab),
            Some(slab) => {
                slab.unmake();
                (slab, false)
            }
            None => {
                let span = kmem.spans.alloc(units, 1)?;
                // SAFETY: `find_slab` is called by `alloc` alone, whose caller acts for this heap;
                // only who does touches the window.
                unsafe { self.window.learn(span.window) };
                let nr_slabs = self.nr_slabs.load(Relaxed) + 1;
                self.nr_slabs.store(nr_slabs, Relaxed);
                let lately = self.lately.load(Relaxed);
                self.lately.store(lately.max(nr_slabs), Relaxed);
                // SAFETY: `spans.alloc` has just answered this span, so its chunk is mapped, and
                // stays mapped while one of its units is in use.
                (unsafe { Slab::of(span.start) }, span.zeroed)
            }
        };
        // SAFETY: the units come from `pop_empty`, unmade, or from `spans.alloc`: nothing else uses
        // them. `zeroed` is what the allocator of spans said of them, and `false` for a slab used
        // before.
        unsafe { slab.make(self.at(), class, tag, zeroed) };
        Some(slab)
    }

    /// Takes the slabs that other threads have returned, each to the list it belongs in. The caller
    /// acts for this heap.
    pub(super) fn arrivals(&self, kmem: &Kmem) {
        if self.returned.is_empty() {
            return;
        }
        self.returned.pop_all(|slab| {
            // SAFETY: a slab on a stack of returned slabs is in flight. A slab in flight is owned
            // by a heap and is not released before `arrive`, which comes below.
            let owner = unsafe { Heap::of(slab) };
            if !core::ptr::eq(owner, self) {
                // The slab changed owners while it was in flight. It is in flight still.
                owner.returned.push(slab);
                return;
            }
            slab.remote.arrive();
            self.relist(kmem, slab);
        });
    }

    /// Puts a slab that was full, or may have become empty, into the list it belongs in. The caller
    /// acts for this heap.
    pub(super) fn relist(&self, kmem: &Kmem, slab: SlabRef) {
        if slab.listed.load(Relaxed) == IN_USE {
            return;
        }
        self.unlist(slab);
        self.unfill(slab);
        // SAFETY: `relist` is called by who acts for this heap, which owns the slab; `unfill` has
        // just made `used` the true count.
        unsafe { slab.collect() };
        if slab.free.load(Relaxed) == NONE
            && slab.fresh.load(Relaxed) >= slab.bytes.load(Relaxed)
            && slab.remote.ask_notice(level_of(slab.used.load(Relaxed)))
        {
            // The slab is still full: an earlier collection has taken what was returned.
            slab.held.store(slab.used.load(Relaxed), Relaxed);
            slab.used.store(1, Relaxed);
            return;
        }
        self.list_or_release(kmem, slab);
    }

    /// Frees an object of a slab of this heap.
    ///
    /// # Safety
    /// The calling thread acts for this heap. The object at `offset` of `slab` is live, its bytes
    /// are uncharged, and nobody uses it after this call.
    pub(super) unsafe fn free(&self, kmem: &Kmem, slab: SlabRef, offset: u32) {
        if slab.free.load(Relaxed) == offset {
            bad::bad_free(slab.start() + offset as usize, bad::BadFree::Double);
        }
        let was_full = slab.held.load(Relaxed) != 0;
        self.unfill(slab);
        if slab.nr_held() == 0 {
            bad::bad_free(slab.start() + offset as usize, bad::BadFree::Double);
        }
        // SAFETY: the caller acts for the slab's owner and gives up the live object; it is not the
        // first of the list, as was asked above.
        unsafe { slab.push(offset) };
        if was_full {
            self.list_or_release(kmem, slab);
        } else if slab.used.load(Relaxed) == 0 && !slab.remote.is_in_flight() {
            self.unlist(slab);
            self.release(kmem, slab);
        }
    }

    /// Gives back the slabs of which nobody holds an object, those in use included, and the empty
    /// slabs.
    ///
    /// # Safety
    /// The calling thread acts for this heap (see the module).
    pub(super) unsafe fn trim(&self, kmem: &Kmem) {
        self.arrivals(kmem);
        for class in 0..NR_CLASSES {
            let slab = self.active(class);
            if slab.listed.load(Relaxed) == IN_USE {
                self.retire_active(kmem, slab);
            }
            let mut next = self.partial[class].first();
            while let Some(slab) = next {
                // SAFETY: `next` of a listed slab is 0 or the address of a slab in the same list,
                // whose record is mapped. It is read before `relist` may release this slab.
                next = unsafe { (slab.next.load(Relaxed) as *const Slab).as_ref() };
                self.relist(kmem, slab);
            }
        }
        self.return_empty(kmem);
    }
}

/// The notice level of a full slab of which `held` objects are held: the owner wants to know when
/// an eighth of them is back. A power of two, by its exponent.
fn level_of(held: u32) -> u32 {
    (held / 8).max(1).ilog2()
}

/// Takes an object from a slab with room.
///
/// # Safety
/// The calling thread acts for the slab's owner. The slab takes `tag` (`Slab::accept` was called
/// for it) and has an object on its list or behind `fresh`.
unsafe fn alloc_from(slab: SlabRef, tag: Option<Tag>, want_zeroed: bool) -> Taken {
    let clean = slab.zeroed.load(Relaxed) != 0;
    // SAFETY: the caller acts for the slab's owner, which is what `pop_fresh` wants. Such an object
    // has the bytes the kernel gave, zeros where `zeroed` says so.
    let fresh = (want_zeroed && clean && slab.object_bytes() >= 1024)
        .then(|| unsafe { slab.pop_fresh() })
        .flatten();
    let offset = fresh.or_else(|| {
        // SAFETY: the caller acts for the slab's owner, so nobody else changes the list.
        unsafe { slab.pop() }.or_else(|| {
            // SAFETY: the caller acts for the slab's owner, and `pop` has just found the list
            // empty.
            unsafe { slab.extend() };
            // SAFETY: the caller acts for the slab's owner; `extend` has filled the list, or `pop`
            // answers `None`.
            unsafe { slab.pop() }
        })
    });
    let Some(offset) = offset else {
        bad::corrupt(slab.start())
    };
    slab.note_tag(offset, tag);
    Taken {
        at: slab.start() + offset as usize,
        zeroed: fresh.is_some(),
    }
}
