//! The slab allocator: objects by size class, extents of pages, each with its owner's tag, none
//! with a header.
//!
//! ```text
//! chunk (32 MiB) ── unit (64 KiB) ── slab ── object          found by shifts: `layout`
//!                       └ extent of whole pages               `extent`
//! heap of a thread ── class ── slab in use, partial slabs     `heap`, `list`
//! frees of others ── the slab's own stack, notice             `remote`
//! cache ── slabs of its own ── object                         `cache`
//! ```
//!
//! Kept: a live object's tag can be had from its address alone, by any thread, and never changes. A
//! slab is taken from and freed into without an atomic instruction by its owner, and by one CAS by
//! anybody else. Units nobody uses go back to the kernel after a while. What a free finds wrong
//! ends the process with a line. Relied on: `os` for pages and signal masks, `sync` for arenas and
//! locks, `thread` for the section a signal handler stays out of, `group` for a thread's stock (in
//! `heap_hit` alone). Never done: a charge that takes more than stock (that is `engine`); a lock or
//! a system call where a slab has room.

pub mod address_map;
pub mod allocator_stat;
pub mod bad;
pub mod cache;
pub mod chunk;
pub mod class;
pub mod extent;
pub mod heap;
pub mod heap_hit;
pub mod huge;
pub mod id;
pub mod large;
pub mod layout;
pub mod list;
pub mod list_lru;
#[cfg(all(test, loom))]
mod loom;
pub mod object_audit;
pub mod offline_group;
pub mod own;
mod parked;
pub mod per_id;
pub mod shrinker_registry;
pub mod slab;
pub mod span;
mod tags;
#[cfg(test)]
mod tests;
mod window;

pub mod remote;

pub use bad::BadFree;
pub use extent::extent_bytes;
pub use heap::{Heap, Taken};

use crate::os::{ids, sigmask};
use crate::sync::Zeroed;
use crate::sync::arena::Arena;
use crate::sync::atomic::AtomicU32;
use crate::sync::id::AtomicId;
use crate::sync::lock::{Lock, Rank};
use crate::sync::promise::{HeldOverFork, SoleThread};
use crate::thread::Tag;
use address_map::Place;
use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Relaxed, Release},
};
use heap::State;
use id::HeapId;
use slab::{Slab, SlabKind, SlabRef};
use span::Spans;

/// All slabs of one engine.
#[derive(Default)]
pub struct Kmem {
    spans: Spans,
    heaps: Arena<HeapId, Heap>,
    /// Heaps whose thread has ended.
    nr_parked: AtomicU32,
    /// The heap of whoever has none; none until it is needed.
    shared: AtomicId<HeapId>,
    shared_lock: Lock,
    /// Who can give memory back.
    pub shrinkers: shrinker_registry::Shrinkers,
    /// Lists of reclaimable things.
    pub lists: list_lru::Lists,
    /// What all tables by kmem id share.
    pub tables: per_id::Tables,
    huge_bytes: AtomicUsize,
    /// Named caches of objects.
    pub caches: cache::Caches,
    /// The signal mask of the thread that forks; guarded by the locks it holds.
    mask_over_fork: AtomicU64,
}

// SAFETY: all parts are Zeroed or integers.
unsafe impl Zeroed for Kmem {}

/// A live object, as its address tells.
#[derive(Clone, Copy)]
pub struct Object {
    slab: SlabRef,
    offset: u32,
    /// Bytes that may be used of it, and are charged.
    pub bytes: usize,
    /// Its owner.
    pub tag: Option<Tag>,
}

impl Kmem {
    /// Before anything else. `None` without memory.
    pub fn init(&self) -> Option<()> {
        slab::seed(ids::random());
        self.spans.init()
    }

    /// Whether there is memory for the first objects; maps a chunk for them if none is there yet.
    pub fn is_able(&self) -> bool {
        let span = self.spans.alloc(1, 1);
        let has_unit = span
            .inspect(|span| self.spans.free(layout::record_of(span.start), 1))
            .is_some();
        // And for the first heap's record.
        let heap = has_unit.then(|| self.heaps.alloc(1 << 22)).flatten();
        heap.inspect(|&index| self.heaps.free(index)).is_some()
    }

