//! Who is in a group, and moving somebody there.

use super::error::{Errno, FileError};
use super::table::At;
use super::text::{number, path_of_group, put, quoted};
use crate::attach;
use crate::engine::process::thread_task;
use crate::group::objcg::State;
use crate::group::task::FIRST_TASK_ID;

pub(super) fn procs(at: &At<'_>, out: &mut String) {
    ids(at, u32::MAX, out);
}

pub(super) fn threads(at: &At<'_>, out: &mut String) {
    ids(at, FIRST_TASK_ID, out);
}

/// The ids below `end` of the live tasks in this very group, in order. O(owners).
fn ids(at: &At<'_>, end: u32, out: &mut String) {
    let tree = &at.engine.tree;
    let mut ids: Vec<u32> = (1..tree.objcgs.high_water())
        .map(|tag| tree.objcgs.get(tag))
        .filter(|task| task.state() == State::Task && task.id() < end)
        .filter(|task| core::ptr::eq(tree.resolve(task.cell()).group, at.group))
        .map(crate::group::Objcg::id)
        .collect();
    ids.sort_unstable();
    for id in ids {
        put(out, format_args!("{id}\n"));
    }
}

fn id(value: &[u8]) -> Result<u32, FileError> {
    number(value)
        .and_then(|id| u32::try_from(id).ok())
        .ok_or_else(|| {
            FileError::invalid(format!(
                "{}: write the id of one task, as cgroup.procs shows it",
                quoted(value)
            ))
        })
}

fn no_task() -> FileError {
    FileError::new(Errno::NoTask, "no live task of that id: see cgroup.procs")
}

pub(super) fn move_here(at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    move_to(at, id(value)?)
}

pub(super) fn move_thread_here(at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    match id(value)? {
        id if id < FIRST_TASK_ID => move_to(at, id),
        _ => Err(no_task()),
    }
}

/// Moves the task of an id here; 0 is the calling thread's.
pub(super) fn move_to(at: &At<'_>, id: u32) -> Result<(), FileError> {
    let tree = &at.engine.tree;
    let tag = match id {
        0 => Some(thread_task(at.rec)).filter(|&tag| tag != 0),
        id => tree.task_by_id(id),
    };
    let tag = tag.ok_or_else(no_task)?;
    at.engine
        .change(|| attach::move_task(tree, at.rec, tag, at.group))
        .map_err(|why| FileError::of_move(why, |group| path_of_group(at.engine, group)))
}

#[cfg(test)]
mod tests {
    use super::super::move_task;
    use super::super::testing::Bench;
    use super::*;
    use crate::group::Kind;

    #[test]
    fn tasks_are_listed_where_they_are_and_move_by_their_id() {
        let bench = Bench::new();
        bench.mkdir("/a");
        bench.mkdir("/b");
        let own = bench.task("/a", "session", 0);
        bench.task("/a", "thread", 4711);
        let id = bench.engine.tree.objcgs.get(own).id();
        assert_eq!(bench.text("/a", "cgroup.procs"), format!("4711\n{id}\n"));
        assert_eq!(bench.text("/a", "cgroup.threads"), "4711\n");
        assert!(bench.charge(own, 4096, Kind::Mapped));
        bench
            .write("/b", "cgroup.procs", &format!("{id}\n"))
            .unwrap();
        bench.write("/b", "cgroup.threads", "4711").unwrap();
        assert_eq!(bench.text("/a", "cgroup.procs"), "");
        assert_eq!(bench.text("/b", "cgroup.procs"), format!("4711\n{id}\n"));
        assert_eq!(bench.text("/a", "memory.current"), "0\n");
        assert_eq!(bench.text("/b", "memory.current"), "4096\n");
        move_task(bench.engine, bench.rec, 4711, b"/").unwrap();
        assert_eq!(bench.text("/", "cgroup.threads"), "4711\n");
    }

    #[test]
    fn ids_that_are_none_are_refused() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let task = bench.task("/", "t", 0);
        let id = bench.engine.tree.objcgs.get(task).id();
        let errno = |file, value: &str| bench.write("/a", file, value).unwrap_err().errno;
        assert_eq!(errno("cgroup.procs", "77"), Errno::NoTask);
        assert_eq!(errno("cgroup.procs", "0"), Errno::NoTask);
        for value in ["", "x", "1 2", "-1", "4294967296"] {
            assert_eq!(errno("cgroup.procs", value), Errno::Invalid, "{value}");
        }
        assert_eq!(errno("cgroup.threads", &id.to_string()), Errno::NoTask);
        bench.end(task);
        assert_eq!(errno("cgroup.procs", &id.to_string()), Errno::NoTask);
    }

    #[test]
    fn a_move_that_does_not_fit_says_who_is_full_and_changes_nothing() {
        let bench = Bench::new();
        bench.mkdir("/a");
        bench.mkdir("/b");
        bench.mkdir("/b/c");
        bench.write("/b", "memory.max", "64K").unwrap();
        let task = bench.task("/a", "t", 77);
        assert!(bench.charge(task, 1 << 20, Kind::Mapped));
        let why = bench.write("/b/c", "cgroup.procs", "77").unwrap_err();
        assert_eq!(why.errno, Errno::NoMemory);
        assert!(
            why.message.starts_with("/b has no room for the task"),
            "{why}"
        );
        assert_eq!(bench.text("/a", "cgroup.procs"), "77\n");
        assert_eq!(bench.text("/b", "memory.current"), "0\n");
    }
}
