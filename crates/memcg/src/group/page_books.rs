//! What owners and groups have of pages: records that are made with the first page.
//!
//! An owner's record says how many bytes of each count its pages make, and in which cell they are
//! counted; a group's adds up those of all owners in it and below. A group's is made after those of
//! the groups above it, an owner's after its group's, so what counts an owner's page finds every
//! level.
//!
//! Invariants: the counts of an owner's record are counted at the groups that its cell leads to.
//! While an owner has a page, in memory or in swap, it is named.
//! Depends on: `Sparse` for the way from an owner or a group to its record; the owner's lock of
//! pages for every change; the epochs for records that are let go.
//! Never: a charge (`exact_charge` and `stock`); a look at a page.

use super::id::{CellId, GroupId, GroupPagesId, OwnerPagesId};
use super::limbo::What;
use super::memcg_record::Memcg;
use super::page_count::{NR_PAGE_COUNTS, PageCount};
use super::page_event::{NR_PAGE_EVENTS, PageEvent};
use super::{Hierarchy, Tag};
use crate::counter::{Level, PageCounter};
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::id::AtomicId;
use crate::sync::lock::{Held, Lock, Rank};
use crate::sync::sparse::Sparse;

/// The books of pages of one hierarchy.
#[derive(Default)]
pub struct PageBooks {
    owners: Arena<OwnerPagesId, OwnerPages>,
    groups: Arena<GroupPagesId, GroupPages>,
    of_owner: Sparse<Tag, OwnerPagesId>,
    of_group: Sparse<GroupId, GroupPagesId>,
    /// Owners' records that were made.
    lives: AtomicU32,
}

// SAFETY: arenas and tables that are Zeroed themselves.
unsafe impl Zeroed for PageBooks {}

/// What an owner has of pages. Read without a lock; written under `lock`.
#[derive(Default)]
#[repr(C)]
pub struct OwnerPages {
    link: AtomicU32,
    /// Orders changes of the counts, and the move of all of them.
    pub(crate) lock: Lock,
    tag: AtomicId<Tag>,
    /// Where the counts are counted. Under the lock.
    cell: AtomicId<CellId>,
    /// Pages that are charged to the owner, in memory or in swap.
    nr_pages: AtomicU64,
    /// Tells it from others that had the owner's tag before, or will.
    life: AtomicU32,
    /// Bytes of records that the owner's regions make the engine keep.
    records: AtomicU64,
    counts: [AtomicU64; NR_PAGE_COUNTS],
    /// Bytes that are charged to swap.
    swap: AtomicU64,
}

// SAFETY: integers and a free lock.
unsafe impl Zeroed for OwnerPages {}
// SAFETY: `link` is used by the lists of the arena and of limbo alone.
unsafe impl Record for OwnerPages {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// What a group and all below have of pages.
#[derive(Default)]
#[repr(C)]
pub struct GroupPages {
    link: AtomicU32,
    parent: AtomicId<GroupPagesId>,
    above: AtomicPtr<GroupPages>,
    /// What the group and all below have in swap, and its limits.
    pub swap: PageCounter,
    events: [AtomicU64; NR_PAGE_EVENTS],
    counts: [AtomicU64; NR_PAGE_COUNTS],
}

// SAFETY: integers.
unsafe impl Zeroed for GroupPages {}
// SAFETY: `link` is used by the lists of the arena alone.
unsafe impl Record for GroupPages {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

impl OwnerPages {
    /// Bytes under one count.
    pub fn bytes(&self, count: PageCount) -> u64 {
        self.counts[count.at()].load(Ordering::Relaxed)
    }

    /// Bytes of memory that its pages hold.
    pub fn memory(&self) -> u64 {
        memory(&self.counts)
    }

    /// Bytes that are charged to swap.
    pub fn swap(&self) -> u64 {
        self.swap.load(Ordering::Relaxed)
    }

    pub(super) fn set_swap(&self, bytes: u64) {
        self.swap.store(bytes, Ordering::Relaxed);
    }

    /// Pages that are charged to the owner, in memory or in swap.
    #[cfg(any(test, feature = "testing"))]
    pub fn nr_pages(&self) -> u64 {
        self.nr_pages.load(Ordering::Relaxed)
    }

    /// A number that other owners with the same tag, before and after, do not have, as far as 2³²
    /// of them can be told apart.
    pub fn life(&self) -> u32 {
        self.life.load(Ordering::Relaxed)
    }

    /// Bytes of records that the owner's regions make the engine keep.
    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }
}

impl Level for GroupPages {
    fn counter(&self) -> &PageCounter {
        &self.swap
    }

    fn parent(&self) -> Option<&Self> {
        let above = self.above.load(Ordering::Relaxed);
        // SAFETY: groups' records are an arena's, which never move or go; a parent's is there for
        // as long as its child's, and a pinned reader of a dead child finds the parent it had.
        unsafe { above.as_ref() }
    }

