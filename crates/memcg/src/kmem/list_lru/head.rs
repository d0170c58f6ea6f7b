//! A list of one group: a ring, its lock, and how many are in it.
//!
//! A head that has ended (its group has) leads to the one of the group above, by `to`, and stays as
//! long as a link names it or another head leads to it: so the end of a group moves all its items
//! without touching one. A record that nobody names is used again at once. Who comes with a stale
//! index locks it, sees that it is not what was meant, and lets go.

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
    /// Guards the ring, `nr`, `to`, and `home` of what is in the ring. Never reset: a stale index
    /// may be at it.
    pub(super) lock: Lock,
    /// The head that has its items since its end; none: it has them itself.
    pub(super) to: AtomicId<HeadId>,
    /// The head of the group above; none: this is the root's.
    pub(super) above: AtomicId<HeadId>,
    /// Links that name it, heads below it, and one for its life.
    refs: AtomicU32,
    _pad: AtomicU32,
    /// Which list's, and under which kmem id.
    key: AtomicU64,
    /// Items in the ring, marks not counted.
    nr: AtomicU64,
    pub(super) ring: Link,
}

// SAFETY: integers, null pointers and a free lock.
unsafe impl Zeroed for Head {}
// SAFETY: `link` is the arena's alone.
unsafe impl Record for Head {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

pub(super) fn key(list: ListId, id: KmemId) -> u64 {
    u64::from(list.raw()) << 32 | u64::from(id.raw())
}

impl Head {
    /// Makes it an empty list, named once. Nobody else knows it, but by a stale index.
    pub(super) fn make(&self, key: u64, above: Option<HeadId>) {
        self.ring.make_ring();
        self.to.store(None, Ordering::Relaxed);
        self.above.store(above, Ordering::Relaxed);
        self.nr.store(0, Ordering::Relaxed);
        self.refs.store(1, Ordering::Relaxed);
        // Release pairs with the Acquire of `is_of`.
        self.key.store(key, Ordering::Release);
    }

    /// Whether it is what `key` means, and has not ended. Under its lock.
    pub(super) fn is_of(&self, key: u64) -> bool {
        self.key.load(Ordering::Acquire) == key && self.to.load(Ordering::Relaxed).is_none()
    }

    /// Its list and kmem id; `None` of one that has ended. Under its lock.
    pub(super) fn whose(&self) -> Option<(ListId, KmemId)> {
        let key = self.key.load(Ordering::Relaxed);
        let list = ListId::from_raw((key >> 32) as u32)?;
        Some((list, KmemId::from_raw(key as u32)?))
    }

    /// Ends it: no key means it any more. Under its lock.
    pub(super) fn set_ended(&self, to: Option<HeadId>) {
        self.key.store(0, Ordering::Relaxed);
        // Release pairs with the Acquire of `live`.
        self.to.store(to, Ordering::Release);
    }

    pub(super) fn add_ref(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// `true`: nobody names it any more.
    pub(super) fn unref(&self) -> bool {
        // AcqRel: the last one sees what the others did.
        self.refs.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(super) fn nr(&self) -> u64 {
        self.nr.load(Ordering::Relaxed)
    }

    /// Under its lock.
    pub(super) fn add_nr(&self, by: u64) {
        self.nr.store(self.nr() + by, Ordering::Relaxed);
    }

    /// Under its lock.
    pub(super) fn sub_nr(&self, by: u64) {
        self.nr.store(self.nr() - by, Ordering::Relaxed);
    }
}
