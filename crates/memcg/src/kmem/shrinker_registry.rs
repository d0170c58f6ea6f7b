//! The registry of shrinkers: functions of the program that give memory back when asked.
//!
//! A shrinker is two functions, for one group or for all: how many things could be freed, and try
//! to free so many. The registry keeps which are registered, and how many things each was asked for
//! but has not yet looked at (`deferred`), by group.
//!
//! Invariants: no call of a shrinker begins after it was unregistered; a call that is under way
//! goes on. Its data is let go by whoever is last. What was deferred for a group is the parent's
//! after the group's end.
//! Depends on: a kmem id that is looked at under a pin is that of one group.
//! Never: a call of the program's code but through [`Held`]; memory taken for `deferred`. If two
//! groups share a place, the later one's number is kept and the earlier one's is lost.

use super::id::{ListId, ShrinkerId};
use crate::group::GroupId;
use crate::group::id::KmemId;
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use crate::sync::id::{AtomicId, Id};
use crate::sync::users::Users;

/// The group for which a shrinker is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// The group's index.
    pub group: GroupId,
    /// Which of the groups that were in that record, one after the other.
    pub generation: u32,
}

/// The functions of the program's shrinker.
pub struct Ops {
    /// How many things could be freed.
    ///
    /// # Safety
    /// The pointer is the data that the shrinker was registered with, and `let_go` has not been
    /// called.
    pub count: unsafe fn(*const (), Ask) -> u64,
    /// Tries to free so many things; answers how many it freed. `None`: it cannot free any now.
    ///
    /// # Safety
    /// As for `count`: the data of the registration, before `let_go`.
    pub scan: unsafe fn(*const (), Ask, u64) -> Option<u64>,
    /// Ends the data.
    ///
    /// # Safety
    /// As for `count`. It is called once; no other function is called with this data meanwhile or
    /// afterwards.
    pub let_go: unsafe fn(*const ()),
}

/// How a shrinker wants to be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manner {
    /// Whether it is asked for one group at a time. Else it is asked for all, when the root is
    /// reclaimed.
    pub per_group: bool,
    /// What it costs to make one thing again. The higher, the less it is asked for. 0: nothing.
    pub seeks: u32,
    /// How many things it is asked for in one call.
    pub batch: u64,
    /// The list that has its things, if there is one. Then it is asked only where that list has
    /// any.
    pub list: Option<ListId>,
}

/// How many groups' remainders a shrinker remembers.
const PLACES: usize = 64;
/// A remainder: {id:20 | things:44}.
const NR_BITS: u32 = 44;
const NR: u64 = (1 << NR_BITS) - 1;

const _: () = assert!(crate::group::kmem_id::ID_LIMIT <= 1 << (64 - NR_BITS));

/// All shrinkers of an engine.
#[derive(Default)]
pub struct Shrinkers {
    table: Arena<ShrinkerId, Shrinker>,
    nr: AtomicU32,
}

// SAFETY: each field is `Zeroed` itself or an integer: zero bytes are a registry without shrinkers.
unsafe impl Zeroed for Shrinkers {}

/// One registered shrinker.
pub struct Shrinker {
    link: AtomicU32,
    users: Users,
    ops: AtomicPtr<Ops>,
    data: AtomicPtr<()>,
    per_group: AtomicU32,
    seeks: AtomicU32,
    batch: AtomicU64,
    list: AtomicId<ListId>,
    deferred: [AtomicU64; PLACES],
}

impl Default for Shrinker {
    fn default() -> Self {
        Self {
            link: AtomicU32::default(),
            users: Users::default(),
            ops: AtomicPtr::default(),
            data: AtomicPtr::default(),
            per_group: AtomicU32::default(),
            seeks: AtomicU32::default(),
            batch: AtomicU64::default(),
            list: AtomicId::default(),
            deferred: core::array::from_fn(|_| AtomicU64::default()),
        }
    }
}

// SAFETY: integers and null pointers are valid as zero bytes, and `Users` is `Zeroed` itself: such
// a shrinker is not registered, so nobody calls it.
unsafe impl Zeroed for Shrinker {}
// SAFETY: the answer is always the same field, and nothing in this room reads or writes `link`; the
// arena alone uses it.
unsafe impl Record for Shrinker {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// A shrinker that may be called until this is dropped.
pub struct Held<'a> {
    all: &'a Shrinkers,
    index: ShrinkerId,
    rec: &'a Shrinker,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.rec.users.unref() {
            self.all.free(self.index);
        }
    }
}

