//! The layout PerGroup: a cache has a child cache for each group, made when the group first needs
//! it.
//!
//! A child is a cache like any other, found by the group's kmem id. A caller that may not wait
//! until the child is made allocates from the cache itself: an object is charged to its owner,
//! whatever slab it lies in. At a group's end its children are made dead. They are the parent's
//! then, because the owner they name leads to the parent.
//!
//! Invariants: nothing is found under the id of a group that has ended. Of two children made for
//! one group, only one ever has objects.
//! Depends on: `per_id`, and the order of steps that it prescribes.
//! Never: a wait on an allocation that may not wait.

use super::{Cache, Caches, Plan, Ways};
use crate::counter::Level;
use crate::group::id::KmemId;
use crate::group::kmem_id::ROOT_ID;
use crate::group::{Hierarchy, Memcg};
use crate::kmem::Kmem;
use crate::kmem::id::CacheId;
use crate::kmem::per_id::{PerId, Put};
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::{
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};
use crate::sync::id::AtomicId;
use crate::sync::lock::Rank;
use crate::sync::promise::SoleThread;
use crate::thread::ThreadRec;

/// The children of one cache.
#[derive(Default)]
pub(super) struct Family {
    by_group: PerId<CacheId>,
    /// The cache whose children these are; `None`: the record is free, or the cache is dead.
    cache: AtomicId<CacheId>,
    link: AtomicU32,
}

// SAFETY: a `PerId` is `Zeroed` itself, the other fields are integers: a record of zero bytes is a
// family of no cache.
unsafe impl Zeroed for Family {}
// SAFETY: the answer is always the same field, and nothing in this room reads or writes `link`; the
// arena alone uses it.
unsafe impl Record for Family {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// Who serves a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Child {
    /// This cache.
    Is(CacheId),
    /// None yet: make one, or take from the cache itself.
    Missing,
}

impl Caches {
    /// In the child of a fork, where nobody changes a table: makes the tables' locks free.
    pub(crate) fn reset_families_in_child(&self, sole: SoleThread) {
        for (_, family) in self.families.each() {
            family.by_group.reset_lock_in_child(sole);
        }
    }

    pub(super) fn make_family(&self, index: CacheId) -> Option<()> {
        let family = self.families.alloc(1 << 20)?;
        // Release pairs with the Acquire of `end_child_caches`: an empty family, then its cache.
        self.families.get(family).cache.store(Some(index), Release);
        // Release pairs with the Acquire of `family`: a family that has its cache.
        self.get(index).family.store(Some(family), Release);
        Some(())
    }

    /// Gives back the family of a cache that has ended and that nobody looks at any more.
    pub(super) fn forget_family(&self, kmem: &Kmem, index: CacheId) {
        if let Some(family) = self.get(index).family.swap(None, Relaxed) {
            // SAFETY: `recycle` calls this three epochs after the cache ended, so every pinned
            // reader that could find the family is gone. The cache is dead, so nobody enters a
            // child.
            unsafe { self.families.get(family).by_group.clear(kmem) };
            self.families.free(family);
        }
    }

    fn family(&self, index: CacheId) -> Option<&Family> {
        // Acquire pairs with the Release of `make_family`.
        let family = self.get(index).family.load(Acquire)?;
        Some(self.families.get(family))
    }
}

impl Kmem {
    /// Which cache serves `group` for the cache `index`. The caller is pinned.
    #[inline]
    pub fn child_of(
        &self,
        tree: &Hierarchy,
        rec: &ThreadRec,
        index: CacheId,
        group: &Memcg,
    ) -> Child {
        let Some(family) = self.caches.family(index) else {
            return Child::Is(index);
        };
        match tree.kmem_id_if_any(group) {
            Some(ROOT_ID) => Child::Is(index),
            Some(id) => match family.by_group.get(self, rec, id) {
                Some(child) => Child::Is(child),
                None => Child::Missing,
            },
            None => Child::Missing,
        }
    }

