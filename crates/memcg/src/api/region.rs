//! Regions: memory by the page, which a tenant is charged for page by page.
//!
//! Invariants: a region is there while a handle or a mapping of it is.
//! Depends on: `engine::pages`.
//! Never: touches a page.

#![forbid(unsafe_code)]

use super::current_group::current_or_root;
use super::memcg::Memcg;
use super::page_error::PageError;
use crate::engine::pages::TouchError;
use crate::engine::process_engine::{engine, with_rec};
use crate::group::Tag;
use crate::page::region::RegionKind as Kind;
use crate::page::{PAGE, RegionId};
use core::fmt;
use core::ops::Range;

/// Bytes of a page of a region, on every machine.
pub const PAGE_SIZE: usize = PAGE;

/// What kind of region.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum RegionKind {
    /// Memory of one user.
    Anon,
    /// Memory of many.
    Shmem,
    /// A cache over a file.
    File,
}

/// A handle on a region: a run of pages of 4 KiB that lie in memory, or elsewhere, as their owners'
/// groups have room.
///
/// A region is used through a [`Mapping`](super::Mapping), which says for whom. Making one charges
/// nothing: a page is charged when it is first touched. Handles are cloned freely; the region goes,
/// with what is in it, when the last handle and the last mapping have been dropped. One that caches
/// a file stays while it has pages, see [`PageCache`](super::PageCache).
///
/// In the child of a fork a region is the parent's: each operation fails with
/// [`PageError::ParentProcess`], and what handles are dropped there changes nothing.
///
/// Regions are not for signal handlers: a handler that interrupts its own thread inside of one
/// would wait for itself.
///
/// ```
/// use memcg::Region;
///
/// let tenant = memcg::root().create("region-tenant").unwrap();
/// let dictionary = Region::shmem("dictionary", 1 << 20).unwrap();
/// let mapping = dictionary.map(&tenant).unwrap();
/// assert_eq!(tenant.current(), 0);
/// mapping.write_at(4096, b"words").unwrap();
/// assert_eq!((tenant.current(), tenant.usage().shmem), (4096, 4096));
/// ```
pub struct Region {
    id: RegionId,
}

impl Clone for Region {
    fn clone(&self) -> Self {
        engine().pages.region(self.id).add_ref();
        Self { id: self.id }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        with_rec(|engine, rec| engine.unref_region(rec, self.id));
    }
}

/// Two handles are equal if they are on the same region.
impl PartialEq for Region {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Region {}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("kind", &self.kind())
            .field("len", &self.len())
            .field("pages", &self.nr_pages())
            .finish_non_exhaustive()
    }
}

/// Runs `f` with the engine and the thread's record.
pub(super) fn at<R>(
    f: impl FnOnce(
        &'static crate::engine::Engine,
        &'static crate::thread::ThreadRec,
    ) -> Result<R, TouchError>,
) -> Result<R, PageError> {
    match with_rec(f) {
        Some(answer) => answer.map_err(PageError::new),
        None => Err(PageError::NoMemory),
    }
}

impl Region {
    pub(super) fn open(kind: Kind, len: u64, opener: Tag) -> Result<Self, PageError> {
        at(|engine, rec| engine.open_region(rec, kind, len, opener)).map(|id| Self { id })
    }

    /// A handle whose name on the region `id` is the caller's.
    pub(super) fn of_name(id: RegionId) -> Self {
        Self { id }
    }

    /// A handle with a name of its own on the region `id`.
    pub(super) fn of_ref(id: RegionId) -> Self {
        engine().pages.region(id).add_ref();
        Self { id }
    }

    pub(super) fn id(&self) -> RegionId {
        self.id
    }

    /// A region of `len` bytes for many users. A page is charged to the group that touches it
    /// first, unless an owner is declared ([`Self::set_owner`]). The name is for people.
    ///
    /// # Errors
    /// [`PageError::OutOfRange`] above 8 TiB; [`PageError::NoMemory`].
    pub fn shmem(name: impl AsRef<str>, len: u64) -> Result<Self, PageError> {
        // Shown where regions are listed one day; nothing else depends on it.
        let _ = name.as_ref();
        Self::open(Kind::Shmem, len, current_or_root())
    }

    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> RegionKind {
        match engine().pages.region(self.id).kind() {
            Kind::Anon => RegionKind::Anon,
            Kind::Shmem => RegionKind::Shmem,
            Kind::File => RegionKind::File,
        }
    }

    /// Its length, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        engine().pages.region(self.id).len()
    }

    /// Whether it is 0 bytes long.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pages that have content, in memory or in swap.
    #[must_use]
    pub fn nr_pages(&self) -> u64 {
        engine().pages.region(self.id).nr_pages()
    }

    /// How many mappings of it there are.
    #[must_use]
    pub fn nr_mappings(&self) -> usize {
        engine().pages.region(self.id).nr_mappings() as usize
    }

    /// Declares a group as the owner of the pages that come from now on, whoever touches them.
    /// Those that are there stay whose they are. `None`: nobody is declared any more. If the group
    /// ends, its parent is the owner.
    pub fn set_owner(&self, group: Option<&Memcg>) {
        with_rec(|engine, rec| engine.declare_region(rec, self.id, group.map(Memcg::tag)));
    }

    /// Makes the region `len` bytes long. What is cut off is dropped, and reads as zeros if the
    /// region becomes longer again. Waits for pages that others have pinned. O(pages).
    ///
    /// # Errors
    /// [`PageError::Busy`] or [`PageError::Deadlock`] if a page beyond the new end stays pinned:
    /// the length is as before, and other pages beyond the new end are dropped.
    /// [`PageError::OutOfRange`] above 8 TiB. [`PageError::ParentProcess`]. Of a file as
    /// [`PageCache::set_len`](super::PageCache::set_len).
    pub fn resize(&self, len: u64) -> Result<(), PageError> {
        at(|engine, rec| engine.resize_region(rec, self.id, len))
    }

    /// Drops what is in a range of bytes, which reads as zeros afterwards: whole pages are given
    /// back, what is only part of a page is overwritten. Waits for pages that others have pinned.
    /// Answers how many pages were given back. O(pages of the region).
    ///
    /// # Errors
    /// [`PageError::Busy`] if some stay pinned: those are as before.
    /// [`PageError::OutOfRange`] if the range is not within the region.
    /// [`PageError::IsFile`] of a region that caches a file: see
    /// [`PageCache::invalidate`](super::PageCache::invalidate). [`PageError::ParentProcess`].
    pub fn discard(&self, range: Range<u64>) -> Result<u64, PageError> {
        at(|engine, rec| engine.discard(rec, self.id, range))
    }
}
