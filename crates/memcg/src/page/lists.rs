//! The lists of pages: each owner's queues, and for each group the order among its owners'.
//!
//! ```text
//! group ── Head: a heap of owners for each class and queue, clocks, how many are resident
//! owner ── OwnerLists: a queue for each class and queue, its place in the heaps
//! ```
//!
//! An entry of a queue names a page and a number. It stands for the page while the page is in a
//! frame, is the owner's and has that number; else it is stale, and dropped when it is met. So a
//! page leaves a list by being given another number.
//!
//! A group's end melds its heaps into its parent's, and lets its head lead there; an owner that
//! named it finds the way when it is looked at next, and names the parent's from then on.
//!
//! Invariants: an owner is in the heaps of one head, that of the group that it was in when it was
//! looked at last, or where that one leads. Numbers of an owner's entries are used once, until 2³²
//! of them have been.
//! Depends on: the owner's lock of pages for its queues; a head's own lock for its heaps.
//! Never: looks at a page; a lock of an owner under a head's.

use super::chunk::{Chunks, Entry, NoMemory};
use super::cost_balance::Class;
use super::id::{PageGroupId, PageId, PageOwnerId};
use super::list_records::{CLASSES, OwnerLists, QUEUES};
pub use super::list_records::{Group, Head};
use super::owner_heap::{HeapNode, Nodes};
use super::s3fifo::{self, Arrival, Queue, Resident};
use super::workingset::{Base, Generation, Moment, Shadow};
use crate::group::{GroupId, Tag};
use crate::sync::Zeroed;
use crate::sync::arena::Arena;
use crate::sync::atomic::Ordering;
use crate::sync::lock::{Held, Lock, Rank};
use crate::sync::promise::SoleThread;
use crate::sync::sparse::Sparse;

/// All lists.
#[derive(Default)]
pub struct Lists {
    /// Orders changes of which head is whose: a head's making, its users, where it leads, its end.
    changing: Lock,
    chunks: Chunks,
    owners: Arena<PageOwnerId, OwnerLists>,
    heads: Arena<PageGroupId, Head>,
    of_owner: Sparse<Tag, PageOwnerId>,
    of_group: Sparse<GroupId, PageGroupId>,
}

// SAFETY: types that are Zeroed themselves.
unsafe impl Zeroed for Lists {}

/// The nodes of one heap.
struct Of<'l> {
    owners: &'l Arena<PageOwnerId, OwnerLists>,
    class: usize,
    queue: usize,
}

impl Nodes for Of<'_> {
    fn node(&self, owner: PageOwnerId) -> &HeapNode {
        &self.owners.get(owner).nodes[self.class][self.queue]
    }
}

/// An owner's lists, under the owner's lock.
#[derive(Clone, Copy)]
pub struct Listed<'l> {
    lists: &'l Lists,
    id: PageOwnerId,
    owner: &'l OwnerLists,
}

impl Lists {
    /// A group's head, if it has one.
    pub fn head_of(&self, group: Group) -> Option<&Head> {
        let head = self.heads.get(self.of_group.get(group.index)?);
        head.is_of(group).then_some(head)
    }

    /// A group's head, made if there is none. `None`: no memory. Under `changing`.
    fn ensure_head(&self, group: Group, _changing: &Held<'_>) -> Option<PageGroupId> {
        if let Some(there) = self.of_group.get(group.index) {
            if self.heads.get(there).is_of(group) {
                return Some(there);
            }
            // Of a group that had the record before, and whose end nobody told.
            let _ = self.of_group.take(group.index);
        }
        let new = self.heads.alloc(u32::MAX)?;
        let head = self.heads.get(new);
        head.group.store(Some(group.index), Ordering::Relaxed);
        head.cell.store(Some(group.cell), Ordering::Relaxed);
        head.users.store(0, Ordering::Relaxed);
        head.to.store(None, Ordering::Relaxed);
        for word in head.resident.iter().flatten() {
            word.store(0, Ordering::Relaxed);
        }
        let there = self.of_group.set(group.index, new);
        if there != Some(new) {
            self.heads.free(new);
        }
        there
    }

