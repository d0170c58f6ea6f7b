//! Scopes: whom a thread charges, from the making of a guard to its end.
//!
//! Scopes are numbered by depth from 1, in the order in which they were entered. A scope remembers
//! whom the thread charged before it. Ended in reverse order, each puts that back, and nothing is
//! kept elsewhere. A scope that ends while a later one lives ("out of order") becomes a part of a
//! [`Gap`]: a run of depths that have ended below one that lives. When the scope above a gap ends,
//! the thread charges whom it charged before the gap.
//!
//! Invariants:
//! * After any scope ends, the thread charges for the deepest one that lives; after all have ended,
//!   whom it charged before them all, whatever the order.
//! * The slot that a living scope stands on keeps its name, so the owner of a living scope is
//!   named. So is the one before a gap: the scope below the gap lives, or there is none.
//! * The deepest scope lives: no gap ends at the present depth. Gaps lie from the deepest to the
//!   lowest in the thread's list, and no two of them touch.
//! * A signal handler between any two statements finds whom it may charge, and leaves all of this
//!   as it found it if the scopes that it enters end in it.
//!
//! Depends on: `stock`, whose slots are stood on; `thread` for the record.
//! Never: an allocation, but of a record for a gap; work that grows with the depth, but for scopes
//! that end out of order: those look through the thread's gaps.

use super::{Hierarchy, Tag};
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicU64};
use crate::sync::id::AtomicId;
use crate::thread::id::GapId;
use crate::thread::{NOWHERE, ThreadRec, UNTRACKED};
use core::num::NonZeroU64;
use core::sync::atomic::{Ordering::SeqCst, compiler_fence};

/// Whom a thread charges: {owner:32, the place of its slot:16, 16 bits that are another's}.
#[derive(Clone, Copy)]
struct Charged(u64);

impl Charged {
    #[inline(always)]
    fn now(rec: &ThreadRec) -> Self {
        let (tag, at) = (rec.current.load(Relaxed), rec.current_at.load(Relaxed));
        Self(u64::from(Tag::to_word(tag)) << 32 | u64::from(at) << 16)
    }

    #[inline(always)]
    fn tag(self) -> Option<Tag> {
        Tag::from_word((self.0 >> 32) as u32)
    }

    #[inline(always)]
    fn place(self) -> u32 {
        (self.0 >> 16) as u32 & 0xffff
    }
}

const _: () = assert!(ThreadRec::place_of(NOWHERE) < 0xffff);
const _: () = assert!(ThreadRec::place_of(UNTRACKED) > 0);

/// A scope that was entered: what [`Hierarchy::leave_scope`] needs to know. In registers where its
/// guard is.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Whom the thread charged before, and in the low 16 bits the place of the slot this scope
    /// stands on. [`NOWHERE`]'s place says that the scope names its owner by a reference of its
    /// own.
    word: NonZeroU64,
    /// The record's `nest` as this scope made it. Of a scope that names its owner itself:
    /// {owner:32, 1, depth:31}, which is no record's.
    nest: u64,
}

impl Scope {
    #[inline(always)]
    fn before(self) -> Charged {
        Charged(self.word.get())
    }

    #[inline(always)]
    fn place(self) -> u32 {
        (self.word.get() & 0xffff) as u32
    }

    /// Whether it holds a reference of its own: who drops it without leaving leaks that.
    #[inline(always)]
    pub(crate) fn is_counted(self) -> bool {
        self.place() == ThreadRec::place_of(NOWHERE)
    }
}

/// One more in `nest`'s upper half: scopes that ended out of order.
const MISORDERED: u64 = 1 << 32;

/// In the depth of a scope that names its owner by a reference of its own: it takes more to leave
/// than one that stands on a slot.
const COUNTED: u32 = 1 << 31;

#[inline(always)]
fn depth(nest: u64) -> u32 {
    nest as u32 & !COUNTED
}

/// A run of scopes that ended out of order, in the list of their thread.
#[derive(Default)]
pub struct Gap {
    link: AtomicU32,
    /// The gap below.
    next: AtomicId<GapId>,
    /// The depths it reaches from and to.
    low: AtomicU32,
    high: AtomicU32,
    /// [`Charged`] before the lowest.
    before: AtomicU64,
}

