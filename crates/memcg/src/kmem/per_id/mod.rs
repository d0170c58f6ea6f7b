//! Tables by kmem id: where a cache or a list has what it keeps for each group.
//!
//! A table maps an id to an index of some arena, or to none. By the engine's policy of ids it is an
//! array or a tree:
//!
//! * [`IdPolicy::ReparentAndFree`]: an array, and an id is free as soon as its group is removed;
//! * [`IdPolicy::ReclaimOfflineFirst`]: an array; a group that lingers keeps its id, and before
//!   arrays grow those that linger are asked for theirs;
//! * [`IdPolicy::ShrinkableTree`]: a tree (`radix_tree`), which shrinks as ids go, with a hint of
//!   the last lookup in each thread.
//!
//! An array (here) is made of blocks that double in size and never move, so it grows while others
//! read it, and neither waits for the other. It does not shrink.
//!
//! Invariants: what was entered under an id is found there by a pinned reader, until it is taken
//! out. A table takes no memory before the first `insert`.
//! Depends on: ids as `group::kmem_id` gives them. They are dense, and an id has no new holder
//! until every reader of the last one is gone.
//! Never: a look at what the indices mean; an end of it. A reader may have found an index just
//! before it was taken out, so its owner waits for the epochs.
//!
//! The first that a group needs is entered in this order, so that nothing is left under an id whose
//! group has ended:
//!
//! 1. `tree.kmem_id(group)`;
//! 2. make the thing, [`PerId::insert`] it (another may have been quicker: then that is the
//!    group's);
//! 3. `tree.still_has_kmem_id(group, id)`: if not, the group's end may have passed by before 2: end
//!    the thing as that end does (take it out, hand what it got meanwhile to the parent's), and
//!    begin again with the group above.

mod node;
mod radix_tree;
mod table_space;

pub use table_space::{IdPolicy, TableStat, Tables};

use super::Kmem;
use super::own::own_bytes;
use crate::group::id::KmemId;
use crate::group::kmem_id::ID_LIMIT;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicPtr, Ordering};
use crate::sync::id::{AtomicId, Id};
use crate::sync::promise::SoleThread;
use crate::thread::ThreadRec;

const FIRST_BITS: u32 = if cfg!(loom) { 2 } else { 6 };
const FIRST: u32 = 1 << FIRST_BITS;
const BLOCKS: usize = (ID_LIMIT / FIRST).ilog2() as usize + 1;

/// One table, of indices `V`. Zero bytes are an empty one.
pub struct PerId<V> {
    blocks: [AtomicPtr<AtomicId<V>>; BLOCKS],
    tree: radix_tree::Tree,
}

impl<V> Default for PerId<V> {
    fn default() -> Self {
        Self {
            blocks: Default::default(),
            tree: radix_tree::Tree::default(),
        }
    }
}

// SAFETY: null pointers and a `Tree`, which is `Zeroed` itself: zero bytes are an empty table.
unsafe impl<V> Zeroed for PerId<V> {}

/// What came of an `insert`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Put<V> {
    /// It is there.
    Done,
    /// Another was there already: this one.
    Found(V),
    /// No memory for a larger table; nothing has changed.
    NoMemory,
}

fn place(id: u32) -> (usize, usize) {
    let at = id + FIRST;
    let block = at.ilog2() - FIRST_BITS;
    (block as usize, (at - (FIRST << block)) as usize)
}

const fn block_bytes(block: usize) -> usize {
    ((FIRST as usize) << block) * size_of::<u32>()
}

impl<V: Id> PerId<V> {
    fn slot(&self, id: KmemId) -> Option<&AtomicId<V>> {
        let (block, at) = place(id.raw());
        // Acquire pairs with the Release of `ensure`.
        let slots = self.blocks.get(block)?.load(Ordering::Acquire);
        if slots.is_null() {
            return None;
        }
        // SAFETY: `ensure` published a block of `FIRST << block` slots, all initialised, and `at`
        // is below that by `place`. Only `clear`, whose caller is alone, gives it back.
        Some(unsafe { &*slots.add(at) })
    }

