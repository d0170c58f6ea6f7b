//! Lists of reclaimable things, one for each group: the group's own, oldest first.
//!
//! ```text
//! list ── kmem id ──► head ── ring ── link ── link …
//!                       └ ended: leads to the head of the group above
//! ```
//!
//! The link is in the thing. It names its head, never a group.
//!
//! Invariants: a thing is in one list at most. Its owner says in which group's, at the moment it is
//! put in: its tag leads to a group, that to a kmem id, that to a head. There is one lock for each
//! list and group. A group's list takes memory when something is first put in, and those of the
//! groups above it are made first. When a group ends its head is first made impossible to find
//! (redirect), then its items are spliced into the parent's, then the head leads on to the
//! parent's: O(lists), however many items there are. What is put in meanwhile goes to the parent's.
//! A task that moves leaves the things it has listed where they are. A walk that meets such a thing
//! does not show it, but puts it into the list of the group that it belongs to now.
//! Depends on: `per_id` to find a head by id. An id has no new holder until every pinned reader of
//! the last one is gone.
//! Never: a callback under a lock; a charge; a wait for a walker.

mod head;
mod link;
mod marks;
mod reparent;
#[cfg(all(test, not(loom)))]
mod tests;
mod walk;

pub use link::Link;
pub use walk::{Verdict, Walked};

use super::Kmem;
use super::id::{HeadId, ListId};
use super::per_id::{PerId, Put};
use crate::counter::Level;
use crate::group::id::KmemId;
use crate::group::kmem_id::ROOT_ID;
use crate::group::{Hierarchy, Memcg, ROOT};
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::hook::Hook;
use crate::sync::lock::{Held, Rank};
use crate::sync::promise::SoleThread;
use crate::sync::users::Users;
use crate::thread::ThreadRec;
use head::{Head, key};
use link::{OFF, ON};
use marks::Marks;

/// All lists of an engine.
#[derive(Default)]
pub struct Lists {
    lists: Arena<ListId, ListRec>,
    heads: Arena<HeadId, Head>,
    /// The bits that say where lists have things, by kmem id.
    marks: Arena<KmemId, Marks>,
}

// SAFETY: arenas are `Zeroed` themselves: zero bytes are arenas without a record.
unsafe impl Zeroed for Lists {}

/// One list.
#[derive(Default)]
struct ListRec {
    link: AtomicU32,
    users: Users,
    let_go: Hook<LetGo>,
    heads: PerId<HeadId>,
}

/// Ends a walk's hold on the thing that a link is in.
///
/// # Safety
/// The walk has called `Link::add_ref` on this link, and gives up that hold with this call: it does
/// not use the link afterwards.
pub type LetGo = unsafe fn(*const Link);

// SAFETY: each field is an integer or `Zeroed` itself, so zero bytes are a list that is not open.
unsafe impl Zeroed for ListRec {}
// SAFETY: the answer is always the same field, and nothing in this room reads or writes `link`; the
// arena alone uses it.
unsafe impl Record for ListRec {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// Where an operation takes place.
#[derive(Clone, Copy)]
pub struct Cx<'a> {
    /// The groups.
    pub tree: &'a Hierarchy,
    /// The slabs, and these lists.
    pub kmem: &'a Kmem,
    /// The calling thread's record.
    pub rec: &'a ThreadRec,
    /// Runs a change that a fork has to wait for.
    pub change: &'a dyn Fn(&mut dyn FnMut()),
}

impl Cx<'_> {
    /// Runs `f` as one change, which a fork waits for.
    fn changed<R>(&self, f: impl FnOnce() -> R) -> R {
        let (mut f, mut answer) = (Some(f), None);
        (self.change)(&mut || answer = f.take().map(|f| f()));
        match answer {
            Some(answer) => answer,
            None => unreachable!("a change is run once"),
        }
    }
}

impl Lists {
    /// A new list, with a place for the root's items; `let_go` is how a walk ends its hold on a
    /// thing it looked at. `None` without memory.
    pub fn open(&self, cx: Cx<'_>, let_go: LetGo) -> Option<ListId> {
        self.ready_marks(ROOT_ID)?;
        let list = self.lists.alloc(u32::MAX)?;
        let rec = self.lists.get(list);
        let root = self.heads.alloc(u32::MAX);
        let put = root.map(|root| {
            self.heads.get(root).make(key(list, ROOT_ID), None);
            rec.heads.insert(cx.kmem, ROOT_ID, root)
        });
        if put == Some(Put::Done) {
            rec.let_go.set(let_go);
            rec.users.begin();
            return Some(list);
        }
        if let Some(root) = root {
            self.heads.free(root);
        }
        self.lists.free(list);
        None
    }

    /// Ends a list in which nothing is, and into which nothing will be put.
    pub fn close(&self, cx: Cx<'_>, list: ListId) {
        if self.lists.get(list).users.end() {
            self.free(cx.kmem, list);
        }
    }

