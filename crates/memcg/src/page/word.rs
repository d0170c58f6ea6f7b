//! A page's word: its state, who is at it, and where its content is, in 64 bits.
//!
//! [`Reading`] tells what is in it.
//!
//! Invariants: every change is one compare and swap of the whole word, or takes one pin off. A page
//! with pins is in its frame and stays there.
//! Depends on: `reading` for the bits.
//! Never: a wait; a charge; a look at the content.

#![forbid(unsafe_code)]

use super::reading::{DIRTY, FREQ, FREQ_AT, WAITERS, WORKINGSET, WRITEBACK, WRITER};
pub use super::reading::{NUMBER_LIMIT, Reading, State};
use crate::sync::atomic::{AtomicU64, Ordering};

/// The most readers at once.
pub const MAX_READERS: u64 = if cfg!(loom) { 2 } else { WRITER - 1 };

/// What somebody wants to do with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// To read it, with others.
    Read,
    /// To write it, alone.
    Write,
}

/// What came of trying to pin a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tried {
    /// It is pinned.
    Pinned(Pinned),
    /// It is in no frame, as this reading says: it is to be filled.
    Out(Reading),
    /// Others are at it, as this reading says.
    Busy(Reading),
    /// It is lost.
    Poisoned,
}

/// A page that was pinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pinned {
    /// The frame's number.
    pub frame: u32,
    /// Whether it was clean, and is to be written.
    pub made_dirty: bool,
}

/// What changed for others when a page was let go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "who waits is to be woken"]
pub enum Wake {
    /// Somebody waits: to be woken.
    Waiters,
    /// Nobody waits.
    Nobody,
}

/// See the module.
#[derive(Default)]
pub struct Word(AtomicU64);

impl Word {
    /// The word now.
    #[inline(always)]
    pub fn read(&self) -> Reading {
        // Acquire pairs with the Release of every change: who finds a frame finds its content.
        Reading(self.0.load(Ordering::Acquire))
    }

