//! Lists of reclaimable things, one for each group, after the kernel's `list_lru`.
//!
//! Invariants: a thing is in the list of the group that its owner is in, or in none. Its memory is
//! there while its handle, a shared hold or a walk has it.
//! Depends on: `kmem::list_lru`; `cache` for things that are objects of a cache.
//! Never: calls code of the program under a list's lock.

use super::cache::{CacheOptions, SizedCache};
use super::cache_error::{AllocError, CacheError};
use super::current_group::current_or_root;
use super::error::ReserveError;
use super::memcg::Memcg;
use super::pinned::pinned;
use super::scope::{Entered, no_account};
use crate::engine::process_engine::{engine, with_rec};
use crate::engine::worker::worker_thread as worker;
use crate::engine::{ChargeError, Engine, Flags};
use crate::group::Tag;
use crate::group::cell::OfflineAction;
use crate::group::id::KmemId;
use crate::kmem::id::ListId;
use crate::kmem::list_lru::{Cx, LetGo, Link};
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use std::sync::Arc;

pub use crate::kmem::list_lru::{Verdict, Walked};

/// Things that can be given up when memory is short, each in the list of the group that it belongs
/// to, oldest first.
///
/// A thing is a [`LruItem`]: an owned value that can be in the list or not. When it is made it is
/// charged to a group or task, the thread's or one that is named, and is in the list of that group.
/// If the group ends the thing is in the parent's list at once. If its task moves it follows with
/// the next walk that meets it.
///
/// Cost of [`ListLru::add`] and [`ListLru::del`]: a lock for each list and group. Memory for a
/// group's list is taken when something is first put in; without any, the list of the nearest group
/// above that has one is used.
///
/// Source of the idea: Linux, `mm/list_lru.c`.
///
/// ```
/// use memcg::{ListLru, Verdict};
///
/// let tenant = memcg::root().create("lru-tenant").unwrap();
/// let pages: ListLru<&str> = ListLru::new();
/// let kept = pages.insert_for(&tenant, "index");
/// let cold = pages.insert_for(&tenant, "log");
/// assert_eq!(pages.count(&tenant), 2);
/// let walked = pages.walk(&tenant, 10, |page| match *page {
///     "log" => Verdict::Removed,
///     _ => Verdict::Rotate,
/// });
/// assert_eq!((walked.scanned, walked.removed), (2, 1));
/// assert!(kept.is_listed() && !cold.is_listed());
/// ```
pub struct ListLru<T: Send + Sync + 'static> {
    core: Arc<Core>,
    _things: PhantomData<fn() -> T>,
}

/// The list; it lives as long as there is a handle on it or a thing of it.
struct Core {
    list: ListId,
    /// The cache whose objects its things are; `None`: they are on the heap.
    cache: Option<SizedCache>,
}

impl Drop for Core {
    fn drop(&mut self) {
        at(|cx| cx.kmem.lists.close(cx, self.list));
    }
}

/// A thing, and the place for it in a list.
#[repr(C)]
struct Node<T> {
    link: Link,
    core: Arc<Core>,
    value: T,
}

impl<T> Drop for Node<T> {
    fn drop(&mut self) {
        with_rec(|engine, rec| {
            let _pin = engine.tree.threads.epoch.pin(rec);
            engine.tree.unref_objcg(self.link.tag());
        });
    }
}

/// An owned `T` that may be in a [`ListLru`]. Its drop takes it out.
#[must_use = "the thing leaves its list when this is dropped"]
pub struct LruItem<T: Send + Sync + 'static> {
    node: NonNull<Node<T>>,
}

// SAFETY: an item is a counted hold on a node, as an `Arc` is. Walks of other threads see the value
// while this thread owns the item, and the last hold drops the value on any thread. So `T` has to
// be Send and Sync, and both are asked for.
unsafe impl<T: Send + Sync> Send for LruItem<T> {}
// SAFETY: a shared item gives out shared references to the value, and further holds, which may drop
// it on another thread. So `T` has to be Send and Sync, and both are asked for.
unsafe impl<T: Send + Sync> Sync for LruItem<T> {}

/// Offline actions by which a thing that is looked up changes its owner.
pub(super) const FOUND: &[OfflineAction] = &[
    OfflineAction::RechargeToToucher,
    OfflineAction::RechargeToFinder,
];

