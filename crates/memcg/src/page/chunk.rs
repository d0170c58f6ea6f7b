//! Chunks of 64 words, which queues of pages are made of.
//!
//! A word is an entry, or a stamp that the entries behind it have.
//!
//! Invariants: behind a stamp lies an entry, in the same chunk. Stamps rise within a chunk.
//! Depends on: `sync::arena` for chunks.
//! Never: a use of one chunk by two threads at a time: the lock of the queue's owner is held. The
//! order of chunks: that is `fifo`'s.

use super::id::{ChunkId, PageId};
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic;
use crate::sync::id::Id;
// What the owner's lock guards is core's, also under loom: no model needs a step for each entry.
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Words of a chunk: entries, and stamps between them.
pub(super) const WORDS: usize = 64;

/// A page in a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Which.
    pub page: PageId,
    /// Its number when it went in; stale if the page has another now.
    pub seq: u32,
}

/// A word of a chunk.
#[derive(Clone, Copy)]
pub(super) enum Word {
    Entry(Entry),
    /// The entries behind it have the chunk's stamp and so much more.
    Later(u32),
}

impl Word {
    #[inline]
    pub(super) fn pack(self) -> u64 {
        let (high, low) = match self {
            Self::Entry(entry) => (entry.seq, entry.page.raw()),
            Self::Later(ticks) => (ticks, 0),
        };
        u64::from(high) << 32 | u64::from(low)
    }

    #[inline]
    pub(super) fn unpack(word: u64) -> Self {
        let high = (word >> 32) as u32;
        match PageId::from_raw(word as u32) {
            Some(page) => Self::Entry(Entry { page, seq: high }),
            None => Self::Later(high),
        }
    }
}

/// 64 words of one queue.
pub struct Chunk {
    /// The next chunk of the queue; the arena's link while the chunk is free.
    next: atomic::AtomicU32,
    /// Words taken out, from the first.
    pub(super) taken: AtomicU32,
    /// Words put in.
    pub(super) filled: AtomicU32,
    pub(super) stamp: AtomicU64,
    pub(super) words: [AtomicU64; WORDS],
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            next: atomic::AtomicU32::default(),
            taken: AtomicU32::default(),
            filled: AtomicU32::default(),
            stamp: AtomicU64::default(),
            words: [const { AtomicU64::new(0) }; WORDS],
        }
    }
}

// SAFETY: atomic integers all, for which zero bytes are the value 0.
unsafe impl Zeroed for Chunk {}
// SAFETY: `next` is the link, and is the arena's alone while the chunk is in no queue.
unsafe impl Record for Chunk {
    fn link(&self) -> &atomic::AtomicU32 {
        &self.next
    }
}

impl Chunk {
    pub(super) fn next(&self) -> Option<ChunkId> {
        ChunkId::from_raw(self.next.load(Relaxed))
    }

    pub(super) fn set_next(&self, next: Option<ChunkId>) {
        self.next.store(next.map_or(0, ChunkId::raw), Relaxed);
    }

    /// The chunk holds nothing; what is put into it has that stamp.
    pub(super) fn begin(&self, stamp: u64) {
        self.taken.store(0, Relaxed);
        self.filled.store(0, Relaxed);
        self.stamp.store(stamp, Relaxed);
    }

    /// The stamp of the first entry of a chunk that comes to be the first; where a stamp is before
    /// it, that is taken.
    pub(super) fn first_stamp(&self) -> u64 {
        let stamp = self.stamp.load(Relaxed);
        let taken = self.taken.load(Relaxed);
        let word = self.words.get(taken as usize);
        match word.map(|word| Word::unpack(word.load(Relaxed))) {
            Some(Word::Later(ticks)) => {
                self.taken.store(taken + 1, Relaxed);
                stamp + u64::from(ticks)
            }
            Some(Word::Entry(_)) | None => stamp,
        }
    }

    /// The chunk was the first and will not be: puts the stamp of its first entry back before it.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn put_back(&self, head_stamp: u64) {
        let ticks = head_stamp - self.stamp.load(Relaxed);
        // Where the stamp is another than the chunk's, a word that said so has been taken out.
        if ticks > 0
            && let Some(before) = self.taken.load(Relaxed).checked_sub(1)
            && let Some(word) = self.words.get(before as usize)
        {
            word.store(Word::Later(ticks as u32).pack(), Relaxed);
            self.taken.store(before, Relaxed);
        }
    }

    /// Puts an entry in, after a stamp where there is one; `false` where that finds no room.
    #[inline]
    pub(super) fn try_put(&self, stamp: Option<u64>, entry: Entry) -> bool {
        let filled = self.filled.load(Relaxed) as usize;
        let Some(stamp) = stamp else {
            let Some(word) = self.words.get(filled) else {
                return false;
            };
            word.store(Word::Entry(entry).pack(), Relaxed);
            self.filled.store(filled as u32 + 1, Relaxed);
            return true;
        };
        let later = stamp.checked_sub(self.stamp.load(Relaxed));
        let later = later.and_then(|later| u32::try_from(later).ok());
        let (Some(later), Some([first, second])) = (later, self.words.get(filled..filled + 2))
        else {
            return false;
        };
        first.store(Word::Later(later).pack(), Relaxed);
        second.store(Word::Entry(entry).pack(), Relaxed);
        self.filled.store(filled as u32 + 2, Relaxed);
        true
    }
}

/// The chunks of all queues, and the clock that stamps them. Zero bytes: none yet.
#[derive(Default)]
pub struct Chunks {
    pub(super) arena: Arena<ChunkId, Chunk>,
    pub(super) clock: atomic::AtomicU64,
}

// SAFETY: an arena and a count, both zero when empty.
unsafe impl Zeroed for Chunks {}

/// The kernel gives no memory for a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

impl Chunks {
    /// Chunks in use.
    #[cfg(any(test, feature = "testing"))]
    pub fn in_use(&self) -> u32 {
        self.arena.in_use()
    }

    /// Now, by the clock of stamps.
    pub fn now(&self) -> u64 {
        self.clock.load(Relaxed)
    }

    pub(super) fn get(&self, id: ChunkId) -> &Chunk {
        self.arena.get(id)
    }

    /// Gives back a chunk and all behind it.
    pub(super) fn free_all(&self, mut first: Option<ChunkId>) {
        while let Some(id) = first {
            first = self.get(id).next();
            self.arena.free(id);
        }
    }
}