    /// What is under an id. The caller is pinned by `rec`. Cost: in an array two dependent loads;
    /// in a tree the hint, else a load for each level.
    #[inline]
    pub fn get(&self, kmem: &Kmem, rec: &ThreadRec, id: KmemId) -> Option<V> {
        if kmem.tables.are_trees() {
            return self
                .tree
                .get(&kmem.tables, rec, id.raw())
                .and_then(V::from_raw);
        }
        // Acquire pairs with the Release of `insert`: what the index names is whole.
        self.slot(id)?.load(Ordering::Acquire)
    }

    /// Enters `value` under an id that has nothing. The caller is pinned, and calls
    /// `Hierarchy::still_has_kmem_id` afterwards.
    pub fn insert(&self, kmem: &Kmem, id: KmemId, value: V) -> Put<V> {
        debug_assert!(id.raw() < ID_LIMIT);
        kmem.tables.use_policy();
        if kmem.tables.are_trees() {
            return match self.tree.insert(&kmem.tables, id.raw(), value.raw()) {
                radix_tree::Entered::Done => Put::Done,
                radix_tree::Entered::Found(other) => {
                    V::from_raw(other).map_or(Put::Done, Put::Found)
                }
                radix_tree::Entered::NoMemory => Put::NoMemory,
            };
        }
        if self.ensure(kmem, place(id.raw()).0).is_none() {
            return Put::NoMemory;
        }
        let Some(slot) = self.slot(id) else {
            return Put::NoMemory;
        };
        // Release pairs with the Acquire of `get` and `each`; Acquire, for what was found, with the
        // Release of the other `insert`.
        match slot.compare_exchange(None, Some(value), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(None) => Put::Done,
            Err(Some(found)) => Put::Found(found),
        }
    }

    /// Takes out what is under an id. A pinned reader may have found it before. It takes no memory
    /// and gives none back.
    pub fn remove(&self, kmem: &Kmem, id: KmemId) -> Option<V> {
        if kmem.tables.are_trees() {
            return self
                .tree
                .remove(&kmem.tables, id.raw())
                .and_then(V::from_raw);
        }
        // Acquire pairs with the Release of `insert`: what the index names is whole. Release pairs
        // with the Acquire of `get`.
        self.slot(id)?.swap(None, Ordering::AcqRel)
    }

    /// Calls `f` with every id and what is under it, as far as they stay there meanwhile. The
    /// caller is pinned.
    pub fn each(&self, kmem: &Kmem, mut f: impl FnMut(KmemId, V)) {
        if kmem.tables.are_trees() {
            self.tree.each(&kmem.tables, &mut |id, value| {
                if let (Some(id), Some(value)) = (KmemId::from_raw(id), V::from_raw(value)) {
                    f(id, value);
                }
            });
            return;
        }
        for block in 0..BLOCKS {
            let first = FIRST * ((1 << block) - 1);
            for id in (first..first + (FIRST << block)).filter_map(KmemId::from_raw) {
                match self.slot(id) {
                    Some(slot) => {
                        // Acquire pairs with the Release of `insert`: what the index names is
                        // whole.
                        if let Some(value) = slot.load(Ordering::Acquire) {
                            f(id, value);
                        }
                    }
                    None => return,
                }
            }
        }
    }

    /// Bytes the table takes beside itself.
    #[cfg(any(test, feature = "testing"))]
    pub fn bytes(&self, kmem: &Kmem) -> u64 {
        if kmem.tables.are_trees() {
            return self.tree.nr_nodes(&kmem.tables) * size_of::<node::Node>() as u64;
        }
        (0..BLOCKS)
            .filter(|&block| !self.blocks[block].load(Ordering::Relaxed).is_null())
            .map(|block| own_bytes(block_bytes(block)) as u64)
            .sum()
    }