    /// An owner's lists, if it ever had any. The caller has its lock of pages.
    pub fn of(&self, tag: Tag) -> Option<Listed<'_>> {
        let id = self.of_owner.get(tag)?;
        Some(self.listed(id))
    }

    fn listed(&self, id: PageOwnerId) -> Listed<'_> {
        Listed {
            lists: self,
            id,
            owner: self.owners.get(id),
        }
    }

    /// An owner's lists, made if there are none, in the heaps of the group where it is now, which
    /// `group` answers. `None`: no memory. The caller has its lock of pages.
    pub fn ensure(&self, tag: Tag, group: impl Fn() -> Group) -> Option<Listed<'_>> {
        let id = match self.of_owner.get(tag) {
            Some(there) => there,
            None => {
                let new = self.owners.alloc(u32::MAX)?;
                let owner = self.owners.get(new);
                owner.tag.store(Some(tag), Ordering::Relaxed);
                owner.head.store(None, Ordering::Relaxed);
                let there = self.of_owner.set(tag, new);
                if there != Some(new) {
                    self.owners.free(new);
                }
                there?
            }
        };
        let listed = self.listed(id);
        listed.be_in(group)?;
        Some(listed)
    }

    /// Of the owners of a group, the one whose queue is to be taken from.
    pub fn first(&self, group: Group, class: Class, queue: Queue) -> Option<Tag> {
        let head = self.head_of(group)?;
        let _held = head.lock.lock(Rank::PageLists);
        let owner = head.heaps[class.index()][queue as usize].first()?;
        self.owners.get(owner).tag.load(Ordering::Relaxed)
    }

    /// `child` has ended, its cell leads to its parent's, and what was in it is the parent's, which
    /// `parent` answers: its owners are in the parent's heaps from now on. O(log owners). `None`:
    /// it had no lists; or there is no memory for a head of the parent, and its owners go over one
    /// by one when they are looked at. The caller has no lock of an owner's pages.
    pub fn group_ended(&self, child: Group, parent: impl Fn() -> Group) -> Option<()> {
        // Also where the group has no head yet: whoever brings an owner into one asks for the group
        // under this lock. So either he was here before, and what he brought is melded; or he finds
        // that the group has ended.
        let changing = self.changing.lock(Rank::PageHeads);
        let from = self.of_group.get(child.index)?;
        let head = self.heads.get(from);
        if !head.is_of(child) {
            return None;
        }
        let to = self.ensure_head(parent(), &changing)?;
        let above = self.heads.get(to);
        let _ = self.of_group.take(child.index);
        {
            // Two of one rank: the deeper group's first, always.
            let _child = head.lock.lock(Rank::PageLists);
            let _parent = above.lock.lock(Rank::PageLists);
            for class in CLASSES_IN_ORDER {
                let at = class.index();
                for queue in 0..QUEUES {
                    let nodes = Of {
                        owners: &self.owners,
                        class: at,
                        queue,
                    };
                    above.heaps[at][queue].meld(&nodes, &head.heaps[at][queue]);
                    let resident = head.resident[at][queue].swap(0, Ordering::Relaxed);
                    above.resident[at][queue].fetch_add(resident, Ordering::Relaxed);
                }
                let base = Base::between(head.now(class), above.now(class));
                head.bases[at].store(base.raw(), Ordering::Relaxed);
            }
            above.users.fetch_add(1, Ordering::Relaxed);
            // Release pairs with the Acquire of `settle`: who finds the way finds the bases.
            head.to.store(Some(to), Ordering::Release);
        }
        if head.users.load(Ordering::Relaxed) == 0 {
            self.let_go(from, &changing);
        }
        Some(())
    }

    /// A head has one user less.
    fn unname(&self, head: PageGroupId, changing: &Held<'_>) {
        if self.heads.get(head).users.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.let_go(head, changing);
        }
    }

    /// A head has no user: frees it if it leads elsewhere, and so on. One that leads nowhere is its
    /// group's, which keeps it.
    fn let_go(&self, head: PageGroupId, _changing: &Held<'_>) {
        let mut at = head;
        while let Some(next) = self.heads.get(at).to.load(Ordering::Relaxed) {
            let record = self.heads.get(at);
            record.group.store(None, Ordering::Relaxed);
            record.to.store(None, Ordering::Relaxed);
            self.heads.free(at);
            if self.heads.get(next).users.fetch_sub(1, Ordering::Relaxed) != 1 {
                return;
            }
            at = next;
        }
    }

    /// In the child of a fork: no head is locked.
    pub(super) fn in_child(&self, sole: SoleThread) {
        self.changing.reset_in_child(sole);
        for (_, head) in self.heads.each() {
            head.lock.reset_in_child(sole);
        }
    }
}

/// Both classes.
const CLASSES_IN_ORDER: [Class; CLASSES] = super::cost_balance::CLASSES;

/// Where an entry's number says which queue it is of.
const IN_MAIN: u32 = 1;

/// The number of a page in a frame that is in no list.
pub const UNLISTED: u32 = 0;

/// The queue that an entry of that number is of.
pub fn queue_of(seq: u32) -> Queue {
    if seq & IN_MAIN == 0 {
        Queue::Small
    } else {
        Queue::Main
    }
}

