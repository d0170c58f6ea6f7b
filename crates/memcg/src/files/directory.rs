//! Groups as directories: listed, made, removed.
//!
//! Invariants: a group never has the name of a file of the table.
//! Depends on: the engine's tree; `table` for the names of files.
//! Never: lists a file that the group does not have.

#![forbid(unsafe_code)]

use super::{Errno, FILES, FileError, Mode, at, show};
use crate::api::no_account;
use crate::engine::Engine;
use crate::group::TreeError;
use crate::group::name::NAME_RULE;
use crate::thread::ThreadRec;

/// One entry of a group's listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A child group.
    Group(Vec<u8>),
    /// A file.
    File(&'static str, Mode),
}

/// What is in a group: children, oldest first, then files.
///
/// # Errors
/// ENOENT if there is no such group.
pub fn list(engine: &Engine, rec: &ThreadRec, path: &[u8]) -> Result<Vec<Entry>, FileError> {
    at(engine, rec, path, |here| {
        let mut all = Vec::new();
        let mut child = engine.tree.first_child(here.group);
        while let Some(index) = child {
            let mut name = Vec::new();
            engine
                .tree
                .with_name(engine.tree.memcgs.get(index).name(), |piece| {
                    name.extend_from_slice(piece)
                });
            all.push(Entry::Group(name));
            child = engine.tree.next_sibling(index);
        }
        all.extend(
            FILES
                .iter()
                .filter(|file| file.appears(here))
                .map(|file| Entry::File(file.name, file.mode())),
        );
        Ok(all)
    })
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn tree_error(path: &[u8], why: TreeError) -> FileError {
    let (errno, text) = match why {
        TreeError::Name => (Errno::EINVAL, NAME_RULE),
        TreeError::Exists => (Errno::EEXIST, "there is a group of that name"),
        TreeError::Gone => (Errno::ENODEV, "the group was removed meanwhile"),
        TreeError::HasChildren => (Errno::EBUSY, "it has children: remove them first"),
        TreeError::HasTasks => (
            Errno::EBUSY,
            "it has live tasks: move them away first (cgroup.procs lists them)",
        ),
        TreeError::Root => (Errno::EBUSY, "the root stays"),
        TreeError::Depth => (Errno::EAGAIN, "groups nest at most 255 deep"),
        TreeError::NoMemory => (Errno::ENOMEM, "no memory for one more group"),
    };
    FileError::new(errno, format!("{}: {text}", show(path)))
}

/// Makes a group.
///
/// # Errors
/// EEXIST, also for the name of a file of the table, EINVAL for a bad name (one that begins as
/// files' names do, with `memory.` or `cgroup.`, is one), ENOENT without the
/// parent, ENOMEM, EAGAIN beyond the greatest depth.
pub fn mkdir(engine: &Engine, rec: &ThreadRec, path: &[u8]) -> Result<(), FileError> {
    let (above, name) = split(path);
    if name.is_empty() {
        let _free = no_account();
        return Err(tree_error(path, TreeError::Exists));
    }
    at(engine, rec, above, |here| {
        if FILES.iter().any(|file| file.name.as_bytes() == name) {
            return Err(FileError::new(
                Errno::EEXIST,
                format!("{}: there is a file of that name", show(path)),
            ));
        }
        engine
            .change(|| engine.tree.create(here.group, name))
            .map(drop)
            .map_err(|why| tree_error(path, why))
    })
}

/// Removes a group.
///
/// # Errors
/// EBUSY with children or live tasks, ENOENT.
pub fn rmdir(engine: &Engine, rec: &ThreadRec, path: &[u8]) -> Result<(), FileError> {
    at(engine, rec, path, |here| {
        engine
            .remove(rec, here.group)
            .map_err(|why| tree_error(path, why))
    })
}
