//! A thread's heap: for each class the slab it allocates from and those that have room; a few empty units.
//!
//! Kept: a slab with an owner is in use (one a class), in its owner's partial list, or full and in none; only its owner
//! takes from it or frees into it without an atomic. Everything here happens in a *heap section* of the owner, which a
//! signal handler of the same thread sees and stays out of, or while the heap is [`State::Borrowed`].
//!
//! A heap whose thread has ended is parked with what it holds. Its slabs ask for notice, so the next free into each
//! brings it to the thread that frees; who needs a slab looks there as well; a new thread takes a parked heap whole.

use super::class::{self, NR_CLASSES};
use super::large::LargeCache;
use super::list::{List, Returned};
use super::remote::{NONE, Pushed};
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
    /// Nobody yet.
    New = 0,
    /// Its thread, or the lock of the shared heap.
    Owned = 1,
    /// Nobody: its thread has ended.
    Parked = 2,
    /// Another thread, for a moment.
    Borrowed = 3,
    /// Nobody ever: a fork cut it off in the middle of a change. Frees into it are kept and never used.
    Lost = 4,
}

/// Partial slabs looked at for one of the right tag before another is mixed.
const LOOK_FOR_TAG: usize = 4;

/// Empty slabs a heap keeps: as many as it lately had in use at once, at most this.
const MOST_EMPTY: u32 = 32;

/// See the module. Zero bytes: not yet made.
#[repr(C, align(128))]
pub struct Heap {
    /// Where records can be read whatever the address: the window as the owner saw it last. The owner alone.
    pub(super) window: OwnWindow,
    /// Addresses of the slabs in use; that of [`NO_SLAB`] where there is none.
    pub(super) active: [AtomicUsize; NR_CLASSES],
    pub(super) partial: [List; NR_CLASSES],
    pub(super) returned: Returned,
    state: AtomicU32,
    link: AtomicU32,
    /// Slabs it owns, of them empty ones that are kept, and how many were in use at once of late.
    pub(super) nr_slabs: AtomicU32,
    nr_empty: AtomicU32,
    lately: AtomicU32,
    /// Empty slabs, made as they were, by class; and a bit for each class that has any.
    empty: [List; NR_CLASSES],
    has_empty: AtomicU64,
    /// Freed large spans.
    pub(super) large: LargeCache,
}

/// What a class without a slab allocates from: nothing fits in it.
// SAFETY: zero bytes are a record.
static NO_SLAB: Slab = unsafe { core::mem::MaybeUninit::zeroed().assume_init() };