/// Runs `f` with all that operations on lists need.
fn at<R>(f: impl FnOnce(Cx<'_>) -> R) -> R {
    with_rec(|engine, rec| engine.with_lists(rec, f)).expect("no memory for a thread's record")
}

/// Drops a hold on a thing of the heap; the last one drops the thing.
///
/// # Safety
/// `link` is of a `Node<T>` in a box, and the caller has a hold on it, which ends here.
unsafe fn let_go<T>(link: *const Link) {
    // SAFETY: the caller has promised a hold on the node, so it lives until that hold ends.
    if unsafe { &*link }.unref() {
        // SAFETY: the link is the first field of a `repr(C)` node that `make` took out of a box.
        // `unref` says that the last hold has ended, so nobody else uses the node.
        drop(unsafe { Box::from_raw(link.cast_mut().cast::<Node<T>>()) });
    }
}

/// As [`let_go`], of a list whose things are objects of its cache.
///
/// # Safety
/// `link` is of a `Node<T>` in an object of its list's cache, and the caller has a hold on it,
/// which ends here.
unsafe fn let_go_cached<T>(link: *const Link) {
    // SAFETY: the caller has promised a hold on the node, so it lives until that hold ends.
    if !unsafe { &*link }.unref() {
        return;
    }
    let node = link.cast_mut().cast::<Node<T>>();
    // SAFETY: the link is the first field of a `repr(C)` node, which lives: `unref` says that the
    // last hold has ended, and it was this one. The clone keeps the cache until the object is
    // freed.
    let core = unsafe { &*node }.core.clone();
    /// Frees the object, even if the value's drop panics.
    struct Free<'a>(&'a Core, NonNull<u8>);
    impl Drop for Free<'_> {
        fn drop(&mut self) {
            if let Some(cache) = &self.0.cache {
                // SAFETY: `try_item` took the object by `alloc_raw` of this cache. Its node has
                // been dropped, or its drop has panicked, and nobody holds it any more.
                unsafe { cache.free_raw(self.1.cast()) };
            }
        }
    }
    if let Some(at) = NonNull::new(node) {
        let _free = Free(&core, at.cast());
        // SAFETY: the node lives, nobody holds it any more, and it is dropped only here.
        unsafe { at.as_ptr().drop_in_place() };
    }
}

/// Makes a list; `let_go` is what ends a walk's hold on a thing of it. `None`: there is no memory.
fn open(let_go: LetGo) -> Option<ListId> {
    let _free = no_account();
    worker::want();
    at(|cx| cx.kmem.lists.open(cx, let_go))
}