impl<'l> Listed<'l> {
    /// The head that the owner is in; it names that one from now on, and its bases are off that
    /// one's clocks.
    fn settle(self) -> Option<PageGroupId> {
        let at = self.owner.head.load(Ordering::Relaxed)?;
        // Acquire pairs with the Release of `group_ended`. The owner names the head, so it is not
        // freed meanwhile.
        if self
            .lists
            .heads
            .get(at)
            .to
            .load(Ordering::Acquire)
            .is_none()
        {
            return Some(at);
        }
        let changing = self.lists.changing.lock(Rank::PageHeads);
        self.settle_locked(&changing)
    }

    fn settle_locked(self, changing: &Held<'_>) -> Option<PageGroupId> {
        loop {
            let at = self.owner.head.load(Ordering::Relaxed)?;
            let head = self.lists.heads.get(at);
            // Acquire pairs with the Release of `group_ended`.
            let Some(next) = head.to.load(Ordering::Acquire) else {
                return Some(at);
            };
            for class in CLASSES_IN_ORDER {
                let base = Base::from_raw(head.bases[class.index()].load(Ordering::Relaxed));
                self.set_base(class, self.base(class).plus(base));
            }
            let users = &self.lists.heads.get(next).users;
            users.fetch_add(1, Ordering::Relaxed);
            self.owner.head.store(Some(next), Ordering::Relaxed);
            self.lists.unname(at, changing);
        }
    }

    /// Runs `f` on the head that the owner is in, locked.
    fn with_head<R>(self, f: impl FnOnce(&'l Head) -> R) -> Option<R> {
        loop {
            let head = self.lists.heads.get(self.settle()?);
            let _held = head.lock.lock(Rank::PageLists);
            // Its group may have ended before it was locked.
            if head.to.load(Ordering::Relaxed).is_none() {
                return Some(f(head));
            }
        }
    }

    fn base(self, class: Class) -> Base {
        Base::from_raw(self.owner.bases[class.index()].load(Ordering::Relaxed))
    }

    fn set_base(self, class: Class, base: Base) {
        self.owner.bases[class.index()].store(base.raw(), Ordering::Relaxed);
    }

    fn nodes(self, class: Class, queue: usize) -> Of<'l> {
        Of {
            owners: &self.lists.owners,
            class: class.index(),
            queue,
        }
    }

    /// Brings the owner into the heaps of the group where it is. `None`: no memory.
    fn be_in(self, group: impl Fn() -> Group) -> Option<()> {
        let at = self.settle();
        if at.is_some_and(|at| self.lists.heads.get(at).is_of(group())) {
            return Some(());
        }
        let changing = self.lists.changing.lock(Rank::PageHeads);
        // Asked for under the lock: see `group_ended`.
        let group = group();
        let at = self.settle_locked(&changing);
        if at.is_some_and(|at| self.lists.heads.get(at).is_of(group)) {
            return Some(());
        }
        let to = self.lists.ensure_head(group, &changing)?;
        let mut left = [Moment::default(); CLASSES];
        if let Some(at) = at {
            let head = self.lists.heads.get(at);
            let _held = head.lock.lock(Rank::PageLists);
            {
                for class in CLASSES_IN_ORDER {
                    let c = class.index();
                    left[c] = head.now(class);
                    for queue in 0..QUEUES {
                        head.heaps[c][queue].remove(&self.nodes(class, queue), self.id);
                        let resident = self.owner.resident[c][queue].load(Ordering::Relaxed);
                        head.resident[c][queue].fetch_sub(resident, Ordering::Relaxed);
                    }
                }
            }
        }
        let head = self.lists.heads.get(to);
        head.users.fetch_add(1, Ordering::Relaxed);
        self.owner.head.store(Some(to), Ordering::Relaxed);
        if let Some(before) = at {
            self.lists.unname(before, &changing);
        }
        let _held = head.lock.lock(Rank::PageLists);
        {
            for class in CLASSES_IN_ORDER {
                let c = class.index();
                let base = match at {
                    Some(_) => self.base(class).moved(left[c], head.now(class)),
                    None => Base::default(),
                };
                self.set_base(class, base);
                for queue in 0..QUEUES {
                    let key = self.owner.fifos[c][queue].head_stamp();
                    head.heaps[c][queue].set_key(&self.nodes(class, queue), self.id, key);
                    let resident = self.owner.resident[c][queue].load(Ordering::Relaxed);
                    head.resident[c][queue].fetch_add(resident, Ordering::Relaxed);
                }
            }
        }
        Some(())
    }

    /// The owner has no page any more: what is left of its queues is stale, and nobody is to look
    /// there.
    pub fn empty(self) {
        for class in CLASSES_IN_ORDER {
            for queue in s3fifo::QUEUES {
                let fifo = &self.owner.fifos[class.index()][queue as usize];
                if !fifo.is_empty() {
                    fifo.clear(&self.lists.chunks);
                    self.order(class, queue);
                }
            }
        }
    }

