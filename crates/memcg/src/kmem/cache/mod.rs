//! Named caches of objects of one size, each with slabs of its own: the kernel's kmem_cache.
//!
//! ```text
//! Cache ── slab ── object ── tag                  shape, objects
//!   │        └ what others freed into it          word
//!   ├ partial slabs, returned ones                slub     (full ones are in no list)
//!   └ thread's slot: the slab in use              slots, hit
//! ```
//!
//! Kept: a live object's tag and its cache are had from its address alone. A slab is in one place:
//! a thread's slot, a list of its cache, nobody's (full), or the hands of who takes it from one to
//! another. A cache that is dead gives no slab to anybody, keeps none that is empty, and ends with
//! its last. Relied on: the spans for units, the look at a thread's slots (`thread`) that drainers
//! and signal handlers stay out of. Never done: charging beyond the stock (that is `engine`); a
//! constructor, or any code of the program; a lock or an atomic instruction where the thread's slab
//! has room.
//!
//! A cache's lists are guarded by one of a few locks, by its number, held with all signals off and
//! never over a system call.

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

/// How a cache works, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ways(u32);

impl Ways {
    /// Its objects are charged to nobody.
    pub const NOACCOUNT: Ways = Ways(1);
    /// Red zones, and poison where there is no constructor.
    pub const CHECKED: Ways = Ways(2);
    /// It has a constructor.
    pub const CONSTRUCTED: Ways = Ways(4);
    /// Full slabs are in a list too: what reparenting slab by slab would need.
    pub const TRACKED: Ways = Ways(8);
    /// A cache of its own for each group.
    pub const PER_GROUP: Ways = Ways(16);
    /// The slab kind Slab: magazines. Without it: Slub.
    pub const MAGAZINES: Ways = Ways(32);
    /// Its objects are accounted also where only those of such caches are.
    pub const ACCOUNT: Ways = Ways(64);

    /// Both.
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

/// Makes the bytes of a fresh object, which are zeros, what its users find.
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
    /// Its constructor, for who calls it.
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

    /// Whether there can be such a cache.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.shape().is_some()
    }
}

/// `slabs` of a cache that is dead.
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
    /// Who makes room where a group is over a limit, for the engine to ask.
    room_maker: AtomicPtr<RoomMaker>,
    name: [AtomicU64; NAME_BYTES / 8],
    /// What is there for each group, of a cache with [`Ways::PER_GROUP`].
    family: AtomicId<FamilyId>,
    /// Of a group's: the cache it was made for, and the group's own owner, which it names.
    root: AtomicId<CacheId>,
    owner: AtomicId<Tag>,
    /// With [`Ways::PER_GROUP`], and of a group's: whose objects it has, as [`Cache::serve`] says;
    /// 0: everybody's.
    serves: AtomicU64,
    /// 0: no cache.
    state: AtomicU32,
    link: AtomicU32,

    /// Its slabs in number, and DEAD.
    slabs: AtomicU32,
    nr_partial: AtomicU32,
    nr_returned: AtomicU32,
    /// Dead, and a thread has something of it still.
    stuck: AtomicU32,
    /// The epoch in which it was found to have ended.
    ended_at: AtomicU64,
    partial: List,
    full: List,
    returned: Returned,
    /// Of the slab kind Slab: empty slabs, and the array that threads share.
    empty: List,
    nr_empty: AtomicU32,
    nr_shared: AtomicU32,
    shared: AtomicUsize,
}

