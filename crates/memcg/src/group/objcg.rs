//! Owners: what a tag on a charged thing names.
//!
//! An owner is a group's own, or a task's. It counts what is charged through it, in words that can be flipped to
//! another cell: all bytes (`charged`, stock included), the stock granted for it (`granted`), and each kind other than
//! heap. Heap is the remainder, so the most frequent charge counts once.
//!
//! An owner outlives its group or task until its last byte goes; what remains of it is its line in the ledger. Then it
//! is retired: by whoever takes the last byte, the last name (a handle, a scope's slot) or the life away, whichever comes
//! last. Each of them does its part and then looks at the other two behind a full fence, so one sees all three.

use super::Hierarchy;
use super::limbo::What;
use super::stall;
use super::word::Word;
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::lock::Lock;

/// What a charge is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An object of an allocator.
    Heap,
    /// Anonymous memory the program maps itself.
    Mapped,
    /// A reservation: bytes of whatever the program wants to count.
    Reserved,
    /// An object of a kmem cache.
    Slab,
}

/// Kinds with a word of their own.
pub const NR_SIDE_KINDS: usize = 3;

impl Kind {
    /// Its place among the side words; `None` for heap.
    #[must_use]
    pub const fn side(self) -> Option<usize> {
        match self {
            Kind::Heap => None,
            Kind::Mapped => Some(0),
            Kind::Reserved => Some(1),
            Kind::Slab => Some(2),
        }
    }
}

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
}

/// Set beside the state of a task that is to die.
const KILLED: u32 = 1 << 8;

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
    pub(super) name: AtomicU32,
    /// A task's id.
    pub(super) id: AtomicU32,
    /// When its task or group ended, ns since 1970; of a live task, the threads that stall for it, as `stall` has it.
    ended_at: AtomicU64,
    link: AtomicU32,
    /// Orders moves and the end of one task.
    pub(crate) lock: Lock,
}

// SAFETY: integers and a free lock.
unsafe impl Zeroed for Objcg {}
// SAFETY: `link` is the lists' alone.
unsafe impl Record for Objcg {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

const _: () = assert!(core::mem::size_of::<Objcg>() == 72 || cfg!(loom));

impl Objcg {
    /// Its state.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) & !KILLED {
            1 => State::Group,
            2 => State::Task,
            3 => State::DeadGroup,
            4 => State::DeadTask,
            _ => State::Free,
        }
    }

    /// Whether its task or group still lives.
    pub fn is_live(&self) -> bool {
        matches!(self.state(), State::Group | State::Task)
    }

    /// A task's id; 0 for a group's own.
    pub fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    /// Its name's index.
    pub fn name(&self) -> u32 {
        self.name.load(Ordering::Relaxed)
    }

    /// When it ended, ns since 1970; 0 while it lives.
    pub fn ended_at(&self) -> u64 {
        stall::time_of(self.ended_at.load(Ordering::Relaxed))
    }

    /// Bytes charged through it, stock included.
    pub fn charged_bytes(&self) -> u64 {
        self.charged.read().bytes
    }

    /// The cell its bytes are accounted at.
    pub fn cell(&self) -> u32 {
        self.charged.read().cell
    }

    /// Bytes of a kind other than heap.
    pub fn side_bytes(&self, kind: Kind) -> u64 {
        kind.side().map_or(0, |side| self.side[side].read().bytes)
    }

    /// Marks the task as one that is to die. `false` if it was marked, or is no live task.
    pub fn kill(&self) -> bool {
        self.state
            .compare_exchange(
                State::Task as u32,
                State::Task as u32 | KILLED,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Whether it is to die.
    pub fn is_killed(&self) -> bool {
        self.state.load(Ordering::Acquire) & KILLED != 0
    }

    /// Ends its life; answers its word of stalls.
    pub(crate) fn end(&self, state: State, now_ns: u64) -> u64 {
        // First, so that no stall begins for a task that has ended. AcqRel: as other changes of the word.
        let stalls = self.ended_at.swap(now_ns, Ordering::AcqRel);
        // Release pairs with the Acquire of `state`.
        self.state.store(state as u32, Ordering::Release);
        stalls
    }

    /// A live task's word of stalls.
    pub(super) fn stalls(&self) -> &AtomicU64 {
        &self.ended_at
    }

    /// Names on it: handles, scopes, stock slots, and one for its life.
    pub(super) fn nr_refs(&self) -> u64 {
        u64::from(self.refs.load(Ordering::Relaxed))
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &Word> {
        [&self.charged, &self.granted].into_iter().chain(&self.side)
    }
}

impl Hierarchy {
    /// Makes an owner of a new or recycled record, named once, by its group or task. Takes a reference on the cell;
    /// takes over the one on the name from its creator for a task, a further one for a group.
    pub(super) fn open_objcg(&self, tag: u32, cell: u32, name: u32, state: State) {
        let objcg = self.objcgs.get(tag);
        for word in objcg.words() {
            word.reset(cell);
        }
        self.cells.get(cell).hold();
        objcg.refs.store(1, Ordering::Relaxed);
        objcg.name.store(name, Ordering::Relaxed);
        objcg.id.store(0, Ordering::Relaxed);
        objcg.ended_at.store(0, Ordering::Relaxed);
        // Release pairs with the Acquire of `state`: who scans the table sees a whole owner.
        objcg.state.store(state as u32, Ordering::Release);
    }

    /// One more name for an owner that is named, or charged for a thing the caller holds.
    pub fn hold_objcg(&self, tag: u32) {
        self.objcgs.get(tag).refs.fetch_add(1, Ordering::Relaxed);
    }

    /// One name less. The caller is pinned.
    pub fn release_objcg(&self, tag: u32) {
        // AcqRel: whoever retires sees what the others did.
        if self.objcgs.get(tag).refs.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.retire_if_done(tag);
        }
    }

    /// Retires an owner that has ended, is charged nothing and named by nobody. The caller is pinned.
    pub(crate) fn retire_if_done(&self, tag: u32) {
        let objcg = self.objcgs.get(tag);
        // Pairs with the same fence of the two others who may be taking the last part away: one of us sees all.
        fence(Ordering::SeqCst);
        let state = objcg.state.load(Ordering::Acquire);
        let dead = matches!(objcg.state(), State::DeadGroup | State::DeadTask);
        if !dead
            || objcg.refs.load(Ordering::Acquire) != 0
            || objcg.words().any(|word| word.read().bytes != 0)
        {
            return;
        }
        // One of those who see all three gets to do it.
        if objcg
            .state
            .compare_exchange(
                state,
                State::Free as u32,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_err()
        {
            return;
        }
        self.unref_name(objcg.name());
        self.unref_cell(objcg.cell());
        self.retire(What::Objcg, tag);
    }
}