    /// The owner's place in a heap is that of its queue's first entry.
    fn order(self, class: Class, queue: Queue) {
        let (c, q) = (class.index(), queue as usize);
        let key = self.owner.fifos[c][q].head_stamp();
        let _ = self.with_head(|head| {
            head.heaps[c][q].set_key(&self.nodes(class, q), self.id, key);
        });
    }

    fn count(self, class: Class, queue: Queue, more: bool) {
        let (c, q) = (class.index(), queue as usize);
        let own = &self.owner.resident[c][q];
        let now = own.load(Ordering::Relaxed);
        own.store(
            if more { now + 1 } else { now.saturating_sub(1) },
            Ordering::Relaxed,
        );
        let _ = self.with_head(|head| {
            let all = &head.resident[c][q];
            let _ = if more {
                all.fetch_add(1, Ordering::Relaxed)
            } else {
                all.fetch_sub(1, Ordering::Relaxed)
            };
        });
    }

    /// A page that is in a frame goes to the end of a queue; answers its number there.
    pub fn push(self, class: Class, queue: Queue, page: PageId) -> Result<u32, NoMemory> {
        // 0 is the number of a page that is in no list.
        let seq = self.owner.next_seq.load(Ordering::Relaxed).max(2);
        let seq = match queue {
            Queue::Small => seq & !IN_MAIN,
            Queue::Main => seq | IN_MAIN,
        };
        let fifo = &self.owner.fifos[class.index()][queue as usize];
        let was_empty = fifo.is_empty();
        fifo.push(&self.lists.chunks, Entry { page, seq })?;
        self.owner
            .next_seq
            .store((seq & !IN_MAIN).wrapping_add(2), Ordering::Relaxed);
        if was_empty {
            self.order(class, queue);
        }
        self.count(class, queue, true);
        Ok(seq)
    }

    /// Takes the oldest entry of a queue that is `live`, if there is one among the first `most`. It
    /// stays counted where it was, until [`Self::left`].
    pub fn pop(
        self,
        class: Class,
        queue: Queue,
        most: u32,
        live: impl FnMut(Entry) -> bool,
    ) -> (Option<Entry>, u32) {
        let fifo = &self.owner.fifos[class.index()][queue as usize];
        let before = fifo.head_stamp();
        let popped = fifo.pop_live(&self.lists.chunks, most, live);
        if fifo.head_stamp() != before {
            self.order(class, queue);
        }
        popped
    }

    /// A page of number `seq` is in its queue no more.
    pub fn forget(self, class: Class, seq: u32) {
        if seq != UNLISTED {
            self.left(class, queue_of(seq), true);
        }
    }

    /// A page is in a queue no more, whose entry may still be there: `is_stale`.
    pub fn left(self, class: Class, queue: Queue, is_stale: bool) {
        self.count(class, queue, false);
        if is_stale {
            self.owner.fifos[class.index()][queue as usize].note_stale();
        }
    }

    /// Drops stale entries, where that is worth while.
    pub fn tidy(self, class: Class, live: impl Fn(Entry) -> bool) {
        for queue in super::s3fifo::QUEUES {
            let fifo = &self.owner.fifos[class.index()][queue as usize];
            if fifo.is_rebuild_due() {
                fifo.rebuild(&self.lists.chunks, &live);
                self.order(class, queue);
            }
        }
    }

    /// The shadow of a page that is evicted from a queue now; `life` tells one owner of the record
    /// from the next.
    pub fn shadow(self, class: Class, queue: Queue, life: u32) -> u32 {
        let moment = self.with_head(|head| head.evict(class, queue));
        // `with_head` has settled the base.
        let (base, generation) = (self.base(class), Generation::of(life));
        let workingset = queue.is_workingset();
        moment.map_or(0, |now| {
            Shadow::new(now, base, generation, workingset).raw()
        })
    }

    /// Where a page goes that comes with what its word kept of its eviction.
    pub fn arrival(self, class: Class, shadow: u32, life: u32) -> Arrival {
        let seen = self.with_head(|head| (head.now(class), head.resident(class)));
        let Some((now, resident)) = seen else {
            return s3fifo::arrival(None, Resident::default());
        };
        let resident = Resident {
            small: resident.small + 1,
            ..resident
        };
        let back = |shadow: Shadow| shadow.refault(now, self.base(class), Generation::of(life));
        let arrival = s3fifo::arrival(Shadow::from_raw(shadow).and_then(back), resident);
        if arrival.activate {
            let _ = self.with_head(|head| {
                let all = CLASSES_IN_ORDER.map(|class| head.resident(class).total());
                head.balance.note(class, 1, all.iter().sum());
            });
        }
        arrival
    }
}
