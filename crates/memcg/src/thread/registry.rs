//! All thread records of one engine.
//!
//! Invariants: whether the kernel has membarrier is known before there is a record. A record that
//! is left is empty and not pinned. The epoch moves on only if every pin is of the present one.
//! Depends on: `os::barrier`; `sync::arena` for the table; one caller of `try_advance` at a time.
//! Never: a lock; empties a record. Who leaves it has done so before.

use super::epoch::Epoch;
use super::id::ThreadId;
use super::record::ThreadRec;
use crate::os::{barrier, ids};
use crate::sync::Zeroed;
use crate::sync::arena::Arena;
use crate::sync::atomic::{AtomicU32, Ordering};
#[cfg(any(loom, miri))]
use crate::sync::id::Id;

/// The table of threads, and the epoch they pin.
#[derive(Default)]
pub struct Threads {
    table: Arena<ThreadId, ThreadRec>,
    /// The epoch that records pin.
    pub epoch: Epoch,
    /// 0 not asked, 1 the kernel has membarrier, 2 it has not.
    asymmetric: AtomicU32,
    /// Tickets given to drains.
    drains: AtomicU32,
}

// SAFETY: the arena and the epoch are Zeroed, and the two other fields are atomic integers.
unsafe impl Zeroed for Threads {}

impl Threads {
    /// Asks the kernel for the asymmetric fence. Before the first record; again in the child of a
    /// fork.
    pub fn init(&self) -> bool {
        let have = barrier::register();
        self.asymmetric
            .store(if have { 1 } else { 2 }, Ordering::Relaxed);
        have
    }

    /// Whether hits go unfenced.
    pub fn is_asymmetric(&self) -> bool {
        self.asymmetric.load(Ordering::Relaxed) == 1
    }

    /// As if the kernel had no membarrier. Before the first record.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn forgo_membarrier(&self) {
        self.asymmetric.store(2, Ordering::Relaxed);
    }

    /// A record for the calling thread; `None` without memory.
    pub fn join(&self) -> Option<(ThreadId, &ThreadRec)> {
        let index = self.table.alloc(1 << 22)?;
        let rec = self.table.get(index);
        #[cfg(not(any(loom, miri)))]
        let tid = ids::tid();
        #[cfg(any(loom, miri))]
        let tid = {
            let _ = ids::tid;
            index.raw()
        };
        rec.adopt(tid, !self.is_asymmetric());
        Some((index, rec))
    }

    /// Ends a record whose stock has been returned and whose pin is off.
    pub fn leave(&self, index: ThreadId) {
        // Release pairs with the Acquire of `each`: who finds the record inactive finds it emptied.
        self.table.get(index).active.store(0, Ordering::Release);
        self.table.free(index);
    }

    /// Records in use.
    pub fn nr(&self) -> u32 {
        self.table.in_use()
    }

    /// Every record in use, with its index. O(threads there ever were at once).
    pub fn each(&self) -> impl Iterator<Item = (ThreadId, &ThreadRec)> {
        self.table
            .each()
            // Acquire pairs with the Release of `adopt`.
            .filter(|(_, rec)| rec.active.load(Ordering::Acquire) != 0)
    }

    /// Every record there ever was, in use or not. A drainer's second look: a record may have been
    /// left meanwhile.
    pub(crate) fn each_ever(&self) -> impl Iterator<Item = &ThreadRec> {
        self.table.each().map(|(_, rec)| rec)
    }

    /// A number for one drain, never 0. A thread's id would not do: a signal handler may drain
    /// inside a drain.
    pub(crate) fn drain_ticket(&self) -> u32 {
        self.drains.fetch_add(2, Ordering::Relaxed) | 1
    }

    /// A full fence on every thread that goes unfenced.
    pub fn heavy_fence(&self) {
        barrier::heavy(self.is_asymmetric());
    }

    /// Moves the epoch on if every pinned thread is up to date; answers the bag whose content is
    /// then free for reuse. One caller at a time (the collector's lock).
    pub fn try_advance(&self) -> Option<usize> {
        let now = self.epoch.current();
        self.heavy_fence();
        let is_up_to_date = self.each().all(|(_, rec)| Epoch::is_at(rec, now));
        is_up_to_date.then(|| self.epoch.advance(now))
    }
}
