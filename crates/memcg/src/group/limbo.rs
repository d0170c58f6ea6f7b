//! What has been taken out of the structures and waits for the epochs to pass.
//!
//! Retiring pushes on a lock-free stack: uncharge may do it, in a signal handler too. Collecting is
//! done by whoever retires the n-th thing, or by a creation that finds its arena dry, under a lock
//! that is only ever tried.
//!
//! Invariants: a thing is used again only three epochs after it was retired. One thread collects at
//! a time.
//! Depends on: `thread::epoch` for the bags; `sync::stack`.
//! Never: waits: for a pinned thread, or for another who collects.

use super::id::{CellId, GroupId, KmemId, NameId, OwnerPagesId};
use super::{Hierarchy, Tag};
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::id::Id;
use crate::sync::lock::{Lock, Rank};
use crate::sync::promise::SoleThread;
use crate::sync::stack::Stack;
use crate::thread::epoch::BAGS;

/// Things that wait, each with its index.
#[derive(Clone, Copy)]
pub enum What {
    /// A removed group.
    Memcg(GroupId),
    /// A cell nobody names.
    Cell(CellId),
    /// An owner charged nothing that nobody names.
    Objcg(Tag),
    /// A name nobody uses.
    Name(NameId),
    /// The kmem id of a group that has ended.
    KmemId(KmemId),
    /// What an owner had of pages.
    OwnerPages(OwnerPagesId),
}

/// The bags hold a list for each kind of thing.
const MEMCGS: usize = 0;
const CELLS: usize = 1;
const OBJCGS: usize = 2;
const NAMES: usize = 3;
const KMEM_IDS: usize = 4;
const OWNER_PAGES: usize = 5;
const KINDS: usize = 6;
/// One membarrier is shared by this many retirements.
const BATCH: u32 = if cfg!(loom) { 2 } else { 64 };

/// With so many waiting, who finds an arena dry collects before it takes fresh memory. More than
/// wait where the epochs pass: a collection for each record would cost each a membarrier.
const DUE: u32 = if cfg!(loom) { 1 } else { 4 * BATCH };

/// See the module.
#[derive(Default)]
pub struct Limbo {
    bags: [[Stack; KINDS]; BAGS],
    waiting: AtomicU32,
    lock: Lock,
}

// SAFETY: stacks, a count and a free lock are all zero.
unsafe impl Zeroed for Limbo {}

impl Limbo {
    /// Things that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether so many wait that a collection is due before fresh memory is taken.
    pub(super) fn is_due(&self) -> bool {
        self.waiting() >= DUE
    }

    pub(super) fn reset_lock_in_child(&self, sole: SoleThread) {
        self.lock.reset_in_child(sole);
    }
}

impl Hierarchy {
    /// Hands a thing to the epochs. The caller is pinned and has unlinked it.
    pub(super) fn retire(&self, what: What) {
        let bag = &self.limbo.bags[self.threads.epoch.bag()];
        match what {
            What::Memcg(id) => push(&bag[MEMCGS], &self.memcgs, id),
            What::Cell(id) => push(&bag[CELLS], &self.cells, id),
            What::Objcg(id) => push(&bag[OBJCGS], &self.objcgs, id),
            What::Name(id) => push(&bag[NAMES], &self.names, id),
            What::KmemId(id) => push(&bag[KMEM_IDS], &self.kmem_ids.holders, id),
            What::OwnerPages(id) => push(&bag[OWNER_PAGES], self.owner_pages_arena(), id),
        }
        let waiting = self.limbo.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        if waiting.is_multiple_of(BATCH) {
            self.collect();
        }
    }

    /// Moves the epoch on once, if nobody is in the way, and frees what that lets go. Never waits.
    pub fn collect(&self) {
        let Some(_held) = self.limbo.lock.try_lock(Rank::Collect) else {
            return;
        };
        let Some(bag) = self.threads.try_advance() else {
            return;
        };
        let bag = &self.limbo.bags[bag];
        let freed = give_back(&self.memcgs, bag[MEMCGS].pop_all(), |group| {
            self.free_template(group);
            group.free_event_counts(&self.event_counts);
            self.free_pressure(group);
            self.free_group_pages(group);
        }) + give_back(&self.cells, bag[CELLS].pop_all(), |_| ())
            + give_back(&self.objcgs, bag[OBJCGS].pop_all(), |_| ())
            + give_back(&self.names, bag[NAMES].pop_all(), |_| ())
            + self.free_kmem_ids(bag[KMEM_IDS].pop_all())
            + give_back(self.owner_pages_arena(), bag[OWNER_PAGES].pop_all(), |_| ());
        self.limbo.waiting.fetch_sub(freed, Ordering::Relaxed);
    }
}

fn push<I: Id, T: Record>(list: &Stack, arena: &Arena<I, T>, id: I) {
    list.push(id.raw(), arena.get(id).link());
}

/// Gives back a list whose first index is `first`, 0 if it is empty; answers how many there were.
fn give_back<I: Id, T: Record>(arena: &Arena<I, T>, first: u32, mut last: impl FnMut(&T)) -> u32 {
    let (mut at, mut n) = (first, 0);
    while at != 0
        && let Some(id) = I::from_raw(at)
    {
        let record = arena.get(id);
        at = record.link().load(Ordering::Relaxed);
        last(record);
        record.forgotten();
        arena.free(id);
        n += 1;
    }
    n
}