impl<T: Send + Sync + 'static> core::fmt::Debug for ListLru<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ListLru")
            .field("count", &self.count_all())
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Default for ListLru<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + Sync + 'static> ListLru<T> {
    /// An empty list, whose things are on the heap.
    ///
    /// # Panics
    /// Without memory for the list.
    #[must_use]
    pub fn new() -> Self {
        let list = open(let_go::<T>).expect("no memory for a list");
        Self::of_core(Core { list, cache: None })
    }

    /// An empty list whose things are objects of a kmem cache of its own. Their owner is charged
    /// for them as such, and they are refused where there is no room: see [`ListLru::try_item`].
    ///
    /// # Errors
    /// See [`CacheError`].
    pub fn in_cache(options: CacheOptions<'_>) -> Result<Self, CacheError> {
        let cache = options
            .align(align_of::<Node<T>>())
            .sized(size_of::<Node<T>>())?;
        let list = open(let_go_cached::<T>).ok_or(CacheError::NoMemory)?;
        let cache = Some(cache);
        Ok(Self::of_core(Core { list, cache }))
    }

    fn of_core(core: Core) -> Self {
        let _free = no_account();
        Self {
            core: Arc::new(core),
            _things: PhantomData,
        }
    }

    /// The bytes that are charged for a thing, its value and its link, of a list in a cache; 0 for
    /// other lists, whose things the heap has.
    #[must_use]
    pub fn thing_bytes(&self) -> u64 {
        let cache = self.core.cache.as_ref();
        cache.map_or(0, SizedCache::charged_bytes)
    }

    pub(crate) fn list(&self) -> ListId {
        self.core.list
    }

    /// One more handle on the same list.
    pub(crate) fn handle(&self) -> Self {
        Self {
            core: self.core.clone(),
            _things: PhantomData,
        }
    }

    /// Makes a thing that belongs to the group or task that the thread charges; to the root, if
    /// that is nobody. It is in no list yet.
    ///
    /// # Panics
    /// Of a list in a cache: when the kernel has no memory for the thing. A limit is no reason,
    /// since the thing is charged beyond limits.
    pub fn item(&self, value: T) -> LruItem<T> {
        let tag = current_or_root();
        self.make(tag, value)
    }

    /// Makes a thing that belongs to `group`, which is charged for it, in no list yet. If the group
    /// has been removed, it belongs to the nearest group above.
    ///
    /// # Panics
    /// As [`Self::item`].
    pub fn item_for(&self, group: &Memcg, value: T) -> LruItem<T> {
        let _entered = Entered::new(Some(group.tag()));
        self.make(group.tag(), value)
    }

    /// As [`Self::item`], and puts the thing into its group's list.
    pub fn insert(&self, value: T) -> LruItem<T> {
        let item = self.item(value);
        self.add(&item);
        item
    }

    /// As [`Self::item_for`], and puts the thing into its group's list.
    pub fn insert_for(&self, group: &Memcg, value: T) -> LruItem<T> {
        let item = self.item_for(group, value);
        self.add(&item);
        item
    }

    fn make(&self, tag: Tag, value: T) -> LruItem<T> {
        if self.core.cache.is_some() {
            // `item` and `item_for` cannot refuse, so the thing is charged whatever the limits say.
            let made = self.try_item(Flags::FORCE, || value);
            return made.unwrap_or_else(|why| panic!("no memory for a thing of a list: {why}"));
        }
        let node = Box::new(self.node(tag, value));
        LruItem {
            node: NonNull::from(Box::leak(node)),
        }
    }

    fn node(&self, tag: Tag, value: T) -> Node<T> {
        engine().tree.ref_objcg(tag);
        Node {
            link: Link::new(tag),
            core: self.core.clone(),
            value,
        }
    }

    /// Makes a thing of what `make` answers, which belongs to the group or task that the thread
    /// charges. It is in no list yet. With [`Flags::WAIT`] and [`Flags::USER`] shrinkers run here
    /// when there is no room, those of this list as well: do not call it under a lock that they
    /// take.
    ///
    /// # Errors
    /// Of a list in a cache ([`ListLru::in_cache`]): see [`AllocError`]; `make` is not called then.
    /// Of others: never. If shrinkers find no room for such a thing, its group goes into debt or
    /// the program ends, as the group's `memory.oom.policy` has it.
    pub fn try_item(
        &self,
        flags: Flags,
        make: impl FnOnce() -> T,
    ) -> Result<LruItem<T>, AllocError> {
        with_rec(|engine, rec| {
            if let Some(tag) = rec.current() {
                engine.ready_lists(rec, tag, flags);
                if self.core.cache.is_none() {
                    engine.ready_heap(rec, tag, size_of::<Node<T>>(), flags);
                }
            }
        });
        let Some(cache) = &self.core.cache else {
            return Ok(self.item(make()));
        };
        /// An object in which nothing is made yet. If `make` panics, the drop of this frees the
        /// object.
        struct Empty<'a>(&'a SizedCache, NonNull<core::mem::MaybeUninit<u8>>);
        impl Drop for Empty<'_> {
            fn drop(&mut self) {
                // SAFETY: `alloc_raw` of this cache has just answered the object, and nobody else
                // knows it. Where a node was made in it this guard is forgotten.
                unsafe { self.0.free_raw(self.1) };
            }
        }
        let empty = Empty(cache, cache.alloc_raw(flags)?);
        let at = empty.1.cast::<Node<T>>();
        let value = make();
        let tag = current_or_root();
        // SAFETY: `in_cache` made the cache with the size and alignment of a node. The object was
        // just taken from it, and nobody else knows it.
        unsafe { at.write(self.node(tag, value)) };
        core::mem::forget(empty);
        Ok(LruItem { node: at })
    }

    /// Puts a thing at the end of its group's list. Answers `false` if it is in the list already.
    ///
    /// # Panics
    /// When the thing was made for another list.
    pub fn add(&self, item: &LruItem<T>) -> bool {
        assert!(
            Arc::ptr_eq(&self.core, &item.node().core),
            "the item is of another list"
        );
        // NOWAIT, since the caller may hold locks that shrinkers take.
        with_rec(|engine, rec| engine.ready_lists(rec, item.node().link.tag(), Flags::NOWAIT));
        // SAFETY: a node never moves. Whoever drops the item takes the node out of its list first,
        // and the node keeps the list itself by its `core`.
        at(|cx| unsafe { cx.kmem.lists.add(cx, self.core.list, &item.node().link) })
    }

    /// Takes a thing out. Answers `false` if it is in no list.
    pub fn del(&self, item: &LruItem<T>) -> bool {
        item.unlist()
    }

    /// The number of things in the list of `group`, without those of groups below. 0 once it has
    /// been removed. O(1).
    #[must_use]
    pub fn count(&self, group: &Memcg) -> u64 {
        self.id_of(group)
            .map_or(0, |id| at(|cx| cx.kmem.lists.count(cx, self.core.list, id)))
    }

    /// The number of things in the lists of all groups. O(groups that ever had any).
    #[must_use]
    pub fn count_all(&self) -> u64 {
        at(|cx| cx.kmem.lists.count_all(cx, self.core.list))
    }

    /// Shows up to `nr` things of the list of `group` to `look`, oldest first, each once, and does
    /// with each what the [`Verdict`] says.
    ///
    /// No lock is held meanwhile: `look` may use this list, drop items (the one it looks at, too),
    /// walk, remove groups. Things that come during the walk may be met or not. A panic of `look`
    /// ends the walk and goes on to the caller.
    pub fn walk(&self, group: &Memcg, nr: u64, mut look: impl FnMut(&T) -> Verdict) -> Walked {
        let Some(id) = self.id_of(group) else {
            return Walked::default();
        };
        let mut look = |link: &Link| {
            // SAFETY: every link of this list is the first field of a `repr(C)` `Node<T>`, by
            // `add`. The walk has a hold on the node while `look` runs, so it lives.
            look(unsafe { &(*core::ptr::from_ref(link).cast::<Node<T>>()).value })
        };
        at(|cx| cx.kmem.lists.walk(cx, self.core.list, id, nr, &mut look))
    }

    fn id_of(&self, group: &Memcg) -> Option<KmemId> {
        group
            .with(|engine, _, group| engine.tree.kmem_id_if_any(group))
            .flatten()
    }
}

