//! The list of one group: a ring, its lock, and the number of items.
//!
//! When its group ends, a head ends too: `to` leads to the head of the group above. So the end of a
//! group moves all its items without touching one.
//!
//! Invariants: a head that has ended stays as long as a link names it or another head leads to it.
//! After that its record is used again at once. A thread with a stale index locks the head, sees by
//! its key that it is another one, and unlocks it.
//! Depends on: `link` for the ring.
//! Never: a lock taken here; every caller holds it where the function says so.

use super::link::Link;
use crate::group::id::KmemId;
use crate::kmem::id::{HeadId, ListId};
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::id::{AtomicId, Id};
use crate::sync::lock::Lock;

/// See the module.
#[derive(Default)]
pub(super) struct Head {
    link: AtomicU32,
    /// Guards the ring, `nr`, `to`, and `home` of the links in the ring. It is never reset, for a
    /// thread with a stale index may hold it.
    pub(super) lock: Lock,
    /// The head that has its items since it ended; `None`: it has not ended.
    pub(super) to: AtomicId<HeadId>,
    /// The head of the group above; `None`: this is the root's.
    pub(super) above: AtomicId<HeadId>,
    /// The number of links that name it and of heads below it, and one until it ends.
    refs: AtomicU32,
    _pad: AtomicU32,
    /// Of which list it is, and under which kmem id; 0: it has ended.
    key: AtomicU64,
    /// Items in the ring, marks not counted.
    nr: AtomicU64,
    pub(super) ring: Link,
}

// SAFETY: integers, null pointers and indices are valid as zero bytes, and a lock of zero bytes is
// free.
unsafe impl Zeroed for Head {}
// SAFETY: the answer is always the same field, and nothing in this room reads or writes `link`; the
// arena alone uses it.
unsafe impl Record for Head {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

pub(super) fn key(list: ListId, id: KmemId) -> u64 {
    u64::from(list.raw()) << 32 | u64::from(id.raw())
}

impl Head {
    /// Makes it an empty list with one reference. No other thread knows it, but by a stale index.
    pub(super) fn make(&self, key: u64, above: Option<HeadId>) {
        self.ring.make_ring();
        self.to.store(None, Ordering::Relaxed);
        self.above.store(above, Ordering::Relaxed);
        self.nr.store(0, Ordering::Relaxed);
        self.refs.store(1, Ordering::Relaxed);
        // Release pairs with the Acquire of `is_of`.
        self.key.store(key, Ordering::Release);
    }

    /// Whether it is the head that `key` means, and has not ended. Under its lock.
    pub(super) fn is_of(&self, key: u64) -> bool {
        // Acquire pairs with the Release of `make`: an empty ring, then its key.
        self.key.load(Ordering::Acquire) == key && self.to.load(Ordering::Relaxed).is_none()
    }

    /// Its list and kmem id; `None`: it has ended. Under its lock.
    pub(super) fn whose(&self) -> Option<(ListId, KmemId)> {
        let key = self.key.load(Ordering::Relaxed);
        let list = ListId::from_raw((key >> 32) as u32)?;
        Some((list, KmemId::from_raw(key as u32)?))
    }

    /// Ends it: no key means it from here on. Under its lock.
    pub(super) fn set_ended(&self, to: Option<HeadId>) {
        self.key.store(0, Ordering::Relaxed);
        // Release pairs with the Acquire of `live`.
        self.to.store(to, Ordering::Release);
    }

    pub(super) fn add_ref(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// Drops a reference. `true`: it was the last.
    pub(super) fn unref(&self) -> bool {
        // AcqRel pairs with itself in other threads: the last one sees what the others did before.
        self.refs.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(super) fn nr(&self) -> u64 {
        self.nr.load(Ordering::Relaxed)
    }

    /// Counts `by` items more. Under its lock.
    pub(super) fn add_nr(&self, by: u64) {
        self.nr.store(self.nr() + by, Ordering::Relaxed);
    }

    /// Counts `by` items less. Under its lock.
    pub(super) fn sub_nr(&self, by: u64) {
        self.nr.store(self.nr() - by, Ordering::Relaxed);
    }
}
