//! The files of the process's groups, by path.
//!
//! Invariants: a call has the calling thread's record. Where there is no memory for one it fails
//! with ENOMEM.
//! Depends on: `files`.
//! Never: panics for a lack of memory.

#![forbid(unsafe_code)]

use crate::engine::Engine;
use crate::engine::process_engine::with_rec;
use crate::files::{self, Errno};
use crate::thread::ThreadRec;

pub use crate::files::FileError;

fn known<R>(
    f: impl FnOnce(&'static Engine, &'static ThreadRec) -> Result<R, FileError>,
) -> Result<R, FileError> {
    with_rec(f).unwrap_or_else(|| {
        let what = String::from("no memory for a record of the calling thread");
        Err(FileError::new(Errno::ENOMEM, what))
    })
}

/// The text of a group's file.
///
/// # Errors
/// ENOENT for a group or file that is not there, EACCES for a file that cannot be read.
pub fn read(group: &[u8], file: &[u8]) -> Result<String, FileError> {
    known(|engine, rec| files::read(engine, rec, group, file))
}

/// Writes a group's file.
///
/// # Errors
/// ENOENT for a group or file that is not there, EACCES for a file that cannot be written, EINVAL
/// for a value it does not take, and what the file itself says.
pub fn write(group: &[u8], file: &[u8], value: &[u8]) -> Result<(), FileError> {
    known(|engine, rec| files::write(engine, rec, group, file, value))
}

/// Makes a group; its parent must be there.
///
/// # Errors
/// EEXIST, EINVAL for what is no name, ENOENT without the parent, ENOMEM.
pub fn mkdir(group: &[u8]) -> Result<(), FileError> {
    known(|engine, rec| files::mkdir(engine, rec, group))
}

/// Removes a group.
///
/// # Errors
/// EBUSY with children or live tasks, ENOENT.
pub fn rmdir(group: &[u8]) -> Result<(), FileError> {
    known(|engine, rec| files::rmdir(engine, rec, group))
}

/// Moves the live task of an id, a thread's or another's, to a group.
///
/// # Errors
/// ESRCH without such a task, ENOMEM where it does not fit, EAGAIN where it charged too fast,
/// EACCES where a subsystem refuses.
pub fn move_task(id: u32, group: &[u8]) -> Result<(), FileError> {
    known(|engine, rec| files::move_task(engine, rec, id, group))
}
