//! How regions come into use: maps of groups and tasks.
//!
//! Invariants: mapping charges nothing.
//! Depends on: `region`, `mapping`.
//! Never: touches a page.

#![forbid(unsafe_code)]

use super::current_group::current_or_root;
use super::mapping::Mapping;
use super::memcg::Memcg;
use super::page_error::PageError;
use super::region::Region;
use super::task::Task;
use crate::page::region::RegionKind as Kind;

impl Region {
    /// Maps the region: `group` uses it through the mapping. Charges nothing.
    ///
    /// # Errors
    /// [`PageError::NoMemory`]; [`PageError::ParentProcess`].
    pub fn map(&self, group: &Memcg) -> Result<Mapping, PageError> {
        Mapping::new(self, group.tag())
    }

    /// As [`Self::map`], for a task: the mapping goes with it when it moves.
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn map_for(&self, task: &Task) -> Result<Mapping, PageError> {
        Mapping::new(self, task.tag())
    }
}

impl Memcg {
    /// A region of `len` bytes of memory, mapped for this group alone. Charges nothing: each page
    /// is charged to the group when it is first written.
    ///
    /// ```
    /// let tenant = memcg::root().create("sorts").unwrap();
    /// let sort = tenant.map_anon(1 << 30).unwrap();
    /// sort.pin_mut(7).unwrap()[..5].copy_from_slice(b"seven");
    /// assert_eq!((tenant.current(), tenant.usage().anon), (4096, 4096));
    /// let mut back = [0; 5];
    /// sort.read_at(7 * 4096, &mut back).unwrap();
    /// assert_eq!(&back, b"seven");
    /// ```
    ///
    /// # Errors
    /// [`PageError::OutOfRange`] above 8 TiB; [`PageError::NoMemory`];
    /// [`PageError::ParentProcess`].
    pub fn map_anon(&self, len: u64) -> Result<Mapping, PageError> {
        Region::open(Kind::Anon, len, self.tag())?.map(self)
    }
}

impl Task {
    /// A region of `len` bytes of memory, mapped for this task alone, with which it moves. See
    /// [`Memcg::map_anon`].
    ///
    /// # Errors
    /// As [`Memcg::map_anon`].
    pub fn map_anon(&self, len: u64) -> Result<Mapping, PageError> {
        Region::open(Kind::Anon, len, self.tag())?.map_for(self)
    }
}

/// A region of `len` bytes of memory, mapped for the group or task that the thread charges. See
/// [`Memcg::map_anon`].
///
/// # Errors
/// As [`Memcg::map_anon`].
pub fn map_anon(len: u64) -> Result<Mapping, PageError> {
    let tag = current_or_root();
    Mapping::new(&Region::open(Kind::Anon, len, tag)?, tag)
}
