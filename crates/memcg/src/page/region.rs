//! A region: a run of pages, and who uses it.
//!
//! Invariants: a region is there while it is named: by handles, by mappings, by a walk. Its leaves
//! are its own until the last name goes.
//! Depends on: `leaf` for the pages; `directory` for the way to them.
//! Never: a charge; I/O.

use super::directory::Directory;
use super::dirty::Dirty;
use super::id::{FileId, LEAF, MappingId, PAGE, PageId, RegionId};
use super::leaf::{LEAF_BYTES, Leaf, Leaves, Page};
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::id::AtomicId;
use crate::sync::lock::{Held, Lock, Rank};
use crate::sync::promise::SoleThread;
use crate::thread::Tag;

/// What kind of region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionKind {
    /// Of one user.
    Anon,
    /// Of many.
    Shmem,
    /// A cache over a file.
    File,
}

/// The longest a region may be, in bytes: 8 TiB.
pub const LEN_MAX: u64 = 8 << 40;

/// See the module.
#[derive(Default)]
#[repr(C)]
pub struct Region {
    link: AtomicU32,
    /// Handles, mappings and walks.
    refs: AtomicU32,
    kind: AtomicU32,
    /// Bytes.
    len: AtomicU64,
    /// Pages with content, in memory or in swap.
    nr_pages: AtomicU64,
    nr_mappings: AtomicU32,
    /// The newest mapping. The list changes under the lock.
    pub(super) first_mapping: AtomicId<MappingId>,
    /// The owner that was declared for its pages, named.
    declared: AtomicId<Tag>,
    /// Whom its records are counted with, named.
    opener: AtomicId<Tag>,
    /// What a file's region caches, named.
    file: AtomicId<FileId>,
    /// What the file does not have yet.
    pub dirty: Dirty,
    /// Bytes of records that are counted with the opener.
    records: AtomicU64,
    /// Orders new leaves, changes of the length, and the list of mappings.
    lock: Lock,
    leaves: Directory,
}

// SAFETY: integers, a free lock and an empty directory.
unsafe impl Zeroed for Region {}
// SAFETY: `link` is used by the arena alone.
unsafe impl Record for Region {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// Bytes of a region's own record.
pub const REGION_BYTES: i64 = size_of::<Region>() as i64;

/// What a new region is.
#[derive(Clone, Copy, Debug)]
pub struct NewRegion {
    /// Its kind.
    pub kind: RegionKind,
    /// Its length, in bytes.
    pub len: u64,
    /// Whom its records are counted with.
    pub opener: Tag,
    /// What it caches.
    pub file: Option<FileId>,
}

impl Region {
    /// Makes a new or recycled record a region with one name on it. The names on the opener and on
    /// the file are its own from now on.
    pub(super) fn open(&self, new: NewRegion) {
        let kind = match new.kind {
            RegionKind::Anon => 0,
            RegionKind::Shmem => 1,
            RegionKind::File => 2,
        };
        self.kind.store(kind, Ordering::Relaxed);
        self.len.store(new.len, Ordering::Relaxed);
        self.nr_pages.store(0, Ordering::Relaxed);
        self.nr_mappings.store(0, Ordering::Relaxed);
        self.first_mapping.store(None, Ordering::Relaxed);
        self.declared.store(None, Ordering::Relaxed);
        self.opener.store(Some(new.opener), Ordering::Relaxed);
        self.file.store(new.file, Ordering::Relaxed);
        self.records.store(0, Ordering::Relaxed);
        self.dirty.reset();
        // Release pairs with the Acquire of `try_ref`.
        self.refs.store(1, Ordering::Release);
    }

    /// Its kind.
    #[inline(always)]
    pub fn kind(&self) -> RegionKind {
        match self.kind.load(Ordering::Relaxed) {
            0 => RegionKind::Anon,
            1 => RegionKind::Shmem,
            _ => RegionKind::File,
        }
    }

    /// Its length, in bytes.
    #[inline(always)]
    pub fn len(&self) -> u64 {
        // Acquire pairs with the Release of `set_len`.
        self.len.load(Ordering::Acquire)
    }

    /// Whether it is 0 bytes long.
    #[cfg(any(test, feature = "testing"))]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its length, in pages, the last of which may be a part.
    #[inline(always)]
    pub fn nr_all(&self) -> u64 {
        self.len().div_ceil(PAGE as u64)
    }

    /// Sets the length. Under the lock.
    pub fn set_len(&self, len: u64, _held: &Held<'_>) {
        // Release pairs with the Acquire of `len`.
        self.len.store(len, Ordering::Release);
    }

    /// Pages with content, in memory or in swap.
    pub fn nr_pages(&self) -> u64 {
        self.nr_pages.load(Ordering::Relaxed)
    }

    /// One page more has content.
    pub fn page_in(&self) {
        self.nr_pages.fetch_add(1, Ordering::Relaxed);
    }