impl<T: Send + Sync + 'static> LruItem<T> {
    fn node(&self) -> &Node<T> {
        // SAFETY: the item has a hold on the node, which ends with the item's drop. So the node
        // lives.
        unsafe { self.node.as_ref() }
    }

    /// Whether the item is in a list.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.node().link.is_listed()
    }

    /// Says that the thing was looked up. If its group has been removed, with `next-touch` or
    /// `auto` as its `memory.offline`, the thing is recharged to the group or task that the thread
    /// charges, goes into that group's list, and the answer is `true`. If it does not fit there it
    /// stays where it is. A thread that charges nobody or the root takes nothing over. Only things
    /// of a list in a cache ([`ListLru::in_cache`]) change owners.
    ///
    /// Cost: two loads where the owner lives.
    pub fn touch(&self) -> bool {
        let is_left = |engine: &Engine, rec| {
            engine.has_offline_action(rec, Some(self.node().link.tag()), FOUND)
        };
        with_rec(|engine, rec| {
            is_left(engine, rec)
                && engine.with_toucher(rec, |to| self.change_owner(to).unwrap_or(false))
        })
        .unwrap_or(false)
    }

    /// Recharges the thing to `group`, and puts it into that group's list; does both or nothing. If
    /// the group has been removed, the nearest group above is meant.
    ///
    /// # Errors
    /// When there is no room for the thing: nothing has changed.
    ///
    /// # Panics
    /// Of a list that is in no cache: its things are heap objects, whose owners never change.
    pub fn recharge_to(&self, group: &Memcg) -> Result<(), ReserveError> {
        assert!(
            self.node().core.cache.is_some(),
            "the item is no object of a cache"
        );
        let tag = pinned(|engine, _| engine.tree.ref_live_tag(group.tag()));
        let changed = self.change_owner(tag);
        pinned(|engine, _| engine.tree.unref_objcg(tag));
        changed.map(drop)
    }

    /// Makes `to`, to which the caller has a reference, the thing's owner. `false`: it is already,
    /// or another thread is changing the owner.
    fn change_owner(&self, to: Tag) -> Result<bool, ReserveError> {
        let (link, core) = (&self.node().link, &self.node().core);
        if core.cache.is_none() {
            return Ok(false);
        }
        let Some(from) = link.begin_change() else {
            return Ok(false);
        };
        let at = self.node.as_ptr() as usize;
        let outcome = with_rec(|engine, rec| {
            let outcome = engine.recharge_cached(rec, at, to);
            if outcome == Ok(true) {
                engine.tree.ref_objcg(to);
                link.end_change(to);
                let _pin = engine.tree.threads.epoch.pin(rec);
                engine.tree.unref_objcg(from);
            } else {
                link.end_change(from);
            }
            outcome
        });
        let changed = outcome.unwrap_or(Ok(false)).map_err(|refusal| {
            let bytes = engine().owner_of_cached(at).1;
            ReserveError::new(&ChargeError { bytes, refusal })
        })?;
        if changed {
            self::at(|cx| cx.kmem.lists.follow(cx, core.list, link));
        }
        Ok(changed)
    }

    /// One more hold on the value, which stays where it is until the last hold is dropped, even if
    /// the item has been dropped meanwhile.
    pub fn share(&self) -> LruRef<T> {
        self.node().link.add_ref();
        LruRef { node: self.node }
    }

    fn unlist(&self) -> bool {
        self.is_listed() && at(|cx| cx.kmem.lists.del(cx, &self.node().link))
    }
}

