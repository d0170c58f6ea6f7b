//! One thread's record: who it charges, the stock it holds, its pin, its debts of time.
//!
//! Invariants: who may touch what, when.
//!
//! * `busy`: the owner alone writes it; [`IN_SLOTS`] while it looks at or changes the slots (and,
//!   in the same few instructions, its heap), [`IN_HEAP`] while it changes its heap alone. A signal
//!   handler that finds it set stays out of both; a drainer waits for the first only.
//! * `drain`: bit 0 is a drainer's, from its raising to its lowering (one at a time, each names its
//!   drain in `drainer`; also while the record changes threads); bit 1 is set where the kernel has
//!   no membarrier: then every access takes the fenced path.
//! * `slots`: `tag`, `balance` and `cap` are the owner's while busy and no drain is on, or the
//!   drainer's once it saw `drain` take effect. Anybody may read them (relaxed) for a sum that does
//!   not have to be exact. `scopes` is the owner's alone; a slot that is stood on keeps its tag.
//! * `current_at` is where the slot of `current` was last seen (`ThreadRec::place_of`), or
//!   [`NOWHERE`]'s place.
//! * `named`: a bit for each slot with a tag, the owner's, as `tag`.
//! * `current`, `hand`, `nest`, `gaps`: the owner alone.
//! * `pin`: the owner writes, collectors read.
//! * `changing`: changes to the tree the owner is in, one in another; it writes, who forks reads
//!   (`engine::fork`).
//! * `helping`: the owner alone; not 0 while it does the engine's work, reclaim above all: what it
//!   charges then is forced, and it does not begin more of that work.
//! * `fallible`: the owner alone; calls of `fallible` under way, in which large requests of its
//!   allocators can be refused.
//! * `seq`: its low byte is not zero while this thread has bytes between slots and counters; the
//!   rest counts how often it had. Readers of `memory.current` look at it to know that they saw a
//!   refill, or a drain, half done.
//!
//! Depends on: `slot` and `hint` for parts of the record; `os::barrier` for the fences.
//! Never: a lock; a wait without a bound; a decision about an owner or a group. Who is charged, who
//! gets stock and who is drained is decided in `group`.

use super::Tag;
use super::hint::Hints;
use super::id::{GapId, HeapId, PinListId};
use super::slot::Slot;
use crate::os::barrier;
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::id::AtomicId;
use crate::sync::promise::SoleThread;
use core::sync::atomic::{AtomicUsize, compiler_fence};

/// Tenants whose stock one thread keeps at a time, and the one that is nobody.
///
/// A tag has two slots it is looked for in at a hit, so tenants that alternate do not turn each
/// other out.
#[cfg(not(loom))]
pub const SLOTS: usize = 128;
/// Few, so that eviction happens in a model.
#[cfg(loom)]
pub const SLOTS: usize = 4;

/// The slot without a tag whose balance never ends: what is not accounted is a hit like any other.
/// Any other slot without a tag is free.
pub const UNTRACKED: usize = 0;
/// A slot that is always empty: the current one of a thread whose owner has none.
pub const NOWHERE: usize = SLOTS;
const ALL: usize = SLOTS + 1;
const NAMED: usize = SLOTS.div_ceil(64);
const _: () = assert!(SLOTS / 2 <= u64::BITS as usize);

/// `busy` inside a look at the slots.
pub const IN_SLOTS: u32 = 1;
/// `busy` inside a change of the thread's heap that leaves the slots alone, and may take its time.
pub const IN_HEAP: u32 = 2;

/// `drain` where there is no asymmetric fence.
pub const FENCED: u32 = 2;

/// The balance of the untracked slot: it neither runs out nor over.
const ENDLESS: u64 = 1 << 62;

