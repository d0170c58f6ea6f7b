//! Owners: what a tag on a charged thing names.
//!
//! An owner is a group's own, or a task's. It counts what is charged through it, in words that can
//! be flipped to another cell: all bytes (`charged`, stock included), the stock granted for it
//! (`granted`), and each kind other than heap. Heap is the remainder, so the most frequent charge
//! counts once.
//!
//! An owner outlives its group or task until its last byte goes; what remains of it is its line in
//! the ledger. Then it is retired: by whoever takes the last byte, the last name (a handle, a
//! scope's slot) or the life away, whichever comes last. Each of them does its part and then looks
//! at the other two behind a full fence, so one sees all three.
//!
//! A task has one owner that lives. One it has moved away from without its bytes is *superseded*
//! (see `successor`) and names its successor; amounts of its bytes that a move left in another
//! group are *residuals*, owners without a tag on anything (see `residual`).
//!
//! Invariants: `charged` is what its things hold and what threads stock for it; the kinds are parts
//! of it, and `granted` is the most that may be stock. One thread retires an owner, once.
//! Depends on: `flip_word`; `name` and `cell`, on each of which an owner has a reference;
//! `residual`, `successor`.
//! Never: a walk over groups (`exact_charge` does that); a lock on a charge. Its own lock orders
//! moves and its task's end.

use super::flip_word::Word;
use super::id::{CellId, NameId};
use super::kind::{Kind, NR_SIDE_KINDS};
use super::limbo::What;
use super::stall_word;
use super::{Hierarchy, Tag};
use crate::os::clock;
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::id::AtomicId;
use crate::sync::lock::Lock;

/// In `Objcg::id`: what follows is a successor's tag, and no task's id.
pub(super) const SUCCESSOR: u32 = 1 << 31;

/// An owner's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum State {
    /// Nobody's.
    Free = 0,
    /// A group's own, the group online.
    Group = 1,
    /// A live task's.
    Task = 2,
    /// Its group has been removed.
    DeadGroup = 3,
    /// Its task has ended.
    DeadTask = 4,
    /// Its task goes on elsewhere, with another owner.
    Superseded = 5,
    /// Part of another owner's bytes, in another group.
    Residual = 6,
    /// As a residual, in no group: what a leaky move lost.
    Lost = 7,
}

impl State {
    /// The state that an owner's word says, whatever stands beside it.
    fn of(word: u32) -> Self {
        match word & STATE {
            1 => State::Group,
            2 => State::Task,
            3 => State::DeadGroup,
            4 => State::DeadTask,
            5 => State::Superseded,
            6 => State::Residual,
            7 => State::Lost,
            _ => State::Free,
        }
    }
}

const STATE: u32 = 0xff;
/// Set beside the state of a task that is to die.
const KILLED: u32 = 1 << 8;
/// Set beside the state of an owner that may not be stocked, because it has residuals.
const NO_STOCK: u32 = 1 << 9;
/// Set beside the state of a residual that is wrongly charged where it is: to be reclaimed first,
/// to follow when used.
const MARKED: u32 = 1 << 11;
/// Set beside `KILLED`: the task has not ended in time, and its bytes are expected no more.
const OVERDUE: u32 = 1 << 12;
/// Set beside the state of a task while a move of it is under way.
const MOVING: u32 = 1 << 10;

/// A task's adjustment when a victim is looked for, beside the state: 0, or itself and 1024.
const ADJ_AT: u32 = 16;
const ADJ: u32 = 0x7ff << ADJ_AT;
const ADJ_ZERO: i32 = 1024;

/// Beside `KILLED`, when that was, in steps of [`TICK_NS`], modulo 32.
const KILLED_AT_AT: u32 = 27;
const TICK_NS: u64 = 500_000_000;
/// How many steps what a killed task holds is expected back.
const TICKS: u32 = 4;

fn tick(now_ns: u64) -> u32 {
    (now_ns / TICK_NS % 32) as u32
}

/// See the module.
#[derive(Default)]
#[repr(C)]
pub struct Objcg {
    pub(crate) charged: Word,
    pub(crate) granted: Word,
    pub(crate) side: [Word; NR_SIDE_KINDS],
    /// Handles, scopes and stock slots that name it.
    refs: AtomicU32,
    state: AtomicU32,
    /// None: of a lost residual.
    pub(super) name: AtomicId<NameId>,
    /// A task's id; of one that is superseded, its successor's tag and `SUCCESSOR`, from a moment
    /// before its state says so.
    pub(super) id: AtomicU32,
    /// When its task or group ended, ns since 1970; of a live task, the threads that stall for it,
    /// as `stall` has it.
    ended_at: AtomicU64,
    /// While it is somebody's: the first of its residuals; of a residual, the next. Afterwards the
    /// lists'.
    pub(super) link: AtomicU32,
    /// Orders moves and the end of one task.
    pub(crate) lock: Lock,
}