    /// As [`Self::child_of`], and makes the child if there is none. `None`: there is no memory, or
    /// the cache is dead. The caller is pinned, and may wait.
    pub fn make_child(
        &self,
        tree: &Hierarchy,
        rec: &ThreadRec,
        index: CacheId,
        group: &Memcg,
    ) -> Option<CacheId> {
        let family = self.caches.family(index)?;
        let mut group = group;
        loop {
            let (id, holder) = tree.kmem_id_or_above(group);
            if id == ROOT_ID {
                return Some(index);
            }
            if let Some(child) = family.by_group.get(self, rec, id) {
                return Some(child);
            }
            let Some(child) = self.new_child(tree, index, holder)? else {
                group = holder.parent()?;
                continue;
            };
            match family.by_group.insert(self, id, child) {
                Put::Done => {}
                Put::Found(other) => {
                    self.bury(tree, child);
                    return Some(other);
                }
                Put::NoMemory => {
                    self.bury(tree, child);
                    return None;
                }
            }
            // Pairs with the fence of `bury`: we see that the cache is dead, or it finds the child.
            fence(SeqCst);
            let root_dead = self.caches.get(index).is_dead();
            if !root_dead && tree.still_has_kmem_id(holder, id) {
                return Some(child);
            }
            // The group's end may have looked before the child was entered.
            if family.by_group.remove(self, id) == Some(child) {
                self.bury(tree, child);
            }
            if root_dead {
                return None;
            }
            group = holder.parent()?;
        }
    }

    /// A new child for `group`. `Some(None)`: the group has ended. `None`: there is no memory.
    fn new_child(
        &self,
        tree: &Hierarchy,
        index: CacheId,
        group: &Memcg,
    ) -> Option<Option<CacheId>> {
        let root = self.caches.get(index);
        let owner = {
            // Under the lock the group cannot go offline, so it still names its owner.
            let _held = group.lock.lock(Rank::Group);
            if !group.is_online() {
                return Some(None);
            }
            tree.ref_objcg(group.tag());
            group.tag()
        };
        let child = self.create_cache(tree, &root.plan_of_child(&root.name()));
        let Some(child) = child else {
            tree.unref_objcg(owner);
            return None;
        };
        let record = self.caches.get(child);
        record.root.store(Some(index), Relaxed);
        record.owner.store(Some(owner), Relaxed);
        record.serve(index, Some(group.cell()));
        Some(Some(child))
    }

    /// Makes the children of a group that ends dead. The caller is pinned. It takes no memory and
    /// cannot fail.
    ///
    /// Cost: O(caches with the layout PerGroup); for each child with slabs, O(threads) and a
    /// membarrier.
    pub fn end_child_caches(&self, tree: &Hierarchy, id: KmemId) {
        for (_, family) in self.caches.families.each() {
            // Acquire pairs with the Release of `make_family` and of `bury_children`.
            if family.cache.load(Acquire).is_none() {
                continue;
            }
            if let Some(child) = family.by_group.remove(self, id) {
                self.bury(tree, child);
            }
        }
        // Children without an object have ended by now. Nobody else may come by to note that, and
        // they hold a reference to the group's owner.
        if self.have_caches_ended() {
            self.tend_caches(tree);
        }
    }

    /// Makes the children of a cache that has just been made dead dead too.
    pub(super) fn bury_children(&self, tree: &Hierarchy, index: CacheId) {
        let Some(family) = self.caches.family(index) else {
            return;
        };
        family.by_group.each(self, |id, _| {
            if let Some(child) = family.by_group.remove(self, id) {
                self.bury(tree, child);
            }
        });
        // Release pairs with the Acquire of `end_child_caches`: the children were taken out before.
        family.cache.store(None, Release);
    }
}

impl Cache {
    fn plan_of_child<'a>(&self, name: &'a [u8]) -> Plan<'a> {
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        Plan {
            name: &name[..end],
            bytes: self.charged_bytes() as usize,
            align: self.align.load(Relaxed) as usize,
            ways: self.ways().without(Ways::PER_GROUP),
            ctor: self.ctor(),
        }
    }
}
