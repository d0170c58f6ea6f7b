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
//! Invariants: any thread finds a live object's tag from the object's address alone, and the tag
//! does not change while the object lives, but by who holds it: `recharge` of a kmem cache's
//! object, `adopt` of a block. A slab's owner takes from it and frees into it without an atomic
//! instruction; any other thread frees by one CAS. Units that nobody uses go back to the kernel
//! after a while. A free that is found to be wrong ends the process with a line.
//! Depends on: `os` for pages and signal masks, `sync` for arenas and locks, `thread` for the
//! section that a signal handler stays out of, `group` for a thread's stock (in `heap_hit` alone).
//! Never: a charge that takes more than stock (that is `engine`); a lock or a system call where a
//! slab has room.

pub mod address_map;
mod adopt;
pub mod allocator_stat;
pub mod bad;
pub mod cache;
pub mod chunk;
pub mod class;
mod empty;
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
mod remote_free;

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
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use heap::State;
use id::HeapId;
use slab::{Slab, SlabKind, SlabRef};
use span::Spans;

/// All slabs of one engine.
#[derive(Default)]
pub struct Kmem {
    spans: Spans,
    heaps: Arena<HeapId, Heap>,
    /// Parked heaps: their threads have ended.
    nr_parked: AtomicU32,
    /// The heap for threads that have none of their own, and for signal handlers. `None` until it
    /// is needed.
    shared: AtomicId<HeapId>,
    shared_lock: Lock,
    /// The registered shrinkers.
    pub shrinkers: shrinker_registry::Shrinkers,
    /// Lists of reclaimable things.
    pub lists: list_lru::Lists,
    /// Policy and counts of all tables by kmem id.
    pub tables: per_id::Tables,
    huge_bytes: AtomicUsize,
    /// Named caches of objects.
    pub caches: cache::Caches,
    /// The signal mask of the thread that forks; guarded by the locks it holds.
    mask_over_fork: AtomicU64,
}

// SAFETY: each field is an integer or a type that is `Zeroed` itself, so a `Kmem` of zero bytes is
// one without chunks, heaps and caches.
unsafe impl Zeroed for Kmem {}

/// A live object, as found from its address.
#[derive(Clone, Copy)]
pub struct Object {
    slab: SlabRef,
    offset: u32,
    /// Bytes of it that may be used; as many are charged.
    pub bytes: usize,
    /// Its owner.
    pub tag: Option<Tag>,
}

impl Kmem {
    /// Prepares the room; called once, before any other function. `None` without memory.
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
        // The record of the first heap needs memory too.
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
    /// The calling thread is the owner of `heap`, in a heap section.
    pub unsafe fn alloc(
        &self,
        heap: &Heap,
        class: usize,
        tag: Option<Tag>,
        want_zeroed: bool,
    ) -> Option<Taken> {
        // SAFETY: the caller is the owner of `heap`, in a heap section, so it acts for it.
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
                self.shared.store(Some(index), Relaxed);
                self.heaps.get(index)
            }
        };
        // SAFETY: this thread holds `shared_lock` and has all signals blocked. So it alone acts for
        // the shared heap, and no handler of its own comes between.
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
            // SAFETY: the map says `HugeAligned` of this address, which is all that `record_before`
            // wants.
            Place::HugeAligned => unsafe { Kmem::record_before(at) },
            Place::Chunk | Place::Huge => {
                let unit = layout::unit_of(at);
                if !(layout::FIRST_UNIT..layout::END_UNIT).contains(&unit) {
                    return Err(BadFree::Inside);
                }
                // SAFETY: the map says that a chunk is mapped here, or a huge object, whose first
                // unit is mapped and holds the records.
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

    /// Whether `object` lies in a slab of the calling thread's heap of which no object is held:
    /// then it was freed before. Called outside of a heap section.
    pub fn is_idle(&self, own: &Heap, object: &Object) -> bool {
        object.slab.is_of(own.at()) && object.slab.nr_held() == 0
    }

    /// What lies at an address.
    #[inline]
    pub(super) fn place(&self, at: usize) -> Place {
        self.spans.map.get(at)
    }

    /// Frees an object whose bytes were uncharged before.
    ///
    /// # Safety
    /// `object` is live (it came from [`Self::locate`]), and nobody uses it after this call. If
    /// `own` is given, it is the calling thread's heap, and the thread is in a heap section.
    pub unsafe fn free_object(&self, own: Option<&Heap>, object: Object) {
        let slab = object.slab;
        if slab.kind() != SlabKind::Objects {
            // SAFETY: the slab's kind is not `Objects`, so `locate` found a live extent here; the
            // caller gives it up, and acts for `own`.
            unsafe { self.free_extent(own, slab) };
            return;
        }
        match own {
            // SAFETY: the caller acts for `own`, which owns the slab, and gives up a live,
            // uncharged object.
            Some(own) if slab.is_of(own.at()) => unsafe { own.free(self, slab, object.offset) },
            // SAFETY: the caller gives up a live, uncharged object, and acts for `own` if there is
            // one.
            _ => unsafe { remote_free::free_remote(self, own, slab, object.offset) },
        }
    }

    /// Makes an extent `bytes` long (as [`extent_bytes`] says): where it lies, or elsewhere without
    /// copying. Answers where; `None`: neither is possible, nothing has changed.
    ///
    /// # Safety
    /// `object` is live and nobody but the caller uses it. Nobody needs the bytes beyond the new
    /// end.
    pub unsafe fn resize(&self, object: Object, bytes: usize) -> Option<usize> {
        if object.slab.kind() == SlabKind::Objects {
            return None;
        }
        // SAFETY: the kind is not `Objects`, so this is a live extent; the caller alone uses it,
        // and needs nothing of what is cut off.
        if unsafe { self.resize_extent(object.slab, bytes) } {
            return Some(object.slab.start());
        }
        // SAFETY: the extent is still live and only the caller uses it: `resize_extent` has
        // answered `false`, so nothing has changed, and so does `move_extent` when it answers
        // `None`.
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

    /// Gives back to the kernel what nobody uses: of the caller's heap, of the parked heaps, and of
    /// the chunks.
    ///
    /// # Safety
    /// If `own` is given, it is the calling thread's heap, and the thread is in a heap section.
    pub unsafe fn trim(&self, own: Option<&Heap>) {
        if let Some(own) = own {
            // SAFETY: the caller is the owner of `own`, in a heap section, so it acts for it.
            unsafe { own.trim(self) };
        }
        for (_, heap) in self.heaps.each() {
            if heap.claim(State::Borrowed) {
                // SAFETY: `claim` has just made the heap Borrowed, so this thread alone acts for it
                // until `unborrow`.
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

    /// In a child that was cloned without [`Self::lock_for_fork`]: makes all locks of this room
    /// free.
    pub fn reset_locks_in_child(&self, sole: SoleThread) {
        self.shared_lock.reset_in_child(sole);
        self.caches.reset_locks_in_child(sole);
        self.spans.reset_lock_in_child(sole);
    }

    /// In the child of a fork: makes the locks of the tables by kmem id free.
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