    /// A heap for the calling thread: a parked one, or a new one. `None` without memory.
    pub fn join(&self) -> Option<(HeapId, &Heap)> {
        if self.nr_parked.load(Relaxed) > 0 {
            let parked = self.heaps.each().find(|(_, heap)| heap.claim(State::Owned));
            if parked.is_some() {
                self.nr_parked.fetch_sub(1, Relaxed);
                return parked;
            }
        }
        let index = self.heaps.alloc(1 << 22)?;
        let heap = self.heaps.get(index);
        heap.make();
        Some((index, heap))
    }

    /// The heap of an index.
    pub fn heap(&self, index: HeapId) -> &Heap {
        self.heaps.get(index)
    }

    /// Takes an object of `class` for `tag` out of a heap. `None`: the kernel gives no memory.
    ///
    /// # Safety
    /// The calling thread is the owner, in a heap section.
    pub unsafe fn alloc(
        &self,
        heap: &Heap,
        class: usize,
        tag: Option<Tag>,
        want_zeroed: bool,
    ) -> Option<Taken> {
        // SAFETY: the caller's.
        unsafe { heap.alloc(self, class, tag, want_zeroed) }
    }

    /// As [`Self::alloc`] for a thread that has no heap, or is in its section already: from one
    /// heap for all of them.
    pub fn alloc_shared(&self, class: usize, tag: Option<Tag>) -> Option<Taken> {
        let _signals = sigmask::block_all();
        let _held = self.shared_lock.lock(Rank::Shared);
        let heap = match self.shared.load(Relaxed) {
            Some(index) => self.heaps.get(index),
            None => {
                let index = self.heaps.alloc(1 << 22)?;
                self.heaps.get(index).make();
                self.shared.store(Some(index), Release);
                self.heaps.get(index)
            }
        };
        // SAFETY: the lock makes us its owner, with no signal handler to come between.
        unsafe { heap.alloc(self, class, tag, false) }
    }

    /// The live object that begins at `at`.
    ///
    /// # Errors
    /// What is wrong with the address. Not every address that is wrong is found out.
    pub fn locate(&self, at: usize) -> Result<Object, BadFree> {
        let slab = match self.spans.map.get(at) {
            Place::Nothing | Place::Gone => return Err(BadFree::Foreign),
            Place::HugeRest => return Err(BadFree::Inside),
            // SAFETY: noted so.
            Place::HugeAligned => unsafe { Kmem::record_before(at) },
            Place::Chunk | Place::Huge => {
                let unit = layout::unit_of(at);
                if !(layout::FIRST_UNIT..layout::END_UNIT).contains(&unit) {
                    return Err(BadFree::Inside);
                }
                // SAFETY: the chunk, or the first unit of a huge object's, is mapped.
                unsafe { Slab::of(at) }.lead()
            }
        };
        match slab.kind() {
            SlabKind::Objects => {
                let offset = slab.offset_of(at).ok_or(BadFree::Inside)?;
                if slab.begins_a_list(offset) {
                    return Err(BadFree::Double);
                }
                Ok(Object {
                    slab,
                    offset,
                    bytes: slab.object_bytes(),
                    tag: slab.tag_of(offset),
                })
            }
            SlabKind::Large | SlabKind::Huge if slab.start() == at => Ok(Object {
                slab,
                offset: 0,
                bytes: slab.extent.load(Relaxed),
                tag: slab.extent_tag(),
            }),
            SlabKind::Free => Err(BadFree::Double),
            SlabKind::Cached => Err(BadFree::Cached),
            SlabKind::Large | SlabKind::Huge | SlabKind::Inside => Err(BadFree::Inside),
        }
    }

    /// Whether `object` lies in a slab of the calling thread's heap of which nothing is held: it
    /// was freed before. Outside of a heap section.
    pub fn is_idle(&self, own: &Heap, object: &Object) -> bool {
        object.slab.is_of(own.at()) && object.slab.nr_held() == 0
    }