// SAFETY: atomic integers and an optional id: zero bytes are 0 and none.
unsafe impl Zeroed for Gap {}
// SAFETY: Zeroed, see above. `link` is used by the arena's free list alone.
unsafe impl Record for Gap {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

impl ThreadRec {
    /// Makes `tag` the owner this thread charges; its slot is at `place`, or nowhere. A hit asks
    /// the slot for its tag, so a signal handler between the two stores at worst goes without
    /// stock.
    #[inline(always)]
    pub(super) fn stand_on(&self, tag: Option<Tag>, place: u32) {
        self.current.store(tag, Relaxed);
        self.stand_at(place);
    }

    /// As [`Self::stand_on`], in a scope of its own.
    #[inline(always)]
    fn begin_scope(&self, tag: Option<Tag>, place: u32) -> Scope {
        let word = Charged::now(self).0 | u64::from(place);
        let nest = self.nest.load(Relaxed).wrapping_add(1);
        self.nest.store(nest, Relaxed);
        self.stand_on(tag, place);
        Scope {
            // SAFETY: `place` is of `place_of`, which is above zero for every slot.
            word: unsafe { NonZeroU64::new_unchecked(word) },
            nest,
        }
    }

    /// Whether the thread stands in a scope that somebody is to leave.
    pub(crate) fn is_in_scope(&self) -> bool {
        depth(self.nest.load(Relaxed)) != 0
    }

    /// The thread charges whom it charged at `depth`, the scopes above having ended.
    fn stand_back(&self, before: Charged, gaps: Option<GapId>, depth: u32) {
        // First, or a signal handler could charge an owner that nobody names any more. All three
        // fences are for a signal handler of this thread only.
        self.stand_on(before.tag(), before.place());
        compiler_fence(SeqCst);
        // Then the gaps: a handler's scopes begin above the present depth, where no gap is.
        self.gaps.store(gaps, Relaxed);
        compiler_fence(SeqCst);
        let nest = self.nest.load(Relaxed);
        self.nest
            .store(nest & !u64::from(u32::MAX) | u64::from(depth), Relaxed);
        compiler_fence(SeqCst);
    }
}

impl Hierarchy {
    /// Enters `tag`: the thread charges it until [`Self::leave_scope`]. The caller names the tag
    /// now; the slot does from here on. Answers what to hand to `leave_scope`. Cost: a few plain
    /// stores when a slot names it already.
    #[inline(always)]
    pub fn enter_scope(&self, rec: &ThreadRec, tag: Option<Tag>) -> Scope {
        match stand_near(rec, tag) {
            Some(place) => rec.begin_scope(tag, place),
            None => self.enter_scope_slow(rec, tag),
        }
    }

    #[cold]
    fn enter_scope_slow(&self, rec: &ThreadRec, tag: Option<Tag>) -> Scope {
        // What is not accounted always has its slot.
        let untracked = ThreadRec::place_of(UNTRACKED);
        let place = tag.map_or(untracked, |tag| self.stand_anywhere(rec, tag));
        let mut scope = rec.begin_scope(tag, place);
        if scope.is_counted() {
            scope.nest =
                u64::from(Tag::to_word(tag)) << 32 | u64::from(depth(scope.nest) | COUNTED);
        }
        scope
    }

    /// The place of a slot for `tag` with one more scope on it, or [`NOWHERE`]'s and a reference.
    fn stand_anywhere(&self, rec: &ThreadRec, tag: Tag) -> u32 {
        let slot = self
            .have_slot(rec, tag, true)
            .then(|| rec.slot_of(Some(tag)))
            .flatten();
        if slot.is_none() {
            // A drain is on, all slots are stood on, or this is a signal handler inside a look at
            // them.
            self.ref_objcg(tag);
        }
        ThreadRec::place_of(slot.unwrap_or(NOWHERE))
    }

