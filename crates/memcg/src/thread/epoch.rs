//! Epochs: a record that was taken out of the structures is used again only when nobody can still
//! be looking at it.
//!
//! Invariants: what is retired at epoch e is handed back when the epoch has reached e + 3. The
//! epoch passes from e to e + 1 only while every pinned thread has pinned e. A pinned thread
//! therefore holds up at most the second step after its own, and nothing it could have found is
//! reused.
//! Depends on: the asymmetric fence (or real fences, for fenced threads). A collector's heavy fence
//! stands between its reading of the epoch and its scan of the pins; a pinner's light fence stands
//! between its pin and its first look.
//! Never: a wait. A collector that meets an old pin goes away; the next one tries again.

use super::record::{FENCED, ThreadRec};
use crate::os::barrier;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU64, Ordering, fence};

/// Lists of retired things a structure keeps: one an epoch, in turn.
pub const BAGS: usize = 4;

const PINNED: u64 = 1 << 63;

/// The epoch.
#[derive(Default)]
pub struct Epoch(AtomicU64);

// SAFETY: one atomic integer; zero is the first epoch, as Default builds it.
unsafe impl Zeroed for Epoch {}

/// What the thread looks at stays what it is while this lives.
#[must_use]
pub struct Pin<'a> {
    rec: &'a ThreadRec,
    before: u64,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquire of `is_at`: the collector reuses after we have looked.
        self.rec.pin.store(self.before, Ordering::Release);
    }
}

/// The thread is not pinned, however often it was, until this is dropped; then it is pinned anew if
/// it was.
#[must_use]
pub struct Lifted<'a> {
    epoch: &'a Epoch,
    rec: &'a ThreadRec,
    was_pinned: bool,
}

impl Drop for Lifted<'_> {
    fn drop(&mut self) {
        if self.was_pinned {
            core::mem::forget(self.epoch.pin(self.rec));
        }
    }
}

impl Epoch {
    /// Lifts the thread's pins for a time that may be long: code of the program runs. What was
    /// found under them may be something else afterwards, and is not used again but as an index
    /// that is looked at anew. The pins' guards go on guarding: an older epoch that one of them
    /// puts back holds up the epochs a little longer, no more.
    pub fn lift<'a>(&'a self, rec: &'a ThreadRec) -> Lifted<'a> {
        // Release pairs with the Acquire of `is_at`, as when a pin ends.
        let was_pinned = rec.pin.swap(0, Ordering::Release) != 0;
        Lifted {
            epoch: self,
            rec,
            was_pinned,
        }
    }

    /// Pins for the thread of `rec`. Nests, also from a signal handler at any point: each guard
    /// restores what it found.
    pub fn pin<'a>(&self, rec: &'a ThreadRec) -> Pin<'a> {
        let before = rec.pin.load(Ordering::Relaxed);
        if before == 0 {
            // Acquire pairs with the Release of `advance`: what was unlinked before that epoch is
            // not seen here. The fence below is the compiler's only. (On x86 a plain load.)
            rec.pin
                .store(self.0.load(Ordering::Acquire) | PINNED, Ordering::Relaxed);
            // Pairs with `heavy_fence` in `Threads::try_advance`.
            barrier::light();
            if rec.drain.load(Ordering::Relaxed) & FENCED != 0 {
                // Pairs with `heavy_fence` in `Threads::try_advance`, which is a SeqCst fence of
                // the collector.
                fence(Ordering::SeqCst);
            }
        }
        Pin { rec, before }
    }

    /// The epoch, after whatever the caller did before.
    pub fn now(&self) -> u64 {
        // Full fence: what the caller unlinked comes before the load. Pairs with the fence of
        // `pin`, which the heavy fence of `Threads::try_advance` makes a full one.
        fence(Ordering::SeqCst);
        // Acquire pairs with the Release of `advance`.
        self.0.load(Ordering::Acquire)
    }

    /// The bag for something that was just unlinked. The caller is pinned.
    pub fn bag(&self) -> usize {
        // Full fence: the unlinking comes before the load, or the item would be dated too early.
        // Pairs with the fence of `pin`, which the heavy fence of `Threads::try_advance` makes a
        // full one.
        fence(Ordering::SeqCst);
        (self.0.load(Ordering::Relaxed) % BAGS as u64) as usize
    }

    /// Whether the thread of `rec` is not pinned, or has pinned `epoch`.
    pub(super) fn is_at(rec: &ThreadRec, epoch: u64) -> bool {
        // Acquire pairs with the Release of `Pin::drop`.
        let pin = rec.pin.load(Ordering::Acquire);
        pin == 0 || pin == epoch | PINNED
    }

    /// The epoch, for the one collector.
    pub(super) fn current(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Moves on from `now`, at which no pin is older; answers the bag whose content is then free
    /// for reuse.
    pub(super) fn advance(&self, now: u64) -> usize {
        // Release: what the scan saw finished comes before the new epoch. Pairs with the Acquire of
        // `pin`.
        self.0.store(now + 1, Ordering::Release);
        // Now at now + 1. The oldest bag, filled at now - 2, is the one that is filled next, from
        // now + 2 on.
        ((now + 2) % BAGS as u64) as usize
    }
}