impl Held<'_> {
    fn ops(&self) -> &'static Ops {
        // SAFETY: `register` has stored a static's address before anybody could hold it.
        unsafe { &*self.rec.ops.load(Ordering::Relaxed) }
    }

    fn data(&self) -> *const () {
        self.rec.data.load(Ordering::Relaxed)
    }

    /// Asks how many things could be freed. It runs code of the program: the caller is not pinned
    /// and holds no lock.
    pub fn count(&self, ask: Ask) -> u64 {
        // SAFETY: `register`'s caller promised that these functions may be called with this data
        // until `let_go` was; that is not called while this value holds a reference.
        unsafe { (self.ops().count)(self.data(), ask) }
    }

    /// Asks to free `nr` things; `None`: it cannot now. It runs code of the program, as `count`
    /// does.
    pub fn scan(&self, ask: Ask, nr: u64) -> Option<u64> {
        // SAFETY: `register`'s caller promised that these functions may be called with this data
        // until `let_go` was; that is not called while this value holds a reference.
        unsafe { (self.ops().scan)(self.data(), ask, nr) }
    }

    /// How it wants to be asked.
    pub fn manner(&self) -> Manner {
        Manner {
            per_group: self.rec.per_group.load(Ordering::Relaxed) != 0,
            seeks: self.rec.seeks.load(Ordering::Relaxed),
            batch: self.rec.batch.load(Ordering::Relaxed),
            list: self.rec.list.load(Ordering::Relaxed),
        }
    }

    /// Takes the number of things that were deferred for the group of `id`; `None` stands for all
    /// groups.
    pub fn remove_deferred(&self, id: Option<KmemId>) -> u64 {
        self.rec.remove_deferred(id)
    }

    /// Defers `nr` things more for the group of `id`; `None` stands for all groups.
    pub fn defer(&self, id: Option<KmemId>, nr: u64) {
        self.rec.defer(id, nr);
    }
}

/// The number under which a remainder is kept.
fn number(id: Option<KmemId>) -> u32 {
    id.map_or(0, KmemId::raw)
}

impl Shrinker {
    fn remove_deferred(&self, id: Option<KmemId>) -> u64 {
        let id = number(id);
        let take =
            |now: u64| (now >> NR_BITS == u64::from(id) && now & NR != 0).then_some(now & !NR);
        self.deferred[id as usize % PLACES]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map_or(0, |was| was & NR)
    }

    fn defer(&self, id: Option<KmemId>, nr: u64) {
        let id = number(id);
        if nr == 0 {
            return;
        }
        let add = |now: u64| {
            let owed = if now >> NR_BITS == u64::from(id) {
                now & NR
            } else {
                0
            };
            Some(u64::from(id) << NR_BITS | owed.saturating_add(nr).min(NR))
        };
        let _ = self.deferred[id as usize % PLACES].fetch_update(
            Ordering::Relaxed,
            Ordering::Relaxed,
            add,
        );
    }
}

impl Shrinkers {
    /// Registers a shrinker. `None` without memory; then `data` stays the caller's.
    ///
    /// # Safety
    /// The functions of `ops` may be called with `data`, on any thread, until `let_go` was called,
    /// once.
    pub unsafe fn register(
        &self,
        ops: &'static Ops,
        data: *const (),
        manner: Manner,
    ) -> Option<ShrinkerId> {
        let index = self.table.alloc(u32::MAX)?;
        let rec = self.table.get(index);
        rec.ops
            .store(core::ptr::from_ref(ops).cast_mut(), Ordering::Relaxed);
        rec.data.store(data.cast_mut(), Ordering::Relaxed);
        rec.per_group
            .store(manner.per_group.into(), Ordering::Relaxed);
        rec.seeks.store(manner.seeks, Ordering::Relaxed);
        rec.batch.store(manner.batch.max(1), Ordering::Relaxed);
        rec.list.store(manner.list, Ordering::Relaxed);
        for owed in &rec.deferred {
            owed.store(0, Ordering::Relaxed);
        }
        rec.users.begin();
        self.nr.fetch_add(1, Ordering::Relaxed);
        Some(index)
    }

    /// Ends a registration: no call begins from here on.
    pub fn unregister(&self, index: ShrinkerId) {
        self.nr.fetch_sub(1, Ordering::Relaxed);
        if self.table.get(index).users.end() {
            self.free(index);
        }
    }