    /// Enters `tag` for the rest of the thread's life: no `leave_scope` follows, the slot's name
    /// goes with the record. Waits out a drain, for a name held otherwise would never be let go.
    pub fn enter_for_good(&self, rec: &ThreadRec, tag: Tag) {
        for _ in 0..10_000 {
            let place = stand_near(rec, Some(tag)).unwrap_or_else(|| self.stand_anywhere(rec, tag));
            if place != ThreadRec::place_of(NOWHERE) {
                rec.stand_on(Some(tag), place);
                return;
            }
            self.leave_held(rec, Some(tag));
            crate::sync::relax();
        }
        let place = self.stand_anywhere(rec, tag);
        rec.stand_on(Some(tag), place);
    }

    /// What the thread charges outside all scopes, `from`, becomes `to`, if a slot can be had.
    /// `false` where it stands in a scope. `rec` is the caller's; `to` is named.
    pub fn stand_for_good(&self, rec: &ThreadRec, from: Tag, to: Tag) -> bool {
        if rec.is_in_scope() || !self.have_slot(rec, to, true) {
            return false;
        }
        let (Some(before), Some(slot)) = (rec.slot_of(Some(from)), rec.slot_of(Some(to))) else {
            return false;
        };
        rec.stand_on(Some(to), ThreadRec::place_of(slot));
        // After it, or a signal handler could evict the slot it stands on.
        let scopes = &rec.slots[before].scopes;
        scopes.store(scopes.load(Relaxed).saturating_sub(1), Relaxed);
        true
    }

    /// Leaves a scope of this thread; `rec` is its record. In any order: see the module.
    #[inline(always)]
    pub fn leave_scope(&self, rec: &ThreadRec, scope: Scope) {
        // Equal: it is the deepest, stands on a slot, and nothing ended out of order since it was
        // entered.
        if rec.nest.load(Relaxed) != scope.nest {
            return self.leave_scope_slow(rec, scope);
        }
        // First, or a signal handler could charge an owner that nobody names any more. The fence is
        // for a handler of this thread only.
        rec.stand_on(scope.before().tag(), scope.before().place());
        compiler_fence(SeqCst);
        rec.nest.store(scope.nest.wrapping_sub(1), Relaxed);
        // SAFETY: a scope that was entered has the place of a slot.
        // A slot that is stood on is not evicted, so it is the one of `enter_scope`.
        let slot = unsafe { rec.slot_at(scope.place()) };
        slot.scopes
            .store(slot.scopes.load(Relaxed).wrapping_sub(1), Relaxed);
    }