/// See the module.
#[repr(C, align(128))]
pub struct ThreadRec {
    pub(crate) busy: AtomicU32,
    pub(crate) drain: AtomicU32,
    pub(crate) current: AtomicId<Tag>,
    pub(crate) current_at: AtomicU32,
    pub(crate) hand: AtomicU32,
    pub(crate) seq: AtomicU32,
    pub(crate) pin: AtomicU64,
    pub(crate) owed_ns: AtomicU64,
    /// The drain that has raised the flag, by its ticket.
    pub(crate) drainer: AtomicU32,
    link: AtomicU32,
    pub(crate) active: AtomicU32,
    pub(crate) tid: AtomicU32,
    /// The thread's heap, if it has one yet.
    pub heap: AtomicId<HeapId>,
    pub(crate) task: AtomicId<Tag>,
    pub(crate) changing: AtomicU32,
    helping: AtomicU32,
    /// How many calls of `fallible` it is in.
    fallible: AtomicU32,
    /// The depth of the scopes it stands in, below the number of those that ended out of order:
    /// {ended out of order:32, depth:32}.
    pub(crate) nest: AtomicU64,
    /// The address of what it has of kmem caches, which stays with the record; 0: nothing yet.
    pub(crate) caches: AtomicUsize,
    named: [AtomicU64; NAMED],
    pub(crate) slots: [Slot; ALL],
    /// Scopes that ended out of order below one that lives, the deepest first.
    pub(crate) gaps: AtomicId<GapId>,
    /// What it looked up last in tables that are trees.
    pub(crate) hints: Hints,
    /// A bit for each pair of slots, of whose tags one is in neither: the others need not be looked
    /// for beyond their pair.
    strays: AtomicU64,
    /// The address of the innermost poll that it stands in, of a future in a group; 0: none.
    /// `group::poll` knows what is there.
    pub(crate) poll: AtomicUsize,
    /// Sections it stands in that hold what others wait for: it is not held back in them.
    pub(crate) sections: AtomicU32,
    /// The pages that it has pinned.
    pub(crate) pins: AtomicId<PinListId>,
    /// Whom its touches of pages charge, whoever else would be; none: nobody was named.
    pub(crate) charge_to: AtomicId<Tag>,
}

impl Default for ThreadRec {
    fn default() -> Self {
        Self {
            busy: AtomicU32::default(),
            drain: AtomicU32::default(),
            current: AtomicId::default(),
            current_at: AtomicU32::default(),
            hand: AtomicU32::default(),
            seq: AtomicU32::default(),
            pin: AtomicU64::default(),
            owed_ns: AtomicU64::default(),
            drainer: AtomicU32::default(),
            link: AtomicU32::default(),
            active: AtomicU32::default(),
            tid: AtomicU32::default(),
            heap: AtomicId::default(),
            task: AtomicId::default(),
            changing: AtomicU32::default(),
            helping: AtomicU32::default(),
            fallible: AtomicU32::default(),
            nest: AtomicU64::default(),
            caches: AtomicUsize::new(0),
            named: core::array::from_fn(|_| AtomicU64::default()),
            slots: core::array::from_fn(|_| Slot::default()),
            gaps: AtomicId::default(),
            hints: Hints::default(),
            strays: AtomicU64::default(),
            poll: AtomicUsize::new(0),
            sections: AtomicU32::default(),
            pins: AtomicId::default(),
            charge_to: AtomicId::default(),
        }
    }
}
// SAFETY: all fields are atomic integers, optional ids or arrays of them: zero bytes are 0 or none.
unsafe impl Zeroed for ThreadRec {}
// SAFETY: Zeroed, see above. `link` is used by the arena's free list alone.
unsafe impl Record for ThreadRec {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// The guard of a thread's slots: while it lives the owner uses them and no drainer does.
#[must_use]
pub struct SlotsGuard<'a>(&'a ThreadRec);

impl<'a> SlotsGuard<'a> {
    /// The record.
    #[inline(always)]
    pub(crate) fn rec(&self) -> &'a ThreadRec {
        self.0
    }
}

impl Drop for SlotsGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release pairs with the drainer's Acquire in `await_idle`: it sees the slots as left.
        self.0.busy.store(0, Ordering::Release);
    }
}

/// The thread has bytes between slots and counters. Dropping it ends that.
#[must_use]
pub(crate) struct Transit<'a>(&'a ThreadRec);

impl Drop for Transit<'_> {
    fn drop(&mut self) {
        // The low byte counts nesting (a signal handler's transit inside ours), the rest the
        // transits. Release pairs with the Acquire of `Hierarchy::transits`: who sees the transit
        // over sees what it did.
        self.0.seq.fetch_add(256 - 1, Ordering::Release);
    }
}

/// The thread does the engine's work. Dropping it ends that.
#[must_use]
pub struct Helping<'a> {
    rec: &'a ThreadRec,
    before: u32,
}

impl Drop for Helping<'_> {
    fn drop(&mut self) {
        self.rec.helping.store(self.before, Ordering::Relaxed);
    }
}

/// The thread is in `fallible` until this is dropped.
#[must_use]
pub struct InFallible<'a>(&'a ThreadRec);

impl Drop for InFallible<'_> {
    fn drop(&mut self) {
        let depth = self.0.fallible.load(Ordering::Relaxed);
        self.0
            .fallible
            .store(depth.saturating_sub(1), Ordering::Relaxed);
    }
}