    fn above_high(&self, _usage: u64) {
        self.count_event(PageEvent::SwapHigh, 1);
    }

    fn crossed_max(&self) {
        self.count_event(PageEvent::SwapMax, 1);
    }
}

impl GroupPages {
    pub(super) fn count_event(&self, event: PageEvent, n: u64) {
        // Relaxed: sums, by which nothing else is read.
        self.events[event.at()].fetch_add(n, Ordering::Relaxed);
    }

    /// How often something happened to pages of the group and below.
    pub fn nr_events(&self, event: PageEvent) -> u64 {
        self.events[event.at()].load(Ordering::Relaxed)
    }

    /// Bytes under one count, of the group and all below.
    pub fn bytes(&self, count: PageCount) -> u64 {
        self.counts[count.at()].load(Ordering::Relaxed)
    }

    /// Bytes of memory that their pages hold.
    #[cfg(any(test, feature = "testing"))]
    pub fn memory(&self) -> u64 {
        memory(&self.counts)
    }
}

fn memory(counts: &[AtomicU64; NR_PAGE_COUNTS]) -> u64 {
    let of_memory = PageCount::ALL.into_iter().filter(|count| count.is_memory());
    of_memory
        .map(|count| counts[count.at()].load(Ordering::Relaxed))
        .sum()
}

/// An owner's counts, which nobody else changes meanwhile. The caller stays pinned.
#[must_use]
pub struct Books<'t> {
    tree: &'t Hierarchy,
    pages: &'t OwnerPages,
    tag: Tag,
    _held: Held<'t>,
}

impl Hierarchy {
    /// An owner's record of pages, if it ever had a page.
    #[inline]
    pub fn owner_pages(&self, tag: Tag) -> Option<&OwnerPages> {
        let id = self.page_books.of_owner.get(tag)?;
        Some(self.page_books.owners.get(id))
    }

    /// A group's record of pages, if it or a group below ever had one.
    pub fn group_pages(&self, group: &Memcg) -> Option<&GroupPages> {
        let id = self.page_books.of_group.get(group.index())?;
        Some(self.page_books.groups.get(id))
    }

    /// Makes the records of `group` and of all above, top down. `None`: no memory. The caller is
    /// pinned. O(depth).
    pub(crate) fn ensure_group_pages(&self, group: &Memcg) -> Option<GroupPagesId> {
        let books = &self.page_books;
        if let Some(there) = books.of_group.get(group.index()) {
            return Some(there);
        }
        // From the nearest group that has one down, a level a turn.
        let mut top = group;
        loop {
            let above = match top.parent() {
                None => None,
                Some(parent) => match books.of_group.get(parent.index()) {
                    Some(above) => Some(above),
                    None => {
                        top = parent;
                        continue;
                    }
                },
            };
            let new = books.groups.alloc(u32::MAX)?;
            let record = books.groups.get(new);
            record.parent.store(above, Ordering::Relaxed);
            let pointer = above.map_or(core::ptr::null_mut(), |above| {
                core::ptr::from_ref(books.groups.get(above)).cast_mut()
            });
            record.above.store(pointer, Ordering::Relaxed);
            record.swap.open();
            for event in &record.events {
                event.store(0, Ordering::Relaxed);
            }
            for count in &record.counts {
                count.store(0, Ordering::Relaxed);
            }
            let there = books.of_group.set(top.index(), new);
            if there != Some(new) {
                books.groups.free(new);
            }
            let there = there?;
            if core::ptr::eq(top, group) {
                return Some(there);
            }
            top = group;
        }
    }

    /// A group's record of pages, made if there is none. `None`: no memory. The caller is pinned.
    pub fn make_group_pages(&self, group: &Memcg) -> Option<&GroupPages> {
        let id = self.ensure_group_pages(group)?;
        Some(self.page_books.groups.get(id))
    }

    /// A move of `tag` to `target` begins: if it may have pages by the time it flips, the target's
    /// records are made. `None`: no memory. The caller is pinned.
    pub(crate) fn expect_pages(&self, tag: Tag, target: &Memcg) -> Option<()> {
        let source = self.resolve(self.objcgs.get(tag).cell()).group;
        if self.owner_pages(tag).is_none() && self.group_pages(source).is_none() {
            // Its first page may come before the flip, and be its group's first. Then `follow`
            // makes the target's records.
            return Some(());
        }
        self.ensure_group_pages(target).map(|_| ())
    }