    /// One page less has content.
    pub fn page_out(&self) {
        self.nr_pages.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many use it.
    pub fn nr_mappings(&self) -> u32 {
        self.nr_mappings.load(Ordering::Relaxed)
    }

    pub(super) fn count_mapping(&self, more: bool, _held: &Held<'_>) {
        let n = self.nr_mappings();
        let n = if more { n + 1 } else { n.saturating_sub(1) };
        self.nr_mappings.store(n, Ordering::Relaxed);
    }

    /// The owner that was declared for its pages.
    pub fn declared(&self) -> Option<Tag> {
        // Acquire pairs with the AcqRel of `declare`.
        self.declared.load(Ordering::Acquire)
    }

    /// Declares an owner, or none any more; answers the one before. The name on the new one is the
    /// region's from now on; that on the old one is the caller's.
    pub fn declare(&self, owner: Option<Tag>) -> Option<Tag> {
        self.declared.swap(owner, Ordering::AcqRel)
    }

    /// Whom its records are counted with.
    ///
    /// # Panics
    /// If the record was never a region.
    pub fn opener(&self) -> Tag {
        self.opener.known(Ordering::Relaxed)
    }

    /// What a file's region caches.
    pub fn file(&self) -> Option<FileId> {
        self.file.load(Ordering::Relaxed)
    }

    /// Bytes of records that are counted with the opener.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Notes that `bytes` of records were counted with the opener.
    pub fn add_records(&self, bytes: i64) {
        self.records.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// One more name, if there is any.
    pub fn try_ref(&self) -> bool {
        // Acquire pairs with the Release of `open` and of `unref`.
        let more = |refs: u32| (refs != 0).then_some(refs + 1);
        self.refs
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, more)
            .is_ok()
    }

    /// One more name on a region that the caller has named.
    pub fn add_ref(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// One name less; `true`: that was the last, and the caller ends the region.
    #[must_use = "the last one ends the region"]
    pub fn unref(&self) -> bool {
        // AcqRel pairs with that of the other calls: the last one sees what the others did.
        self.refs.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// How many names there are.
    pub fn nr_refs(&self) -> u32 {
        // Acquire pairs with the AcqRel of `unref`.
        self.refs.load(Ordering::Acquire)
    }

    /// Of `from` names `to` are left. `false`: there are not so many, or more. None left: the
    /// caller ends the region.
    #[must_use = "the last one ends the region"]
    pub fn try_unref_to(&self, from: u32, to: u32) -> bool {
        // AcqRel as `unref`.
        self.refs
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Holds off others who make leaves, change the length or map.
    pub fn lock(&self) -> Held<'_> {
        self.lock.lock(Rank::Region)
    }

    pub(super) fn reset_lock_in_child(&self, sole: SoleThread) {
        self.lock.reset_in_child(sole);
        self.dirty.reset_lock_in_child(sole);
    }

    /// A page's leaf, if it is there, and its place in it. `index` is below [`Self::nr_all`] now or
    /// was. O(1).
    #[inline(always)]
    pub fn leaf(&self, index: u64) -> Option<(&Leaf, u32)> {
        let no = (index / u64::from(LEAF)) as usize;
        Some((self.leaves.get(no)?, (index % u64::from(LEAF)) as u32))
    }

    /// A page, if its leaf is there; with its number. As [`Self::leaf`].
    #[inline]
    pub fn page(&self, index: u64) -> Option<(PageId, &Page)> {
        let (leaf, at) = self.leaf(index)?;
        Some((PageId::of(leaf.id(), at), leaf.page(at)))
    }

    /// A page, whose leaf is made if it is not there. `None`: no memory, or `index` is beyond the
    /// end. Answers the bytes of records it took as well.
    pub(super) fn make_page(
        &self,
        leaves: &Leaves,
        own: RegionId,
        index: u64,
    ) -> Option<(PageId, &Page, i64)> {
        if let Some((id, page)) = self.page(index) {
            return Some((id, page, 0));
        }
        let held = self.lock();
        if index >= self.nr_all() {
            return None;
        }
        let mut bytes = 0;
        if self.leaf(index).is_none() {
            // A page's number has to fit, too.
            let new = leaves.0.alloc(u32::MAX / LEAF)?;
            let (leaf, no) = (leaves.0.get(new), index / u64::from(LEAF));
            leaf.open(new, own, no as u32);
            self.leaves.set(no as usize, leaf, &held);
            bytes = LEAF_BYTES + size_of::<usize>() as i64;
        }
        let (id, page) = self.page(index)?;
        Some((id, page, bytes))
    }

    /// Makes room for the leaves of `len` bytes. `None`: no memory.
    pub(super) fn make_room(&self, len: u64, held: &Held<'_>) -> Option<()> {
        let nr = len.div_ceil(u64::from(LEAF) * PAGE as u64);
        self.leaves.ensure(nr as usize, held)
    }

    /// Each leaf there is that has pages of a range, with the number of its first page.
    pub fn leaves(&self, range: &core::ops::Range<u64>) -> impl Iterator<Item = (u64, &Leaf)> {
        let number = |index: u64| usize::try_from(index / u64::from(LEAF)).unwrap_or(usize::MAX);
        let leaves = self
            .leaves
            .each(number(range.start)..=number(range.end.saturating_sub(1)));
        leaves.map(|(no, leaf)| (no as u64 * u64::from(LEAF), leaf))
    }

    /// Gives all leaves back, whose pages are absent. By who took the last name away.
    pub(super) fn release_leaves(&self, leaves: &Leaves) {
        for (_, leaf) in self.leaves.each(0..=usize::MAX) {
            leaves.0.free(leaf.id());
        }
        // SAFETY: nobody names the region any more, whoever uses its directory has named it, and
        // its record is not handed out again before this has returned.
        unsafe { self.leaves.release() };
    }
}
