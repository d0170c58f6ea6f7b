//! Lists of reclaimable things, one for each group: the group's own, oldest first.
//!
//! ```text
//! list ── kmem id ──► head ── ring ── link ── link …      the link is in the thing; it names its head, never a group
//!                       └ ended: leads to the head of the group above
//! ```
//!
//! Kept: a thing is in one list at most; which group's, its owner says at the moment it is put in:
//! its tag leads to a group, that to a kmem id, that to a head. One lock a list and group. A
//! group's list takes memory when something is first put in, those of the groups above first. A
//! group's end is: redirect (nobody finds the head any more), then splice, then lead on; O(lists),
//! whatever is in them. What was put in meanwhile is in the parent's. Relied on: `per_id` for head
//! by id; ids that are nobody's until every pinned reader of the last holder is gone. Never done: a
//! callback under a lock; a charge; a wait for a walker.
//!
//! A task that moves leaves the things it has listed where they are. A walk that meets one puts it
//! into the list of the group it belongs to now, instead of showing it.

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
    /// By kmem id.
    marks: Arena<KmemId, Marks>,
}

// SAFETY: arenas.
unsafe impl Zeroed for Lists {}

/// One list.
#[derive(Default)]
struct ListRec {
    link: AtomicU32,
    users: Users,
    let_go: Hook<LetGo>,
    heads: PerId<HeadId>,
}

/// Ends a hold on the thing that a link is in.
///
/// # Safety
/// The hold is the caller's.
pub type LetGo = unsafe fn(*const Link);

// SAFETY: all parts are Zeroed.
unsafe impl Zeroed for ListRec {}
// SAFETY: `link` is the arena's alone.
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
    /// Runs what a fork has to wait for.
    pub change: &'a dyn Fn(&mut dyn FnMut()),
}

impl Cx<'_> {
    /// Runs `f` as one change.
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

    /// Ends a list in which nothing is, nor will be.
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
        // SAFETY: the list has ended and nobody uses it, as `users` says.
        unsafe { rec.heads.clear(kmem) };
        self.lists.free(list);
    }

    /// Puts a thing at the end of the list of its owner's group. `false`: it is in a list.
    ///
    /// Cost: a lock and what leads to it. Takes memory when it is the group's first; without any
    /// the nearest group above that has a list has the thing.
    ///
    /// # Safety
    /// The link stays where it is until it is taken out; the list lives until then.
    pub unsafe fn add(&self, cx: Cx<'_>, list: ListId, link: &Link) -> bool {
        // Acquire pairs with the Release of `off`.
        let claimed = link
            .state
            .compare_exchange(OFF, ON, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        if claimed {
            // SAFETY: the caller's.
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
            // Another thread puts it in, this moment.
            if link.state.load(Ordering::Acquire) == OFF {
                return false;
            }
            crate::sync::relax();
        }
    }

    /// Things in the list of a kmem id.
    pub fn count(&self, cx: Cx<'_>, list: ListId, id: KmemId) -> u64 {
        let _pin = cx.tree.threads.epoch.pin(cx.rec);
        let head = self.lists.get(list).heads.get(cx.kmem, cx.rec, id);
        head.map_or(0, |head| self.heads.get(head).nr())
    }

    /// Things in the list of all groups. O(ids).
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

    /// In the child of a fork, which waited for changes here to end: nobody holds a lock.
    pub fn reset_locks_in_child(&self, sole: SoleThread) {
        for (_, head) in self.heads.each() {
            head.lock.reset_in_child(sole);
        }
    }

    /// In the child of a fork: nobody changes a table there.
    pub fn reset_tables_in_child(&self, sole: SoleThread) {
        for (_, list) in self.lists.each() {
            list.heads.reset_lock_in_child(sole);
        }
    }

    /// Heads there are, those included that have ended and still lead somewhere.
    pub fn nr_heads(&self) -> u32 {
        self.heads.in_use()
    }

    /// Links a claimed thing in, where it belongs now.
    ///
    /// # Safety
    /// As [`Self::add`].
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
                    // Its group ended meanwhile; then the group above is found.
                    continue;
                }
                // SAFETY: under the lock; the caller's.
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

    /// The head for what belongs to `group`, made if need be: its own, or the nearest above. The
    /// caller is pinned.
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
            // Ended, or no memory: the group above. The root has a head as long as the list lives.
            group = at.parent().unwrap_or_else(|| cx.tree.memcgs.get(ROOT));
        }
    }

    fn find(&self, cx: Cx<'_>, list: ListId, id: KmemId) -> Option<HeadId> {
        self.lists.get(list).heads.get(cx.kmem, cx.rec, id)
    }

    /// Makes the head of a group, those above it first, so that the group's end needs no memory.
    /// `None`: without memory, or the group's end has begun.
    #[cold]
    fn make(&self, cx: Cx<'_>, list: ListId, group: &Memcg, id: KmemId) -> Option<HeadId> {
        loop {
            // The topmost that has none.
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
        // Found a moment ago, it may have ended and be another's: then it is not made a parent of.
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
                // The group's end has passed by: what it would have done.
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

    /// Where the items of a head are.
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
            let home = link.home.load(Ordering::Acquire)?;
            let at = self.live(home);
            let head = self.heads.get(at);
            let held = head.lock.lock(Rank::List);
            // Of a link in this list nothing changes now. Of one that was taken out meanwhile `at`
            // means nothing.
            let home = link.home.load(Ordering::Acquire);
            let is_there = |home| self.live(home) == at;
            if head.to.load(Ordering::Relaxed).is_none() && home.is_some_and(is_there) {
                return Some((at, held));
            }
        }
    }

    /// Takes a link out of the ring of the live head `index`. Under its lock.
    fn remove_link(&self, index: HeadId, link: &Link) {
        // SAFETY: in this ring, under its lock.
        unsafe { link.unlink() };
        if !link.is_mark() {
            self.heads.get(index).sub_nr(1);
        }
        if let Some(home) = link.home.swap(None, Ordering::Release) {
            self.unref_head(home);
        }
    }

    /// One name less for a head; the last frees it, and lets go of what it led to.
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

/// A thing that was taken out may be put in again.
fn off(link: &Link) {
    // Release pairs with the Acquire of `add` and `del`.
    link.state.store(OFF, Ordering::Release);
}
