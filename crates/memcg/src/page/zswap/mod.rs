//! Pages compressed in memory.
//!
//! ```text
//! ZswapId ── entry (`entry`) ── object of a span of its class (`pool`, `class`)
//!                           └─ or one word, of which the page is full
//! page ── workspace (`workspaces`) ── LZ4 (`lz4`) ── object
//! ```
//!
//! Invariants: what is stored is loaded as it was, until it is freed. All memory for it but the
//! entries (40 bytes a page) is below the cap. Entries with an object are in one queue, oldest
//! first.
//! Depends on: `os` for memory, `sync`; `lz4_flex`, which decompresses.
//! Never: an owner, a charge, a page's word; an allocation from the heap, after `on`; a wait but
//! for the pool's lock, which is held for some loads and stores.

mod class;
mod entry;
mod lz4;
mod pool;
#[cfg(all(test, not(loom)))]
mod tests;
mod workspaces;

#[cfg(any(test, feature = "testing"))]
pub use lz4::MOST;

use crate::os::errno::Errno;
use crate::page::{PAGE, SlotId, ZswapId};
use crate::sync::Zeroed;
use crate::sync::arena::Arena;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::sync::id::AtomicId;
use crate::sync::lock::{Held, Lock, Rank};
#[cfg(any(test, feature = "testing"))]
use crate::sync::promise::HeldOverFork;
use crate::sync::promise::SoleThread;
use entry::Entry;
use pool::{BATCH, NoObject, Place, Pool};
use workspaces::Workspaces;

/// One more than the highest number of an entry: it has 28 bits in a page's word.
const ENTRIES_END: u32 = 1 << 28;

/// A page that was stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// What loads and frees it.
    pub id: ZswapId,
    /// Bytes that it takes: 0 for a page that is one word of 64 bits, repeated.
    pub bytes: u32,
}

/// Why a page was not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// Nothing is stored: the cap is zero.
    Off,
    /// Compressed it is larger than [`MOST`].
    Rejected,
    /// The cap is reached.
    Full,
    /// No memory for it, or no number.
    NoMemory,
    /// As many threads compress as can at once.
    Busy,
}

/// What has been counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg(any(test, feature = "testing"))]
pub struct ZswapUsage {
    /// Pages stored.
    pub pages: u64,
    /// Of them those of one word, repeated.
    pub same_filled: u64,
    /// Bytes that they take compressed.
    pub stored: u64,
    /// Bytes of memory that hold them; `stored` is part of it.
    pub held: u64,
    /// Pages that were too large compressed, ever.
    pub rejected: u64,
    /// Pages for which the cap left no room, ever.
    pub full: u64,
}

#[cfg(any(test, feature = "testing"))]
impl ZswapUsage {
    /// Bytes of memory held beside what is stored.
    #[must_use]
    pub fn slack(self) -> u64 {
        self.held.saturating_sub(self.stored)
    }
}

/// A page that may be written back, as it was when it was looked at. It may be freed at any time:
/// who writes it back takes it over by the page's word first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// It.
    pub id: ZswapId,
    /// Its tag.
    pub tag: u32,
    /// Its slot.
    pub slot: Option<SlotId>,
    /// Bytes that it takes.
    pub bytes: u32,
    generation: u32,
}

/// The pool of compressed pages. Zero bytes: empty and off.
#[derive(Default)]
pub struct Zswap {
    /// Of the pool and the queue.
    lock: Lock,
    workspaces: Workspaces,
    pool: Pool,
    entries: Arena<ZswapId, Entry>,
    oldest: AtomicId<ZswapId>,
    youngest: AtomicId<ZswapId>,
    /// At so many spans without objects their pages are given back.
    give_back_at: AtomicU32,
    pages: AtomicU64,
    same_filled: AtomicU64,
    stored: AtomicU64,
    rejected: AtomicU64,
    full: AtomicU64,
}

// SAFETY: each field is Zeroed or an atomic integer, or a lock, which zero bytes leave free.
unsafe impl Zeroed for Zswap {}

