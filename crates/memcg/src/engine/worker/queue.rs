//! The places where deferred work waits: words, 0 when free, each filled and emptied by one CAS.
//!
//! It is a bounded set, not a line. Who fills looks for the same word first; who empties looks at
//! every place. So a signal handler may fill a place while its thread does.
//!
//! Invariants: a word is in one place at most, unless two threads pushed it at the same moment. The
//! worker does not sleep while a word waits that was pushed before it lay down, nor while the set
//! is marked as having been too small.
//! Depends on: `sync::wait_word` for the sleep.
//! Never: blocks in `push`. A full set is told to the caller, who may mark it; it is not waited
//! for.

use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::promise::SoleThread;

/// How many items may wait.
pub const PLACES: usize = if cfg!(loom) { 2 } else { 64 };

const AWAKE: u32 = 0;
const ASLEEP: u32 = 1;

/// The set of words that wait, and the bell of the worker.
pub struct Queue {
    places: [AtomicU64; PLACES],
    /// How many items wait, the mark of `overflowed` included. For a moment it may be more, never
    /// less.
    waiting: AtomicU32,
    /// How often `reset_in_child` was called.
    resets: AtomicU32,
    /// 1: something found no place that must not be lost.
    overflowed: AtomicU32,
    /// Whether the worker sleeps, on this word.
    bell: AtomicU32,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            places: core::array::from_fn(|_| AtomicU64::new(0)),
            waiting: AtomicU32::new(0),
            resets: AtomicU32::new(0),
            overflowed: AtomicU32::new(0),
            bell: AtomicU32::new(AWAKE),
        }
    }
}

// SAFETY: every field is an atomic integer or an array of them: zero bytes are a valid value, and
// the one that `Default` gives, since AWAKE is 0.
unsafe impl Zeroed for Queue {}

/// A change of the places and of the count. If a signal handler of this thread forked between the
/// two, the child counted the places alone: then they are counted once more, where the two agree.
#[must_use]
struct Counting<'a> {
    queue: &'a Queue,
    resets: u32,
}

impl Drop for Counting<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.queue.nr_resets() != self.resets {
            self.queue.recount();
        }
    }
}

impl Queue {
    /// Takes `word` in, unless it waits already. `false`: no place is free.
    pub fn push(&self, word: u64) -> bool {
        // One that waits is found, not passed over, or what is asked for often would fill all
        // places.
        if self.waiting.load(Ordering::Relaxed) != 0 {
            for place in &self.places {
                // A read-modify-write although nothing changes: its Release pairs with the Acquire
                // CAS of `remove`, which is still to come.
                if place.load(Ordering::Relaxed) == word
                    && place
                        .compare_exchange(word, word, Ordering::Release, Ordering::Relaxed)
                        .is_ok()
                {
                    return true;
                }
            }
        }
        self.push_with(word, || {})
    }

    /// Fills a free place, `between` its two halves.
    pub(super) fn push_with(&self, word: u64, between: impl FnOnce()) -> bool {
        let _counting = self.count();
        self.begin_push();
        between();
        let taken = self.places.iter().any(|place| {
            // Release pairs with the Acquire CAS of `remove`: whoever does the work sees what led
            // to it.
            place.load(Ordering::Relaxed) == 0
                && place
                    .compare_exchange(0, word, Ordering::Release, Ordering::Relaxed)
                    .is_ok()
        });
        if !taken {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    /// One more waits, or will: first, so that it is never less than there are.
    pub(super) fn begin_push(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Empties a place that holds what `may` be taken.
    pub fn remove(&self, place: usize, may: impl Fn(u64) -> bool) -> Option<u64> {
        let at = &self.places[place];
        let word = at.load(Ordering::Relaxed);
        if word == 0 || !may(word) {
            return None;
        }
        let _counting = self.count();
        // Acquire pairs with both Release CASes of `push`.
        at.compare_exchange(word, 0, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(word)
    }

    /// Marks the set: something found no place that must not be lost. Whoever finds the mark looks
    /// for it.
    pub fn mark_overflow(&self) {
        let _counting = self.count();
        self.begin_push();
        // Release pairs with the Acquire of `take_overflow`: who finds the mark sees what led to
        // it.
        if self.overflowed.swap(1, Ordering::Release) != 0 {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether the set was marked; it is not from here on.
    pub fn take_overflow(&self) -> bool {
        if self.overflowed.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let _counting = self.count();
        // Acquire pairs with the Release of `mark_overflow`, by all who have marked it since the
        // last call.
        let is_marked = self.overflowed.swap(0, Ordering::Acquire) != 0;
        if is_marked {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        is_marked
    }

    /// In the child of a fork: counts anew, for a thread of the parent may have been at it. Nobody
    /// sleeps.
    pub fn reset_in_child(&self, _sole: SoleThread) {
        self.resets.fetch_add(1, Ordering::Relaxed);
        self.recount();
        self.bell.store(AWAKE, Ordering::Relaxed);
    }

    /// Begins a change of the places and of the count, before the first of the two.
    fn count(&self) -> Counting<'_> {
        Counting {
            queue: self,
            resets: self.nr_resets(),
        }
    }

    fn nr_resets(&self) -> u32 {
        // No model forks, and a look would be one more step of each.
        match cfg!(loom) {
            true => 0,
            false => self.resets.load(Ordering::Relaxed),
        }
    }

    fn recount(&self) {
        let is_filled = |place: &&AtomicU64| place.load(Ordering::Relaxed) != 0;
        let filled = self.places.iter().filter(is_filled).count() as u32;
        let marks = self.overflowed.load(Ordering::Relaxed);
        self.waiting.store(filled + marks, Ordering::Relaxed);
    }

    /// Whether a word waits for which `is` answers `true`.
    pub fn any(&self, is: impl Fn(u64) -> bool) -> bool {
        let mut words = self
            .places
            .iter()
            .map(|place| place.load(Ordering::Relaxed));
        !self.is_empty() && words.any(|word| word != 0 && is(word))
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// Wakes the worker if it sleeps. Cost: a fence and a load if it does not.
    pub fn ring(&self) {
        // Pairs with the SeqCst fence of `sleep`: the worker sees what was pushed, or we see it
        // asleep.
        fence(Ordering::SeqCst);
        if self.bell.load(Ordering::Relaxed) == ASLEEP
            && self.bell.swap(AWAKE, Ordering::Relaxed) == ASLEEP
        {
            crate::sync::wait_word::wake_one(&self.bell);
        }
    }

    /// Sleeps until somebody rings, for `ms` milliseconds at most (0: without limit). Returns at
    /// once if something waits or `is_over` answers `true`.
    pub(super) fn sleep(&self, ms: u32, is_over: impl Fn() -> bool) {
        self.bell.store(ASLEEP, Ordering::Relaxed);
        // Pairs with the SeqCst fence of `ring`: we see what was pushed, or the one who pushed sees
        // us asleep.
        fence(Ordering::SeqCst);
        if self.is_empty() && !is_over() {
            crate::sync::wait_word::wait_at_most(&self.bell, ASLEEP, ms);
        }
        self.bell.store(AWAKE, Ordering::Relaxed);
    }
}
