//! Lists of reclaimable things, one for each group.

use super::memcg::Memcg;
use super::scope::{Entered, no_account};
use crate::engine::process::{engine, with_rec};
use crate::engine::worker::thread as worker;
use crate::group::{NO_TAG, ROOT_TAG};
use crate::kmem::list_lru::{Cx, Link};
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use std::sync::Arc;

pub use crate::kmem::list_lru::{Verdict, Walked};

/// Things that can be given up when memory is short, each in the list of the group it belongs to, oldest first.
///
/// A thing is a [`LruItem`]: an owned value that can be in the list or not. Whom it belongs to is said when it is made: the
/// group or task the thread works for then, or one that is named. The list a thing is in follows from that: when the group
/// ends the thing is in the parent's, at once, and when its task moves it goes along, with the next walk that meets it.
///
/// Cost of [`ListLru::add`] and [`ListLru::del`]: one lock a list and group. Memory for a group's list is taken when something
/// is first put in; without any, the list of the nearest group above that has one is used.
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
/// let walked = pages.walk(&tenant, 10, |page| if *page == "log" { Verdict::Removed } else { Verdict::Rotate });
/// assert_eq!((walked.scanned, walked.removed), (2, 1));
/// assert!(kept.is_listed() && !cold.is_listed());
/// ```
pub struct ListLru<T: Send + Sync + 'static> {
    core: Arc<Core>,
    _things: PhantomData<fn() -> T>,
}

/// The list, as long as there is a handle or a thing of it.
struct Core {
    list: u32,
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
            engine.tree.release_objcg(self.link.tag());
        });
    }
}

/// An owned `T` that may be in a [`ListLru`]. Dropping it takes it out.
pub struct LruItem<T: Send + Sync + 'static> {
    node: NonNull<Node<T>>,
}

// SAFETY: the value is seen by walks of other threads while it is owned by this one, and may be dropped by them: as an Arc's.
unsafe impl<T: Send + Sync> Send for LruItem<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for LruItem<T> {}

/// Runs `f` with what list operations need.
fn at<R>(f: impl FnOnce(Cx<'_>) -> R) -> R {
    with_rec(|engine, rec| engine.with_lists(rec, f)).expect("no memory for a thread's record")
}

/// # Safety
/// `link` is of a `Node<T>`, and the hold the caller's.
unsafe fn let_go<T>(link: *const Link) {
    // SAFETY: the caller's.
    if unsafe { &*link }.let_go() {
        // SAFETY: the link is the first field of a node from a box, and nobody holds it any more.
        drop(unsafe { Box::from_raw(link.cast_mut().cast::<Node<T>>()) });
    }
}

impl<T: Send + Sync + 'static> Default for ListLru<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + Sync + 'static> ListLru<T> {
    /// An empty list.
    ///
    /// # Panics
    /// Without memory for it.
    #[must_use]
    pub fn new() -> Self {
        let _free = no_account();
        worker::want();
        let list = at(|cx| cx.kmem.lists.open(cx, let_go::<T>)).expect("no memory for a list");
        Self {
            core: Arc::new(Core { list }),
            _things: PhantomData,
        }
    }

    pub(crate) fn list(&self) -> u32 {
        self.core.list
    }

    /// One more handle on the same list.
    pub(crate) fn handle(&self) -> Self {
        Self {
            core: self.core.clone(),
            _things: PhantomData,
        }
    }

    /// A thing that belongs to whom the thread works for (nobody: the root), in no list yet.
    pub fn item(&self, value: T) -> LruItem<T> {
        let tag = with_rec(|_, rec| rec.current()).unwrap_or(ROOT_TAG);
        self.make(tag, value)
    }

    /// A thing that belongs to `group`, in no list yet. Its memory is charged there as well.
    pub fn item_for(&self, group: &Memcg, value: T) -> LruItem<T> {
        let _entered = Entered::new(group.tag());
        self.make(group.tag(), value)
    }

    /// [`Self::item`], put in.
    pub fn insert(&self, value: T) -> LruItem<T> {
        let item = self.item(value);
        self.add(&item);
        item
    }

    /// [`Self::item_for`], put in.
    pub fn insert_for(&self, group: &Memcg, value: T) -> LruItem<T> {
        let item = self.item_for(group, value);
        self.add(&item);
        item
    }

    fn make(&self, tag: u32, value: T) -> LruItem<T> {
        let tag = if tag == NO_TAG { ROOT_TAG } else { tag };
        engine().tree.hold_objcg(tag);
        let node = Box::new(Node {
            link: Link::new(tag),
            core: self.core.clone(),
            value,
        });
        LruItem {
            node: NonNull::from(Box::leak(node)),
        }
    }

    /// Puts a thing at the end of its group's list. `false`: it is in the list.
    ///
    /// # Panics
    /// When it was made for another list.
    pub fn add(&self, item: &LruItem<T>) -> bool {
        assert!(
            Arc::ptr_eq(&self.core, &item.node().core),
            "the item is of another list"
        );
        // SAFETY: a node does not move; it leaves the list before it goes, and holds the list.
        at(|cx| unsafe { cx.kmem.lists.add(cx, self.core.list, &item.node().link) })
    }

    /// Takes a thing out. `false`: it is in no list.
    pub fn del(&self, item: &LruItem<T>) -> bool {
        item.unlist()
    }

    /// Things in the list of `group`, those of groups below not counted.
    #[must_use]
    pub fn count(&self, group: &Memcg) -> u64 {
        self.id_of(group)
            .map_or(0, |id| at(|cx| cx.kmem.lists.count(cx, self.core.list, id)))
    }

    /// Things in the lists of all groups. O(groups that ever had any).
    #[must_use]
    pub fn count_all(&self) -> u64 {
        at(|cx| cx.kmem.lists.count_all(cx, self.core.list))
    }

    /// Shows up to `nr` things of the list of `group` to `look`, oldest first, each once. What [`Verdict`] it gives is done.
    ///
    /// No lock is held meanwhile: `look` may use this list, drop items (also the one it looks at), walk, remove groups. Things
    /// that come during the walk may be met or not.
    pub fn walk(&self, group: &Memcg, nr: u64, mut look: impl FnMut(&T) -> Verdict) -> Walked {
        let Some(id) = self.id_of(group) else {
            return Walked::default();
        };
        let mut look = |link: &Link| {
            // SAFETY: all links of this list are the first fields of `Node<T>`; its memory is held while it is looked at.
            look(unsafe { &(*core::ptr::from_ref(link).cast::<Node<T>>()).value })
        };
        at(|cx| cx.kmem.lists.walk(cx, self.core.list, id, nr, &mut look))
    }

    fn id_of(&self, group: &Memcg) -> Option<u32> {
        group
            .with(|engine, _, group| engine.tree.kmem_id_if_any(group))
            .flatten()
    }
}

impl<T: Send + Sync + 'static> LruItem<T> {
    fn node(&self) -> &Node<T> {
        // SAFETY: we hold it.
        unsafe { self.node.as_ref() }
    }

    /// Whether it is in the list.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.node().link.is_listed()
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
        // SAFETY: the hold of the handle, which ends here.
        unsafe { let_go::<T>(&self.node().link) };
    }
}

impl<T: Send + Sync + core::fmt::Debug + 'static> core::fmt::Debug for LruItem<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("LruItem").field(&**self).finish()
    }
}