    fn free(&self, index: ShrinkerId) {
        let rec = self.table.get(index);
        let ops = rec.ops.load(Ordering::Relaxed);
        // SAFETY: `users` has said that the registration ended and the last holder is gone, so this
        // is the one call of `let_go`, and no other call follows. `register` stored these `ops` and
        // this data.
        unsafe { ((*ops).let_go)(rec.data.load(Ordering::Relaxed)) };
        self.table.free(index);
    }

    /// Whether no shrinker is registered. A load.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.nr.load(Ordering::Relaxed) == 0
    }

    /// The registered shrinker of an index, to be called.
    pub fn pin(&self, index: ShrinkerId) -> Option<Held<'_>> {
        let rec = self.table.get(index);
        // `then`, and not `then_some`: a `Held` that was made for nothing would drop a reference
        // that it does not have.
        rec.users.try_ref().then(|| Held {
            all: self,
            index,
            rec,
        })
    }

    /// The list that has the things of the shrinker `index`, if there is one. If the record is
    /// another shrinker's by now, it is that one's list. A load.
    pub fn list_of(&self, index: ShrinkerId) -> Option<ListId> {
        self.table.get(index).list.load(Ordering::Relaxed)
    }

    /// The indices of all shrinkers there are or were.
    pub fn each(&self) -> impl Iterator<Item = ShrinkerId> {
        self.table.each().map(|(index, _)| index)
    }

    /// At a group's end: what was deferred for it is its parent's. O(shrinkers).
    pub(super) fn group_ends(&self, id: KmemId, parent: KmemId) {
        for (_, rec) in self.table.each() {
            rec.defer(Some(parent), rec.remove_deferred(Some(id)));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64 as Count;

    static OPS: Ops = Ops {
        count: |data, _| {
            // SAFETY: `register`, below, passes an `Arc<Count>` turned into a pointer, which
            // `let_go` alone turns back.
            unsafe { &*data.cast::<Count>() }.load(Ordering::Relaxed)
        },
        scan: |_, _, nr| Some(nr),
        let_go: |data| {
            // SAFETY: `register`, below, made the pointer from an `Arc<Count>`, and `let_go` is
            // called once.
            drop(unsafe { Arc::from_raw(data.cast::<Count>()) });
        },
    };

    const ASK: Ask = Ask {
        group: GroupId::new(1),
        generation: 0,
    };

    fn register(all: &Shrinkers) -> (ShrinkerId, Arc<Count>) {
        let count = Arc::new(Count::new(5));
        let manner = Manner {
            per_group: true,
            seeks: 2,
            batch: 0,
            list: None,
        };
        let data = Arc::into_raw(count.clone()).cast();
        // SAFETY: the functions of `OPS` take the pointer of an `Arc<Count>`, on any thread, until
        // `let_go`.
        (unsafe { all.register(&OPS, data, manner) }.unwrap(), count)
    }

    #[test]
    fn one_that_is_unregistered_during_a_call_ends_with_the_call() {
        let all = Shrinkers::default();
        let (index, count) = register(&all);
        assert!(!all.is_empty());
        {
            let held = all.pin(index).unwrap();
            assert_eq!(held.count(ASK), 5);
            all.unregister(index);
            assert!(all.pin(index).is_none() && all.is_empty());
            assert_eq!(Arc::strong_count(&count), 2);
            assert_eq!(held.scan(ASK, 3), Some(3));
        }
        assert_eq!(Arc::strong_count(&count), 1);
        // Its record is another's now.
        let (again, other) = register(&all);
        assert_eq!(again, index);
        all.unregister(again);
        assert_eq!(Arc::strong_count(&other), 1);
    }

    #[test]
    fn what_is_owed_for_a_group_is_its_parent_s_after_it() {
        let all = Shrinkers::default();
        let (index, _count) = register(&all);
        let held = all.pin(index).unwrap();
        let id = |n| Some(KmemId::new(n));
        held.defer(id(7), 10);
        held.defer(id(7), 5);
        held.defer(id(3), 1);
        all.group_ends(KmemId::new(7), KmemId::new(3));
        assert_eq!(
            (held.remove_deferred(id(7)), held.remove_deferred(id(3))),
            (0, 16)
        );
        assert_eq!(held.remove_deferred(id(3)), 0);
        // Two that share a place: the later is remembered.
        held.defer(id(1), 4);
        held.defer(id(1 + PLACES as u32), 6);
        assert_eq!(
            (
                held.remove_deferred(id(1)),
                held.remove_deferred(id(1 + PLACES as u32))
            ),
            (0, 6)
        );
        drop(held);
        all.unregister(index);
    }
}
