//! A reader that stays: what a connection, like an open file of cgroup v2, sees for itself.

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
    /// By the group's index. One of an ended group goes when another group comes to that index, or
    /// with the reader.
    peaks: RefCell<HashMap<GroupId, PeakWatch>>,
}

impl Reader {
    /// Of that engine's files, without peaks of its own.
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
    /// As there.
    pub fn read(&self, rec: &ThreadRec, path: &[u8], file: &[u8]) -> Result<String, FileError> {
        super::read_by(self.engine, Some(self), rec, path, file)
    }

    /// As [`super::write`].
    ///
    /// # Errors
    /// As there.
    pub fn write(
        &self,
        rec: &ThreadRec,
        path: &[u8],
        file: &[u8],
        value: &[u8],
    ) -> Result<(), FileError> {
        super::write_by(self.engine, Some(self), rec, path, file, value)
    }

    /// The peak this reader began, if it did.
    pub(super) fn peak(&self, group: &Memcg) -> Option<u64> {
        let peaks = self.peaks.borrow();
        peaks
            .get(&group.index())
            .filter(|watch| watch.is_of(group))
            .map(PeakWatch::peak)
    }

    /// Begins it, again perhaps.
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
