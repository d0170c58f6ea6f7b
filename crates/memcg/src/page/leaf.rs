//! The table of pages: 16 bytes for each, 512 together, which are 2 MiB of a region.
//!
//! Invariants: a leaf belongs to one region until the region is gone, and its memory never goes. So
//! a stale number of a page may be looked at; what it means then, its owner and its `seq` say.
//! Depends on: `word`; an arena.
//! Never: changes a page.

use super::id::{LEAF, LeafId, PageId, RegionId};
use super::word::Word;
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::id::AtomicId;
use crate::thread::Tag;

/// A page.
#[derive(Default)]
#[repr(C)]
pub struct Page {
    /// Its state.
    pub word: Word,
    /// Who is charged for it, or was when it was swapped out. Changed by who has the page alone.
    owner: AtomicId<Tag>,
    /// While it is in a frame: which entry of its owner's lists is its own. While it is not: the
    /// shadow.
    seq: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Page>() == 16);

impl Page {
    /// Who is charged for it.
    #[inline(always)]
    pub fn owner(&self) -> Option<Tag> {
        self.owner.load(Ordering::Relaxed)
    }

    /// Sets who is charged for it. By who fills it, or has taken it out of its frame.
    pub fn set_owner(&self, owner: Option<Tag>) {
        self.owner.store(owner, Ordering::Relaxed);
    }

    /// Its entry in its owner's lists, or its shadow.
    pub fn seq(&self) -> u32 {
        self.seq.load(Ordering::Relaxed)
    }

    /// Sets its entry, or its shadow.
    pub fn set_seq(&self, seq: u32) {
        self.seq.store(seq, Ordering::Relaxed);
    }
}

/// See the module.
#[repr(C)]
pub struct Leaf {
    pages: [Page; LEAF as usize],
    link: AtomicU32,
    region: AtomicId<RegionId>,
    /// Its own number.
    id: AtomicId<LeafId>,
    /// Which 512 pages of the region they are, from 0.
    at: AtomicU32,
}

impl Default for Leaf {
    fn default() -> Self {
        Self {
            pages: core::array::from_fn(|_| Page::default()),
            link: AtomicU32::default(),
            region: AtomicId::default(),
            id: AtomicId::default(),
            at: AtomicU32::default(),
        }
    }
}

// SAFETY: integers; zero bytes are pages that are nowhere.
unsafe impl Zeroed for Leaf {}
// SAFETY: `link` is used by the arena alone.
unsafe impl Record for Leaf {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

impl Leaf {
    /// Makes it pages `at` × 512 and on of a region. Its pages are absent, of nobody.
    pub(super) fn open(&self, id: LeafId, region: RegionId, at: u32) {
        self.id.store(Some(id), Ordering::Relaxed);
        self.region.store(Some(region), Ordering::Relaxed);
        self.at.store(at, Ordering::Relaxed);
    }

    /// Its number.
    ///
    /// # Panics
    /// If the record was never a region's.
    #[inline]
    pub fn id(&self) -> LeafId {
        self.id.known(Ordering::Relaxed)
    }

    /// The page at a place below 512.
    #[inline(always)]
    pub fn page(&self, at: u32) -> &Page {
        &self.pages[(at % LEAF) as usize]
    }

    /// All of them.
    #[cfg(any(test, feature = "testing"))]
    pub fn pages(&self) -> &[Page; LEAF as usize] {
        &self.pages
    }
}

/// Bytes of a leaf's record.
pub const LEAF_BYTES: i64 = size_of::<Leaf>() as i64;

/// All leaves.
#[derive(Default)]
pub struct Leaves(pub(super) Arena<LeafId, Leaf>);

// SAFETY: an arena, which is Zeroed.
unsafe impl Zeroed for Leaves {}

impl Leaves {
    /// A page by its number. The number was handed out at any time in the past.
    #[inline]
    pub fn page(&self, page: PageId) -> &Page {
        let (leaf, at) = page.place();
        self.0.get(leaf).page(at)
    }

    /// Which page of which region a page is, if its leaf belongs to one.
    pub fn place(&self, page: PageId) -> Option<(RegionId, u64)> {
        let (leaf, at) = page.place();
        let leaf = self.0.get(leaf);
        let region = leaf.region.load(Ordering::Relaxed)?;
        let first = u64::from(leaf.at.load(Ordering::Relaxed)) * u64::from(LEAF);
        Some((region, first + u64::from(at)))
    }
}