// SAFETY: integers and a free lock.
unsafe impl Zeroed for Objcg {}
// SAFETY: `link` is the lists' alone from the moment the owner is retired: `retire_if_done` looks
// at its residuals before.
unsafe impl Record for Objcg {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

const _: () = assert!(core::mem::size_of::<Objcg>() == 72 || cfg!(loom));

impl Objcg {
    /// Its state.
    pub fn state(&self) -> State {
        // Acquire pairs with the Release of `open_objcg` and `end`, and of `retire_one_if_done`.
        State::of(self.state.load(Ordering::Acquire))
    }

    /// Whether its task or group still lives.
    pub fn is_live(&self) -> bool {
        matches!(self.state(), State::Group | State::Task)
    }

    /// A task's id; 0 for a group's own, and for one that is superseded.
    pub fn id(&self) -> u32 {
        // Acquire pairs with the AcqRel of `supersede`: who finds it superseded finds its
        // successor.
        let id = self.id.load(Ordering::Acquire);
        if id & SUCCESSOR == 0 { id } else { 0 }
    }

    /// Its name's index.
    ///
    /// # Panics
    /// Of a lost residual, which has no name.
    pub fn name(&self) -> NameId {
        // Acquire pairs with the Release of `residual_in`, which gives a residual another name. The
        // name an owner begins with is published with the owner, by `open_objcg`.
        self.name.known(Ordering::Acquire)
    }

    /// When it ended, ns since 1970; 0 while it lives.
    pub fn ended_at(&self) -> u64 {
        stall_word::time_of(self.ended_at.load(Ordering::Relaxed))
    }

    /// Bytes charged through it, stock included.
    pub fn charged_bytes(&self) -> u64 {
        self.charged.read().bytes
    }

    /// The cell its bytes are accounted at.
    ///
    /// # Panics
    /// Of a lost residual, whose bytes are in no group.
    pub fn cell(&self) -> CellId {
        self.charged.read().in_cell()
    }

    /// As [`Self::cell`]; `None` of a lost residual.
    pub fn cell_if_any(&self) -> Option<CellId> {
        self.charged.read().cell
    }

    /// Bytes of a kind other than heap.
    pub fn side_bytes(&self, kind: Kind) -> u64 {
        kind.side().map_or(0, |side| self.side[side].read().bytes)
    }

    /// Marks the task as one that is to die. `false` if it was marked, or is no live task.
    pub fn kill(&self) -> bool {
        let at = tick(clock::monotonic_ns()) << KILLED_AT_AT;
        self.flag(KILLED | at, |state| {
            state & STATE == State::Task as u32 && state & KILLED == 0
        })
    }

    /// The successor of a task that is to die is to die too, and is waited for no longer.
    pub(super) fn inherit_mark(&self, old: &Objcg) {
        const MARK: u32 = KILLED | OVERDUE | 31 << KILLED_AT_AT;
        let mark = old.state.load(Ordering::Relaxed) & MARK;
        if mark & KILLED != 0 {
            self.flag(mark, |state| state & KILLED == 0);
        }
    }

    /// Whether the task is to die and what it holds is expected back: for two seconds after the
    /// mark. One that has not ended by then is not waited for again. (A mark that nobody asks about
    /// for 16 s counts for up to two seconds more, once.)
    pub fn is_expected_back(&self, now_ns: u64) -> bool {
        // Acquire pairs with the AcqRel of `kill` (in `flag`).
        let state = self.state.load(Ordering::Acquire);
        if state & STATE != State::Task as u32 || state & (KILLED | OVERDUE) != KILLED {
            return false;
        }
        let age = tick(now_ns).wrapping_sub(state >> KILLED_AT_AT) % 32;
        if age > TICKS {
            self.flag(OVERDUE, |state| state & KILLED != 0);
        }
        age <= TICKS
    }

    /// What is added to what the task holds when a victim is looked for, in thousandths of the
    /// whole.
    pub fn oom_score_adj(&self) -> i16 {
        match (self.state.load(Ordering::Relaxed) & ADJ) >> ADJ_AT {
            0 => 0,
            set => (set as i32 - ADJ_ZERO) as i16,
        }
    }

    /// Sets what is added to what the task holds when a victim is looked for, in thousandths of the
    /// whole; `adj` is brought within −1000 and 1000.
    pub fn set_oom_score_adj(&self, adj: i16) {
        let set = (i32::from(adj.clamp(-1000, 1000)) + ADJ_ZERO) as u32;
        let change = |state: u32| Some((state & !ADJ) | set << ADJ_AT);
        // AcqRel pairs with the other changes of the word and with the Acquire of `state`, as in
        // `flag`.
        let _ = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
    }

