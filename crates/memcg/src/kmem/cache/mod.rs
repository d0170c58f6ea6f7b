//! Named caches of objects of one size, each with slabs of its own: the kernel's kmem_cache.
//!
//! ```text
//! Cache ── slab ── object ── tag                  shape, objects
//!   │        └ what others freed into it          word
//!   ├ partial slabs, returned ones                slub     (full ones are in no list)
//!   └ thread's slot: the slab in use              slots, hit
//! ```
//!
//! Invariants: any thread finds a live object's tag and cache from the object's address alone. A
//! slab is in one place: in a thread's slot, in a list of its cache, in no list (if it is full), or
//! with the thread that takes it from one place to another. A dead cache gives out no slab, keeps
//! no empty one, and ends with its last slab. A cache's lists are guarded by one of 64 locks, by
//! the cache's number. The lock is held with all signals blocked and never over a system call.
//! Depends on: `span` for units; the look at a thread's slots (`thread`), which keeps drainers and
//! signal handlers out.
//! Never: a charge beyond stock (that is `engine`); a constructor or any other code of the program;
//! a lock or an atomic instruction where the thread's slab has room.

pub mod cache_hit;
mod children;
pub mod dead;
pub mod debug;
pub mod filter;
mod hand_over;
pub mod info;
pub mod magazine;
pub mod objects;
mod reaper;
pub mod room;
pub mod shape;
pub(crate) mod slab_word;
pub mod slots;
pub mod slub;
mod verbs;

use crate::group::{CellId, Hierarchy, ROOT};
use crate::kmem::Kmem;
use crate::kmem::id::{CacheId, FamilyId, FilterId, TableId};
use crate::kmem::list::{List, Returned};
use crate::os::sigmask;
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::AtomicU32;
use crate::sync::hook::Hook;
use crate::sync::id::{AtomicId, Id};
use crate::sync::lock::{Lock, Rank};
use crate::sync::promise::{HeldOverFork, SoleThread};
use crate::sync::stack::Stack;
use crate::thread::Tag;
use core::sync::atomic::{
    AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use room::RoomMaker;
use shape::Shape;

pub use children::Child;
pub use info::CacheStat;
pub use objects::Found;
pub use slots::Own;

/// Bytes of a cache's name, at most.
pub const NAME_BYTES: usize = 32;

const STRIPES: usize = 64;

/// How a cache works: one bit for each way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ways(u32);

impl Ways {
    /// Its objects are charged to nobody.
    pub const NOACCOUNT: Ways = Ways(1);
    /// Red zones, and poison where there is no constructor.
    pub const CHECKED: Ways = Ways(2);
    /// It has a constructor.
    pub const CONSTRUCTED: Ways = Ways(4);
    /// Full slabs are in a list too, as handing them over one by one needs.
    pub const TRACKED: Ways = Ways(8);
    /// A cache of its own for each group.
    pub const PER_GROUP: Ways = Ways(16);
    /// The slab kind Slab: magazines. Without it: Slub.
    pub const MAGAZINES: Ways = Ways(32);
    /// Its objects are accounted even where only those of such caches are.
    pub const ACCOUNT: Ways = Ways(64);

    /// The ways of both.
    #[must_use]
    pub const fn with(self, other: Ways) -> Ways {
        Ways(self.0 | other.0)
    }

    /// Without `other`.
    #[must_use]
    pub const fn without(self, other: Ways) -> Ways {
        Ways(self.0 & !other.0)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn has(self, other: Ways) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Initialises a fresh object. Before, its bytes are zeros.
pub type Constructor = fn(&mut [u8]);

/// What a cache is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// 1 to [`NAME_BYTES`] bytes.
    pub name: &'a [u8],
    /// Bytes of an object.
    pub bytes: usize,
    /// Its alignment.
    pub align: usize,
    /// How it works.
    pub ways: Ways,
    /// Its constructor. The cache only keeps it; the caller of an allocation runs it.
    pub ctor: Option<Constructor>,
}

impl Plan<'_> {
    fn shape(&self) -> Option<Shape> {
        if self.name.is_empty() || self.name.len() > NAME_BYTES {
            return None;
        }
        let (checked, constructed) = (Ways::CHECKED, Ways::CONSTRUCTED);
        Shape::new(
            self.bytes,
            self.align,
            self.ways.has(checked),
            self.ways.has(constructed),
        )
    }

    /// Whether a cache can be made to this plan.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.shape().is_some()
    }
}

