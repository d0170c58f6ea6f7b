//! The layout PerGroup: a cache has a child for each group, made when the group first needs it.
//!
//! A child is a cache like any other, found by the group's kmem id. Who may not wait until it is
//! made takes from the cache itself: an object is charged to its owner wherever it lies. At a
//! group's end its children are made dead; they are the parent's then, for what names their owner
//! leads there.
//!
//! Kept: under the id of a group that has ended nothing is found; two children for one group never
//! both have objects. Relied on: the order that `per_id` prescribes.

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
    /// Whose; none: nobody's.
    cache: AtomicId<CacheId>,
    link: AtomicU32,
}

// SAFETY: null pointers and integers.
unsafe impl Zeroed for Family {}
// SAFETY: `link` is the arena's alone.
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
    /// In the child of a fork: nobody changes a table there.
    pub(crate) fn reset_families_in_child(&self, sole: SoleThread) {
        for (_, family) in self.families.each() {
            family.by_group.reset_lock_in_child(sole);
        }
    }

    pub(super) fn make_family(&self, index: CacheId) -> Option<()> {
        let family = self.families.alloc(1 << 20)?;
        self.families.get(family).cache.store(Some(index), Release);
        self.get(index).family.store(Some(family), Relaxed);
        Some(())
    }

    /// Gives the family of a cache that has ended back: nobody looks at it any more.
    pub(super) fn forget_family(&self, kmem: &Kmem, index: CacheId) {
        if let Some(family) = self.get(index).family.swap(None, Relaxed) {
            // SAFETY: three epochs have passed since the cache ended, and nothing leads to it
            // since.
            unsafe { self.families.get(family).by_group.clear(kmem) };
            self.families.free(family);
        }
    }

    fn family(&self, index: CacheId) -> Option<&Family> {
        let family = self.get(index).family.load(Acquire)?;
        Some(self.families.get(family))
    }
}

impl Kmem {
    /// Which cache serves `group` for the cache of a number. The caller is pinned.
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

    /// The same, after making it if need be. `None`: there is no memory, or the cache is dead. The
    /// caller is pinned, and may wait.
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
            // The end may have passed by before it was there.
            if family.by_group.remove(self, id) == Some(child) {
                self.bury(tree, child);
            }
            if root_dead {
                return None;
            }
            group = holder.parent()?;
        }
    }

    /// A child for `group`; `Some(None)` if that has ended. `None` without memory.
    fn new_child(
        &self,
        tree: &Hierarchy,
        index: CacheId,
        group: &Memcg,
    ) -> Option<Option<CacheId>> {
        let root = self.caches.get(index);
        let owner = {
            // Under the lock it cannot go offline, so its owner is still named by it.
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

    /// The children of a group that ends: dead from here on. The caller is pinned; takes no memory,
    /// cannot fail.
    ///
    /// Cost: O(caches with a layout per group); for each child with slabs, O(threads) and a
    /// membarrier.
    pub fn end_child_caches(&self, tree: &Hierarchy, id: KmemId) {
        for (_, family) in self.caches.families.each() {
            if family.cache.load(Acquire).is_none() {
                continue;
            }
            if let Some(child) = family.by_group.remove(self, id) {
                self.bury(tree, child);
            }
        }
        // Those without an object are over: nobody else may come by to see to that, and they name
        // the group's owner.
        if self.have_caches_ended() {
            self.tend_caches(tree);
        }
    }

    /// The children of a cache that has just been made dead.
    pub(super) fn bury_children(&self, tree: &Hierarchy, index: CacheId) {
        let Some(family) = self.caches.family(index) else {
            return;
        };
        family.by_group.each(self, |id, _| {
            if let Some(child) = family.by_group.remove(self, id) {
                self.bury(tree, child);
            }
        });
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
