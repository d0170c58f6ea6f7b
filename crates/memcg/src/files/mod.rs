//! The files of a group: text in and out, named and written as cgroup v2's.
//!
//! Invariants: one table (`table`) says of each file its name, where it appears, how it is read and
//! how it is written. Listings, reads, writes, the socket and the docs come from it. What is not
//! real is not in it. What these functions allocate is accounted to nobody.
//! Depends on: `engine`; `api` for handles.
//! Never: holds a lock of ours for more than setting the field itself.

mod cgroup;
mod defaults;
mod directory;
mod file_error;
mod handle;
mod integer;
mod kmem;
mod memory;
mod memory_dying;
mod memory_events;
mod memory_move;
mod memory_pressure;
mod memory_stat;
mod memory_swap;
mod nearest;
mod overhead;
mod owners;
mod reader;
mod resident;
mod table;
mod text;

pub use directory::{Entry, list, mkdir, rmdir};
pub use file_error::{Errno, FileError};
pub use reader::Reader;
pub use resident::{outside, rss, rss_peak};
#[cfg(any(test, feature = "testing"))]
pub use table::markdown;
pub use table::{FILES, File, Mode};

use crate::api::kill::wake_marked;
use crate::api::moving::move_task as move_task_of_process;
use crate::api::{self, no_account};
use crate::attach::{self, Moved};
use crate::engine::{Engine, engine};
use crate::group::{GroupId, Memcg, MovePolicy, ROOT};
use crate::thread::ThreadRec;

/// What the functions of a file get: the engine, the calling thread, the group.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// The engine that the group belongs to.
    pub engine: &'a Engine,
    /// The calling thread's record. The thread is pinned.
    pub rec: &'a ThreadRec,
    /// The group whose file it is.
    pub group: &'a Memcg,
    /// The reader whose own peaks `memory.peak` shows; `None`: the group's peak is shown.
    reader: Option<&'a Reader>,
}

impl At<'_> {
    fn is_root(&self) -> bool {
        self.group.index() == ROOT
    }
}

fn show(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    if text.starts_with('/') {
        text.into_owned()
    } else {
        format!("/{text}")
    }
}

fn show_file(path: &[u8], file: &File) -> String {
    format!("{}/{}", show(path).trim_end_matches('/'), file.name)
}

/// Runs `f` on the group at `path`, pinned, accounted to nobody.
fn at<R>(
    engine: &Engine,
    rec: &ThreadRec,
    path: &[u8],
    f: impl FnOnce(At<'_>) -> Result<R, FileError>,
) -> Result<R, FileError> {
    let _free = no_account();
    engine.finish_lingering(rec);
    let _pin = engine.tree.threads.epoch.pin(rec);
    let index = engine.tree.lookup(path).ok_or_else(|| {
        FileError::new(
            Errno::ENOENT,
            format!("{}: no such group: 'ls' shows those there are", show(path)),
        )
    })?;
    f(At {
        engine,
        rec,
        group: engine.tree.memcgs.get(index),
        reader: None,
    })
}

fn find(at: At<'_>, path: &[u8], name: &[u8]) -> Result<&'static File, FileError> {
    let here = || FILES.iter().filter(|file| file.appears(at));
    here()
        .find(|file| file.name.as_bytes() == name)
        .ok_or_else(|| no_file(at, path, name, here().map(|file| file.name)))
}

/// The error for a name that is no file of the group: it may be a group's, or a file's name
/// misspelt.
#[cold]
fn no_file(
    at: At<'_>,
    path: &[u8],
    name: &[u8],
    here: impl Iterator<Item = &'static str>,
) -> FileError {
    let is_group = name.is_empty() || at.engine.tree.child(at.group.index(), name).is_some();
    let place = show(path);
    let name = String::from_utf8_lossy(name);
    if is_group {
        let group = format!("{}/{name}", place.trim_end_matches('/'));
        let text = format!("{group}: it is a group, not a file: 'ls' of it shows its files");
        return FileError::new(Errno::EISDIR, text);
    }
    let advice = match nearest::nearest(name.as_bytes(), here) {
        Some(near) => format!("did you mean {near}?"),
        None => String::from("'ls' shows those there are"),
    };
    FileError::new(
        Errno::ENOENT,
        format!("{place}: no file '{name}' here: {advice}"),
    )
}

/// The text of a group's file.
///
/// # Errors
/// ENOENT for a group or file that is not there, EISDIR for a group in a file's place, EACCES for a
/// file that cannot be read.
pub fn read(
    engine: &Engine,
    rec: &ThreadRec,
    path: &[u8],
    file: &[u8],
) -> Result<String, FileError> {
    read_by(engine, None, rec, path, file)
}

fn read_by(
    engine: &Engine,
    reader: Option<&Reader>,
    rec: &ThreadRec,
    path: &[u8],
    file: &[u8],
) -> Result<String, FileError> {
    if let Some(parent) = of_children(engine, path) {
        return at(engine, rec, parent, |here| {
            defaults::read_one(here, file).map_err(|why| why.at(&show(path)))
        });
    }
    at(engine, rec, path, |here| {
        read_at(At { reader, ..here }, path, file)
    })
}

/// The path of the group whose children are meant by `/path/*`: those that are made later. `None`:
/// a group is meant.
fn of_children<'a>(engine: &Engine, path: &'a [u8]) -> Option<&'a [u8]> {
    let parent = path.strip_suffix(b"*")?;
    // A group may have that name.
    let is_last = parent.is_empty() || parent.ends_with(b"/");
    (is_last && engine.tree.lookup(path).is_none()).then_some(parent)
}

