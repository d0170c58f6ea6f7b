//! Queues of pages, oldest first.
//!
//! An entry is a page and the number (`seq`) that the page had when it was put in. A page is taken
//! out by giving it another number: its entry is then *stale*, and is dropped when it is met. So a
//! page's removal touches no list, and an entry has no links.
//!
//! Stamps order the heads of queues among each other, whoever the queues belong to. The clock of
//! stamps is the process's. A queue moves it on with every entry that is put in while it is short,
//! and with every 4096th part of its entries when it is long: who fills memory fast has long
//! queues, and seldom writes the clock. A chunk has a stamp; between its entries lie others where
//! the clock has moved by more than a 4096th of what the queue spans. So a short queue knows the
//! time of each entry, at 16 bytes for each, and a long one has a few thousand stamps.
//!
//! With a stamp for each chunk alone, the 64 owners of a group with a thousand pages had 15 % more
//! misses than one queue: entries that went round again lay in a chunk with an old stamp, and came
//! to the front at once. With a stamp for each 64th of the span, a loop a little larger than the
//! group had 5 % to 25 % more, with one for each 1024th 1 % to 4 %.
//!
//! Invariants: the first word of a queue is an entry. A chunk is in one queue. Entries come out in
//! the order in which they went in.
//! Depends on: `chunk`.
//! Never: a lock, or a use by two threads at a time: the owner's lock is held, but for
//! [`Fifo::note_stale`] and counts that are only read. A look at a page: the caller says what is
//! stale.
//!
//! Source of the idea: Linux, `struct folio_batch` for entries in arrays; its multi-generational
//! LRU (6.1) for an order by coarse age.

use super::chunk::{Chunk, Chunks, Entry, NoMemory, WORDS, Word};
use super::id::ChunkId;
use crate::sync::Zeroed;
use crate::sync::atomic;
use crate::sync::id::Id;
// As in `chunk`.
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The clock moves on when a queue has been given more than this part of its entries: a 4096th.
const TICK_SHIFT: u32 = 12;

/// What the clock may move by without a new stamp, as a part of what the queue spans: a 4096th.
const RESOLUTION_SHIFT: u32 = 12;

/// A queue of pages. Zero bytes: empty. See the module.
///
/// Every call but [`Self::note_stale`] and those that only read a count is made under the lock of
/// whom the queue belongs to.
#[derive(Default)]
pub struct Fifo {
    /// The chunk that is taken from; 0: empty, and so is `tail`.
    head: AtomicU32,
    /// The chunk that is put into.
    tail: AtomicU32,
    /// Of the first entry.
    head_stamp: AtomicU64,
    /// Of the last.
    tail_stamp: AtomicU64,
    len: AtomicU32,
    nr_chunks: AtomicU32,
    /// Entries put in since the clock was moved on.
    since_tick: AtomicU32,
    /// Stale entries noted and not met yet. Below zero for a moment where one is met before its
    /// note.
    stale: atomic::AtomicU32,
}

// SAFETY: zero words are a queue without chunks, as Default builds it.
unsafe impl Zeroed for Fifo {}

impl Fifo {
    /// Entries, stale ones included.
    pub fn len(&self) -> u32 {
        self.len.load(Relaxed)
    }

    /// Whether there is no entry, not even a stale one.
    pub fn is_empty(&self) -> bool {
        self.head.load(Relaxed) == 0
    }

    /// Chunks the queue has.
    pub fn nr_chunks(&self) -> u32 {
        self.nr_chunks.load(Relaxed)
    }

    /// The stamp of the oldest entry: the order among queues. It is another only after a call that
    /// takes entries out, or puts the first one in. Cost: O(1).
    #[inline]
    pub fn head_stamp(&self) -> Option<u64> {
        (!self.is_empty()).then(|| self.head_stamp.load(Relaxed))
    }

    /// Puts an entry behind all others. Cost: some stores, rarely a chunk; and an addition to the
    /// process's clock, each time while the queue has less than 4096 entries, seldom then.
    ///
    /// # Errors
    /// [`NoMemory`]; the queue is as before.
    #[inline]
    pub fn push(&self, chunks: &Chunks, entry: Entry) -> Result<(), NoMemory> {
        let now = self.tick(chunks);
        let tail_stamp = self.tail_stamp.load(Relaxed);
        let span = now.wrapping_sub(self.head_stamp.load(Relaxed));
        let is_late = now.wrapping_sub(tail_stamp) > span >> RESOLUTION_SHIFT;
        let stamp = is_late.then_some(now);
        let tail = ChunkId::from_raw(self.tail.load(Relaxed));
        if !tail.is_some_and(|id| chunks.get(id).try_put(stamp, entry)) {
            self.begin(chunks, tail, now)?.try_put(None, entry);
            self.tail_stamp.store(now, Relaxed);
        } else if is_late {
            self.tail_stamp.store(now, Relaxed);
        }
        self.len.store(self.len() + 1, Relaxed);
        Ok(())
    }