    /// Sets a bit beside the state if `may` allows it.
    fn flag(&self, bit: u32, may: impl Fn(u32) -> bool) -> bool {
        // AcqRel pairs with the other changes of the word, which are one total order, and with the
        // Acquire of `state`, `is_killed` and `is_moving`.
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |state| {
                may(state).then_some(state | bit)
            })
            .is_ok()
    }

    /// Begins a move of a live task. `false`: there is one, or it has ended. To be followed by
    /// [`Self::end_move`].
    pub(crate) fn begin_move(&self) -> bool {
        self.flag(MOVING, |state| {
            state & STATE == State::Task as u32 && state & MOVING == 0
        })
    }

    /// Whether a move of it is under way.
    pub(crate) fn is_moving(&self) -> bool {
        // Acquire pairs with the AcqRel of `end_move`, and of `begin_move` (in `flag`).
        self.state.load(Ordering::Acquire) & MOVING != 0
    }

    /// Ends the move that [`Self::begin_move`] began.
    pub(crate) fn end_move(&self) {
        // Release pairs with the Acquire of `is_moving`: who finds no move sees what the last one
        // did. Acquire pairs with the AcqRel of the other changes of the word.
        self.state.fetch_and(!MOVING, Ordering::AcqRel);
    }

    /// Whether a residual is wrongly charged where it is.
    pub(crate) fn is_marked(&self) -> bool {
        // Acquire pairs with the AcqRel of `mark`.
        self.state.load(Ordering::Acquire) & MARKED != 0
    }

    /// Says whether a residual is wrongly charged where it is.
    pub(crate) fn mark(&self, wrong: bool) {
        // Release pairs with the Acquire of `is_marked`; Acquire with the other changes of the
        // word.
        if wrong {
            self.state.fetch_or(MARKED, Ordering::AcqRel);
        } else {
            self.state.fetch_and(!MARKED, Ordering::AcqRel);
        }
    }

    /// From now on it gets no stock. To be followed by a drain of what it has.
    pub(super) fn forbid_stock(&self) {
        // Release pairs with the Acquire of `may_stock`; Acquire with the other changes of the
        // word.
        self.state.fetch_or(NO_STOCK, Ordering::AcqRel);
    }

    /// It may have stock again.
    pub(super) fn allow_stock(&self) {
        // Release pairs with the Acquire of `may_stock`; Acquire with the other changes of the
        // word.
        self.state.fetch_and(!NO_STOCK, Ordering::AcqRel);
    }

    /// Whether it may have stock.
    pub(super) fn may_stock(&self) -> bool {
        // Acquire pairs with the AcqRel of `forbid_stock` and `allow_stock`, and with the Release
        // of `end`.
        let state = self.state.load(Ordering::Acquire);
        state & NO_STOCK == 0 && state & STATE != State::Superseded as u32
    }

    /// Whether it is to die.
    pub fn is_killed(&self) -> bool {
        // Acquire pairs with the AcqRel of `kill` (in `flag`).
        self.state.load(Ordering::Acquire) & KILLED != 0
    }

    /// Ends the owner's life, in the state `state`; answers its word of stalls.
    pub(crate) fn end(&self, state: State, now_ns: u64) -> u64 {
        // First, so that no stall begins for a task that has ended. AcqRel pairs with the `swap` of
        // `stall`, which makes the other changes of the word.
        let stalls = self.ended_at.swap(now_ns, Ordering::AcqRel);
        // Release pairs with the Acquire of `state`. A move that is under way, and what it leaves,
        // stay noted.
        let _ = self
            .state
            .fetch_update(Ordering::Release, Ordering::Relaxed, |was| {
                // A superseded owner may have been told to die: its successor will be.
                let kept = if state == State::Superseded {
                    KILLED | OVERDUE | 31 << KILLED_AT_AT
                } else {
                    0
                };
                Some(was & (NO_STOCK | MOVING | kept) | state as u32)
            });
        stalls
    }

    /// A residual begins, now.
    pub(super) fn begin_residual(&self, now_ns: u64) {
        self.ended_at.store(now_ns, Ordering::Relaxed);
        self.mark(false);
    }

    /// A live task's word of stalls.
    pub(super) fn stalls(&self) -> &AtomicU64 {
        &self.ended_at
    }

    /// Names on it: handles, scopes, stock slots, and one for its life.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn nr_refs(&self) -> u64 {
        u64::from(self.refs.load(Ordering::Relaxed))
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &Word> {
        [&self.charged, &self.granted].into_iter().chain(&self.side)
    }
}

