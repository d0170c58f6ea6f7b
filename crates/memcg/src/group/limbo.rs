//! What has been taken out of the structures and waits for the epochs to pass.
//!
//! Retiring pushes on a lock-free stack: uncharge may do it, in a signal handler too. Collecting is done by whoever
//! retires the n-th thing, or by a creation that finds its arena dry, under a lock that is only ever tried.

use super::{Hierarchy, Tag};
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::id::Id;
use crate::sync::lock::{Lock, Rank};
use crate::sync::stack::Stack;
use crate::thread::epoch::BAGS;

/// Kinds of things that wait.
#[derive(Clone, Copy)]
pub enum What {
    /// A removed group.
    Memcg,
    /// A cell nobody names.
    Cell,
    /// An owner charged nothing that nobody names.
    Objcg,
    /// A name nobody uses.
    Name,
    /// The kmem id of a group that has ended.
    KmemId,
}

const KINDS: usize = 5;
/// One membarrier is shared by this many retirements.
const BATCH: u32 = if cfg!(loom) { 2 } else { 64 };

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

    pub(super) fn reset_lock_in_child(&self) {
        self.lock.reset_in_child();
    }
}

impl Hierarchy {
    /// Hands `index` to the epochs. The caller is pinned and has unlinked it.
    pub(super) fn retire(&self, what: What, index: u32) {
        let link = match what {
            What::Memcg => self.memcgs.get(index).link(),
            What::Cell => self.cells.get(index).link(),
            What::Objcg => match Tag::from_raw(index) {
                Some(tag) => self.objcgs.get(tag).link(),
                None => return,
            },
            What::Name => self.names.get(index).link(),
            What::KmemId => self.kmem_ids.holders.get(index).link(),
        };
        let bag = self.threads.epoch.bag();
        self.limbo.bags[bag][what as usize].push(index, link);
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
        let mut freed = 0;
        for what in [
            What::Memcg,
            What::Cell,
            What::Objcg,
            What::Name,
            What::KmemId,
        ] {
            let first = self.limbo.bags[bag][what as usize].take();
            freed += match what {
                What::Memcg => give_back(&self.memcgs, first, |group| {
                    group.free_tally(&self.tallies);
                    self.free_pressure(group);
                }),
                What::Cell => give_back(&self.cells, first, |_| ()),
                What::Objcg => give_back(&self.objcgs, first, |_| ()),
                What::Name => give_back(&self.names, first, |_| ()),
                What::KmemId => self.put_kmem_ids(first),
            };
        }
        self.limbo.waiting.fetch_sub(freed, Ordering::Relaxed);
    }
}

fn give_back<I: Id, T: Record>(arena: &Arena<I, T>, first: u32, mut last: impl FnMut(&T)) -> u32 {
    let (mut next, mut n) = (first, 0);
    while next != 0
        && let Some(at) = I::from_raw(next)
    {
        let record = arena.get(at);
        next = record.link().load(Ordering::Relaxed);
        last(record);
        record.forgotten();
        arena.free(at);
        n += 1;
    }
    n
}
