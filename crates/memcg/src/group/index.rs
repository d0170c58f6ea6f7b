//! Children by name: a hash table of (parent, name), sharded, chained through the groups
//! themselves.
//!
//! It allocates only its bucket arrays, from the kernel; when a larger one cannot be had, chains
//! grow longer instead.
//!
//! Invariants: every online group but the root is in it, under its parent and name. A shard, and
//! the chains through its groups, change under the shard's lock alone.
//! Depends on: `os::mmap` for the buckets; `name` for comparing.
//! Never: the heap; another lock taken under a shard's.

use super::Hierarchy;
use super::id::GroupId;
use super::memcg_record::Memcg;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use crate::sync::id::{AtomicId, Id};
use crate::sync::lock::{Lock, Rank};
use crate::sync::promise::SoleThread;

const SHARDS: usize = if cfg!(loom) { 1 } else { 32 };
const FIRST: u32 = if cfg!(loom) { 4 } else { 64 };

/// The first group of a chain.
type Bucket = AtomicId<GroupId>;

/// One shard; its lock guards all of it and the `hash_next` of the groups in it.
#[derive(Default)]
#[repr(align(64))]
struct Shard {
    lock: Lock,
    count: AtomicU32,
    capacity: AtomicU32,
    buckets: AtomicPtr<Bucket>,
}

/// See the module.
#[derive(Default)]
pub struct Index {
    shards: [Shard; SHARDS],
}

// SAFETY: null pointers, zero counts and free locks.
unsafe impl Zeroed for Index {}

/// The hash of a name below a parent.
pub fn hash(parent: GroupId, name: &[u8]) -> u32 {
    let seed = u64::from(parent.raw()).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xcbf2_9ce4_8422_2325;
    let folded = name.iter().fold(seed, |h, &b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    (folded ^ (folded >> 29))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .rotate_left(32) as u32
}

impl Index {
    fn shard(&self, hash: u32) -> &Shard {
        &self.shards[hash as usize % SHARDS]
    }

    pub(super) fn reset_locks_in_child(&self, sole: SoleThread) {
        for shard in &self.shards {
            shard.lock.reset_in_child(sole);
        }
    }
}

impl Shard {
    fn bucket(&self, hash: u32) -> Option<&Bucket> {
        let capacity = self.capacity.load(Ordering::Relaxed);
        if capacity == 0 {
            return None;
        }
        let at = (hash >> 6) as usize & (capacity as usize - 1);
        // SAFETY: `buckets` has `capacity` entries, a power of two; both change only under the lock
        // we hold.
        Some(unsafe { &*self.buckets.load(Ordering::Relaxed).add(at) })
    }

    /// Doubles the buckets when they are full.
    fn make_room(&self, groups: &crate::sync::arena::Arena<GroupId, Memcg>) {
        let old = self.capacity.load(Ordering::Relaxed);
        if old > self.count.load(Ordering::Relaxed) {
            return;
        }
        let new = if old == 0 { FIRST } else { old * 2 };
        let Some(fresh) = buckets_new(new) else {
            return;
        };
        let before = self.buckets.swap(fresh, Ordering::Relaxed);
        self.capacity.store(new, Ordering::Relaxed);
        for i in 0..old as usize {
            // SAFETY: the old array had `old` entries and is ours until freed below.
            let mut at = unsafe { &*before.add(i) }.load(Ordering::Relaxed);
            while let Some(index) = at {
                let group = groups.get(index);
                let next = group.hash_next.load(Ordering::Relaxed);
                if let Some(bucket) = self.bucket(group.hash.load(Ordering::Relaxed)) {
                    group
                        .hash_next
                        .store(bucket.load(Ordering::Relaxed), Ordering::Relaxed);
                    bucket.store(at, Ordering::Relaxed);
                }
                at = next;
            }
        }
        if old != 0 {
            // SAFETY: an array of `buckets_new(old)`; it changes hands only under the lock, so
            // nobody reads it.
            unsafe { buckets_free(before, old) };
        }
    }
}

#[cfg(not(loom))]
fn buckets_new(n: u32) -> Option<*mut Bucket> {
    crate::os::mmap::map(n as usize * 4).map(|p| p.as_ptr().cast())
}
#[cfg(not(loom))]
unsafe fn buckets_free(p: *mut Bucket, n: u32) {
    if let Some(p) = core::ptr::NonNull::new(p.cast()) {
        // SAFETY: the caller passes an array of `buckets_new(n)`.
        unsafe { crate::os::mmap::unmap(p, n as usize * 4) };
    }
}
#[cfg(loom)]
fn buckets_new(n: u32) -> Option<*mut Bucket> {
    let all: Vec<Bucket> = (0..n).map(|_| Bucket::default()).collect();
    Some(Box::leak(all.into_boxed_slice()).as_mut_ptr())
}
#[cfg(loom)]
impl Drop for Shard {
    fn drop(&mut self) {
        let n = self.capacity.with_mut(|n| *n);
        if n != 0 {
            // SAFETY: the array of `buckets_new(n)`; who drops the index is the last to know it.
            self.buckets.with_mut(|p| unsafe { buckets_free(*p, n) });
        }
    }
}
#[cfg(loom)]
unsafe fn buckets_free(p: *mut Bucket, n: u32) {
    // SAFETY: the caller passes an array of `buckets_new(n)`.
    drop(unsafe { Box::from_raw(core::ptr::slice_from_raw_parts_mut(p, n as usize)) });
}

impl Hierarchy {
    /// The child of `parent` by that name. The caller is pinned.
    pub fn child(&self, parent: GroupId, name: &[u8]) -> Option<GroupId> {
        let hash = hash(parent, name);
        let shard = self.index.shard(hash);
        let _held = shard.lock.lock(Rank::Index);
        let mut at = shard.bucket(hash)?.load(Ordering::Relaxed);
        while let Some(index) = at {
            let group = self.memcgs.get(index);
            if group.hash.load(Ordering::Relaxed) == hash
                && group.parent_index() == Some(parent)
                && self.name_is(group.name(), name)
            {
                return Some(index);
            }
            at = group.hash_next.load(Ordering::Relaxed);
        }
        None
    }

    /// Enters a group under its hash. `false` when there are no buckets and no memory for any.
    pub(super) fn index_insert(&self, index: GroupId) -> bool {
        let group = self.memcgs.get(index);
        let hash = group.hash.load(Ordering::Relaxed);
        let shard = self.index.shard(hash);
        let _held = shard.lock.lock(Rank::Index);
        shard.make_room(&self.memcgs);
        let Some(bucket) = shard.bucket(hash) else {
            return false;
        };
        group
            .hash_next
            .store(bucket.load(Ordering::Relaxed), Ordering::Relaxed);
        bucket.store(Some(index), Ordering::Relaxed);
        shard.count.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Takes a group out.
    pub(super) fn index_remove(&self, index: GroupId) {
        let group = self.memcgs.get(index);
        let hash = group.hash.load(Ordering::Relaxed);
        let shard = self.index.shard(hash);
        let _held = shard.lock.lock(Rank::Index);
        let Some(mut slot) = shard.bucket(hash) else {
            return;
        };
        loop {
            let Some(at) = slot.load(Ordering::Relaxed) else {
                return;
            };
            let entry = self.memcgs.get(at);
            if at == index {
                slot.store(entry.hash_next.load(Ordering::Relaxed), Ordering::Relaxed);
                shard.count.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            slot = &entry.hash_next;
        }
    }
}