    /// An owner's record of pages, made if there is none. `None`: no memory. The caller is pinned,
    /// and the owner is named.
    pub fn ensure_owner_pages(&self, tag: Tag) -> Option<&OwnerPages> {
        if let Some(there) = self.owner_pages(tag) {
            return Some(there);
        }
        let books = &self.page_books;
        let objcg = self.objcgs.get(tag);
        let cell = objcg.cell();
        self.ensure_group_pages(self.resolve(cell).group)?;
        let new = self.alloc_or_collect(&books.owners, u32::MAX)?;
        let pages = books.owners.get(new);
        pages.tag.store(Some(tag), Ordering::Relaxed);
        pages.cell.store(Some(cell), Ordering::Relaxed);
        pages.nr_pages.store(0, Ordering::Relaxed);
        let life = books.lives.fetch_add(1, Ordering::Relaxed);
        pages.life.store(life, Ordering::Relaxed);
        pages.records.store(0, Ordering::Relaxed);
        pages.swap.store(0, Ordering::Relaxed);
        for count in &pages.counts {
            count.store(0, Ordering::Relaxed);
        }
        let there = books.of_owner.set(tag, new);
        if there != Some(new) {
            books.owners.free(new);
            return there.map(|there| books.owners.get(there));
        }
        // A move may have looked for the record before it was there. Pairs with the fence of
        // `move_page_counts`: it finds the record, or we find the owner's new cell.
        fence(Ordering::SeqCst);
        // What others have counted since it was published goes along.
        let books = Books {
            tree: self,
            pages,
            tag,
            _held: pages.lock.lock(Rank::Pages),
        };
        self.ensure_group_pages(self.resolve(objcg.cell()).group)?;
        books.follow();
        drop(books);
        Some(pages)
    }

    /// An owner's books of pages, to be changed. `None`: it never had a page. The caller is pinned.
    pub fn lock_pages(&self, tag: Tag) -> Option<Books<'_>> {
        let pages = self.owner_pages(tag)?;
        Some(Books {
            tree: self,
            pages,
            tag,
            _held: pages.lock.lock(Rank::Pages),
        })
    }

    /// As [`Self::lock_pages`], if nobody else is at them.
    pub fn try_lock_pages(&self, tag: Tag) -> Option<Books<'_>> {
        let pages = self.owner_pages(tag)?;
        Some(Books {
            tree: self,
            pages,
            tag,
            _held: pages.lock.try_lock(Rank::Pages)?,
        })
    }

    /// The owner's word has flipped from one cell to another: its counts of pages follow, those of
    /// the groups with them. The caller is pinned; `ensure_group_pages` has been called for where
    /// it goes.
    pub(crate) fn move_page_counts(&self, tag: Tag) {
        // Pairs with the fence of `ensure_owner_pages`.
        fence(Ordering::SeqCst);
        if let Some(books) = self.lock_pages(tag) {
            books.follow();
        }
    }

    /// Adds to what an owner's regions make the engine keep; below zero to take off. The caller is
    /// pinned, and the owner has a record.
    pub fn add_page_records(&self, tag: Tag, bytes: i64) {
        if let Some(pages) = self.owner_pages(tag) {
            let _walk = self.begin_walk();
            pages.records.fetch_add(bytes as u64, Ordering::Relaxed);
            self.add_owner_records(self.objcgs.get(tag), bytes);
        }
    }

    /// The owner is retired: its record of pages, which counts nothing, is let go with it.
    pub(super) fn retire_owner_pages(&self, tag: Tag) {
        if let Some(id) = self.page_books.of_owner.take(tag) {
            self.retire(What::OwnerPages(id));
        }
    }

    /// Where the lists of what waits for the epochs link owners' records.
    pub(super) fn owner_pages_arena(&self) -> &Arena<OwnerPagesId, OwnerPages> {
        &self.page_books.owners
    }

    /// Gives a group's record back with the group's own.
    pub(super) fn free_group_pages(&self, group: &Memcg) {
        if let Some(id) = self.page_books.of_group.take(group.index()) {
            self.page_books.groups.free(id);
        }
    }

    /// In the child of a fork, for a recount: nothing is counted at any group.
    pub(super) fn forget_page_counts(&self) {
        for (_, group) in self.page_books.groups.each() {
            group.swap.set_counts(0, 0);
            for count in &group.counts {
                count.store(0, Ordering::Relaxed);
            }
        }
    }

    /// For a recount: what an owner counts, at the groups where it is now.
    pub(super) fn recount_pages(&self, tag: Tag) {
        if let Some(pages) = self.owner_pages(tag) {
            let cell = self.objcgs.get(tag).cell();
            pages.cell.store(Some(cell), Ordering::Relaxed);
            for count in PageCount::ALL {
                self.count_at(cell, count, pages.bytes(count) as i64);
            }
            let _ = self.charge_swap_at(cell, pages.swap(), true);
        }
    }

    /// In the child of a fork: no lock of pages is held.
    pub(super) fn reset_page_locks_in_child(&self, sole: crate::sync::promise::SoleThread) {
        for (_, pages) in self.page_books.owners.each() {
            pages.lock.reset_in_child(sole);
        }
    }

    /// Adds `bytes` at the groups that a cell leads to.
    fn count_at(&self, cell: CellId, count: PageCount, bytes: i64) {
        let mut at = self
            .page_books
            .of_group
            .get(self.resolve(cell).group.index());
        while let Some(id) = at {
            let record = self.page_books.groups.get(id);
            // Relaxed: sums, by which nothing else is read.
            record.counts[count.at()].fetch_add(bytes as u64, Ordering::Relaxed);
            at = record.parent.load(Ordering::Relaxed);
        }
    }
}

