//! The records of the lists of pages: an owner's, and a group's.
//!
//! Invariants: see `lists`, which alone changes them.
//! Depends on: queues, heaps and clocks.
//! Never: a lock.

use super::cost_balance::{Class, CostBalance};
use super::fifo::Fifo;
use super::id::PageGroupId;
use super::owner_heap::{HeapNode, OwnerHeap};
use super::s3fifo::{Queue, Resident};
use super::workingset::{EvictionClock, Moment};
use crate::group::{CellId, GroupId, Tag};
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::id::AtomicId;
use crate::sync::lock::Lock;

/// Classes and queues.
pub(super) const CLASSES: usize = 2;
pub(super) const QUEUES: usize = 2;

/// What an owner has of lists. Its queues change under the owner's lock of pages.
#[derive(Default)]
#[repr(C)]
pub struct OwnerLists {
    pub(super) link: AtomicU32,
    pub(super) tag: AtomicId<Tag>,
    /// The head it is in.
    pub(super) head: AtomicId<PageGroupId>,
    /// The number of the next entry.
    pub(super) next_seq: AtomicU32,
    /// What its pages' shadows are off its group's clocks by.
    pub(super) bases: [AtomicU32; CLASSES],
    pub(super) fifos: [[Fifo; QUEUES]; CLASSES],
    /// Its places in the head's heaps. Under the head's lock.
    pub(super) nodes: [[HeapNode; QUEUES]; CLASSES],
    /// Pages in frames, by class and queue. Under the owner's lock.
    pub(super) resident: [[AtomicU64; QUEUES]; CLASSES],
}

// SAFETY: integers, and types that are Zeroed themselves.
unsafe impl Zeroed for OwnerLists {}
// SAFETY: `link` is used by the arena alone.
unsafe impl Record for OwnerLists {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// What a group has of lists.
#[derive(Default)]
#[repr(C)]
pub struct Head {
    pub(super) link: AtomicU32,
    pub(super) lock: Lock,
    pub(super) group: AtomicId<GroupId>,
    pub(super) cell: AtomicId<CellId>,
    /// Owners that name it, and heads that lead to it.
    pub(super) users: AtomicU32,
    /// The head that has what was in this one, since its group has ended.
    pub(super) to: AtomicId<PageGroupId>,
    /// What shadows of this head's time are off that of the head it leads to.
    pub(super) bases: [AtomicU32; CLASSES],
    pub(super) heaps: [[OwnerHeap; QUEUES]; CLASSES],
    pub(super) clocks: [EvictionClock; CLASSES],
    /// Pages in frames, of all owners in it.
    pub(super) resident: [[AtomicU64; QUEUES]; CLASSES],
    /// What bringing pages of the two classes back has cost.
    pub balance: CostBalance,
}

// SAFETY: integers, a free lock, and types that are Zeroed themselves.
unsafe impl Zeroed for Head {}
// SAFETY: `link` is used by the arena alone.
unsafe impl Record for Head {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// A group, as lists know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its index.
    pub index: GroupId,
    /// Its cell, which the next group in the same record does not have while an owner names it.
    pub cell: CellId,
}

impl Head {
    pub(super) fn is_of(&self, group: Group) -> bool {
        self.group.is(Some(group.index), Ordering::Relaxed)
            && self.cell.is(Some(group.cell), Ordering::Relaxed)
    }

    /// Pages of a class in frames.
    pub fn resident(&self, class: Class) -> Resident {
        let [small, main] = &self.resident[class.index()];
        Resident {
            small: small.load(Ordering::Relaxed),
            main: main.load(Ordering::Relaxed),
        }
    }

    /// The group's time of a class.
    pub fn now(&self, class: Class) -> Moment {
        self.clocks[class.index()].now()
    }

    /// A page of a class is evicted from a queue; answers the moment for its shadow.
    pub fn evict(&self, class: Class, queue: Queue) -> Moment {
        let clock = &self.clocks[class.index()];
        if queue.moves_clock() {
            clock.evict()
        } else {
            clock.now()
        }
    }
}