    #[cold]
    fn leave_scope_slow(&self, rec: &ThreadRec, scope: Scope) {
        let (deepest, own) = (depth(rec.nest.load(Relaxed)), depth(scope.nest));
        if own > deepest {
            // Of a record that the thread had before it exited: what stood on slots ended then.
        } else if own == deepest {
            self.leave_deepest(rec, scope, own);
        } else if !self.leave_below(rec, scope, own) {
            // Without memory to remember that it ended it does not end.
            return;
        }
        if scope.is_counted() {
            return self.leave_held(rec, Tag::from_word((scope.nest >> 32) as u32));
        }
        if own > deepest {
            return;
        }
        // SAFETY: a scope that was entered has the place of a slot, as `place_of` gave it. It is
        // not counted (asked above), so its slot was stood on and not evicted: it is the one of
        // `enter_scope`.
        let slot = unsafe { rec.slot_at(scope.place()) };
        slot.scopes
            .store(slot.scopes.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// The deepest scope ends, and with it the gap right below it.
    fn leave_deepest(&self, rec: &ThreadRec, scope: Scope, own: u32) {
        let first = rec.gaps.load(Relaxed);
        let ended = first.filter(|&gap| self.gaps.get(gap).high.load(Relaxed) == own - 1);
        let Some(ended) = ended else {
            return rec.stand_back(scope.before(), first, own - 1);
        };
        let gap = self.gaps.get(ended);
        let before = Charged(gap.before.load(Relaxed));
        let below = gap.low.load(Relaxed) - 1;
        rec.stand_back(before, gap.next.load(Relaxed), below);
        self.gaps.free(ended);
    }

    /// A scope ends while a deeper one lives. `false`: there was no memory to remember that.
    fn leave_below(&self, rec: &ThreadRec, scope: Scope, own: u32) -> bool {
        let (mut above, mut below) = (None, rec.gaps.load(Relaxed));
        while let Some(gap) = below.filter(|&gap| self.gaps.get(gap).low.load(Relaxed) > own) {
            (above, below) = (Some(gap), self.gaps.get(gap).next.load(Relaxed));
        }
        let touching_above = above.filter(|&gap| self.gaps.get(gap).low.load(Relaxed) == own + 1);
        let touching_below = below.filter(|&gap| self.gaps.get(gap).high.load(Relaxed) == own - 1);
        match (touching_above, touching_below) {
            (Some(above), Some(below)) => {
                let (to, from) = (self.gaps.get(above), self.gaps.get(below));
                to.before.store(from.before.load(Relaxed), Relaxed);
                to.low.store(from.low.load(Relaxed), Relaxed);
                to.next.store(from.next.load(Relaxed), Relaxed);
                self.gaps.free(below);
            }
            (Some(above), None) => {
                let gap = self.gaps.get(above);
                gap.before.store(scope.before().0, Relaxed);
                gap.low.store(own, Relaxed);
            }
            (None, Some(below)) => self.gaps.get(below).high.store(own, Relaxed),
            (None, None) => {
                let Some(new) = self.gaps.alloc(u32::MAX) else {
                    return false;
                };
                let gap = self.gaps.get(new);
                gap.before.store(scope.before().0, Relaxed);
                gap.low.store(own, Relaxed);
                gap.high.store(own, Relaxed);
                gap.next.store(below, Relaxed);
                match above {
                    Some(above) => self.gaps.get(above).next.store(Some(new), Relaxed),
                    None => rec.gaps.store(Some(new), Relaxed),
                }
            }
        }
        // Deeper scopes look at the gaps when they end.
        let nest = rec.nest.load(Relaxed);
        rec.nest.store(nest.wrapping_add(MISORDERED), Relaxed);
        self.misordered.fetch_add(1, Relaxed);
        true
    }

    /// Scopes that ended before one that was entered later, in all threads.
    pub fn nr_misordered_scopes(&self) -> u64 {
        self.misordered.load(Relaxed)
    }

    /// The thread's scopes are over, wherever their guards are.
    pub(super) fn end_scopes(&self, rec: &ThreadRec) {
        rec.stand_on(None, ThreadRec::place_of(UNTRACKED));
        rec.nest.store(0, Relaxed);
        let mut gap = rec.gaps.swap(None, Relaxed);
        while let Some(ended) = gap {
            gap = self.gaps.get(ended).next.load(Relaxed);
            self.gaps.free(ended);
        }
    }

    #[cold]
    fn leave_held(&self, rec: &ThreadRec, tag: Option<Tag>) {
        let _pin = self.threads.epoch.pin(rec);
        if let Some(tag) = tag {
            self.unref_objcg(tag);
        }
    }
}

/// The place of the slot of `tag`, with one more scope on it, if it is one of the two where it is
/// looked for first.
#[inline(always)]
fn stand_near(rec: &ThreadRec, tag: Option<Tag>) -> Option<u32> {
    let mut place = ThreadRec::place_of(ThreadRec::home(tag));
    // SAFETY: the place is of `place_of`, for a slot that `home` gives: below `SLOTS`.
    let mut slot = unsafe { rec.slot_at(place) };
    if !slot.tag.is(tag, Relaxed) {
        place = ThreadRec::place_of(ThreadRec::home(tag) ^ 1);
        // SAFETY: the place is of `place_of`, for the other slot of the pair: below `SLOTS`, which
        // is even.
        slot = unsafe { rec.slot_at(place) };
    }
    // First stood on, then looked at: a signal handler that comes between evicts no slot that is
    // stood on.
    slot.scopes.store(slot.scopes.load(Relaxed) + 1, Relaxed);
    compiler_fence(SeqCst);
    if slot.tag.is(tag, Relaxed) {
        return Some(place);
    }
    slot.scopes.store(slot.scopes.load(Relaxed) - 1, Relaxed);
    None
}