// SAFETY: integers only.
unsafe impl Zeroed for Cache {}
// SAFETY: `link` is the arena's alone.
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
    /// Held while a slab is mixed: by the thread that allocates from it, or by who changes an
    /// object's owner.
    mixing_lock: Lock,
    /// Caches without a slab, dead: as they ended, and as they were dated.
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
// SAFETY: all parts are Zeroed, a lock is free when zero.
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

    /// Who makes room in a group that is full, if somebody is registered.
    pub fn room_maker(&self) -> Option<&'static RoomMaker> {
        // Acquire pairs with the Release of `register`.
        // SAFETY: null, or of `register`, which takes what lives as long as the process.
        unsafe { self.room_maker.load(Acquire).as_ref() }
    }

    /// Registers who makes room. `false`: somebody is.
    pub fn register(&self, maker: &'static RoomMaker) -> bool {
        let maker = core::ptr::from_ref(maker).cast_mut();
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

    /// From here on it has the objects that `cache` is asked for on behalf of the group of a cell.
    /// Before anybody knows it.
    fn serve(&self, cache: CacheId, cell: Option<CellId>) {
        self.serves.store(served(cache, cell), Relaxed);
    }

    /// Whether that is so, and it is not dead. Asked by who knows that it has not ended.
    #[inline(always)]
    fn does_serve(&self, cache: CacheId, cell: Option<CellId>) -> bool {
        self.serves.load(Relaxed) == served(cache, cell) && !self.is_dead()
    }

    /// Whether there is a cache, dead or alive.
    pub fn is_there(&self) -> bool {
        // Acquire pairs with the Release of `Caches::create`.
        self.state.load(Acquire) != 0
    }

    /// Whether it gives no objects any more.
    pub fn is_dead(&self) -> bool {
        self.slabs.load(Acquire) & DEAD != 0
    }

    /// As [`Self::is_dead`]; if not, who makes it dead later sees all that the caller did before.
    pub(crate) fn is_dead_surely(&self) -> bool {
        // AcqRel: one order with `die`.
        self.slabs.fetch_add(0, AcqRel) & DEAD != 0
    }

    /// Slabs it has.
    pub fn nr_slabs(&self) -> u32 {
        self.slabs.load(Relaxed) & !DEAD
    }

    /// Counts a slab more, of a cache that is not dead.
    pub(crate) fn add_slab(&self) -> bool {
        // AcqRel: one order of changes, so that death and the last slab's end see each other.
        self.slabs
            .fetch_update(AcqRel, Acquire, |n| (n & DEAD == 0).then_some(n + 1))
            .is_ok()
    }

    /// Counts one less. `true`: that was the last of a dead cache.
    pub(crate) fn sub_slab(&self) -> bool {
        self.slabs.fetch_sub(1, AcqRel) == DEAD | 1
    }
}

#[inline(always)]
fn served(cache: CacheId, cell: Option<CellId>) -> u64 {
    u64::from(cache.raw()) << 32 | u64::from(cell.map_or(0, CellId::raw))
}

impl Kmem {
    /// A new cache; its number. The caller is pinned. `None`: no such objects can be, or there is
    /// no memory.
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

    /// Runs `f` under the lock of a cache's lists, with all signals off.
    fn locked<R>(&self, cache: CacheId, f: impl FnOnce() -> R) -> R {
        let _signals = sigmask::block_all();
        let _held = self.stripes[cache.raw() as usize % STRIPES]
            .0
            .lock(Rank::Caches);
        f()
    }

    /// Runs `f`, which mixes a slab, while nobody else mixes one; with all signals off.
    fn mixing<R>(&self, f: impl FnOnce() -> R) -> R {
        let _signals = sigmask::block_all();
        let _held = self.mixing_lock.lock(Rank::Tags);
        f()
    }

    /// Before a fork: takes all locks of the lists, and that of tags. Signals are off.
    pub(super) fn lock_for_fork(&self) {
        for stripe in &self.stripes {
            core::mem::forget(stripe.0.lock(Rank::Caches));
        }
        core::mem::forget(self.mixing_lock.lock(Rank::Tags));
    }

    /// Undoes that, on either side.
    pub(super) fn unlock_after_fork(&self, held: HeldOverFork) {
        self.mixing_lock.unlock_forgotten(Rank::Tags, held);
        for stripe in &self.stripes {
            stripe.0.unlock_forgotten(Rank::Caches, held);
        }
    }

    /// In a child that was cloned while threads may have held some.
    pub(super) fn reset_locks_in_child(&self, sole: SoleThread) {
        self.mixing_lock.reset_in_child(sole);
        for stripe in &self.stripes {
            stripe.0.reset_in_child(sole);
        }
    }
}