    /// What lies at an address.
    #[inline]
    pub(super) fn place(&self, at: usize) -> Place {
        self.spans.map.get(at)
    }

    /// Frees an object, uncharged before.
    ///
    /// # Safety
    /// The object is live and ends here. `own` is the calling thread's heap, in a heap section.
    pub unsafe fn free_object(&self, own: Option<&Heap>, object: Object) {
        let slab = object.slab;
        if slab.kind() != SlabKind::Objects {
            // SAFETY: the caller's.
            unsafe { self.free_extent(own, slab) };
            return;
        }
        match own {
            // SAFETY: the caller's.
            Some(own) if slab.is_of(own.at()) => unsafe { own.free(self, slab, object.offset) },
            // SAFETY: the caller's.
            _ => unsafe { heap::free_remote(self, own, slab, object.offset) },
        }
    }

    /// Makes an extent `bytes` long (as [`extent_bytes`] says): where it lies, or elsewhere without
    /// copying. Answers where; `None`: neither is possible, nothing has changed.
    ///
    /// # Safety
    /// The object is live and the caller's; of what is cut off nothing is needed.
    pub unsafe fn resize(&self, object: Object, bytes: usize) -> Option<usize> {
        if object.slab.kind() == SlabKind::Objects {
            return None;
        }
        // SAFETY: the caller's.
        if unsafe { self.resize_extent(object.slab, bytes) } {
            return Some(object.slab.start());
        }
        // SAFETY: the caller's.
        unsafe {
            self.move_extent(object.slab, bytes)
                .or_else(|| self.move_large(object.slab, bytes))
        }
    }

    /// Gives back to the kernel what nobody has used for a while.
    pub fn decay(&self) {
        if self.spans.is_cleaning_due() {
            self.spans.clean(false);
        }
    }

    /// Gives back to the kernel what nobody uses: of the caller's heap, of those nobody has, of the
    /// chunks.
    ///
    /// # Safety
    /// `own` is the calling thread's heap, in a heap section.
    pub unsafe fn trim(&self, own: Option<&Heap>) {
        if let Some(own) = own {
            // SAFETY: the caller's.
            unsafe { own.trim(self) };
        }
        for (_, heap) in self.heaps.each() {
            if heap.claim(State::Borrowed) {
                // SAFETY: borrowed: nobody else acts for it.
                unsafe { heap.trim(self) };
                self.unborrow(heap);
            }
        }
        self.spans.clean(true);
    }

    /// Before a fork: takes the locks of this room, with signals off, so that the child's chunks
    /// are whole.
    pub fn lock_for_fork(&self) {
        let signals = sigmask::block_all();
        core::mem::forget(self.shared_lock.lock(Rank::Shared));
        self.caches.lock_for_fork();
        self.spans.lock_for_fork();
        self.mask_over_fork.store(signals.keep(), Relaxed);
    }

    /// In a child that was cloned without [`Self::lock_for_fork`]: nobody holds a lock here.
    pub fn reset_locks_in_child(&self, sole: SoleThread) {
        self.shared_lock.reset_in_child(sole);
        self.caches.reset_locks_in_child(sole);
        self.spans.reset_lock_in_child(sole);
    }

    /// In the child of a fork: nobody changes tables by kmem id there.
    pub fn reset_tables_in_child(&self, sole: SoleThread) {
        self.caches.reset_families_in_child(sole);
        self.lists.reset_tables_in_child(sole);
    }

    /// After a fork, in the parent and in the child: undoes [`Self::lock_for_fork`].
    pub fn unlock_after_fork(&self, held: HeldOverFork) {
        let signals = sigmask::Blocked::kept(self.mask_over_fork.load(Relaxed));
        self.spans.unlock_after_fork(held);
        self.caches.unlock_after_fork(held);
        self.shared_lock.unlock_forgotten(Rank::Shared, held);
        drop(signals);
    }
}