    /// The process's time, moved on now and then.
    #[inline]
    fn tick(&self, chunks: &Chunks) -> u64 {
        let since = self.since_tick.load(Relaxed) + 1;
        if since <= self.len() >> TICK_SHIFT {
            self.since_tick.store(since, Relaxed);
            chunks.now()
        } else {
            self.since_tick.store(0, Relaxed);
            chunks.clock.fetch_add(1, Relaxed) + 1
        }
    }

    /// Puts an empty chunk behind the others.
    #[cold]
    fn begin<'a>(
        &self,
        chunks: &'a Chunks,
        tail: Option<ChunkId>,
        now: u64,
    ) -> Result<&'a Chunk, NoMemory> {
        let id = chunks.arena.alloc(u32::MAX).ok_or(NoMemory)?;
        let chunk = chunks.get(id);
        chunk.begin(now);
        chunk.set_next(None);
        match tail {
            Some(tail) => chunks.get(tail).set_next(Some(id)),
            None => {
                self.head.store(id.raw(), Relaxed);
                self.head_stamp.store(now, Relaxed);
            }
        }
        self.tail.store(id.raw(), Relaxed);
        self.nr_chunks.store(self.nr_chunks() + 1, Relaxed);
        Ok(chunk)
    }

    /// Gives the first chunk back.
    #[cold]
    fn drop_head(&self, chunks: &Chunks, head: ChunkId, chunk: &Chunk) {
        match chunk.next() {
            Some(next) => {
                self.head.store(next.raw(), Relaxed);
                let stamp = chunks.get(next).first_stamp();
                self.head_stamp.store(stamp, Relaxed);
            }
            None => {
                self.head.store(0, Relaxed);
                self.tail.store(0, Relaxed);
            }
        }
        self.nr_chunks.store(self.nr_chunks() - 1, Relaxed);
        chunks.arena.free(head);
    }

    /// Takes the oldest entry that is `live`, if it is among the first `most`; drops the stale ones
    /// before it. The second figure is how many entries were taken, the answered one included.
    #[inline]
    pub fn pop_live(
        &self,
        chunks: &Chunks,
        most: u32,
        mut live: impl FnMut(Entry) -> bool,
    ) -> (Option<Entry>, u32) {
        let mut scanned = 0;
        let mut found = None;
        while scanned < most
            && found.is_none()
            && let Some(head) = ChunkId::from_raw(self.head.load(Relaxed))
        {
            let chunk = chunks.get(head);
            let mut at = chunk.taken.load(Relaxed) as usize;
            let (before, mut later) = (scanned, None);
            let words = &chunk.words[..chunk.filled.load(Relaxed) as usize];
            while let Some(word) = words.get(at) {
                match Word::unpack(word.load(Relaxed)) {
                    // Taken also when the entry before was the last: the first is an entry.
                    Word::Later(ticks) => later = Some(ticks),
                    Word::Entry(_) if scanned == most || found.is_some() => break,
                    Word::Entry(entry) => {
                        scanned += 1;
                        found = live(entry).then_some(entry);
                    }
                }
                at += 1;
            }
            self.len.store(self.len() - (scanned - before), Relaxed);
            if at == words.len() {
                self.drop_head(chunks, head, chunk);
                continue;
            }
            chunk.taken.store(at as u32, Relaxed);
            if let Some(later) = later {
                let stamp = chunk.stamp.load(Relaxed) + u64::from(later);
                self.head_stamp.store(stamp, Relaxed);
            }
        }
        let dropped = scanned - u32::from(found.is_some());
        if dropped > 0 {
            self.stale.fetch_sub(dropped, Relaxed);
        }
        (found, scanned)
    }

    /// An entry of the queue has become stale. Whoever made it so says so, once, with or without
    /// the lock, before the entry is met or after. Where the queue was put behind another
    /// meanwhile, either may be told: the figure only says when a rebuild is worth it.
    #[inline]
    pub fn note_stale(&self) {
        self.stale.fetch_add(1, Relaxed);
    }

    /// Stale entries that are known of.
    pub fn nr_stale(&self) -> u32 {
        let stale = self.stale.load(Relaxed);
        // Below zero: met before it was noted.
        if stale > i32::MAX as u32 { 0 } else { stale }
    }

    /// Whether more than half of the entries are stale, and there are more than a chunk of them.
    #[inline]
    pub fn is_rebuild_due(&self) -> bool {
        let len = self.len();
        self.nr_stale() > len / 2 && len > WORDS as u32
    }

    /// Drops all entries that are not `live`; the others keep their order and their stamps, in the
    /// first of the chunks. Needs no memory. Answers how many were dropped.
    ///
    /// Cost: O(entries); if it is done when [`Self::is_rebuild_due`], O(1) for each entry that
    /// became stale.
    pub fn rebuild(&self, chunks: &Chunks, mut live: impl FnMut(Entry) -> bool) -> u32 {
        let Some(first) = ChunkId::from_raw(self.head.load(Relaxed)) else {
            return 0;
        };
        // Entries are written into the same chunks, no further than they have been read: a chunk
        // that is read and written has got nothing but its own, and no stamp that it had not.
        let mut to = Rewrite {
            chunk: first,
            last_stamp: None,
            used: 0,
        };
        let mut kept = 0u32;
        let mut stamp = self.head_stamp.load(Relaxed);
        let mut from = Some(first);
        while let Some(id) = from {
            let chunk = chunks.get(id);
            from = chunk.next();
            let begin = chunk.stamp.load(Relaxed);
            if id != first {
                stamp = begin;
            }
            let words = chunk.taken.load(Relaxed) as usize..chunk.filled.load(Relaxed) as usize;
            for word in &chunk.words[words] {
                match Word::unpack(word.load(Relaxed)) {
                    Word::Later(ticks) => stamp = begin + u64::from(ticks),
                    Word::Entry(entry) => {
                        if live(entry) {
                            to.put(chunks, self, stamp, entry);
                            kept += 1;
                        }
                    }
                }
            }
        }
        let rest = if let Some(last) = to.last_stamp {
            self.tail_stamp.store(last, Relaxed);
            self.tail.store(to.chunk.raw(), Relaxed);
            let last = chunks.get(to.chunk);
            let rest = last.next();
            last.set_next(None);
            rest
        } else {
            self.head.store(0, Relaxed);
            self.tail.store(0, Relaxed);
            Some(first)
        };
        chunks.free_all(rest);
        self.nr_chunks.store(to.used, Relaxed);
        let dropped = self.len() - kept;
        self.len.store(kept, Relaxed);
        // What is noted from now on is of entries that are still there, or was just dropped.
        self.stale.store(0, Relaxed);
        dropped
    }

    /// Puts all entries of `other` behind all of this one's; `other` is empty then. Their stamps
    /// stay. Cost: O(1).
    ///
    /// Both locks are held.
    #[cfg(any(test, feature = "testing"))]
    pub fn splice(&self, chunks: &Chunks, other: &Self) {
        debug_assert!(!core::ptr::eq(self, other));
        let head = take(&other.head);
        if head == 0 {
            return;
        }
        let stamp = other.head_stamp.load(Relaxed);
        match (
            ChunkId::from_raw(self.tail.load(Relaxed)),
            ChunkId::from_raw(head),
        ) {
            (Some(last), Some(first)) => {
                chunks.get(first).put_back(stamp);
                chunks.get(last).set_next(Some(first));
            }
            (_, _) => {
                self.head.store(head, Relaxed);
                self.head_stamp.store(stamp, Relaxed);
            }
        }
        self.tail.store(take(&other.tail), Relaxed);
        let stamp = other.tail_stamp.load(Relaxed);
        self.tail_stamp.store(stamp, Relaxed);
        self.len.store(self.len() + take(&other.len), Relaxed);
        let nr_chunks = self.nr_chunks() + take(&other.nr_chunks);
        self.nr_chunks.store(nr_chunks, Relaxed);
        let stale = other.stale.swap(0, Relaxed);
        self.stale.fetch_add(stale, Relaxed);
    }

    /// Drops all entries. Cost: O(chunks).
    pub fn clear(&self, chunks: &Chunks) {
        chunks.free_all(ChunkId::from_raw(take(&self.head)));
        for word in [&self.tail, &self.len, &self.nr_chunks] {
            word.store(0, Relaxed);
        }
        self.stale.store(0, Relaxed);
    }
}

fn take(word: &AtomicU32) -> u32 {
    let taken = word.load(Relaxed);
    word.store(0, Relaxed);
    taken
}

/// Where a rebuild writes.
struct Rewrite {
    /// Written into, if `last_stamp` is there; else the first that may be.
    chunk: ChunkId,
    /// Of the last entry written.
    last_stamp: Option<u64>,
    /// Chunks written into.
    used: u32,
}

impl Rewrite {
    fn put(&mut self, chunks: &Chunks, queue: &Fifo, stamp: u64, entry: Entry) {
        let mut chunk = chunks.get(self.chunk);
        match self.last_stamp {
            None => queue.head_stamp.store(stamp, Relaxed),
            Some(last) => {
                // An older one is of a queue that was put behind another: it is not of the chunk
                // that the last was of, so the next chunk has been read, or is being read.
                let later = (stamp != last).then_some(stamp);
                if stamp >= last && chunk.try_put(later, entry) {
                    self.last_stamp = Some(stamp);
                    return;
                }
                if let Some(next) = chunk.next() {
                    self.chunk = next;
                    chunk = chunks.get(next);
                }
            }
        }
        chunk.begin(stamp);
        chunk.try_put(None, entry);
        self.used += 1;
        self.last_stamp = Some(stamp);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