    /// The word after what was read without a pin: see [`Reading::is_same_content`].
    #[inline(always)]
    pub fn read_again(&self) -> Reading {
        // The reads of the content come before the load. Pairs with the Release fence of a writer's
        // `try_pin`: who reads a byte of what was written after it finds the writer in the word.
        crate::sync::atomic::fence(Ordering::Acquire);
        Reading(self.0.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn change(&self, from: Reading, to: Reading) -> Result<(), Reading> {
        // AcqRel: every change pairs with the others and with `read`; they are one total order.
        // Acquire on failure likewise.
        self.0
            .compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Reading)
    }

    /// Pins the page if it is in a frame and nobody is in the way. Counts a use. Cost: a compare
    /// and swap.
    #[inline(always)]
    pub fn try_pin(&self, access: Access) -> Tried {
        let mut now = self.read();
        loop {
            let State::Resident(frame) = now.state() else {
                return match now.state() {
                    State::Absent | State::Zswap(_) | State::Swap(_) => Tried::Out(now),
                    State::Filling | State::Resident(_) => Tried::Busy(now),
                    State::Poisoned(_) => Tried::Poisoned,
                };
            };
            let pinned = match access {
                Access::Read if now.has_writer() || now.readers() >= MAX_READERS => None,
                Access::Read => Some(Reading(now.0 + 1)),
                Access::Write if !now.is_unpinned() => None,
                Access::Write => Some(Reading(now.0 | WRITER | DIRTY)),
            };
            let Some(pinned) = pinned else {
                return Tried::Busy(now);
            };
            match self.change(now, pinned.used_once_more()) {
                Ok(()) => {
                    if access == Access::Write {
                        // The pin comes before what is written. Pairs with the Acquire fence of
                        // `read_again`.
                        crate::sync::atomic::fence(Ordering::Release);
                    }
                    return Tried::Pinned(Pinned {
                        frame,
                        made_dirty: access == Access::Write && !now.is_dirty(),
                    });
                }
                Err(seen) => now = seen,
            }
        }
    }

    /// Lets go of a reader's pin.
    #[inline(always)]
    pub fn unpin_read(&self) -> Wake {
        // Release pairs with the Acquire of `try_pin` and `try_evict`: who takes the page next
        // comes after our reads. Acquire with the other changes.
        let before = Reading(self.0.fetch_sub(1, Ordering::AcqRel));
        debug_assert!(!before.has_writer() && before.readers() > 0, "{before:?}");
        if before.0 & WAITERS == 0 {
            Wake::Nobody
        } else {
            self.clear_waiters()
        }
    }

    /// Lets go of the writer's pin: what was written is there to be read.
    #[inline(always)]
    pub fn unpin_write(&self) -> Wake {
        let mut now = Reading(self.0.load(Ordering::Relaxed));
        loop {
            debug_assert!(now.has_writer(), "{now:?}");
            let free = Reading(now.0 & !(WRITER | WAITERS)).next_version();
            match self.change(now, free) {
                Ok(()) => return Self::wake(now),
                Err(seen) => now = seen,
            }
        }
    }

    /// The writer goes on as one reader: what was written is there to be read.
    #[cfg(any(test, feature = "testing"))]
    pub fn downgrade(&self) -> Wake {
        let mut now = Reading(self.0.load(Ordering::Relaxed));
        loop {
            debug_assert!(now.has_writer(), "{now:?}");
            let reader = Reading(now.0 & !(WRITER | WAITERS) | 1).next_version();
            match self.change(now, reader) {
                Ok(()) => return Self::wake(now),
                Err(seen) => now = seen,
            }
        }
    }

    fn wake(before: Reading) -> Wake {
        if before.0 & WAITERS == 0 {
            Wake::Nobody
        } else {
            Wake::Waiters
        }
    }

    fn clear_waiters(&self) -> Wake {
        // AcqRel as every change.
        Self::wake(Reading(self.0.fetch_and(!WAITERS, Ordering::AcqRel)))
    }

    /// Says in the word that somebody waits, if it still is as it was read. `false`: it has
    /// changed, look again.
    pub fn note_waiter(&self, seen: Reading) -> bool {
        seen.0 & WAITERS != 0 || self.change(seen, seen.with(WAITERS, true)).is_ok()
    }

    /// Whether somebody waits as of this reading, and nothing else has changed since `seen`.
    pub fn still_waits(&self, seen: Reading) -> bool {
        self.read().0 == seen.0 | WAITERS
    }

    /// Begins to fill a page that is in no frame. `false`: somebody was faster.
    pub fn try_begin_fill(&self, seen: Reading) -> bool {
        self.change(seen, seen.with_state(State::Filling)).is_ok()
    }

    /// The content is in `frame`: others may have the page from now on, and the caller has it
    /// pinned. A page that is `dirty` is not what swap or the file has.
    pub fn publish(
        &self,
        frame: u32,
        access: Option<Access>,
        dirty: bool,
        workingset: bool,
    ) -> Wake {
        let mut now = Reading(self.0.load(Ordering::Relaxed));
        loop {
            debug_assert_eq!(now.state(), State::Filling);
            let pins = match access {
                None => 0,
                Some(Access::Read) => 1,
                Some(Access::Write) => WRITER,
            };
            let kept = Reading(now.0 & !(WRITER | WAITERS | FREQ | WRITEBACK) | pins);
            let filled = kept
                .with_state(State::Resident(frame))
                .with(DIRTY, dirty || access == Some(Access::Write))
                .with(WORKINGSET, workingset)
                .next_version();
            match self.change(now, filled) {
                Ok(()) => return Self::wake(now),
                Err(seen) => now = seen,
            }
        }
    }

    /// The content did not come: the page is where it was, or is lost.
    pub fn abort_fill(&self, back: State) -> Wake {
        let mut now = Reading(self.0.load(Ordering::Relaxed));
        loop {
            debug_assert_eq!(now.state(), State::Filling);
            match self.change(now, now.with_state(back).with(WAITERS, false)) {
                Ok(()) => return Self::wake(now),
                Err(seen) => now = seen,
            }
        }
    }

    /// Takes a page that nobody has pinned out of its frame, to where its content is now, or to
    /// [`State::Filling`] while the caller sees to that. Whether it may be dirty is the caller's
    /// affair. `Err`: it has changed since it was `seen`, or is pinned.
    pub fn try_evict(&self, seen: Reading, to: State) -> Result<Wake, Reading> {
        if !seen.is_unpinned() {
            return Err(seen);
        }
        let out = Reading(seen.0 & !(FREQ | DIRTY | WORKINGSET | WRITEBACK | WAITERS));
        self.change(seen, out.with_state(to).next_version())?;
        Self::before_reuse();
        Ok(Self::wake(seen))
    }

    /// The page has left its frame, which comes before what the frame's next page writes there.
    fn before_reuse() {
        // Pairs with the Acquire fence of `read_again`.
        crate::sync::atomic::fence(Ordering::Release);
    }

    /// As [`Self::try_evict`], of a page that the caller alone has pinned, under write-back, and
    /// that is clean since. `false`: others have it pinned, too.
    pub fn try_take_written(&self) -> bool {
        let mut now = self.read();
        loop {
            if now.readers() != 1 || now.is_dirty() {
                return false;
            }
            let out = Reading(now.0 & !(WRITER | FREQ | WORKINGSET | WRITEBACK));
            match self.change(now, out.with_state(State::Filling).next_version()) {
                Ok(()) => {
                    Self::before_reuse();
                    return true;
                }
                Err(seen) => now = seen,
            }
        }
    }

    /// Pins a page in a frame that nobody has pinned, to write it out: it is clean from here on, if
    /// that works. Is no use of it. `false`: it has changed since it was `seen`.
    pub fn try_pin_to_write_out(&self, seen: Reading) -> bool {
        seen.is_unpinned()
            && self
                .change(
                    seen,
                    Reading(seen.0 + 1).with(WRITEBACK, true).with(DIRTY, false),
                )
                .is_ok()
    }

    /// Pins a page that is dirty to read it, and begins to write it out, which counts as no use.
    /// `None`: it is not dirty, or changed since it was `seen`, or another is at it. To be followed
    /// by [`Self::end_writeback`] and [`Self::unpin_read`].
    pub fn try_pin_for_writeback(&self, seen: Reading) -> Option<u32> {
        let State::Resident(frame) = seen.state() else {
            return None;
        };
        let is_free = !seen.has_writer() && seen.readers() < MAX_READERS;
        if !is_free || !seen.is_dirty() || seen.is_under_writeback() {
            return None;
        }
        let pinned = Reading(seen.0 + 1);
        let begun = pinned.with(WRITEBACK, true).with(DIRTY, false);
        self.change(seen, begun).ok().map(|()| frame)
    }

    /// The caller, who has the page pinned to read, begins to write it out. `false`: another does.
    #[cfg(any(test, feature = "testing"))]
    pub fn try_begin_writeback(&self) -> bool {
        let mut now = self.read();
        loop {
            if now.is_under_writeback() {
                return false;
            }
            // While it has a reader nobody writes to it: it is clean from here on, if this works.
            match self.change(now, now.with(WRITEBACK, true).with(DIRTY, false)) {
                Ok(()) => return true,
                Err(seen) => now = seen,
            }
        }
    }

    /// The page, which the caller has pinned to read, is written, or `failed` and is dirty again.
    pub fn end_writeback(&self, failed: bool) {
        let mut now = self.read();
        loop {
            let done = now.with(WRITEBACK, false);
            let done = if failed { done.with(DIRTY, true) } else { done };
            match self.change(now, done) {
                Ok(()) => return,
                Err(seen) => now = seen,
            }
        }
    }

    /// As [`Self::end_writeback`], and lets go of the reader's pin in the same step: nobody finds
    /// the page pinned and not under write-back because of this.
    pub fn end_writeback_and_unpin(&self, failed: bool) -> Wake {
        let mut now = self.read();
        loop {
            debug_assert!(!now.has_writer() && now.readers() > 0, "{now:?}");
            let free = Reading(now.0 - 1)
                .with(WRITEBACK, false)
                .with(WAITERS, false);
            let free = if failed { free.with(DIRTY, true) } else { free };
            match self.change(now, free) {
                Ok(()) => return Self::wake(now),
                Err(seen) => now = seen,
            }
        }
    }

    /// One who looks for pages to evict has looked at it: it was used so often less.
    pub fn set_freq(&self, seen: Reading, freq: u32) -> Result<(), Reading> {
        let freq = u64::from(freq.min(3)) << FREQ_AT;
        self.change(seen, Reading(seen.0 & !FREQ | freq))
    }

    /// Counts a use that no pin counts, where it is not counted as often as can be.
    #[inline(always)]
    pub fn note_use(&self, seen: Reading) {
        if seen.0 & FREQ != FREQ {
            // Whoever changes it meanwhile counts as a use, too.
            let _ = self.change(seen, seen.used_once_more());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn pinned(made_dirty: bool) -> Tried {
        Tried::Pinned(Pinned {
            frame: 77,
            made_dirty,
        })
    }

    fn filled(dirty: bool) -> Word {
        let word = Word::default();
        let Tried::Out(absent) = word.try_pin(Access::Read) else {
            panic!("a new page is in no frame");
        };
        assert!(word.try_begin_fill(absent));
        assert_eq!(word.publish(77, None, dirty, false), Wake::Nobody);
        word
    }

    #[test]
    fn many_read_or_one_writes() {
        let word = filled(false);
        for _ in 0..MAX_READERS {
            assert_eq!(word.try_pin(Access::Read), pinned(false));
        }
        assert!(matches!(word.try_pin(Access::Read), Tried::Busy(_)));
        assert!(matches!(word.try_pin(Access::Write), Tried::Busy(_)));
        for _ in 0..MAX_READERS {
            assert_eq!(word.unpin_read(), Wake::Nobody);
        }
        assert!(!word.read().is_dirty());
        assert_eq!(word.try_pin(Access::Write), pinned(true));
        assert!(matches!(word.try_pin(Access::Read), Tried::Busy(_)));
        assert_eq!(word.unpin_write(), Wake::Nobody);
        assert!(word.read().is_dirty() && word.read().is_unpinned());
        assert_eq!(word.read().freq(), 3);
    }

    #[test]
    fn one_fills_and_who_waits_is_told() {
        let word = Word::default();
        let Tried::Out(absent) = word.try_pin(Access::Read) else {
            panic!("a new page is in no frame");
        };
        assert!(word.try_begin_fill(absent));
        assert!(!word.try_begin_fill(absent));
        let Tried::Busy(seen) = word.try_pin(Access::Write) else {
            panic!("it is being filled");
        };
        assert!(word.note_waiter(seen) && word.still_waits(seen));
        assert_eq!(word.abort_fill(State::Absent), Wake::Waiters);
        assert!(!word.still_waits(seen));
        assert_eq!(word.read().state(), State::Absent);
    }

    #[test]
    fn what_is_read_without_a_pin_is_whole_or_seen_not_to_be() {
        let word = filled(false);
        let seen = word.read();
        assert_eq!(seen.readable(), Some(77));
        assert_eq!(word.try_pin(Access::Read), pinned(false));
        assert!(
            seen.is_same_content(word.read_again()),
            "readers do not matter"
        );
        assert_eq!(word.unpin_read(), Wake::Nobody);
        assert_eq!(word.try_pin(Access::Write), pinned(true));
        assert!(
            !seen.is_same_content(word.read_again()),
            "a writer is there"
        );
        assert_eq!(word.read().readable(), None);
        assert_eq!(word.unpin_write(), Wake::Nobody);
        assert!(
            !seen.is_same_content(word.read_again()),
            "a writer was there"
        );
    }

    #[test]
    fn a_page_that_is_pinned_or_has_changed_is_not_evicted() {
        let word = filled(false);
        let seen = word.read();
        assert_eq!(word.try_pin(Access::Read), pinned(false));
        assert!(word.try_evict(word.read(), State::Absent).is_err());
        assert_eq!(word.unpin_read(), Wake::Nobody);
        assert!(
            word.try_evict(seen, State::Absent).is_err(),
            "it was used since"
        );
        let seen = word.read();
        assert_eq!(word.try_evict(seen, State::Swap(5)), Ok(Wake::Nobody));
        assert_eq!(word.read().state(), State::Swap(5));
        assert!(!seen.is_same_content(word.read_again()));
        let Tried::Out(out) = word.try_pin(Access::Read) else {
            panic!("it is in swap");
        };
        assert!(word.try_begin_fill(out));
        let _ = word.publish(78, Some(Access::Read), false, true);
        assert!(word.read().is_workingset() && word.read().readers() == 1);
    }

    #[test]
    fn what_is_written_in_the_background_is_pinned_and_not_used_more() {
        let word = filled(true);
        assert_eq!(word.try_pin(Access::Write), pinned(false));
        assert_eq!(word.try_pin_for_writeback(word.read()), None);
        assert_eq!(word.unpin_write(), Wake::Nobody);
        let (seen, freq) = (word.read(), word.read().freq());
        assert_eq!(word.try_pin_for_writeback(seen), Some(77));
        assert_eq!(word.try_pin_for_writeback(seen), None);
        assert_eq!(word.try_pin_for_writeback(word.read()), None);
        assert!(word.read().is_under_writeback() && !word.read().is_dirty());
        assert!(matches!(word.try_pin(Access::Write), Tried::Busy(_)));
        word.end_writeback(false);
        assert_eq!(word.unpin_read(), Wake::Nobody);
        assert_eq!((word.read().freq(), word.read().readers()), (freq, 0));
        assert_eq!(word.try_pin_for_writeback(word.read()), None);
    }

    #[test]
    fn what_is_written_out_is_clean_unless_that_failed() {
        let word = filled(true);
        assert_eq!(word.try_pin(Access::Read), pinned(false));
        assert!(word.try_begin_writeback() && !word.try_begin_writeback());
        assert!(!word.read().is_dirty());
        word.end_writeback(true);
        assert!(word.read().is_dirty());
        assert!(word.try_begin_writeback());
        word.end_writeback(false);
        assert!(!word.read().is_dirty() && !word.read().is_under_writeback());
        let _ = word.unpin_read();
    }
}
