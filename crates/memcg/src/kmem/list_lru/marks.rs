//! In which lists a group has anything: a bit for each list, by the group's kmem id. Reclaim does
//! not ask a shrinker where its list has no bit.
//!
//! Invariants: a group's list that has things has its bit. The bit is set with the first thing. It
//! is cleared by a thread that looks and finds the list empty, not by the one that takes the last
//! thing out: so a list that is filled and emptied in turn changes no bit. A bit may be set
//! although the list is empty, for example if the group ended while its first thing was put in;
//! that costs one look.
//! Depends on: a bit is changed under the lock of the head it is about, while that is the head of
//! the id. So a thing that is put in and a look that finds nothing come one after the other: the
//! look sees the thing, or the thing's thread finds the bit cleared and sets it. A thread that
//! reads bits takes no lock, so what it reads is a moment old.
//! Never: memory given back. There are as many records as the highest id that ever had a list; ids
//! are dense.

use super::Lists;
use super::head::Head;
use crate::group::id::KmemId;
use crate::group::kmem_id::ID_LIMIT;
use crate::kmem::Kmem;
use crate::kmem::id::ListId;
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::id::Id;
use crate::sync::lock::Rank;
use crate::thread::ThreadRec;

const WORDS: usize = 4;

/// The bits of one kmem id. Lists of higher numbers have none and are always asked.
#[derive(Default)]
pub(super) struct Marks {
    link: AtomicU32,
    words: [AtomicU64; WORDS],
}

// SAFETY: all fields are atomic integers, so zero bytes are a record without bits.
unsafe impl Zeroed for Marks {}
// SAFETY: the answer is always the same field, and nothing in this room reads or writes `link`; the
// arena alone uses it.
unsafe impl Record for Marks {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// The lists in which a group may have something, as they were a moment ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marked([u64; WORDS]);

impl Marked {
    /// `false`: the group has nothing in this list.
    #[must_use]
    pub fn has(&self, list: ListId) -> bool {
        let word = self.0.get(list.raw() as usize / 64);
        word.is_none_or(|word| word >> (list.raw() % 64) & 1 != 0)
    }
}

impl Lists {
    /// Makes sure that there are bits for an id. `None` without memory.
    pub(super) fn ready_marks(&self, id: KmemId) -> Option<()> {
        while self.marks.high_water() <= id.raw() {
            self.marks.alloc(ID_LIMIT)?;
        }
        Some(())
    }

    fn word(&self, list: ListId, id: KmemId) -> Option<&AtomicU64> {
        self.marks.try_get(id)?.words.get(list.raw() as usize / 64)
    }

    /// Sets the bit of a list that was empty and is not any more. Under its lock.
    pub(super) fn mark(&self, head: &Head) {
        if let Some((list, id)) = head.whose()
            && let Some(word) = self.word(list, id)
        {
            word.fetch_or(1 << (list.raw() % 64), Ordering::Relaxed);
        }
    }

    /// Clears the bit of a list that is empty, under its lock, or that has ended.
    pub(super) fn unmark(&self, list: ListId, id: KmemId) {
        if let Some(word) = self.word(list, id) {
            word.fetch_and(!(1 << (list.raw() % 64)), Ordering::Relaxed);
        }
    }

    /// Clears all bits of an id that has nothing in any list.
    pub(super) fn unmark_all(&self, id: KmemId) {
        if let Some(marks) = self.marks.try_get(id) {
            for word in &marks.words {
                word.store(0, Ordering::Relaxed);
            }
        }
    }

    /// In which lists a kmem id may have something. Cost: a few loads, whatever number of lists
    /// there is.
    pub fn marked(&self, id: Option<KmemId>) -> Marked {
        let marks = id.and_then(|id| self.marks.try_get(id));
        Marked(core::array::from_fn(|at| {
            marks.map_or(0, |marks| marks.words[at].load(Ordering::Relaxed))
        }))
    }

    /// Whether a kmem id has anything in a list, which may be ending. If not, [`Self::marked`] says
    /// so from here on, until something is put in. The caller is pinned.
    pub fn has_any(&self, kmem: &Kmem, rec: &ThreadRec, list: ListId, id: KmemId) -> bool {
        let Some(index) = self.lists.get(list).heads.get(kmem, rec, id) else {
            return false;
        };
        let head = self.heads.get(index);
        if head.nr() > 0 {
            return true;
        }
        let _held = head.lock.lock(Rank::List);
        // Still the head of that id, and still empty.
        if head.is_of(super::key(list, id)) && head.nr() == 0 {
            self.unmark(list, id);
        }
        false
    }
}
