//! Waiting for a page that others are at.
//!
//! Who waits says so in the page's word, then sleeps on one of a few words that many pages share.
//! Who lets a page go and finds that somebody waits changes that word and wakes all who sleep on
//! it; each looks at its own page again.
//!
//! Invariants: nobody sleeps through the change he waits for. The shared word is read before the
//! page's own is asked whether it is as it was; who changes the page does both the other way round.
//! Depends on: `word` for the note; `sync::wait_word`.
//! Never: holds anything while it sleeps, but what its caller holds.

use super::id::PageId;
use super::word::{Reading, Wake, Word};
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::id::Id;
use crate::sync::wait_word::{wait_at_most, wake_all};

const BUCKETS: usize = if cfg!(loom) { 1 } else { 64 };

/// Looks at the word before anybody sleeps.
const SPINS: usize = if cfg!(loom) { 0 } else { 64 };

/// See the module.
pub struct Waiting {
    buckets: [AtomicU32; BUCKETS],
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            buckets: core::array::from_fn(|_| AtomicU32::default()),
        }
    }
}

// SAFETY: integers.
unsafe impl Zeroed for Waiting {}

impl Waiting {
    fn bucket(&self, page: PageId) -> &AtomicU32 {
        // Neighbours are waited for together more often than pages far apart.
        &self.buckets[page.raw().wrapping_mul(0x9e37_79b9) as usize >> 8 & (BUCKETS - 1)]
    }

    /// Sleeps while the page's word is as it was `seen`, `ms` milliseconds at most. May return
    /// early for no reason.
    pub fn wait(&self, page: PageId, word: &Word, seen: Reading, ms: u32) {
        for _ in 0..SPINS {
            if word.read() != seen {
                return;
            }
            crate::sync::relax();
        }
        let bucket = self.bucket(page);
        // Acquire pairs with the Release of `wake`: who finds the number it left finds the page as
        // it left it.
        let number = bucket.load(Ordering::Acquire);
        if !word.note_waiter(seen) || !word.still_waits(seen) {
            return;
        }
        wait_at_most(bucket, number, ms);
    }

    /// The page was let go: wakes those who wait, as the word said.
    #[inline]
    pub fn wake(&self, page: PageId, who: Wake) {
        match who {
            Wake::Nobody => {}
            Wake::Waiters => self.wake_waiters(page),
        }
    }

    #[cold]
    fn wake_waiters(&self, page: PageId) {
        let bucket = self.bucket(page);
        // Release pairs with the Acquire of `wait`.
        bucket.fetch_add(1, Ordering::Release);
        wake_all(bucket);
    }
}
