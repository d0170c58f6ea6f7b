//! What can be done from outside: read, write, list, make and remove groups, move tasks.

use super::error::{Errno, FileError};
use super::quiet::Quiet;
use super::table::{At, FILES, File, Mode, find};
use super::tasks::move_to;
use super::text::quoted;
use crate::engine::Engine;
use crate::group::name::NAME_MAX;
use crate::group::{Memcg, ROOT};
use crate::offline;
use crate::thread::ThreadRec;

/// What a group has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The names of its children, oldest first. Any bytes but `/` and control characters.
    pub groups: Vec<Vec<u8>>,
    /// Its files, in the table's order.
    pub files: Vec<(&'static str, Mode)>,
}

/// The text of a group's file. `path` is the group's (`/a/b`; `/` or nothing for the root), `rec` the calling thread's.
///
/// # Errors
/// ENOENT without such a group or file, EACCES for one that is only written, ENODEV for a group removed meanwhile.
pub fn read(
    engine: &Engine,
    rec: &ThreadRec,
    path: &[u8],
    file: &[u8],
) -> Result<String, FileError> {
    let _quiet = Quiet::enter(engine, rec);
    settle(engine, file);
    with_group(engine, rec, path, |at| read_file(at, file)).map_err(|why| at_file(why, path, file))
}

/// As [`read`], of a group the caller has. The caller is pinned.
///
/// # Errors
/// As [`read`].
pub fn read_in(
    engine: &Engine,
    rec: &ThreadRec,
    group: &Memcg,
    file: &[u8],
) -> Result<String, FileError> {
    let _quiet = Quiet::enter(engine, rec);
    read_file(&At { engine, rec, group }, file).map_err(|why| why.at(file))
}

/// Writes `value` to a group's file.
///
/// # Errors
/// As [`read`], EACCES for a file that is only read; EINVAL and others as the file says. Nothing has changed then.
pub fn write(
    engine: &Engine,
    rec: &ThreadRec,
    path: &[u8],
    file: &[u8],
    value: &[u8],
) -> Result<(), FileError> {
    let _quiet = Quiet::enter(engine, rec);
    with_group(engine, rec, path, |at| write_file(at, file, value))
        .map_err(|why| at_file(why, path, file))
}

/// As [`write`], to a group the caller has. The caller is pinned.
///
/// # Errors
/// As [`write`].
pub fn write_in(
    engine: &Engine,
    rec: &ThreadRec,
    group: &Memcg,
    file: &[u8],
    value: &[u8],
) -> Result<(), FileError> {
    let _quiet = Quiet::enter(engine, rec);
    write_file(&At { engine, rec, group }, file, value).map_err(|why| why.at(file))
}

/// The children and files of a group.
///
/// # Errors
/// ENOENT without such a group.
pub fn list(engine: &Engine, rec: &ThreadRec, path: &[u8]) -> Result<Listing, FileError> {
    let _quiet = Quiet::enter(engine, rec);
    with_group(engine, rec, path, |at| {
        let groups = children(at)
            .into_iter()
            .map(|index| {
                let mut name = Vec::new();
                let tree = &engine.tree;
                tree.with_name(tree.memcgs.get(index).name(), |piece| {
                    name.extend_from_slice(piece);
                });
                name
            })
            .collect();
        let files = FILES
            .iter()
            .filter(|file| file.is_in(at.group))
            .map(|file| (file.name, file.mode()))
            .collect();
        Ok(Listing { groups, files })
    })
    .map_err(|why| why.at(path))
}