impl Default for Heap {
    fn default() -> Self {
        // SAFETY: integers; see Zeroed.
        unsafe { core::mem::MaybeUninit::zeroed().assume_init() }
    }
}
// SAFETY: integers only.
unsafe impl Zeroed for Heap {}
// SAFETY: `link` is the arena's alone.
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

    /// Where it is, as its slabs know it.
    #[inline(always)]
    pub(super) fn at(&self) -> HeapAt {
        HeapAt(core::ptr::from_ref(self) as usize)
    }

    /// The owner of a slab.
    ///
    /// # Safety
    /// It is one of objects that a heap made, and that has not been unmade since.
    pub(super) unsafe fn of(slab: SlabRef) -> &'static Heap {
        // SAFETY: the owner of such a slab is a record of the arena, which lives for ever.
        unsafe { &*(slab.owner.load(Relaxed) as *const Heap) }
    }

    /// Who acts for it.
    pub fn state(&self) -> State {
        match self.state.load(Acquire) {
            0 => State::New,
            1 => State::Owned,
            2 => State::Parked,
            3 => State::Borrowed,
            _ => State::Lost,
        }
    }

    pub(super) fn set_state(&self, state: State) {
        // Release pairs with the Acquire of `claim`: the lists as they were left.
        self.state.store(state as u32, Release);
    }

    /// Takes a parked heap.
    pub(super) fn claim(&self, state: State) -> bool {
        self.state
            .compare_exchange(State::Parked as u32, state as u32, AcqRel, Relaxed)
            .is_ok()
    }

    /// The slab a class allocates from.
    pub(super) fn active(&self, class: usize) -> SlabRef {
        assert!(class < NR_CLASSES);
        // SAFETY: just asked.
        unsafe { self.active_unchecked(class) }
    }

    /// As [`Self::active`].
    ///
    /// # Safety
    /// `class` is below [`NR_CLASSES`].
    #[inline(always)]
    pub(super) unsafe fn active_unchecked(&self, class: usize) -> SlabRef {
        debug_assert!(class < NR_CLASSES);
        // SAFETY: the caller's.
        let active = unsafe { self.active.get_unchecked(class) };
        // SAFETY: set by `make` and `set_active` to NO_SLAB or a slab in use, which stays mapped.
        unsafe { &*(active.load(Relaxed) as *const Slab) }
    }

    /// Whether the record of the unit of `at` can be read, as far as the owner knows; all its slabs' records can.
    ///
    /// # Safety
    /// The calling thread is the owner.
    #[inline(always)]
    pub(super) unsafe fn can_read(&self, at: usize) -> bool {
        // SAFETY: the caller has promised that it is the owner, which alone writes them.
        unsafe { self.window.contains(at) }
    }

    /// Takes an object of `class` for `tag`. `None`: the kernel gives no memory.
    ///
    /// # Safety
    /// In a heap section of the owner.
    pub(super) unsafe fn alloc(
        &self,
        kmem: &Kmem,
        class: usize,
        tag: Option<Tag>,
        want_zeroed: bool,
    ) -> Option<Taken> {
        loop {
            let slab = self.active(class);
            // SAFETY: the caller's.
            if slab.listed.load(Relaxed) == IN_USE && unsafe { self.make_room(slab) } {
                if !slab.takes(tag) && !self.is_idle(slab) {
                    // Another slab may be of this tag already.
                    if let Some(better) = self.partial_of(class, tag) {
                        self.retire_active(kmem, slab);
                        self.use_slab(better);
                        continue;
                    }
                }
                slab.accept(tag, self.is_idle(slab));
                // SAFETY: the caller's.
                return Some(unsafe { alloc_from(slab, tag, want_zeroed) });
            }
            if slab.listed.load(Relaxed) == IN_USE && !self.fill_up(slab) {
                continue;
            }
            self.use_slab(self.find_slab(kmem, class, tag)?);
        }
    }

    /// Whether nothing of a slab in use is held by anybody.
    fn is_idle(&self, slab: &Slab) -> bool {
        slab.used.load(Relaxed) == 1
    }

    /// Sees to it that the slab's list, or the part never used, has an object.
    ///
    /// # Safety
    /// In a heap section of the owner.
    unsafe fn make_room(&self, slab: SlabRef) -> bool {
        let free = slab.free.load(Relaxed);
        if free < slab.bytes.load(Relaxed) {
            return true;
        }
        if free != NONE {
            bad::corrupt(slab.start());
        }
        // SAFETY: the caller's; a slab in use counts truly.
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

    /// Back to the truth about a full slab.
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

    /// A slab in no list that has room, or is empty.
    fn list_or_release(&self, kmem: &Kmem, slab: SlabRef) {
        if self.state() != State::Owned {
            // Nobody will look at it unless the next free asks somebody to.
            while !slab.remote.ask_notice(0) {
                // SAFETY: we act for the owner; the count is true.
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

    /// Keeps an empty slab for the next that is wanted, or gives its units back.
    fn release(&self, kmem: &Kmem, slab: SlabRef) {
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
        // What is too many for long enough becomes fewer.
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
    fn pop_empty(&self, class: usize) -> Option<SlabRef> {
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

    /// A partial slab whose objects are all of `tag`, or which is mixed already: out of the list, if one is near its front.
    fn partial_of(&self, class: usize, tag: Option<Tag>) -> Option<SlabRef> {
        let found = self.partial[class]
            .iter()
            .take(LOOK_FOR_TAG)
            .find(|slab| slab.takes(tag))?;
        self.unlist(found);
        Some(found)
    }

    /// A slab of `class` with room, if possible for `tag`; in no list.
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
                // SAFETY: in a section of the owner, as every taking.
                unsafe { self.window.learn(span.window) };
                let nr_slabs = self.nr_slabs.load(Relaxed) + 1;
                self.nr_slabs.store(nr_slabs, Relaxed);
                let lately = self.lately.load(Relaxed);
                self.lately.store(lately.max(nr_slabs), Relaxed);
                // SAFETY: the first unit of a span just allocated.
                (unsafe { Slab::of(span.start) }, span.zeroed)
            }
        };
        // SAFETY: the units are the heap's alone; zeroed as the span said.
        unsafe { slab.make(self.at(), class, tag, zeroed) };
        Some(slab)
    }

    /// Looks at the slabs others have returned.
    pub(super) fn arrivals(&self, kmem: &Kmem) {
        if self.returned.is_empty() {
            return;
        }
        self.returned.pop_all(|slab| {
            // SAFETY: a slab in flight is of a heap, and is not unmade before it arrives.
            let owner = unsafe { Heap::of(slab) };
            if !core::ptr::eq(owner, self) {
                // It changed hands while it was in flight, and still is.
                owner.returned.push(slab);
                return;
            }
            slab.remote.arrive();
            self.relist(kmem, slab);
        });
    }

    /// A slab that was full, or may have become empty: to the list it belongs in.
    pub(super) fn relist(&self, kmem: &Kmem, slab: SlabRef) {
        if slab.listed.load(Relaxed) == IN_USE {
            return;
        }
        self.unlist(slab);
        self.unfill(slab);
        // SAFETY: the owner's section (arrivals is called in one); the count is true.
        unsafe { slab.collect() };
        if slab.free.load(Relaxed) == NONE
            && slab.fresh.load(Relaxed) >= slab.bytes.load(Relaxed)
            && slab.remote.ask_notice(level_of(slab.used.load(Relaxed)))
        {
            // Full still: somebody else has taken what came.
            slab.held.store(slab.used.load(Relaxed), Relaxed);
            slab.used.store(1, Relaxed);
            return;
        }
        self.list_or_release(kmem, slab);
    }

    /// Frees an object of a slab of this heap.
    ///
    /// # Safety
    /// In a heap section of the owner; the object at `offset` is live, uncharged, and ends here.
    pub(super) unsafe fn free(&self, kmem: &Kmem, slab: SlabRef, offset: u32) {
        if slab.free.load(Relaxed) == offset {
            bad::bad_free(slab.start() + offset as usize, bad::BadFree::Double);
        }
        let was_full = slab.held.load(Relaxed) != 0;
        self.unfill(slab);
        if slab.nr_held() == 0 {
            bad::bad_free(slab.start() + offset as usize, bad::BadFree::Double);
        }
        // SAFETY: the caller's.
        unsafe { slab.push(offset) };
        if was_full {
            self.list_or_release(kmem, slab);
        } else if slab.used.load(Relaxed) == 0 && !slab.remote.is_in_flight() {
            self.unlist(slab);
            self.release(kmem, slab);
        }
    }

    /// Gives back what is empty.
    fn return_empty(&self, kmem: &Kmem) {
        while let Some(slab) = self.pop_empty(0) {
            self.give_back(kmem, slab);
        }
        self.lately.store(0, Relaxed);
        self.large.empty(kmem);
    }

    /// Gives back the slabs that nobody holds an object of, those in use included, and the empty units.
    ///
    /// # Safety
    /// In a heap section of the owner, or borrowed.
    pub(super) unsafe fn trim(&self, kmem: &Kmem) {
        self.arrivals(kmem);
        for class in 0..NR_CLASSES {
            let slab = self.active(class);
            if slab.listed.load(Relaxed) == IN_USE {
                self.retire_active(kmem, slab);
            }
            let mut next = self.partial[class].first();
            while let Some(slab) = next {
                // SAFETY: a listed slab or none; read before this one may be released.
                next = unsafe { (slab.next.load(Relaxed) as *const Slab).as_ref() };
                self.relist(kmem, slab);
            }
        }
        self.return_empty(kmem);
    }
}

/// Of how many objects freed by others, as a power of two, the owner of a full slab of `held` wants to know.
fn level_of(held: u32) -> u32 {
    (held / 8).max(1).ilog2()
}

/// Takes an object from a slab with room.
///
/// # Safety
/// In a heap section of the slab's owner; the slab accepts `tag` and has room.
unsafe fn alloc_from(slab: SlabRef, tag: Option<Tag>, want_zeroed: bool) -> Taken {
    let clean = slab.zeroed.load(Relaxed) != 0;
    // SAFETY: the caller's. An object from behind `fresh` is as the kernel gave it.
    let fresh = (want_zeroed && clean && slab.object_bytes() >= 1024)
        .then(|| unsafe { slab.pop_fresh() })
        .flatten();
    let offset = fresh.or_else(|| {
        // SAFETY: the caller's.
        unsafe { slab.pop() }.or_else(|| {
            // SAFETY: the caller's; the list is empty.
            unsafe { slab.extend() };
            // SAFETY: as above.
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

/// Frees an object of another's slab: publishes it, and brings the slab home if that was asked for. Uncharged before.
///
/// # Safety
/// The object at `offset` is live and ends here; `own` is given in a heap section of its owner.
pub(super) unsafe fn free_remote(kmem: &Kmem, own: Option<&Heap>, slab: SlabRef, offset: u32) {
    // SAFETY: the caller's.
    if unsafe { publish(slab, offset) } {
        kmem.deliver(own, slab);
    }
}

/// Puts an object where the slab's owner finds it. `true`: the slab is in flight now, and the caller's to deliver;
/// otherwise it may be gone already.
///
/// # Safety
/// The object at `offset` is live, uncharged, and ends here.
#[inline(always)]
pub(super) unsafe fn publish(slab: SlabRef, offset: u32) -> bool {
    let pushed = slab.remote.push(offset, 1, |next| {
        if next == offset {
            bad::bad_free(slab.start() + offset as usize, bad::BadFree::Double);
        }
        // SAFETY: the object is the caller's until it is published.
        unsafe { slab.set_link(offset, next) };
    });
    pushed == Pushed::Notify
}