/// In `slabs`: the cache is dead.
const DEAD: u32 = 1 << 31;

/// A cache.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Cache {
    ways: AtomicU32,
    bytes: AtomicU32,
    stride: AtomicU32,
    link_at: AtomicU32,
    units: AtomicU32,
    align: AtomicU32,
    ctor: Hook<Constructor>,
    /// The function that makes room in a group that is over a limit; the engine calls it.
    room_maker: AtomicPtr<RoomMaker>,
    name: [AtomicU64; NAME_BYTES / 8],
    /// Of a cache with [`Ways::PER_GROUP`]: its children.
    family: AtomicId<FamilyId>,
    /// Of a child: the cache it was made for, and the group's own owner, to which it holds a
    /// reference.
    root: AtomicId<CacheId>,
    owner: AtomicId<Tag>,
    /// Of a child, and of a cache with [`Ways::PER_GROUP`]: whose objects it has, as
    /// [`Cache::serve`] stores it. 0: everybody's.
    serves: AtomicU64,
    /// LIVE, ENDED, or 0: no cache.
    state: AtomicU32,
    link: AtomicU32,

    /// The number of its slabs, and DEAD.
    slabs: AtomicU32,
    nr_partial: AtomicU32,
    nr_returned: AtomicU32,
    /// 1: the cache is dead, and a thread may have something of it in a slot.
    stuck: AtomicU32,
    /// The epoch in which it was found to have ended.
    ended_at: AtomicU64,
    partial: List,
    full: List,
    returned: Returned,
    /// Of the slab kind Slab: empty slabs, and the array that the threads share.
    empty: List,
    nr_empty: AtomicU32,
    nr_shared: AtomicU32,
    shared: AtomicUsize,
}

// SAFETY: every field is made of integers, 0 for an address, or a type that is `Zeroed` itself: a
// record of zero bytes is no cache.
unsafe impl Zeroed for Cache {}
// SAFETY: the answer is always the same field. Only the arena and the two stacks of ended caches
// use `link`, and a record is in one of these at most.
unsafe impl Record for Cache {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

#[derive(Default)]
#[repr(align(64))]
struct Stripe(Lock);

/// All caches of one engine.
pub struct Caches {
    records: Arena<CacheId, Cache>,
    tables: Arena<TableId, slots::Table>,
    families: Arena<FamilyId, children::Family>,
    filters: Arena<FilterId, filter::Filter>,
    reaped_at: AtomicU64,
    stripes: [Stripe; STRIPES],
    /// Held while a slab is made mixed, by the thread that allocates from it or by one that changes
    /// an object's owner.
    mixing_lock: Lock,
    /// Dead caches without a slab: those that have just ended, and those whose end was dated.
    ended: Stack,
    limbo: Stack,
    nr_stuck: AtomicU32,
}

impl Default for Caches {
    fn default() -> Self {
        Self {
            records: Arena::default(),
            tables: Arena::default(),
            families: Arena::default(),
            filters: Arena::default(),
            reaped_at: AtomicU64::default(),
            stripes: core::array::from_fn(|_| Stripe::default()),
            mixing_lock: Lock::default(),
            ended: Stack::default(),
            limbo: Stack::default(),
            nr_stuck: AtomicU32::default(),
        }
    }
}
// SAFETY: each field is `Zeroed` itself or an integer; a lock of zero bytes is free.
unsafe impl Zeroed for Caches {}

impl Cache {
    /// How its objects lie.
    pub fn shape(&self) -> Shape {
        Shape {
            bytes: self.bytes.load(Relaxed) as usize,
            stride: self.stride.load(Relaxed) as usize,
            link_at: self.link_at.load(Relaxed) as usize,
            units: self.units.load(Relaxed) as usize,
        }
    }

    /// Bytes an object is charged.
    #[inline(always)]
    pub fn charged_bytes(&self) -> u64 {
        self.bytes.load(Relaxed).into()
    }