/// Makes a group; its parent is there already.
///
/// # Errors
/// ENOENT without the parent, EEXIST, EINVAL or ENAMETOOLONG for a name that is none, EAGAIN 255 groups deep, ENOMEM.
pub fn mkdir(engine: &Engine, rec: &ThreadRec, path: &[u8]) -> Result<(), FileError> {
    let _quiet = Quiet::enter(engine, rec);
    let made = match split(path) {
        (_, b"") => Err(FileError::new(Errno::Exists, "there is a group there")),
        (_, name) if name.len() > NAME_MAX => Err(FileError::new(
            Errno::NameTooLong,
            "a group's name has at most 255 bytes",
        )),
        (_, name) if find(name).is_some() => {
            Err(FileError::new(Errno::Exists, "that is the name of a file"))
        }
        (parent, name) => with_group(engine, rec, parent, |at| {
            let made = engine.change(|| engine.tree.create(at.group, name));
            made.map(drop).map_err(FileError::from)
        }),
    };
    made.map_err(|why| why.at(path))
}

/// Removes a group. What is still charged to it belongs to its parent from here on.
///
/// # Errors
/// ENOENT without it, EBUSY with children or live tasks, and for the root.
pub fn rmdir(engine: &Engine, rec: &ThreadRec, path: &[u8]) -> Result<(), FileError> {
    let _quiet = Quiet::enter(engine, rec);
    with_group(engine, rec, path, |at| {
        engine
            .change(|| offline::remove(&engine.tree, at.group))
            .map_err(FileError::from)
    })
    .map_err(|why| why.at(path))
}

/// Moves the live task of an id to a group, with all it holds.
///
/// # Errors
/// ENOENT without the group, ESRCH without the task, ENOMEM when it does not fit, EAGAIN when it charges too fast.
pub fn move_task(
    engine: &Engine,
    rec: &ThreadRec,
    id: u32,
    path: &[u8],
) -> Result<(), FileError> {
    let _quiet = Quiet::enter(engine, rec);
    with_group(engine, rec, path, |at| move_to(at, id)).map_err(|why| why.at(path))
}

/// A path's last component and what is before it: of `/a/b`, `/a` and `b`. Slashes at the end do not count.
#[must_use]
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path
        .iter()
        .rposition(|&b| b != b'/')
        .map_or(0, |last| last + 1);
    let path = &path[..end];
    let name = path.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
    path.split_at(name)
}

