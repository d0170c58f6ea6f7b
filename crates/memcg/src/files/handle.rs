//! A group's files from its handle.

#![forbid(unsafe_code)]

use super::FileError;
use crate::api::pinned::pinned;
use crate::api::{Memcg, no_account};

impl Memcg {
    /// The text of one of the group's files, as the socket and the command line show it.
    ///
    /// # Errors
    /// As cgroup v2's, with what to do.
    pub fn read(&self, file: &str) -> Result<String, FileError> {
        let _free = no_account();
        let path = self.path();
        pinned(|engine, rec| super::read(engine, rec, path.as_bytes(), file.as_bytes()))
    }

    /// Writes one of the group's files.
    ///
    /// # Errors
    /// As cgroup v2's, with what to do.
    pub fn write(&self, file: &str, value: &str) -> Result<(), FileError> {
        let _free = no_account();
        let path = self.path();
        pinned(|engine, rec| {
            super::write(
                engine,
                rec,
                path.as_bytes(),
                file.as_bytes(),
                value.as_bytes(),
            )
        })
    }
}