    /// How it works.
    #[inline(always)]
    pub fn ways(&self) -> Ways {
        Ways(self.ways.load(Relaxed))
    }

    /// Its constructor.
    #[inline(always)]
    pub fn ctor(&self) -> Option<Constructor> {
        self.ctor.get()
    }

    /// The function that makes room in a group that is full, if one is registered.
    pub fn room_maker(&self) -> Option<&'static RoomMaker> {
        // Acquire pairs with the Release of `register`.
        // SAFETY: the pointer is null or was stored by `register`, from a `&'static`, so it is
        // never dangling.
        unsafe { self.room_maker.load(Acquire).as_ref() }
    }

    /// Registers the function that makes room. `false`: there is one already.
    pub fn register(&self, maker: &'static RoomMaker) -> bool {
        let maker = core::ptr::from_ref(maker).cast_mut();
        // Release pairs with the Acquire of `room_maker`.
        self.room_maker
            .compare_exchange(core::ptr::null_mut(), maker, AcqRel, Acquire)
            .is_ok()
    }

    /// Its name, with zeros behind it.
    pub fn name(&self) -> [u8; NAME_BYTES] {
        let mut name = [0; NAME_BYTES];
        for (to, from) in name.chunks_exact_mut(8).zip(&self.name) {
            to.copy_from_slice(&from.load(Relaxed).to_ne_bytes());
        }
        name
    }

    /// Of a group's cache: the cache it was made for.
    pub fn root(&self) -> Option<CacheId> {
        self.root.load(Relaxed)
    }

    /// Of a group's cache: the group's own owner, whose group owns the cache now. `None` for
    /// others.
    pub fn owner(&self) -> Option<Tag> {
        self.owner.load(Relaxed)
    }

    /// From here on the cache has the objects that `cache` is asked for on behalf of the group of a
    /// cell. Called before other threads know the cache.
    fn serve(&self, cache: CacheId, cell: Option<CellId>) {
        self.serves.store(served(cache, cell), Relaxed);
    }

    /// Whether [`Self::serve`] has said so, and the cache is not dead. The caller knows that the
    /// cache has not ended.
    #[inline(always)]
    fn does_serve(&self, cache: CacheId, cell: Option<CellId>) -> bool {
        self.serves.load(Relaxed) == served(cache, cell) && !self.is_dead()
    }

    /// Whether the record is a cache, alive or dead.
    pub fn is_there(&self) -> bool {
        // Acquire pairs with the Release of `create_cache`: the whole record.
        self.state.load(Acquire) != 0
    }

    /// Whether it gives out no objects any more.
    pub fn is_dead(&self) -> bool {
        // Acquire pairs with the AcqRel of `die`.
        self.slabs.load(Acquire) & DEAD != 0
    }

    /// As [`Self::is_dead`]. If it is not dead, the thread that makes it dead later sees all that
    /// the caller did before.
    pub(crate) fn is_dead_surely(&self) -> bool {
        // AcqRel pairs with `die`: all changes of the word are in one order, so this one is seen by
        // `die` or sees it.
        self.slabs.fetch_add(0, AcqRel) & DEAD != 0
    }

    /// Slabs it has.
    pub fn nr_slabs(&self) -> u32 {
        self.slabs.load(Relaxed) & !DEAD
    }

    /// Counts a slab more, of a cache that is not dead.
    pub(crate) fn add_slab(&self) -> bool {
        // AcqRel pairs with `die` and `sub_slab`: all changes are in one order, so death and the
        // end of the last slab see each other.
        self.slabs
            .fetch_update(AcqRel, Acquire, |n| (n & DEAD == 0).then_some(n + 1))
            .is_ok()
    }

    /// Counts a slab less. `true`: it was the last of a dead cache.
    pub(crate) fn sub_slab(&self) -> bool {
        // AcqRel pairs with `add_slab`, `die` and itself: the last one sees what was done to the
        // slabs.
        self.slabs.fetch_sub(1, AcqRel) == DEAD | 1
    }
}

#[inline(always)]
fn served(cache: CacheId, cell: Option<CellId>) -> u64 {
    u64::from(cache.raw()) << 32 | u64::from(cell.map_or(0, CellId::raw))
}