impl Books<'_> {
    /// The owner's record.
    pub fn pages(&self) -> &OwnerPages {
        self.pages
    }

    /// One page more is charged to the owner: the first names it.
    pub fn page_in(&self) {
        let before = self.pages.nr_pages.load(Ordering::Relaxed);
        self.pages.nr_pages.store(before + 1, Ordering::Relaxed);
        if before == 0 {
            self.tree.ref_objcg(self.tag);
        }
    }

    /// One page less. Answers whether it was the last: then the caller drops the name, when it has
    /// let go of the lock ([`Hierarchy::unref_objcg`]).
    #[must_use = "the last page's name is to be dropped"]
    pub fn page_out(&self) -> bool {
        let before = self.pages.nr_pages.load(Ordering::Relaxed);
        if before == 0 {
            self.tree.report_broken();
            return false;
        }
        self.pages.nr_pages.store(before - 1, Ordering::Relaxed);
        before == 1
    }

    /// Adds `bytes` under a count, here and at the groups above.
    pub fn add(&self, count: PageCount, bytes: u64) {
        let _walk = self.tree.begin_walk();
        let word = &self.pages.counts[count.at()];
        word.store(word.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
        self.tree.count_at(self.cell(), count, bytes as i64);
    }

    /// Takes `bytes` off a count, here and at the groups above.
    pub fn sub(&self, count: PageCount, bytes: u64) {
        let _walk = self.tree.begin_walk();
        let word = &self.pages.counts[count.at()];
        let Some(left) = word.load(Ordering::Relaxed).checked_sub(bytes) else {
            self.tree.report_broken();
            return;
        };
        word.store(left, Ordering::Relaxed);
        self.tree.count_at(self.cell(), count, -(bytes as i64));
    }

    /// Something happened to `n` pages of the owner: counted at its groups.
    pub fn event(&self, event: PageEvent, n: u64) {
        let group = self.tree.resolve(self.cell()).group;
        let mut level = self.tree.group_pages(group);
        while let Some(record) = level {
            record.count_event(event, n);
            level = record.parent();
        }
    }

    /// The group that the owner's pages are counted in.
    pub fn group(&self) -> &Memcg {
        self.tree.resolve(self.cell()).group
    }

    pub(super) fn tree(&self) -> &Hierarchy {
        self.tree
    }

    /// The cell that the counts are counted in.
    pub(super) fn counted_in(&self) -> CellId {
        self.cell()
    }

    fn cell(&self) -> CellId {
        self.pages.cell.known(Ordering::Relaxed)
    }

    /// Counts all at the groups where the owner is now, and no more at those where it was.
    fn follow(&self) {
        let _walk = self.tree.begin_walk();
        let (from, to) = (self.cell(), self.tree.objcgs.get(self.tag).cell());
        if from == to {
            return;
        }
        // There already, but where the owner's first page came during the move.
        if self
            .tree
            .ensure_group_pages(self.tree.resolve(to).group)
            .is_none()
        {
            self.tree.report_broken();
        }
        let swap = self.pages.swap();
        if swap > 0 {
            self.tree.move_swap(from, to, swap);
        }
        for count in PageCount::ALL {
            let bytes = self.pages.bytes(count) as i64;
            if bytes != 0 {
                self.tree.count_at(to, count, bytes);
                self.tree.count_at(from, count, -bytes);
            }
        }
        self.pages.cell.store(Some(to), Ordering::Relaxed);
    }
}

#[cfg(any(test, feature = "testing"))]
impl Hierarchy {
    /// What owners in a group and below count, added up again, for the audit.
    pub(super) fn page_counts_anew(&self, group: &Memcg) -> [u64; NR_PAGE_COUNTS] {
        let mut sums = [0; NR_PAGE_COUNTS];
        for (tag, objcg) in self.objcgs.each() {
            let Some(pages) = self.owner_pages(tag) else {
                continue;
            };
            if objcg.state() == super::objcg::State::Free
                || !self
                    .resolve(pages.cell.known(Ordering::Relaxed))
                    .group
                    .is_within(group)
            {
                continue;
            }
            for count in PageCount::ALL {
                sums[count.at()] += pages.bytes(count);
            }
        }
        sums
    }
}