    /// Makes the blocks up to `last`. An array that has a place for an id has one for all smaller
    /// ids.
    ///
    /// From below to above: where memory fails in the middle, no block stands behind a gap.
    fn ensure(&self, kmem: &Kmem, last: usize) -> Option<()> {
        for block in 0..=last {
            // Acquire, here and below, pairs with the Release below of another thread.
            if !self.blocks[block].load(Ordering::Acquire).is_null() {
                continue;
            }
            let new = block_new(kmem, block)?;
            // Release pairs with the Acquire of `slot`: zeros.
            if self.blocks[block]
                .compare_exchange(
                    core::ptr::null_mut(),
                    new,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                )
                .is_err()
            {
                // SAFETY: `block_new` made it with this length. The other thread's block won, so
                // nobody else has seen this one.
                unsafe { block_free(kmem, new, block) };
                continue;
            }
            kmem.tables.count_block(block, true);
        }
        Some(())
    }

    /// In the child of a fork, where nobody changes the table: makes its lock free.
    pub fn reset_lock_in_child(&self, sole: SoleThread) {
        self.tree.reset_lock_in_child(sole);
    }

    /// Locks the table against changes, if it is a tree.
    #[cfg(test)]
    pub fn lock_tree(&self) -> crate::sync::lock::Held<'_> {
        self.tree.lock_tree()
    }

    /// Gives the table's memory back; it is empty again.
    ///
    /// # Safety
    /// No other thread uses the table, and no reader that found it before is left: the grace period
    /// is over.
    pub unsafe fn clear(&self, kmem: &Kmem) {
        self.tree.clear(&kmem.tables);
        for block in 0..BLOCKS {
            // Acquire pairs with the Release of `ensure`: the block's content.
            let slots = self.blocks[block].swap(core::ptr::null_mut(), Ordering::Acquire);
            if slots.is_null() {
                continue;
            }
            // SAFETY: the pointer was in `blocks[block]`, so `block_new` made it with this length.
            // The caller promised that nobody else uses the table.
            unsafe { block_free(kmem, slots, block) };
            kmem.tables.count_block(block, false);
        }
    }
}

#[cfg(not(loom))]
fn block_new<V>(kmem: &Kmem, block: usize) -> Option<*mut AtomicId<V>> {
    let p = kmem.own_alloc(block_bytes(block))?;
    Some(p.as_ptr().cast())
}

/// # Safety
/// `slots` is a block of [`block_new`] for the same `block`, and nobody else uses it.
#[cfg(not(loom))]
unsafe fn block_free<V>(kmem: &Kmem, slots: *mut AtomicId<V>, block: usize) {
    if let Some(p) = core::ptr::NonNull::new(slots.cast()) {
        // SAFETY: both callers pass a block of `block_new`, which took these bytes from
        // `own_alloc`, and which nobody else uses.
        unsafe { kmem.own_free(p, block_bytes(block)) };
    }
}

// Under loom an atomic is an object and not just bytes, so blocks are built from `Default`.
#[cfg(loom)]
fn block_new<V>(_kmem: &Kmem, block: usize) -> Option<*mut AtomicId<V>> {
    let all: Vec<AtomicId<V>> = (0..FIRST << block).map(|_| AtomicId::default()).collect();
    Some(Box::leak(all.into_boxed_slice()).as_mut_ptr())
}

/// # Safety
/// `slots` is a block of [`block_new`] for the same `block`, and nobody else uses it.
#[cfg(loom)]
unsafe fn block_free<V>(_kmem: &Kmem, slots: *mut AtomicId<V>, block: usize) {
    let n = (FIRST as usize) << block;
    // SAFETY: both callers pass a block of `block_new`, which leaked a boxed slice of this length;
    // nobody else uses it.
    drop(unsafe { Box::from_raw(core::ptr::slice_from_raw_parts_mut(slots, n)) });
}

#[cfg(all(test, not(loom)))]
mod tests;
