//! One reading of a page's word: its state, who is at it, and where its content is, in 64 bits.
//!
//! ```text
//! version:16 | number:28 | state:4 | flags:4 | freq:2 | pins:10
//! ```
//!
//! `number` is a frame, a place in swap or a compressed page, as the state says. `pins` counts the
//! readers; all ones is one writer. `version` changes whenever a writer leaves and whenever the
//! frame comes or goes, so who read without a pin sees by the word whether that was whole.
//!
//! Invariants: each 64 bits that `word` makes say one state.
//! Depends on: nothing.
//! Never: changes a page.

#![forbid(unsafe_code)]

pub(super) const WRITER: u64 = (1 << 10) - 1;
pub(super) const FREQ_AT: u32 = 10;
pub(super) const FREQ: u64 = 3 << FREQ_AT;
/// The content is not what swap or the file has.
pub(super) const DIRTY: u64 = 1 << 12;
/// Somebody waits for the word to change.
pub(super) const WAITERS: u64 = 1 << 13;
/// It was among what its group used before it was evicted last.
pub(super) const WORKINGSET: u64 = 1 << 14;
/// It is being written to its file or to swap by one who has it pinned.
pub(super) const WRITEBACK: u64 = 1 << 15;
pub(super) const STATE_AT: u32 = 16;
pub(super) const STATE: u64 = 15 << STATE_AT;
pub(super) const NUMBER_AT: u32 = 20;
pub(super) const NUMBER_BITS: u32 = 28;
pub(super) const NUMBER: u64 = ((1 << NUMBER_BITS) - 1) << NUMBER_AT;
pub(super) const VERSION_AT: u32 = 48;
pub(super) const ONE_VERSION: u64 = 1 << VERSION_AT;

/// Numbers are below this.
pub const NUMBER_LIMIT: u32 = 1 << NUMBER_BITS;

/// Where a page's content is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nowhere: zeros, or what the file has.
    Absent,
    /// On its way into a frame, by one thread.
    Filling,
    /// In the frame of that number.
    Resident(u32),
    /// Compressed, under that number.
    Zswap(u32),
    /// At that place in swap.
    Swap(u32),
    /// Lost: its place in swap, of that number, could not be read.
    Poisoned(u32),
}

impl State {
    const ABSENT: u64 = 0;
    const FILLING: u64 = 1;
    const RESIDENT: u64 = 2;
    const ZSWAP: u64 = 3;
    const SWAP: u64 = 4;
    const POISONED: u64 = 5;

    fn bits(self) -> u64 {
        let (state, number) = match self {
            Self::Absent => (Self::ABSENT, 0),
            Self::Filling => (Self::FILLING, 0),
            Self::Resident(frame) => (Self::RESIDENT, frame),
            Self::Zswap(entry) => (Self::ZSWAP, entry),
            Self::Swap(slot) => (Self::SWAP, slot),
            Self::Poisoned(slot) => (Self::POISONED, slot),
        };
        debug_assert!(number < NUMBER_LIMIT);
        state << STATE_AT | u64::from(number) << NUMBER_AT
    }
}

/// One reading of a word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reading(pub(super) u64);

impl core::fmt::Debug for Reading {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reading")
            .field("state", &self.state())
            .field("readers", &self.readers())
            .field("writer", &self.has_writer())
            .field("freq", &self.freq())
            .field("dirty", &self.is_dirty())
            .field("waiters", &(self.0 & WAITERS != 0))
            .field("version", &(self.0 >> VERSION_AT))
            .finish()
    }
}

impl Reading {
    /// Where the content is.
    #[inline(always)]
    pub fn state(self) -> State {
        let number = ((self.0 & NUMBER) >> NUMBER_AT) as u32;
        match (self.0 & STATE) >> STATE_AT {
            State::ABSENT => State::Absent,
            State::FILLING => State::Filling,
            State::RESIDENT => State::Resident(number),
            State::ZSWAP => State::Zswap(number),
            State::SWAP => State::Swap(number),
            _ => State::Poisoned(number),
        }
    }

    /// Whether it has no content.
    pub fn is_absent(self) -> bool {
        matches!(self.state(), State::Absent)
    }

    /// Whether it is in a frame.
    pub fn is_resident(self) -> bool {
        matches!(self.state(), State::Resident(_))
    }

    /// Those who have it pinned to read.
    pub fn readers(self) -> u64 {
        match self.0 & WRITER {
            WRITER => 0,
            readers => readers,
        }
    }

    /// Whether one has it pinned to write.
    #[inline(always)]
    pub fn has_writer(self) -> bool {
        self.0 & WRITER == WRITER
    }

    /// Whether nobody has it pinned.
    pub fn is_unpinned(self) -> bool {
        self.0 & WRITER == 0
    }

    /// How often it was used since it came or was looked at: 0 to 3.
    pub fn freq(self) -> u32 {
        ((self.0 & FREQ) >> FREQ_AT) as u32
    }

    /// Whether the content is not what swap or the file has.
    pub fn is_dirty(self) -> bool {
        self.0 & DIRTY != 0
    }

    /// Whether one who has it pinned writes it out.
    pub fn is_under_writeback(self) -> bool {
        self.0 & WRITEBACK != 0
    }

    /// Whether its group used it before it was evicted last.
    #[cfg(any(test, feature = "testing"))]
    pub fn is_workingset(self) -> bool {
        self.0 & WORKINGSET != 0
    }

    /// Whether it is in a frame that nobody writes: then the frame's number.
    #[inline(always)]
    pub fn readable(self) -> Option<u32> {
        if self.0 & STATE == State::RESIDENT << STATE_AT && !self.has_writer() {
            Some(((self.0 & NUMBER) >> NUMBER_AT) as u32)
        } else {
            None
        }
    }

    /// Whether what was read between this reading and `later` was whole: the same frame all the
    /// time, and nobody wrote.
    #[inline(always)]
    pub fn is_same_content(self, later: Self) -> bool {
        const SAME: u64 = STATE | NUMBER | u64::MAX << VERSION_AT;
        (self.0 ^ later.0) & SAME == 0 && !later.has_writer()
    }

    pub(super) fn with_state(self, state: State) -> Self {
        Self(self.0 & !(STATE | NUMBER) | state.bits())
    }

    pub(super) fn with(self, flag: u64, set: bool) -> Self {
        Self(if set { self.0 | flag } else { self.0 & !flag })
    }

    pub(super) fn next_version(self) -> Self {
        Self(self.0.wrapping_add(ONE_VERSION))
    }

    #[inline(always)]
    pub(super) fn used_once_more(self) -> Self {
        if self.0 & FREQ == FREQ {
            self
        } else {
            Self(self.0 + (1 << FREQ_AT))
        }
    }
}
