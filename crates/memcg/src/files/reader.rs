//! A reader that stays: what a connection sees for itself, as an open file of cgroup v2 does.
//!
//! Invariants: a reader's peaks change neither another reader's nor the group's own.
//! Depends on: `files` for reads and writes; `api` for peak watches.
//! Never: accounts what it allocates.

#![forbid(unsafe_code)]

use super::{Errno, FileError};
use crate::api::{PeakWatch, no_account};
use crate::engine::Engine;
use crate::group::{GroupId, Memcg, TreeError};
use crate::thread::ThreadRec;
use std::cell::RefCell;
use std::collections::HashMap;

/// Reads and writes files as [`super::read`] and [`super::write`] do, and has peaks of its own: a
/// write to `memory.peak` starts it again for this reader only.
pub struct Reader {
    engine: &'static Engine,
    /// The watches that this reader began, by the group's index. The watch of an ended group is
    /// dropped when another group with that index is watched, or with the reader.
    peaks: RefCell<HashMap<GroupId, PeakWatch>>,
}

impl Reader {
    /// A reader of the files of `engine`, as yet without peaks of its own.
    #[must_use]
    pub fn new(engine: &'static Engine) -> Self {
        Self {
            engine,
            peaks: RefCell::default(),
        }
    }

    /// As [`super::read`].
    ///
    /// # Errors
    /// See [`super::read`].
    pub fn read(&self, rec: &ThreadRec, path: &[u8], file: &[u8]) -> Result<String, FileError> {
        super::read_by(self.engine, Some(self), rec, path, file)
    }

    /// As [`super::write`].
    ///
    /// # Errors
    /// See [`super::write`].
    pub fn write(
        &self,
        rec: &ThreadRec,
        path: &[u8],
        file: &[u8],
        value: &[u8],
    ) -> Result<(), FileError> {
        super::write_by(self.engine, Some(self), rec, path, file, value)
    }

    /// The group's peak since this reader began it; `None` if it has not.
    pub(super) fn peak(&self, group: &Memcg) -> Option<u64> {
        let peaks = self.peaks.borrow();
        peaks
            .get(&group.index())
            .filter(|watch| watch.is_of(group))
            .map(PeakWatch::peak)
    }

    /// Begins this reader's peak of the group, or begins it again.
    pub(super) fn restart_peak(&self, group: &Memcg) -> Result<(), FileError> {
        let mut peaks = self.peaks.borrow_mut();
        if let Some(watch) = peaks.get(&group.index()).filter(|watch| watch.is_of(group)) {
            watch.reset();
            return Ok(());
        }
        let watch = PeakWatch::begin(self.engine, group).map_err(|why| match why {
            TreeError::NoMemory => {
                FileError::new(Errno::ENOMEM, "no memory for one more peak".into())
            }
            TreeError::Name
            | TreeError::Exists
            | TreeError::Gone
            | TreeError::HasChildren
            | TreeError::HasTasks
            | TreeError::Root
            | TreeError::Depth => {
                FileError::new(Errno::ENODEV, "the group was removed meanwhile".into())
            }
        })?;
        peaks.insert(group.index(), watch);
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The map's memory was accounted to nobody.
        let _free = no_account();
        self.peaks.get_mut().clear();
    }
}