impl Hierarchy {
    /// Makes an owner of a new or recycled record, named once, by its group or task. Takes a
    /// reference on the cell; takes over the one on the name from its creator for a task, a further
    /// one for a group.
    pub(super) fn open_objcg(
        &self,
        tag: Tag,
        cell: Option<CellId>,
        name: Option<NameId>,
        state: State,
    ) {
        let _walk = self.begin_walk();
        let objcg = self.objcgs.get(tag);
        for word in objcg.words() {
            word.reset(cell);
        }
        if let Some(cell) = cell {
            self.ref_cell(cell);
        }
        objcg.refs.store(1, Ordering::Relaxed);
        objcg.name.store(name, Ordering::Relaxed);
        objcg.id.store(0, Ordering::Relaxed);
        objcg.ended_at.store(0, Ordering::Relaxed);
        objcg.link.store(0, Ordering::Relaxed);
        // Release pairs with the Acquire of `state`: who scans the table sees a whole owner.
        objcg.state.store(state as u32, Ordering::Release);
        self.count_owner_in(objcg);
    }

    /// One more name for an owner that is named, or charged for a thing the caller holds.
    pub fn ref_objcg(&self, tag: Tag) {
        self.objcgs.get(tag).refs.fetch_add(1, Ordering::Relaxed);
    }

    /// One name less. The caller is pinned.
    pub fn unref_objcg(&self, tag: Tag) {
        // AcqRel pairs with that of the other releases and with the Acquire of
        // `retire_one_if_done`: whoever retires sees what the others did.
        if self.objcgs.get(tag).refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.retire_if_done(tag);
        }
    }

    /// One more name for an owner that somebody names, or nobody any more: then `false`. The caller
    /// is pinned.
    pub(crate) fn try_ref_objcg(&self, tag: Tag) -> bool {
        // Acquire pairs with the Release half of `unref_objcg`, Release with its Acquire half.
        self.objcgs
            .get(tag)
            .refs
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |refs| {
                (refs != 0).then_some(refs + 1)
            })
            .is_ok()
    }

    /// Retires an owner that has ended, is charged nothing and named by nobody. The caller is
    /// pinned.
    pub(crate) fn retire_if_done(&self, tag: Tag) {
        let mut tag = tag;
        // An owner that is superseded names its successor, which may be done with then as well.
        while let Some(successor) = self.retire_one_if_done(tag) {
            // AcqRel pairs with that of `unref_objcg`.
            if self
                .objcgs
                .get(successor)
                .refs
                .fetch_sub(1, Ordering::AcqRel)
                != 1
            {
                return;
            }
            tag = successor;
        }
    }

    /// As [`Self::retire_if_done`], for one owner. If it was retired and had a successor, answers
    /// that: it is named once less, which is the caller's to do.
    fn retire_one_if_done(&self, tag: Tag) -> Option<Tag> {
        let _walk = self.begin_walk();
        let objcg = self.objcgs.get(tag);
        // Pairs with the same fence of the two others who may be taking the last part away: one of
        // us sees all.
        fence(Ordering::SeqCst);
        let (successor, residuals) = loop {
            // Acquire of the state pairs with the Release of `end`, that of the names with the
            // AcqRel of `unref_objcg`.
            let word = objcg.state.load(Ordering::Acquire);
            let state = State::of(word);
            if matches!(
                state,
                State::Free | State::Group | State::Task | State::Lost
            ) || objcg.refs.load(Ordering::Acquire) != 0
                || objcg.words().any(|word| word.read().bytes != 0)
                || self.residual_bytes(tag) != 0
            {
                return None;
            }
            let successor = objcg.successor();
            // A residual's own link is to the next of the same owner, who lets go of them all.
            let residuals = if state == State::Residual {
                None
            } else {
                objcg.next_residual()
            };
            // One of those who see all three gets to retire the owner. Acquire pairs with the other
            // changes of the word, Release with the Acquire of `state`.
            let retired = objcg.state.compare_exchange(
                word,
                State::Free as u32,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            // A failure says that the word has changed, not that somebody else retires the owner: a
            // bit beside the state changes as well (the end of a move, say). So all is looked at
            // again. If the owner was retired, that look finds it free.
            if retired.is_ok() {
                break (successor, residuals);
            }
        };
        self.count_owner_out(objcg);
        self.retire_owner_pages(tag);
        self.release_residuals(residuals);
        self.unref_name(objcg.name());
        self.unref_cell(objcg.cell());
        self.retire(What::Objcg(tag));
        successor
    }
}