impl Kmem {
    /// A new cache; answers its number. `None`: there can be no such objects, or there is no
    /// memory. The caller is pinned.
    pub fn create_cache(&self, tree: &Hierarchy, plan: &Plan<'_>) -> Option<CacheId> {
        let shape = plan.shape()?;
        let caches = &self.caches;
        let index = caches
            .recycle(self, tree)
            .or_else(|| caches.records.alloc(1 << 24))?;
        let cache = caches.get(index);
        for (field, value) in [
            (&cache.bytes, shape.bytes),
            (&cache.stride, shape.stride),
            (&cache.link_at, shape.link_at),
            (&cache.units, shape.units),
            (&cache.align, plan.align),
            (&cache.slabs, 0),
            (&cache.nr_partial, 0),
            (&cache.nr_returned, 0),
            (&cache.stuck, 0),
            (&cache.nr_empty, 0),
            (&cache.nr_shared, 0),
        ] {
            field.store(value as u32, Relaxed);
        }
        let mut name = [0; NAME_BYTES];
        name[..plan.name.len()].copy_from_slice(plan.name);
        for (to, from) in cache.name.iter().zip(name.as_chunks().0) {
            to.store(u64::from_ne_bytes(*from), Relaxed);
        }
        cache.ways.store(plan.ways.0, Relaxed);
        cache.ctor.put(plan.ctor);
        cache.room_maker.store(core::ptr::null_mut(), Relaxed);
        cache.serves.store(0, Relaxed);
        cache.root.store(None, Relaxed);
        if plan.ways.has(Ways::PER_GROUP) {
            cache.serve(index, Some(tree.memcgs.get(ROOT).cell()));
        }
        if plan.ways.has(Ways::PER_GROUP) && caches.make_family(index).is_none() {
            caches.limbo.push(index.raw(), &cache.link);
            return None;
        }
        // Release pairs with the Acquire of `is_there`.
        cache.state.store(dead::LIVE, Release);
        Some(index)
    }
}

impl Caches {
    /// The cache of a number.
    #[inline(always)]
    pub fn get(&self, cache: CacheId) -> &Cache {
        self.records.get(cache)
    }

    /// One past the highest number of a cache.
    pub fn high_water(&self) -> u32 {
        self.records.high_water()
    }

    /// Every record of a cache there ever was, with its number, in order.
    pub fn each(&self) -> impl Iterator<Item = (CacheId, &Cache)> {
        self.records.each()
    }

    /// Runs `f` under the lock of a cache's lists, with all signals blocked.
    fn locked<R>(&self, cache: CacheId, f: impl FnOnce() -> R) -> R {
        let _signals = sigmask::block_all();
        let _held = self.stripes[cache.raw() as usize % STRIPES]
            .0
            .lock(Rank::Caches);
        f()
    }

    /// Runs `f`, which makes a slab mixed, while no other thread does so; with all signals blocked.
    fn mixing<R>(&self, f: impl FnOnce() -> R) -> R {
        let _signals = sigmask::block_all();
        let _held = self.mixing_lock.lock(Rank::Tags);
        f()
    }

    /// Before a fork: takes all locks of the lists, and that of tags. Signals are blocked.
    pub(super) fn lock_for_fork(&self) {
        for stripe in &self.stripes {
            core::mem::forget(stripe.0.lock(Rank::Caches));
        }
        core::mem::forget(self.mixing_lock.lock(Rank::Tags));
    }

    /// Undoes [`Self::lock_for_fork`], in the parent or in the child.
    pub(super) fn unlock_after_fork(&self, held: HeldOverFork) {
        self.mixing_lock.unlock_forgotten(Rank::Tags, held);
        for stripe in &self.stripes {
            stripe.0.unlock_forgotten(Rank::Caches, held);
        }
    }

    /// Makes the locks free in a child that was cloned while threads may have held some.
    pub(super) fn reset_locks_in_child(&self, sole: SoleThread) {
        self.mixing_lock.reset_in_child(sole);
        for stripe in &self.stripes {
            stripe.0.reset_in_child(sole);
        }
    }
}
