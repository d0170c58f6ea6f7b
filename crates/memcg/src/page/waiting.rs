//! Waiting for a page that others are at.
//!
//! Who waits says so in the page's word, then sleeps on one of a few words that many pages share.
//! Who lets a page go and finds that somebody waits changes that word and wakes all who sleep on
//! it; each looks at its own page again. Futures wait without a thread: a bit for each of these
//! words says that some do, another that they are to be woken, which a room above does.
//!
//! Invariants: nobody sleeps through the change he waits for. The shared word is read before the
//! page's own is asked whether it is as it was; who changes the page does both the other way round.
//! Depends on: `word` for the note; `sync::wait_word`.
//! Never: holds anything while it sleeps, but what its caller holds.

use super::id::PageId;
use super::word::{Reading, Wake, Word};
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::hook::Hook;
use crate::sync::id::Id;
use crate::sync::wait_word::{wait_at_most, wake_all};

const BUCKETS: usize = if cfg!(loom) { 1 } else { 64 };

/// Looks at the word before anybody sleeps.
const SPINS: usize = if cfg!(loom) { 0 } else { 64 };

/// See the module.
pub struct Waiting {
    buckets: [AtomicU32; BUCKETS],
    /// A bit for each bucket: futures wait for pages of it.
    asked: AtomicU64,
    /// A bit for each bucket: a page of it was let go since futures were woken.
    told: AtomicU64,
    /// Has futures woken. Set by a room above; called under any lock.
    tell: Hook<fn()>,
}

/// The buckets of [`Waiting`] that there are.
pub const NR_BUCKETS: usize = BUCKETS;

impl Default for Waiting {
    fn default() -> Self {
        Self {
            buckets: core::array::from_fn(|_| AtomicU32::default()),
            asked: AtomicU64::default(),
            told: AtomicU64::default(),
            tell: Hook::default(),
        }
    }
}

// SAFETY: integers, and a word that holds no function.
unsafe impl Zeroed for Waiting {}

impl Waiting {
    fn bucket(&self, page: PageId) -> &AtomicU32 {
        &self.buckets[Self::bucket_of(page)]
    }

    /// Has `tell` called when a page was let go that a future waits for: [`Self::take_told`] is to
    /// be called soon.
    pub fn set_tell(&self, tell: fn()) {
        self.tell.set(tell);
    }

    /// Which bucket a page is in.
    pub fn bucket_of(page: PageId) -> usize {
        // Neighbours are waited for together more often than pages far apart.
        page.raw().wrapping_mul(0x9e37_79b9) as usize >> 8 & (BUCKETS - 1)
    }

    /// Whether futures wait for pages of a bucket from now on. Who says so has them in his list
    /// before, and orders these calls.
    pub fn set_asked(&self, bucket: usize, some: bool) {
        // Relaxed: the fences of `ask` and `wake_waiters` order it.
        if some {
            self.asked.fetch_or(1 << bucket, Ordering::Relaxed);
        } else {
            self.asked.fetch_and(!(1 << bucket), Ordering::Relaxed);
        }
    }

    /// A future waits for a page that was `seen` so: `true` if its bucket is told when that
    /// changes,
    /// `false` if it has changed already. After [`Self::set_asked`].
    pub fn ask(&self, word: &Word, seen: Reading) -> bool {
        // Pairs with the fence of `wake_waiters`: who lets the page go finds the bit, or we find
        // that he did.
        fence(Ordering::SeqCst);
        word.note_waiter(seen) && word.still_waits(seen)
    }

    /// Whether futures are to be woken.
    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed) != 0
    }

    /// The buckets whose futures are to be woken, a bit each, once.
    pub fn take_told(&self) -> u64 {
        // Acquire pairs with the Release of `wake_waiters`.
        self.told.swap(0, Ordering::Acquire)
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
        let bit = 1 << Self::bucket_of(page);
        // Pairs with the fence of `ask`.
        fence(Ordering::SeqCst);
        if self.asked.load(Ordering::Relaxed) & bit != 0 {
            // Release pairs with the Acquire of `take_told`.
            self.told.fetch_or(bit, Ordering::Release);
            if let Some(tell) = self.tell.get() {
                tell();
            }
        }
    }
}