/// Runs `f` pinned on the group of a path.
fn with_group<R>(
    engine: &Engine,
    rec: &ThreadRec,
    path: &[u8],
    f: impl FnOnce(&At<'_>) -> Result<R, FileError>,
) -> Result<R, FileError> {
    if !path.is_empty() && !path.starts_with(b"/") {
        return Err(FileError::invalid(format!(
            "{}: a path begins with '/'",
            quoted(path)
        )));
    }
    let _pin = engine.tree.threads.epoch.pin(rec);
    let Some(index) = engine.tree.lookup(path) else {
        return Err(FileError::new(
            Errno::NoEntry,
            "no such group: mkdir makes it, ls shows what there is",
        )
        .at(path));
    };
    let group = engine.tree.memcgs.get(index);
    f(&At { engine, rec, group })
}

/// What is removed and only waits for its readers is let go before it is counted: with nobody pinned, all of it.
fn settle(engine: &Engine, file: &[u8]) {
    if file == b"cgroup.stat" {
        for _ in 0..4 {
            engine.tree.collect();
        }
    }
}

fn file_in(at: &At<'_>, name: &[u8]) -> Result<&'static File, FileError> {
    if at.group.index() != ROOT && !at.group.is_online() {
        return Err(FileError::gone());
    }
    find(name)
        .filter(|file| file.is_in(at.group))
        .ok_or_else(|| {
            FileError::new(
                Errno::NoEntry,
                "no such file in this group: ls shows those there are",
            )
        })
}

fn read_file(at: &At<'_>, name: &[u8]) -> Result<String, FileError> {
    let file = file_in(at, name)?;
    let Some(read) = file.reader() else {
        return Err(FileError::new(
            Errno::Access,
            "this file is only written to",
        ));
    };
    let mut text = String::new();
    read(at, &mut text);
    Ok(text)
}

fn write_file(at: &At<'_>, name: &[u8], value: &[u8]) -> Result<(), FileError> {
    match file_in(at, name)?.writer() {
        Some(write) => write(at, value),
        None => Err(FileError::new(Errno::Access, "this file is only read")),
    }
}

fn at_file(why: FileError, path: &[u8], file: &[u8]) -> FileError {
    let mut place = path.to_vec();
    if !place.ends_with(b"/") {
        place.push(b'/');
    }
    place.extend_from_slice(file);
    why.at(&place)
}

/// The indices of a group's children.
fn children(at: &At<'_>) -> Vec<u32> {
    // Room first: nothing is allocated under the group's lock.
    let mut all = Vec::with_capacity(64);
    loop {
        all.clear();
        let mut fits = true;
        at.engine.tree.each_child(at.group, |index, _| {
            fits = all.len() < all.capacity();
            if fits {
                all.push(index);
            }
            fits
        });
        if fits {
            return all;
        }
        all.reserve(all.capacity() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    #[test]
    fn a_path_splits_at_its_last_component() {
        for (path, above, name) in [
            ("/a/b", "/a/", "b"),
            ("/a", "/", "a"),
            ("/a/b//", "/a/", "b"),
            ("/", "", ""),
            ("", "", ""),
            ("a", "", "a"),
        ] {
            let (got_above, got_name) = split(path.as_bytes());
            assert_eq!(
                (got_above, got_name),
                (above.as_bytes(), name.as_bytes()),
                "{path}"
            );
        }
    }

    #[test]
    fn groups_are_made_listed_and_removed() {
        let bench = Bench::new();
        bench.mkdir("/a");
        bench.mkdir("/a/x y");
        bench.mkdir("/b/");
        let groups = |path: &str| {
            let listing = list(bench.engine, bench.rec, path.as_bytes()).unwrap();
            listing
                .groups
                .iter()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(groups("/"), ["a", "b"]);
        assert_eq!(groups("/a"), ["x y"]);
        assert_eq!(bench.rmdir("/a").unwrap_err().errno, Errno::Busy);
        bench.rmdir("/a/x y").unwrap();
        bench.rmdir("/a").unwrap();
        assert_eq!(groups("/"), ["b"]);
        assert_eq!(bench.rmdir("/a").unwrap_err().errno, Errno::NoEntry);
    }

    #[test]
    fn more_children_than_the_first_buffer_holds_are_all_listed() {
        let bench = Bench::new();
        for i in 0..1000 {
            bench.mkdir(&format!("/g{i}"));
        }
        let listing = list(bench.engine, bench.rec, b"/").unwrap();
        assert_eq!(listing.groups.len(), 1000);
        assert_eq!(listing.groups[999], b"g999");
    }

    #[test]
    fn mkdir_refuses_as_the_kernel_does() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let long = format!("/{}", "n".repeat(256));
        for (path, errno) in [
            ("/", Errno::Exists),
            ("", Errno::Exists),
            ("/a", Errno::Exists),
            ("/memory.max", Errno::Exists),
            ("/x/y", Errno::NoEntry),
            ("a/b", Errno::Invalid),
            ("/.", Errno::Invalid),
            ("/a\nb", Errno::Invalid),
            (&long, Errno::NameTooLong),
        ] {
            let why = mkdir(bench.engine, bench.rec, path.as_bytes()).unwrap_err();
            assert_eq!(why.errno, errno, "{path:?}: {why}");
            assert!(!why.to_string().contains('\n'));
        }
        let mut deep = String::new();
        for _ in 0..255 {
            deep.push_str("/d");
            bench.mkdir(&deep);
        }
        let why = mkdir(bench.engine, bench.rec, format!("{deep}/d").as_bytes()).unwrap_err();
        assert_eq!(why.errno, Errno::Again);
    }

    #[test]
    fn the_root_stays() {
        let bench = Bench::new();
        assert_eq!(bench.rmdir("/").unwrap_err().errno, Errno::Busy);
        assert_eq!(bench.rmdir("").unwrap_err().errno, Errno::Busy);
    }

    #[test]
    fn a_group_with_a_live_task_is_busy_until_it_ends() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let task = bench.task("/a", "t", 0);
        assert_eq!(bench.rmdir("/a").unwrap_err().errno, Errno::Busy);
        bench.end(task);
        bench.rmdir("/a").unwrap();
    }

    #[test]
    fn every_file_is_listed_where_it_can_be_used_and_nowhere_else() {
        let bench = Bench::new();
        bench.mkdir("/a");
        for path in ["/", "/a"] {
            let listing = list(bench.engine, bench.rec, path.as_bytes()).unwrap();
            for file in FILES {
                let listed = listing.files.iter().find(|(name, _)| *name == file.name);
                let read = read(
                    bench.engine,
                    bench.rec,
                    path.as_bytes(),
                    file.name.as_bytes(),
                );
                let name = file.name;
                match (listed, read) {
                    (None, Err(why)) => assert_eq!(why.errno, Errno::NoEntry, "{path} {name}"),
                    (Some((_, Mode::Write)), Err(why)) => {
                        assert_eq!(why.errno, Errno::Access, "{path} {name}");
                    }
                    (Some((_, Mode::Read)), Ok(text)) => {
                        assert!(text.ends_with('\n') || text.is_empty(), "{name}: {text:?}");
                        let why = bench.write(path, name, "1").unwrap_err();
                        assert_eq!(why.errno, Errno::Access, "{path} {name}");
                    }
                    (Some((_, Mode::ReadWrite)), Ok(text)) => {
                        assert!(text.ends_with('\n') || text.is_empty(), "{name}: {text:?}");
                    }
                    (listed, read) => panic!("{path} {name}: {listed:?} {read:?}"),
                }
            }
        }
    }

    #[test]
    fn errors_say_where_and_what_in_one_line() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let why = bench.write("/a", "memory.max", "12\nMB").unwrap_err();
        assert_eq!(
            why.to_string(),
            "/a/memory.max: \"12\\012MB\": characters after the size; suffixes are K, M, G, T, P and E, without B: \
             write bytes, a size such as 64M, or max (EINVAL)"
        );
        let why = bench.read("/no", "memory.max").unwrap_err();
        assert!(why.to_string().starts_with("/no: no such group"), "{why}");
        let why = bench.read("/a", "memory.swap.max").unwrap_err();
        assert!(
            why.to_string()
                .starts_with("/a/memory.swap.max: no such file"),
            "{why}"
        );
    }

    #[test]
    fn a_group_removed_meanwhile_is_gone() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let _pin = bench.engine.tree.threads.epoch.pin(bench.rec);
        let group = bench.group("/a");
        bench.rmdir("/a").unwrap();
        let read = read_in(bench.engine, bench.rec, group, b"memory.max");
        assert_eq!(read.unwrap_err().errno, Errno::Gone);
        let written = write_in(bench.engine, bench.rec, group, b"memory.max", b"1");
        assert_eq!(written.unwrap_err().errno, Errno::Gone);
    }

    #[test]
    fn nothing_here_is_accounted_to_the_callers_group() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let tag = bench.group("/a").tag();
        let scope = bench.engine.tree.enter_scope(bench.rec, tag);
        let quiet = Quiet::enter(bench.engine, bench.rec);
        assert_eq!(bench.rec.current(), crate::group::NO_TAG);
        drop(quiet);
        assert_eq!(bench.rec.current(), tag);
        bench.read("/a", "memory.stat").unwrap();
        bench.write("/a", "memory.max", "junk").unwrap_err();
        assert_eq!(bench.rec.current(), tag);
        bench.engine.tree.leave_scope(bench.rec, scope);
    }
}