/// The word that a page repeats, if it does.
fn repeated(page: &[u8; PAGE]) -> Option<u64> {
    let (first, _) = page.split_first_chunk::<8>()?;
    // Each byte is the one eight bytes before: one comparison of memory.
    (page[8..] == page[..PAGE - 8]).then(|| u64::from_ne_bytes(*first))
}

impl Zswap {
    fn locked(&self) -> Held<'_> {
        self.lock.lock(Rank::Zswap)
    }

    /// Lets the pool hold `bytes` of memory. 0: nothing is stored any more; what is there stays,
    /// as where less is allowed than is held.
    ///
    /// # Errors
    /// `ENOMEM`: no memory for workspaces; nothing has changed.
    pub fn on(&self, bytes: u64) -> Result<(), Errno> {
        let _held = self.locked();
        // The memory would be no atomics of loom's: no model stores pages.
        if cfg!(loom) || (bytes > 0 && self.workspaces.make().is_none()) {
            return Err(Errno::ENOMEM);
        }
        self.pool.set_most(bytes / PAGE as u64);
        Ok(())
    }

    /// Whether pages are stored.
    pub fn is_on(&self) -> bool {
        self.pool.most() > 0
    }

    /// Stores a page, with a tag that is the caller's; answers its entry and how many bytes it
    /// takes. Waits for nothing but the pool's lock. 6 to 10 µs; 0.2 where the page is one word
    /// repeated; 1 where nothing in it repeats.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn store(&self, page: &[u8; PAGE], tag: u32) -> Result<Stored, StoreError> {
        if !self.is_on() {
            return Err(StoreError::Off);
        }
        if let Some(word) = repeated(page) {
            let id = self.new_entry(tag)?;
            let entry = self.entries.get(id);
            entry.len.store(0, Relaxed);
            entry.what.store(word, Relaxed);
            self.same_filled.fetch_add(1, Relaxed);
            self.pages.fetch_add(1, Relaxed);
            entry.life.begin();
            return Ok(Stored { id, bytes: 0 });
        }
        let mut workspace = self.workspaces.try_take().ok_or(StoreError::Busy)?;
        let Some(bytes) = workspace.compress(page) else {
            self.rejected.fetch_add(1, Relaxed);
            return Err(StoreError::Rejected);
        };
        let id = self.new_entry(tag)?;
        let place = self
            .alloc(bytes.len())
            .inspect_err(|_| self.entries.free(id))?;
        // SAFETY: the object has just been given to us; nobody else knows of it yet.
        unsafe { self.pool.write(place, bytes) };
        let len = bytes.len() as u32;
        let entry = self.entries.get(id);
        entry.len.store(len, Relaxed);
        entry.what.store(place.raw(), Relaxed);
        self.stored.fetch_add(u64::from(len), Relaxed);
        self.pages.fetch_add(1, Relaxed);
        let _held = self.locked();
        entry.life.begin();
        self.enqueue(id);
        Ok(Stored { id, bytes: len })
    }

    fn new_entry(&self, tag: u32) -> Result<ZswapId, StoreError> {
        let id = self
            .entries
            .alloc(ENTRIES_END)
            .ok_or(StoreError::NoMemory)?;
        let entry = self.entries.get(id);
        entry.tag.store(tag, Relaxed);
        entry.slot.store(None, Relaxed);
        Ok(id)
    }

    fn alloc(&self, len: usize) -> Result<Place, StoreError> {
        let try_alloc = || {
            let _held = self.locked();
            self.pool.alloc(len)
        };
        let got = try_alloc().or_else(|why| {
            // What is kept of freed spans may make the room.
            if self.give_back() > 0 {
                try_alloc()
            } else {
                Err(why)
            }
        });
        got.map_err(|why| match why {
            NoObject::Full => {
                self.full.fetch_add(1, Relaxed);
                StoreError::Full
            }
            NoObject::NoMemory => StoreError::NoMemory,
        })
    }

    /// Loads a page; it stays stored. About 2 µs. Takes no lock.
    ///
    /// # Errors
    /// `EINVAL`: nothing is stored there. `EIO`: what is stored is none of a page any more;
    /// something has written over it. `into` holds nothing of worth then.
    pub fn load(&self, id: ZswapId, into: &mut [u8; PAGE]) -> Result<(), Errno> {
        let entry = self.entries.try_get(id).ok_or(Errno::EINVAL)?;
        if !entry.life.try_read() {
            return Err(Errno::EINVAL);
        }
        let (len, what) = (entry.len.load(Relaxed), entry.what.load(Relaxed));
        let is_whole = if len == 0 {
            for word in into.as_chunks_mut().0 {
                *word = what.to_ne_bytes();
            }
            true
        } else {
            Place::from_raw(what).is_some_and(|place| {
                // SAFETY: the entry is being read: `begin` came after its object was written, and
                // the object is freed by who is told to be the last, which is not before
                // `end_read`. Nobody writes it until then.
                lz4::decompress(unsafe { self.pool.bytes(place, len as usize) }, into)
            })
        };
        if entry.life.end_read() {
            self.release(id);
        }
        is_whole.then_some(()).ok_or(Errno::EIO)
    }

    /// Frees a page; answers how many bytes it took. `None`: nothing is stored there.
    pub fn free(&self, id: ZswapId) -> Option<u32> {
        let entry = self.entries.try_get(id)?;
        let (len, is_last) = {
            // Whoever else is told to be the last frees the object under the lock, too: after the
            // entry has left the queue.
            let _held = self.locked();
            let is_last = entry.life.end()?;
            let len = entry.len.load(Relaxed);
            if len > 0 {
                self.dequeue(id);
            }
            (len, is_last)
        };
        let counter = if len > 0 {
            &self.stored
        } else {
            &self.same_filled
        };
        counter.fetch_sub(u64::from(len.max(1)), Relaxed);
        self.pages.fetch_sub(1, Relaxed);
        if is_last {
            self.release(id);
        }
        Some(len)
    }

    /// Nobody uses an entry any more: its object and its record are free.
    fn release(&self, id: ZswapId) {
        let entry = self.entries.get(id);
        let is_batch = {
            let _held = self.locked();
            if entry.len.load(Relaxed) > 0
                && let Some(place) = Place::from_raw(entry.what.load(Relaxed))
            {
                self.pool.free(place);
            }
            self.pool.nr_dirty() >= self.give_back_at.load(Relaxed).max(BATCH)
        };
        self.entries.free(id);
        if is_batch {
            self.give_back();
        }
    }

    /// Gives the pages of freed spans back to the kernel; answers how many bytes. Done on its own
    /// by the free that completes a MiB.
    pub fn give_back(&self) -> u64 {
        let before = self.pool.held();
        let mut refused = 0;
        for _ in 0..self.pool.nr_dirty() {
            let taken = {
                let _held = self.locked();
                self.pool.take_dirty()
            };
            let Some(span) = taken else { break };
            let is_clean = self.pool.discard(span);
            let _held = self.locked();
            self.pool.put_back(span, is_clean);
            if !is_clean {
                refused = self.pool.nr_dirty();
                break;
            }
        }
        // Memory that the kernel does not take, as it is locked, is not offered again for each.
        self.give_back_at.store(refused + BATCH, Relaxed);
        before.saturating_sub(self.pool.held()) * PAGE as u64
    }

    /// What the caller has put beside a page: its tag, and its slot. `None`: nothing is stored
    /// there.
    #[cfg(any(test, feature = "testing"))]
    pub fn beside(&self, id: ZswapId) -> Option<(u32, Option<SlotId>)> {
        let entry = self.entries.try_get(id)?;
        entry.life.generation()?;
        Some((entry.tag.load(Relaxed), entry.slot.load(Relaxed)))
    }

    /// Puts another tag beside a page. Who calls this has the page.
    #[cfg(any(test, feature = "testing"))]
    pub fn set_tag(&self, id: ZswapId, tag: u32) {
        if let Some(entry) = self.entries.try_get(id) {
            entry.tag.store(tag, Relaxed);
        }
    }

    /// Puts a slot beside a page, or none; answers the one before. Who calls this has the page.
    #[cfg(any(test, feature = "testing"))]
    pub fn set_slot(&self, id: ZswapId, slot: Option<SlotId>) -> Option<SlotId> {
        self.entries.try_get(id)?.slot.swap(slot, Relaxed)
    }

    /// What has been counted; while threads store and free, near it.
    #[cfg(any(test, feature = "testing"))]
    pub fn usage(&self) -> ZswapUsage {
        ZswapUsage {
            pages: self.pages.load(Relaxed),
            same_filled: self.same_filled.load(Relaxed),
            stored: self.stored.load(Relaxed),
            held: self.pool.held() * PAGE as u64,
            rejected: self.rejected.load(Relaxed),
            full: self.full.load(Relaxed),
        }
    }

    /// In a fork, before: no thread is in the middle of a change. Ended by
    /// [`Self::unlock_after_fork`], in the parent and in the child.
    #[cfg(any(test, feature = "testing"))]
    pub fn lock_for_fork(&self) {
        core::mem::forget(self.locked());
    }

    /// See [`Self::lock_for_fork`].
    #[cfg(any(test, feature = "testing"))]
    pub fn unlock_after_fork(&self, held: HeldOverFork) {
        self.lock.unlock_forgotten(Rank::Zswap, held);
    }

    /// In the child of a fork: workspaces of threads that it does not have are free. What such a
    /// thread was reading is not freed any more.
    pub fn reset_in_child(&self, sole: SoleThread) {
        self.workspaces.reset_in_child(sole);
    }

    /// The oldest entries that take memory, those behind `after` where it is still stored; answers
    /// how many of `into` are filled, from its first on.
    pub fn oldest(&self, after: Option<Candidate>, into: &mut [Option<Candidate>]) -> usize {
        let _held = self.locked();
        let after = after.filter(|last| self.is_queued(*last));
        let mut next = match after {
            Some(last) => self.entries.get(last.id).younger.load(Relaxed),
            None => self.oldest.load(Relaxed),
        };
        let mut nr = 0;
        for place in into {
            let Some(id) = next else { break };
            let entry = self.entries.get(id);
            // What is in the queue is live: both change under the lock.
            *place = entry.life.generation().map(|generation| Candidate {
                id,
                tag: entry.tag.load(Relaxed),
                slot: entry.slot.load(Relaxed),
                bytes: entry.len.load(Relaxed),
                generation,
            });
            next = entry.younger.load(Relaxed);
            nr += 1;
        }
        nr
    }

    /// Makes a page that could not be written back the youngest; `false`: it has been freed.
    #[cfg(any(test, feature = "testing"))]
    pub fn defer(&self, candidate: Candidate) -> bool {
        let _held = self.locked();
        let is_queued = self.is_queued(candidate);
        if is_queued {
            self.dequeue(candidate.id);
            self.enqueue(candidate.id);
        }
        is_queued
    }

    /// Whether it is still the same page; the lock is held.
    fn is_queued(&self, candidate: Candidate) -> bool {
        let entry = self.entries.try_get(candidate.id);
        entry.is_some_and(|entry| {
            entry.life.generation() == Some(candidate.generation) && entry.len.load(Relaxed) > 0
        })
    }

    /// The lock is held.
    fn enqueue(&self, id: ZswapId) {
        let entry = self.entries.get(id);
        let before = self.youngest.swap(Some(id), Relaxed);
        entry.older.store(before, Relaxed);
        entry.younger.store(None, Relaxed);
        match before {
            Some(before) => self.entries.get(before).younger.store(Some(id), Relaxed),
            None => self.oldest.store(Some(id), Relaxed),
        }
    }

    /// The lock is held.
    fn dequeue(&self, id: ZswapId) {
        let entry = self.entries.get(id);
        let (older, younger) = (entry.older.load(Relaxed), entry.younger.load(Relaxed));
        match older {
            Some(older) => self.entries.get(older).younger.store(younger, Relaxed),
            None => self.oldest.store(younger, Relaxed),
        }
        match younger {
            Some(younger) => self.entries.get(younger).older.store(older, Relaxed),
            None => self.youngest.store(older, Relaxed),
        }
    }
}
