//! A group's files by its handle.
//!
//! Invariants: what is read or written is the handle's own group, never one that was made later
//! under the same path.
//! Depends on: `files` for what a file is; `api` for the handle.
//! Never: charges anything to the group that the thread works for.

#![forbid(unsafe_code)]

use super::{At, Errno, FileError};
use crate::api::{Memcg, no_account};
use crate::engine::process_engine::with_rec;

impl Memcg {
    /// The text of one of the group's files, `memory.stat` say, as the socket and the command line
    /// show it. Ends in a newline. Its memory is accounted to nobody.
    ///
    /// # Errors
    /// ENOENT where the group has no such file, EACCES where it can only be written, ENODEV once
    /// the group has been removed. The message says what to do.
    pub fn read(&self, file: &str) -> Result<String, FileError> {
        self.file(|here, path| super::read_at(here, path, file.as_bytes()))
    }

    /// Writes one of the group's files; white space around the value does not count.
    ///
    /// ```
    /// let group = memcg::root().create("written").unwrap();
    /// group.write("memory.max", "512M").unwrap();
    /// assert_eq!(group.max(), memcg::Limit::bytes(512 << 20));
    /// group.remove().unwrap();
    /// assert_eq!(group.write("memory.max", "1G").unwrap_err().errno.name(), "ENODEV");
    /// ```
    ///
    /// # Errors
    /// ENOENT where the group has no such file, EACCES where it can only be read, EINVAL for a
    /// value that the file does not take, ENODEV once the group has been removed, and what the file
    /// itself says. The message says what to do.
    pub fn write(&self, file: &str, value: &str) -> Result<(), FileError> {
        self.file(|here, path| super::write_at(here, path, file.as_bytes(), value.as_bytes()))?;
        super::after_write(file.as_bytes());
        Ok(())
    }

    /// Runs `f` with the group and its path.
    fn file<R>(
        &self,
        f: impl FnOnce(At<'_>, &[u8]) -> Result<R, FileError>,
    ) -> Result<R, FileError> {
        let _free = no_account();
        let path = self.path();
        with_rec(|engine, rec| engine.finish_lingering(rec));
        let answer = self.with(|engine, rec, group| {
            let here = At {
                engine,
                rec,
                group,
                reader: None,
            };
            group.is_online().then(|| f(here, path.as_bytes()))
        });
        answer.flatten().unwrap_or_else(|| {
            let message = format!("{path}: the group has been removed");
            Err(FileError::new(Errno::ENODEV, message))
        })
    }
}