impl ThreadRec {
    /// The thread does the engine's work until the guard's end. Nests.
    pub(crate) fn begin_helping(&self) -> Helping<'_> {
        let before = self.helping.load(Ordering::Relaxed);
        self.helping.store(1, Ordering::Relaxed);
        Helping { rec: self, before }
    }

    /// Whether it does.
    pub fn is_helping(&self) -> bool {
        self.helping.load(Ordering::Relaxed) != 0
    }

    /// The thread is in `fallible` until the guard's end. Nests.
    pub fn begin_fallible(&self) -> InFallible<'_> {
        let depth = self.fallible.load(Ordering::Relaxed);
        self.fallible.store(depth + 1, Ordering::Relaxed);
        InFallible(self)
    }

    /// Whether large requests of its allocators can be refused.
    pub(crate) fn is_fallible(&self) -> bool {
        self.fallible.load(Ordering::Relaxed) != 0
    }

    /// Begins a transit: until the guard's end, bytes may be neither in a slot nor off the
    /// counters.
    pub(crate) fn begin_transit(&self) -> Transit<'_> {
        // A read-modify-write, or a signal handler's transit in the middle would be lost from the
        // count.
        self.seq.fetch_add(1, Ordering::Relaxed);
        // Pairs with the Acquire fence of `Hierarchy::usage`: the mark comes before what it marks.
        fence(Ordering::Release);
        Transit(self)
    }

    /// Makes a fresh or recycled record a thread's own.
    pub(crate) fn adopt(&self, tid: u32, fenced: bool) {
        self.busy.store(0, Ordering::Relaxed);
        // A drainer that found the last thread's stock may be at it still. Its flag is its own to
        // lower: lowered here, it would be taken for that of another drain, which has not yet made
        // us see it.
        if fenced {
            self.drain.fetch_or(FENCED, Ordering::Relaxed);
        } else {
            self.drain.fetch_and(!FENCED, Ordering::Relaxed);
        }
        self.current.store(None, Ordering::Relaxed);
        self.stand_at(Self::place_of(UNTRACKED));
        self.owed_ns.store(0, Ordering::Relaxed);
        self.pin.store(0, Ordering::Relaxed);
        self.task.store(None, Ordering::Relaxed);
        self.changing.store(0, Ordering::Relaxed);
        self.helping.store(0, Ordering::Relaxed);
        self.fallible.store(0, Ordering::Relaxed);
        self.nest.store(0, Ordering::Relaxed);
        self.gaps.store(None, Ordering::Relaxed);
        self.hints.forget();
        self.strays.store(0, Ordering::Relaxed);
        self.poll.store(0, Ordering::Relaxed);
        self.sections.store(0, Ordering::Relaxed);
        // The last thread's were returned; a drainer may read them still.
        for slot in &self.slots {
            slot.tag.store(None, Ordering::Relaxed);
            slot.scopes.store(0, Ordering::Relaxed);
            slot.balance.store(0, Ordering::Relaxed);
            slot.cap.store(0, Ordering::Relaxed);
            slot.slab.store(0, Ordering::Relaxed);
            slot.spare.set(0);
        }
        for word in &self.named {
            word.store(0, Ordering::Relaxed);
        }
        self.slots[UNTRACKED]
            .balance
            .store(ENDLESS, Ordering::Relaxed);
        self.slots[UNTRACKED].cap.store(u64::MAX, Ordering::Relaxed);
        self.tid.store(tid, Ordering::Relaxed);
        // Release pairs with the Acquire of `Threads::each`.
        self.active.store(1, Ordering::Release);
    }

    /// As [`Self::enter`], in fewer instructions: `None` also where the kernel has no membarrier.
    #[inline(always)]
    pub(crate) fn enter_unfenced(&self) -> Option<SlotsGuard<'_>> {
        if self.busy.load(Ordering::Relaxed) != 0 {
            return None;
        }
        self.busy.store(IN_SLOTS, Ordering::Relaxed);
        // Pairs with the heavy fence of `Hierarchy::drain`, as in `enter`.
        barrier::light();
        // Acquire pairs with the Release of `end_drain`; Release with the Acquire of `await_idle`.
        if self.drain.load(Ordering::Acquire) != 0 {
            self.busy.store(0, Ordering::Release);
            return None;
        }
        Some(SlotsGuard(self))
    }

    /// Begins a look at the slots. `None`: a drain is on, or this is a signal handler (or a user
    /// callback) inside such a look; the caller then goes without stock.
    #[inline(always)]
    pub(crate) fn enter(&self) -> Option<SlotsGuard<'_>> {
        if self.busy.load(Ordering::Relaxed) != 0 {
            return None;
        }
        self.busy.store(IN_SLOTS, Ordering::Relaxed);
        // Pairs with the heavy fence of `Hierarchy::drain`: either it sees busy, or we see drain.
        barrier::light();
        // Acquire pairs with the Release of `end_drain`: what was taken is gone. (On x86 a plain
        // load.)
        match self.drain.load(Ordering::Acquire) {
            0 => Some(SlotsGuard(self)),
            FENCED => self.enter_fenced(),
            _ => {
                // Release pairs with the Acquire of `await_idle`.
                self.busy.store(0, Ordering::Release);
                None
            }
        }
    }

    /// [`Self::enter`] without membarrier: SeqCst on both sides. A drainer adds 1 to FENCED.
    #[cold]
    fn enter_fenced(&self) -> Option<SlotsGuard<'_>> {
        // Pairs with the full fence of `Hierarchy::drain`.
        fence(Ordering::SeqCst);
        // Acquire pairs with the Release of `end_drain`; the Release below with the Acquire of
        // `await_idle`.
        if self.drain.load(Ordering::Acquire) == FENCED {
            return Some(SlotsGuard(self));
        }
        self.busy.store(0, Ordering::Release);
        None
    }

    /// Begins a change of the thread's heap, in which the slots are not touched. `None` in a signal
    /// handler inside such a change or inside a look at the slots.
    #[inline(always)]
    pub fn enter_heap(&self) -> Option<SlotsGuard<'_>> {
        if self.busy.load(Ordering::Relaxed) != 0 {
            return None;
        }
        self.busy.store(IN_HEAP, Ordering::Relaxed);
        // For a signal handler of this thread only: it sees `busy` before anything is changed.
        compiler_fence(Ordering::SeqCst);
        Some(SlotsGuard(self))
    }

    /// Whether the thread is inside a look at its slots or a change of its heap.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) != 0
    }

    /// Ends a look that was cut off: by the thread's exit, or a jump out of the signal handler that
    /// came between.
    pub fn end_busy(&self) {
        // Release pairs with the Acquire of `await_idle`: a drainer sees the slots as they were
        // left.
        self.busy.store(0, Ordering::Release);
    }

    /// Asks the owner to keep off its slots. To be followed by `barrier::heavy` and
    /// [`Self::await_idle`]. `false` when another drainer is at it.
    pub(crate) fn begin_drain(&self) -> bool {
        let now = self.drain.load(Ordering::Relaxed);
        // Acquire pairs with the Release of `end_drain`: what the last drainer took is gone. That
        // the owner sees the flag is the work of the heavy fence that follows.
        now & 1 == 0
            && self
                .drain
                .compare_exchange(now, now | 1, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Whether the owner is off its slots, waiting a bounded while for it: a thread that was
    /// preempted in the few instructions of a hit is not worth waiting for.
    pub(crate) fn await_idle(&self) -> bool {
        let rounds = if cfg!(loom) { 2 } else { 2_000 };
        for _ in 0..rounds {
            // Acquire pairs with the Release of `SlotsGuard::drop`.
            if self.busy.load(Ordering::Acquire) != IN_SLOTS {
                return true;
            }
            crate::sync::relax();
        }
        false
    }

    /// Lets the owner use its slots again.
    pub(crate) fn end_drain(&self) {
        // Release pairs with the Acquire of `enter`. A read-modify-write: `adopt` may set the other
        // bit meanwhile.
        self.drain.fetch_and(!1, Ordering::Release);
    }

    /// Where a slot lies: in bytes from the record's beginning, so that a hit finds it by one
    /// addition.
    #[inline(always)]
    pub(crate) const fn place_of(slot: usize) -> u32 {
        #[cfg(not(loom))]
        let place = core::mem::offset_of!(Self, slots) + slot * size_of::<Slot>();
        // Loom's atomics are objects, not bytes.
        #[cfg(loom)]
        let place = slot + 1;
        place as u32
    }

    /// The slot at a place.
    ///
    /// # Safety
    /// `place` is of [`Self::place_of`], for a slot up to [`NOWHERE`].
    #[inline(always)]
    pub(crate) unsafe fn slot_at(&self, place: u32) -> &Slot {
        debug_assert!((0..ALL).any(|slot| Self::place_of(slot) == place));
        #[cfg(not(loom))]
        // SAFETY: the caller has promised a place of `place_of`: within the record, where a slot
        // begins.
        unsafe {
            &*core::ptr::from_ref(self)
                .byte_add(place as usize)
                .cast::<Slot>()
        }
        #[cfg(loom)]
        &self.slots[place as usize - 1]
    }

    /// The slot of the current owner, or one that is empty.
    #[inline(always)]
    pub(crate) fn current_slot(&self) -> &Slot {
        // SAFETY: `current_at` is written by `stand_at` alone, whose callers give it places of
        // `place_of`; a record is adopted, which does that, before anybody uses it.
        unsafe { self.slot_at(self.current_at.load(Ordering::Relaxed)) }
    }

    /// Notes where the current owner's slot is.
    #[inline(always)]
    pub(crate) fn stand_at(&self, place: u32) {
        self.current_at.store(place, Ordering::Relaxed);
    }

    /// Where `tag` is looked for first.
    #[inline(always)]
    pub(crate) fn home(tag: Option<Tag>) -> usize {
        Tag::to_word(tag) as usize % SLOTS
    }

    /// The slot that names `tag`, wherever it is. The owner, busy; or anybody who needs no
    /// certainty.
    #[inline(always)]
    pub(crate) fn slot_of(&self, tag: Option<Tag>) -> Option<usize> {
        let home = Self::home(tag);
        if self.slots[home].tag.is(tag, Ordering::Relaxed) {
            return Some(home);
        }
        self.slot_elsewhere(tag)
    }

    #[cold]
    #[inline(never)]
    fn slot_elsewhere(&self, tag: Option<Tag>) -> Option<usize> {
        let other = Self::home(tag) ^ 1;
        if other != UNTRACKED && self.slots[other].tag.is(tag, Ordering::Relaxed) {
            return Some(other);
        }
        if self.strays.load(Ordering::Relaxed) >> (Self::home(tag) / 2) & 1 == 0 {
            return None;
        }
        self.named()
            .find(|&slot| self.slots[slot].tag.is(tag, Ordering::Relaxed))
    }

    /// The slots that have a tag, as they are now.
    pub(crate) fn named(&self) -> impl Iterator<Item = usize> {
        let (mut word, mut bits) = (0, self.named[0].load(Ordering::Relaxed));
        core::iter::from_fn(move || {
            while bits == 0 {
                word += 1;
                bits = self.named.get(word)?.load(Ordering::Relaxed);
            }
            let slot = word * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            Some(slot)
        })
    }

    /// Gives a free slot a tag, or makes one free (`None`). The owner, busy, or who ends it.
    pub(crate) fn set_tag(&self, slot: usize, tag: Option<Tag>) {
        let before = self.slots[slot].tag.load(Ordering::Relaxed);
        // First, for a signal handler of this thread: who is elsewhere is looked for elsewhere.
        let strays = self.strays.load(Ordering::Relaxed) | Self::stray(slot, tag);
        self.strays.store(strays, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        self.slots[slot].tag.store(tag, Ordering::Relaxed);
        let word = &self.named[slot / 64];
        let bit = 1 << (slot % 64);
        let bits = word.load(Ordering::Relaxed);
        word.store(
            if tag.is_none() {
                bits & !bit
            } else {
                bits | bit
            },
            Ordering::Relaxed,
        );
        if Self::stray(slot, before) != 0 {
            compiler_fence(Ordering::SeqCst);
            let of = |slot: usize| Self::stray(slot, self.slots[slot].tag.load(Ordering::Relaxed));
            let strays = self.named().fold(0, |strays, slot| strays | of(slot));
            self.strays.store(strays, Ordering::Relaxed);
        }
    }

    /// The bit of the pair of slots where `tag` is looked for first, if `slot` is not one of them;
    /// else 0.
    fn stray(slot: usize, tag: Option<Tag>) -> u64 {
        let pair = Self::home(tag) / 2;
        u64::from(tag.is_some() && slot / 2 != pair) << pair
    }

    /// In the child of a fork: whatever the record's thread or a drainer was doing, nobody does it
    /// here.
    pub(crate) fn forget_owner(&self, sole: SoleThread) {
        self.forget_drainer(sole);
        self.busy.store(0, Ordering::Relaxed);
        self.pin.store(0, Ordering::Relaxed);
        self.seq.store(0, Ordering::Relaxed);
        self.changing.store(0, Ordering::Relaxed);
    }

    /// The same for the thread that forked: what it was doing, if a signal handler of it forks, it
    /// goes on with.
    pub(crate) fn forget_drainer(&self, _sole: SoleThread) {
        self.drain.store(
            self.drain.load(Ordering::Relaxed) & FENCED,
            Ordering::Relaxed,
        );
        self.drainer.store(0, Ordering::Relaxed);
    }
}