impl<T: Send + Sync + 'static> Deref for LruItem<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.node().value
    }
}

impl<T: Send + Sync + 'static> Drop for LruItem<T> {
    fn drop(&mut self) {
        self.unlist();
        // SAFETY: the hold is this item's, and ends with it, in its own drop.
        unsafe { end_hold(self.node) };
    }
}

/// Ends a hold on a node; the last one drops the thing.
///
/// # Safety
/// The caller has a hold on the node, which ends here.
unsafe fn end_hold<T>(node: NonNull<Node<T>>) {
    // SAFETY: the caller has promised a hold on the node, so it lives until that hold ends.
    let is_cached = unsafe { node.as_ref() }.core.cache.is_some();
    let link = node.as_ptr().cast_const().cast::<Link>();
    // SAFETY: the caller has promised a hold, which ends here. If the list has a cache, all its
    // nodes are objects of it, by `try_item`; else all are in boxes, by `make`.
    unsafe {
        if is_cached {
            let_go_cached::<T>(link);
        } else {
            let_go::<T>(link);
        }
    }
}

/// A shared hold on the value of an [`LruItem`], which may have been dropped meanwhile. A hold does
/// not keep the value in the list.
#[must_use = "the value is held until this is dropped"]
pub struct LruRef<T: Send + Sync + 'static> {
    node: NonNull<Node<T>>,
}

// SAFETY: an `LruRef` is a counted hold on a node, as an `Arc` is: it gives out shared references,
// and the last hold drops the value on any thread. So `T` has to be Send and Sync, and both are
// asked for.
unsafe impl<T: Send + Sync> Send for LruRef<T> {}
// SAFETY: a shared hold gives out shared references to the value, and further holds, which may drop
// it on another thread. So `T` has to be Send and Sync, and both are asked for.
unsafe impl<T: Send + Sync> Sync for LruRef<T> {}

impl<T: Send + Sync + 'static> Clone for LruRef<T> {
    fn clone(&self) -> Self {
        // SAFETY: this hold on the node ends with the drop of `self`, so the node lives now.
        unsafe { self.node.as_ref() }.link.add_ref();
        Self { node: self.node }
    }
}

impl<T: Send + Sync + 'static> Deref for LruRef<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this hold on the node ends with the drop of `self`, and the answer borrows
        // `self`. So the node outlives the reference.
        unsafe { &self.node.as_ref().value }
    }
}

impl<T: Send + Sync + 'static> Drop for LruRef<T> {
    fn drop(&mut self) {
        // SAFETY: the hold is this value's, and ends with it.
        unsafe { end_hold(self.node) };
    }
}

impl<T: Send + Sync + core::fmt::Debug + 'static> core::fmt::Debug for LruRef<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("LruRef").field(&**self).finish()
    }
}

impl<T: Send + Sync + core::fmt::Debug + 'static> core::fmt::Debug for LruItem<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("LruItem").field(&**self).finish()
    }
}