/// The text of a file of the group that is at `path`.
fn read_at(here: At<'_>, path: &[u8], file: &[u8]) -> Result<String, FileError> {
    let file = find(here, path, file)?;
    match file.read {
        Some(read) => Ok(read(here)),
        None => Err(FileError::new(
            Errno::EACCES,
            format!("{}: can only be written", show_file(path, file)),
        )),
    }
}

/// Writes a group's file. White space around the value does not count.
///
/// # Errors
/// ENOENT, EACCES for a file that cannot be written, EINVAL for a value the file does not take, and
/// what the file itself says.
pub fn write(
    engine: &Engine,
    rec: &ThreadRec,
    path: &[u8],
    file: &[u8],
    value: &[u8],
) -> Result<(), FileError> {
    write_by(engine, None, rec, path, file, value)
}

fn write_by(
    engine: &Engine,
    reader: Option<&Reader>,
    rec: &ThreadRec,
    path: &[u8],
    file: &[u8],
    value: &[u8],
) -> Result<(), FileError> {
    if let Some(parent) = of_children(engine, path) {
        return at(engine, rec, parent, |here| {
            defaults::write_one(here, file, value.trim_ascii()).map_err(|why| why.at(&show(path)))
        });
    }
    at(engine, rec, path, |here| {
        write_at(At { reader, ..here }, path, file, value)
    })?;
    after_write(file);
    Ok(())
}

/// After a write of a file that did what was asked: what may not be done while the thread is
/// pinned.
fn after_write(file: &[u8]) {
    if file == b"cgroup.kill" {
        wake_marked();
    }
}

/// Writes a file of the group that is at `path`.
fn write_at(here: At<'_>, path: &[u8], file: &[u8], value: &[u8]) -> Result<(), FileError> {
    let file = find(here, path, file)?;
    let Some(write) = file.write else {
        return Err(FileError::new(
            Errno::EACCES,
            format!("{}: can only be read", show_file(path, file)),
        ));
    };
    write(here, value.trim_ascii()).map_err(|why| why.at(&show_file(path, file)))
}

/// Moves the live task of an id to a group.
///
/// # Errors
/// ESRCH without such a task, ENOMEM when it does not fit, EAGAIN when it charged too fast, EACCES
/// when a subsystem refuses.
pub fn move_task(engine: &Engine, rec: &ThreadRec, id: u32, path: &[u8]) -> Result<(), FileError> {
    move_task_by(engine, rec, id, path, None).map(|_| ())
}

/// As [`move_task`], by a policy that is named as in `memory.move`; without one, by the group's
/// own. Answers what moved and what stayed.
///
/// # Errors
/// Those of [`move_task`]; EINVAL if `policy` names none.
pub fn move_task_by(
    engine: &Engine,
    rec: &ThreadRec,
    id: u32,
    path: &[u8],
    policy: Option<&str>,
) -> Result<Moved, FileError> {
    let policy = policy
        .map(|name| memory_move::chosen(&MovePolicy::ALL, name.as_bytes()))
        .transpose()?;
    at(engine, rec, path, |here| {
        move_here(here, id, policy).map_err(|why| why.at(&show(path)))
    })
}

fn move_here(here: At<'_>, id: u32, policy: Option<MovePolicy>) -> Result<Moved, FileError> {
    let tree = &here.engine.tree;
    let no_task = || {
        FileError::new(
            Errno::ESRCH,
            format!("no live task {id}: cgroup.procs lists them"),
        )
    };
    let tag = tree.task_by_id(id).ok_or_else(no_task)?;
    let gone = || FileError::new(Errno::ENODEV, "the group was removed meanwhile".into());
    let outcome = if here.engine.is_process_s() {
        // With all who have their say.
        let target = api::Memcg::of_index(engine(), here.group.index()).ok_or_else(gone)?;
        move_task_of_process(engine(), here.rec, tag, &target, policy)
    } else {
        let policy = policy.unwrap_or_else(|| here.group.move_policy());
        here.engine
            .lists_follow(tag, || {
                here.engine
                    .change(|| attach::move_task_with(tree, here.rec, tag, here.group, policy, 0))
            })
            .map_err(api::MoveError::new)
    };
    outcome.map_err(|why| match &why {
        api::MoveError::Gone if here.group.is_online() => no_task(),
        api::MoveError::Gone => gone(),
        api::MoveError::Full(full) => FileError::new(
            Errno::ENOMEM,
            format!(
                "no room for task {id}, which holds {} bytes: {} uses {} of {} bytes: raise memory.max or free some",
                full.bytes, full.group, full.usage, full.max
            ),
        ),
        api::MoveError::Refused { .. } => FileError::new(Errno::EACCES, why.to_string()),
        api::MoveError::KmemFull(_) | api::MoveError::NoMemory | api::MoveError::Leaked(_) => {
            FileError::new(Errno::ENOMEM, why.to_string())
        }
        api::MoveError::Busy | api::MoveError::Moving | api::MoveError::Scattered => FileError::new(Errno::EAGAIN, why.to_string()),
    })
}

fn path_of(engine: &Engine, group: GroupId) -> String {
    let mut path = Vec::new();
    engine
        .tree
        .with_path(engine.tree.memcgs.get(group).name(), |piece| {
            path.extend_from_slice(piece)
        });
    String::from_utf8_lossy(&path).into_owned()
}

#[cfg(test)]
mod tests;
