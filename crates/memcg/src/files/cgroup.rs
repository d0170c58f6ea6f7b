//! The core files: what a group is, not what it holds.

use super::error::{Errno, FileError};
use super::table::At;
use super::text::{key, number, quoted, strip, words};
use crate::counter::Level;
use crate::group::objcg::State;
use crate::group::{Memcg, ROOT};
use crate::sync::atomic::{AtomicPtr, Ordering};
use crate::sync::lock::Rank;

/// What is told of each task `cgroup.kill` has marked.
static KILL_HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Has `hook` called with the tag of each task that a write to `cgroup.kill` marks, so that somebody wakes it. It is
/// called pinned, under no lock, by whoever writes. One function, by whoever owns the process.
pub fn set_kill_hook(hook: fn(u32)) {
    // Release pairs with the Acquire of `kill`.
    KILL_HOOK.store(hook as *mut (), Ordering::Release);
}

/// Whether every group above lets its children have memory.
fn has_memory(group: &Memcg) -> bool {
    let mut level = group.parent();
    while let Some(above) = level {
        if above.subtree_control.load(Ordering::Relaxed) == 0 {
            return false;
        }
        level = above.parent();
    }
    true
}

pub(super) fn controllers(at: &At<'_>, out: &mut String) {
    out.push_str(if has_memory(at.group) {
        "memory\n"
    } else {
        "\n"
    });
}

pub(super) fn subtree_control(at: &At<'_>, out: &mut String) {
    let on = at.group.subtree_control.load(Ordering::Relaxed) != 0 && has_memory(at.group);
    out.push_str(if on { "memory\n" } else { "\n" });
}

pub(super) fn set_subtree_control(at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    let mut wanted = None;
    for word in words(value) {
        wanted = Some(match word {
            b"+memory" => 1,
            b"-memory" => 0,
            other => {
                return Err(FileError::invalid(format!(
                    "{}: the only controller is memory: write +memory or -memory",
                    quoted(other)
                )));
            }
        });
    }
    let Some(wanted) = wanted else { return Ok(()) };
    if wanted == 1 && !has_memory(at.group) {
        return Err(FileError::new(
            Errno::NoEntry,
            "cgroup.controllers here has no memory: write +memory to cgroup.subtree_control above",
        ));
    }
    set(at, || {
        at.group.subtree_control.store(wanted, Ordering::Relaxed);
    })
}

/// Changes a setting of a group that is there.
pub(super) fn set(at: &At<'_>, change: impl FnOnce()) -> Result<(), FileError> {
    let done = at.engine.change(|| {
        let _held = at.group.lock.lock(Rank::Group);
        let online = at.group.is_online();
        if online {
            change();
        }
        online
    });
    if done { Ok(()) } else { Err(FileError::gone()) }
}

pub(super) fn group_type(_at: &At<'_>, out: &mut String) {
    out.push_str("domain\n");
}

pub(super) fn set_group_type(_at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    match strip(value) {
        b"threaded" => Err(FileError::new(
            Errno::NotSupported,
            "threads are tasks of any group here: there are no threaded groups",
        )),
        other => Err(FileError::invalid(format!(
            "{}: a group is a domain and stays one",
            quoted(other)
        ))),
    }
}

pub(super) fn events(at: &At<'_>, out: &mut String) {
    key(out, "populated", u32::from(is_populated(at)));
    key(out, "frozen", 0);
}

fn is_populated(at: &At<'_>) -> bool {
    let (tree, top) = (&at.engine.tree, at.group.index());
    let mut next = Some(top);
    while let Some(index) = next {
        if tree.memcgs.get(index).nr_tasks() != 0 {
            return true;
        }
        next = tree.next_in_preorder(top, index);
    }
    false
}

pub(super) fn stat(at: &At<'_>, out: &mut String) {
    key(out, "nr_descendants", at.group.nr_descendants());
    key(out, "nr_dying_descendants", nr_dying(at));
}

/// Removed groups whose records are not reusable yet. Exact at the root; below it an upper bound, since a record does
/// not tell whether it still waits or is free.
fn nr_dying(at: &At<'_>) -> u32 {
    let tree = &at.engine.tree;
    let online = tree.memcgs.get(ROOT).nr_descendants() + 1;
    let all = tree.memcgs.in_use().saturating_sub(online);
    if all == 0 || at.is_root() {
        return all;
    }
    let below = (ROOT + 1..tree.memcgs.high_water())
        .map(|index| tree.memcgs.get(index))
        .filter(|group| !group.is_online() && group.is_within(at.group))
        .count();
    all.min(u32::try_from(below).unwrap_or(u32::MAX))
}