    fn free(&self, kmem: &Kmem, list: ListId) {
        let rec = self.lists.get(list);
        rec.heads.each(kmem, |id, head| {
            self.unmark(list, id);
            self.unref_head(head);
        });
        // SAFETY: `users` has said that the list ended and that its last user is gone, so no thread
        // uses the table, or finds it any more.
        unsafe { rec.heads.clear(kmem) };
        self.lists.free(list);
    }

    /// Puts a thing at the end of the list of its owner's group. `false`: it is in a list.
    ///
    /// Cost: a lock and what leads to it. Takes memory when it is the group's first; without any
    /// the nearest group above that has a list has the thing.
    ///
    /// # Safety
    /// The thing that `link` is in does not move or end until it is taken out of the list, and the
    /// list is not closed before that.
    pub unsafe fn add(&self, cx: Cx<'_>, list: ListId, link: &Link) -> bool {
        // Acquire pairs with the Release of `off`: the link as it was left.
        let claimed = link
            .state
            .compare_exchange(OFF, ON, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        if claimed {
            // SAFETY: the caller promised about `link` and `list` what `place` wants. The claim
            // makes this thread the only one that puts the link in.
            unsafe { self.place(cx, list, link) };
        }
        claimed
    }

    /// Takes a thing out of whatever list it is in. `false`: it is in none.
    pub fn del(&self, cx: Cx<'_>, link: &Link) -> bool {
        loop {
            let taken = cx.changed(|| {
                self.lock_home(link).is_some_and(|(head, _held)| {
                    self.remove_link(head, link);
                    off(link);
                    true
                })
            });
            if taken {
                return true;
            }
            // The state says that the thing is listed, but no lock leads to it: another thread is
            // putting it in, at this moment. Acquire pairs with the Release of `off`.
            if link.state.load(Ordering::Acquire) == OFF {
                return false;
            }
            crate::sync::relax();
        }
    }

    /// The number of things in the list of a kmem id.
    pub fn count(&self, cx: Cx<'_>, list: ListId, id: KmemId) -> u64 {
        let _pin = cx.tree.threads.epoch.pin(cx.rec);
        let head = self.lists.get(list).heads.get(cx.kmem, cx.rec, id);
        head.map_or(0, |head| self.heads.get(head).nr())
    }

    /// The number of things in the lists of all groups. O(ids).
    pub fn count_all(&self, cx: Cx<'_>, list: ListId) -> u64 {
        let _pin = cx.tree.threads.epoch.pin(cx.rec);
        let mut sum = 0;
        self.lists.get(list).heads.each(cx.kmem, |_, head| {
            sum += self.heads.get(head).nr();
        });
        sum
    }

    /// Bytes of the heads, lists and marks; those of the tables by kmem id are counted with all
    /// tables.
    pub fn bytes(&self) -> u64 {
        u64::from(self.heads.high_water()) * size_of::<Head>() as u64
            + u64::from(self.lists.high_water()) * size_of::<ListRec>() as u64
            + u64::from(self.marks.high_water()) * size_of::<Marks>() as u64
    }

    /// In the child of a fork, which waited for changes here to end: makes the heads' locks free.
    pub fn reset_locks_in_child(&self, sole: SoleThread) {
        for (_, head) in self.heads.each() {
            head.lock.reset_in_child(sole);
        }
    }

    /// In the child of a fork, where nobody changes a table: makes the tables' locks free.
    pub fn reset_tables_in_child(&self, sole: SoleThread) {
        for (_, list) in self.lists.each() {
            list.heads.reset_lock_in_child(sole);
        }
    }

    /// The number of heads, including those that have ended and still lead to another.
    pub fn nr_heads(&self) -> u32 {
        self.heads.in_use()
    }

    /// Puts a claimed thing into the ring where it belongs now.
    ///
    /// # Safety
    /// As for [`Self::add`]; and the calling thread has claimed the link, which is in no ring.
    unsafe fn place(&self, cx: Cx<'_>, list: ListId, link: &Link) {
        cx.changed(|| {
            let _pin = cx.tree.threads.epoch.pin(cx.rec);
            loop {
                let cell = cx.tree.objcgs.get(link.tag()).cell();
                let group = cx.tree.resolve(cell).group;
                let (index, key) = self.head_of(cx, list, group);
                let head = self.heads.get(index);
                let _held = head.lock.lock(Rank::List);
                if !head.is_of(key) {
                    // Its group has ended meanwhile; the next round finds the group above.
                    continue;
                }
                // SAFETY: the lock of `head` is held and the link, which this thread has claimed,
                // is in no ring. The caller promised that it does not move or end until it is taken
                // out.
                unsafe { link.insert_before(&head.ring) };
                if head.nr() == 0 {
                    self.mark(head);
                }
                head.add_nr(1);
                head.add_ref();
                // Release pairs with the Acquire of `lock_home`.
                link.home.store(Some(index), Ordering::Release);
                return;
            }
        });
    }

    /// The head for what belongs to `group`: its own, made if there is none, or that of the nearest
    /// group above. The caller is pinned.
    fn head_of(&self, cx: Cx<'_>, list: ListId, group: &Memcg) -> (HeadId, u64) {
        let mut group = group;
        loop {
            let (id, at) = cx.tree.kmem_id_or_above(group);
            if let Some(head) = self
                .find(cx, list, id)
                .or_else(|| self.make(cx, list, at, id))
            {
                return (head, key(list, id));
            }
            // It has ended, or there is no memory: try the group above. The root has a head as long
            // as the list lives.
            group = at.parent().unwrap_or_else(|| cx.tree.memcgs.get(ROOT));
        }
    }

    fn find(&self, cx: Cx<'_>, list: ListId, id: KmemId) -> Option<HeadId> {
        self.lists.get(list).heads.get(cx.kmem, cx.rec, id)
    }

    /// Makes the head of a group, and first those of the groups above, so that the group's end
    /// needs no memory. `None`: there is no memory, or the group's end has begun.
    #[cold]
    fn make(&self, cx: Cx<'_>, list: ListId, group: &Memcg, id: KmemId) -> Option<HeadId> {
        loop {
            // The topmost group that has no head.
            let (mut at, mut at_id) = (group, id);
            let above = loop {
                let above = at.parent()?;
                let above_id = cx.tree.kmem_id_if_any(above)?;
                if let Some(head) = self.find(cx, list, above_id) {
                    break head;
                }
                (at, at_id) = (above, above_id);
            };
            let made = self.enter(cx, list, at, at_id, above)?;
            if at_id == id {
                return Some(made);
            }
        }
    }

    fn enter(
        &self,
        cx: Cx<'_>,
        list: ListId,
        group: &Memcg,
        id: KmemId,
        above: HeadId,
    ) -> Option<HeadId> {
        self.ready_marks(id)?;
        let index = self.heads.alloc(u32::MAX)?;
        // The head above was found a moment ago. If it has ended, or its record is another's by
        // now, it must not become a parent.
        {
            let parent = self.heads.get(above);
            let _held = parent.lock.lock(Rank::List);
            let parent_id = group.parent().and_then(|up| cx.tree.kmem_id_if_any(up));
            if !parent_id.is_some_and(|up| parent.is_of(key(list, up))) {
                self.heads.free(index);
                return None;
            }
            parent.add_ref();
        }
        self.heads.get(index).make(key(list, id), Some(above));
        match self.lists.get(list).heads.insert(cx.kmem, id, index) {
            Put::Done if cx.tree.still_has_kmem_id(group, id) => Some(index),
            Put::Done => {
                // The group's end has passed by already: do what it would have done.
                let in_front = group.offline_policy().is_deferred();
                self.end_head(cx.kmem, list, id, in_front);
                None
            }
            other @ (Put::Found(_) | Put::NoMemory) => {
                self.unref_head(index);
                match other {
                    Put::Found(head) => Some(head),
                    Put::Done | Put::NoMemory => None,
                }
            }
        }
    }

    /// The head that has the items of head `index` now.
    fn live(&self, index: HeadId) -> HeadId {
        let mut at = index;
        loop {
            // Acquire pairs with the Release of `set_ended`.
            match self.heads.get(at).to.load(Ordering::Acquire) {
                None => return at,
                Some(to) => at = to,
            }
        }
    }

    /// Locks the list a link is in. `None`: it is in none.
    fn lock_home(&self, link: &Link) -> Option<(HeadId, Held<'_>)> {
        loop {
            // Acquire, here and below, pairs with the Release in `place` and `begin_walk`: the head
            // that the link is in.
            let home = link.home.load(Ordering::Acquire)?;
            let at = self.live(home);
            let head = self.heads.get(at);
            let held = head.lock.lock(Rank::List);
            // Of a link in this list nothing changes now. Of one that was taken out meanwhile `at`
            // means nothing.
            // Acquire pairs with the Release in `place` and `begin_walk`, as above.
            let home = link.home.load(Ordering::Acquire);
            let is_there = |home| self.live(home) == at;
            if head.to.load(Ordering::Relaxed).is_none() && home.is_some_and(is_there) {
                return Some((at, held));
            }
        }
    }

    /// Takes a link out of the ring of the live head `index`. Under its lock.
    fn remove_link(&self, index: HeadId, link: &Link) {
        // SAFETY: `lock_home` found that the link is in the ring of this head, whose lock the
        // caller holds.
        unsafe { link.unlink() };
        if !link.is_mark() {
            self.heads.get(index).sub_nr(1);
        }
        // Release pairs with the Acquire of `lock_home`: a link without a home is in no ring.
        if let Some(home) = link.home.swap(None, Ordering::Release) {
            self.unref_head(home);
        }
    }

    /// Drops a reference to a head. The last one frees it, and drops its own reference to the head
    /// it led to.
    fn unref_head(&self, index: HeadId) {
        let mut next = Some(index);
        while let Some(at) = next {
            let head = self.heads.get(at);
            if !head.unref() {
                return;
            }
            let to = head.to.load(Ordering::Relaxed);
            next = to.or_else(|| head.above.load(Ordering::Relaxed));
            head.set_ended(None);
            self.heads.free(at);
        }
    }
}

/// Marks a thing that was taken out: it may be put in again.
fn off(link: &Link) {
    // Release pairs with the Acquire of `add` and `del`.
    link.state.store(OFF, Ordering::Release);
}