pub(super) fn kill(at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    match number(value) {
        Some(1) => {}
        Some(_) => return Err(FileError::new(Errno::Range, "write 1")),
        None => {
            return Err(FileError::invalid(format!("{}: write 1", quoted(value))));
        }
    }
    let tree = &at.engine.tree;
    // Acquire pairs with the Release of `set_kill_hook`.
    let hook = KILL_HOOK.load(Ordering::Acquire);
    for tag in 1..tree.objcgs.high_water() {
        let task = tree.objcgs.get(tag);
        if task.state() != State::Task
            || !tree.resolve(task.cell()).group.is_within(at.group)
            || !task.kill()
            || hook.is_null()
        {
            continue;
        }
        // SAFETY: only `set_kill_hook` stores here, and it stores a `fn(u32)`.
        let hook: fn(u32) = unsafe { core::mem::transmute(hook) };
        hook(tag);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn memory_is_there_and_can_be_taken_away_and_given_back() {
        let bench = Bench::new();
        bench.mkdir("/a");
        bench.mkdir("/a/b");
        let controllers = |path| bench.text(path, "cgroup.controllers");
        assert_eq!(controllers("/a/b"), "memory\n");
        bench
            .write("/", "cgroup.subtree_control", "-memory")
            .unwrap();
        assert_eq!(bench.text("/", "cgroup.subtree_control"), "\n");
        assert_eq!(
            (controllers("/"), controllers("/a"), controllers("/a/b")),
            ("memory\n".into(), "\n".into(), "\n".into())
        );
        let why = bench.write("/a", "cgroup.subtree_control", "+memory");
        assert_eq!(why.unwrap_err().errno, Errno::NoEntry);
        bench
            .write("/", "cgroup.subtree_control", "-memory +memory\n")
            .unwrap();
        assert_eq!(controllers("/a/b"), "memory\n");
        bench.write("/a", "cgroup.subtree_control", "").unwrap();
    }

    #[test]
    fn other_controllers_are_refused_and_change_nothing() {
        let bench = Bench::new();
        for value in ["+cpu", "memory", "-memory +io", "+", "+memory,-memory"] {
            let why = bench.write("/", "cgroup.subtree_control", value);
            assert_eq!(why.unwrap_err().errno, Errno::Invalid, "{value}");
        }
        assert_eq!(bench.text("/", "cgroup.subtree_control"), "memory\n");
    }

    #[test]
    fn a_group_is_a_domain() {
        let bench = Bench::new();
        bench.mkdir("/a");
        assert_eq!(bench.text("/a", "cgroup.type"), "domain\n");
        let errno = |value| bench.write("/a", "cgroup.type", value).unwrap_err().errno;
        assert_eq!(errno("threaded\n"), Errno::NotSupported);
        assert_eq!(errno("domain"), Errno::Invalid);
    }

    #[test]
    fn a_group_is_populated_by_the_tasks_below_it() {
        let bench = Bench::new();
        bench.mkdir("/a");
        bench.mkdir("/a/b");
        bench.mkdir("/c");
        let events = |path| bench.text(path, "cgroup.events");
        assert_eq!(events("/a"), "populated 0\nfrozen 0\n");
        let task = bench.task("/a/b", "t", 0);
        assert_eq!(events("/a"), "populated 1\nfrozen 0\n");
        assert_eq!(events("/a/b"), "populated 1\nfrozen 0\n");
        assert_eq!(events("/c"), "populated 0\nfrozen 0\n");
        bench.end(task);
        assert_eq!(events("/a"), "populated 0\nfrozen 0\n");
    }

    #[test]
    fn descendants_are_counted_and_none_is_dying_for_long() {
        let bench = Bench::new();
        bench.mkdir("/a");
        bench.mkdir("/a/b");
        bench.mkdir("/a/b/c");
        let stat = |path, key| bench.value(path, "cgroup.stat", key);
        assert_eq!(stat("/", "nr_descendants"), 3);
        assert_eq!(stat("/a", "nr_descendants"), 2);
        let pin = bench.engine.tree.threads.epoch.pin(bench.rec);
        bench.rmdir("/a/b/c").unwrap();
        assert_eq!(stat("/a", "nr_descendants"), 1);
        assert_eq!(stat("/", "nr_dying_descendants"), 1);
        assert_eq!(stat("/a/b", "nr_dying_descendants"), 1);
        drop(pin);
        assert_eq!(stat("/", "nr_dying_descendants"), 0);
        assert_eq!(stat("/a/b", "nr_dying_descendants"), 0);
    }

    static WOKEN: Mutex<Vec<u32>> = Mutex::new(Vec::new());

    #[test]
    fn kill_marks_every_task_below_and_tells_of_each() {
        let bench = Bench::new();
        bench.mkdir("/a");
        bench.mkdir("/a/b");
        bench.mkdir("/c");
        let (in_a, in_b, in_c) = (
            bench.task("/a", "t", 0),
            bench.task("/a/b", "t", 0),
            bench.task("/c", "t", 0),
        );
        set_kill_hook(|tag| WOKEN.lock().unwrap().push(tag));
        for (value, errno) in [
            ("0", Errno::Range),
            ("2", Errno::Range),
            ("", Errno::Invalid),
            ("yes", Errno::Invalid),
        ] {
            let why = bench.write("/a", "cgroup.kill", value).unwrap_err();
            assert_eq!(why.errno, errno, "{value}");
        }
        bench.write("/a", "cgroup.kill", "1\n").unwrap();
        let killed = |tag| bench.engine.tree.objcgs.get(tag).is_killed();
        assert!(killed(in_a) && killed(in_b) && !killed(in_c));
        let mut woken = WOKEN.lock().unwrap().clone();
        woken.sort_unstable();
        assert_eq!(woken, [in_a, in_b]);
        let why = bench.write("/", "cgroup.kill", "1").unwrap_err();
        assert_eq!(why.errno, Errno::NoEntry);
    }
}
