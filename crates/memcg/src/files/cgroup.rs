//! The `cgroup.*` files.
//!
//! Invariants: names and formats are cgroup v2's.
//! Depends on: the engine's tree; `api::kill` for `cgroup.kill`.
//! Never: moves or kills a task but by a write.

#![forbid(unsafe_code)]

use super::{At, Errno, FileError, integer, move_here};
use crate::api::kill::mark_below;
use crate::group::objcg::{Objcg, State};
use crate::group::task_owner::FIRST_TASK_ID;
use core::fmt::Write;

pub fn controllers(_: At<'_>) -> String {
    "memory\n".into()
}

pub fn subtree_control(at: At<'_>) -> String {
    if at.group.has_subtree_control() {
        "memory\n".into()
    } else {
        "\n".into()
    }
}

pub fn set_subtree_control(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    let mut on = None;
    for word in value
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
    {
        on = Some(match word {
            b"+memory" => true,
            b"-memory" => false,
            _ => {
                return Err(FileError::invalid(
                    "write +memory or -memory: there is no other controller",
                ));
            }
        });
    }
    if let Some(on) = on {
        at.group.set_subtree_control(on);
    }
    Ok(())
}

pub fn kind(_: At<'_>) -> String {
    "domain\n".into()
}

pub fn set_kind(_: At<'_>, value: &[u8]) -> Result<(), FileError> {
    match value {
        b"threaded" => Err(FileError::new(
            Errno::EOPNOTSUPP,
            "every group may have threads already".into(),
        )),
        _ => Err(FileError::invalid("only 'threaded' can be asked for")),
    }
}

fn each_task(at: At<'_>, below: bool, mut f: impl FnMut(&Objcg)) {
    let tree = &at.engine.tree;
    for (_, objcg) in tree.objcgs.each() {
        if objcg.state() == State::Task {
            let group = tree.resolve(objcg.cell()).group;
            if core::ptr::eq(group, at.group) || below && group.is_within(at.group) {
                f(objcg);
            }
        }
    }
}

pub fn events(at: At<'_>) -> String {
    let mut populated = false;
    each_task(at, true, |_| populated = true);
    format!("populated {}\nfrozen 0\n", u8::from(populated))
}

fn ids(at: At<'_>, wanted: impl Fn(u32) -> bool) -> String {
    let mut all = Vec::new();
    each_task(at, false, |task| all.push(task.id()));
    all.sort_unstable();
    all.into_iter()
        .filter(|&id| wanted(id))
        .fold(String::new(), |mut text, id| {
            let _ = writeln!(text, "{id}");
            text
        })
}

pub fn procs(at: At<'_>) -> String {
    ids(at, |_| true)
}

pub fn threads(at: At<'_>) -> String {
    ids(at, |id| id < FIRST_TASK_ID)
}

fn id(value: &[u8]) -> Result<u32, FileError> {
    core::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| FileError::invalid("write the id of a task, a number"))
}

pub fn move_in(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    move_here(at, id(value)?, None).map(|_| ())
}

pub fn move_thread_in(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    let id = id(value)?;
    if id >= FIRST_TASK_ID && at.engine.tree.task_by_id(id).is_some() {
        return Err(FileError::new(
            Errno::EOPNOTSUPP,
            format!("task {id} is no thread: write it to cgroup.procs"),
        ));
    }
    move_here(at, id, None).map(|_| ())
}

pub fn stat(at: At<'_>) -> String {
    let tree = &at.engine.tree;
    let mut dying = 0;
    let mut last = None;
    while let Some(index) = tree.next_lingering(at.group, last) {
        dying += 1;
        last = Some(index);
    }
    // Every group has the memory controller, itself included, as the kernel counts.
    let live = at.group.nr_descendants();
    format!(
        "nr_descendants {live}\nnr_subsys_memory {}\n\
         nr_dying_descendants {dying}\nnr_dying_subsys_memory {dying}\n",
        live + 1
    )
}

pub fn kill(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    match integer::parse(value) {
        Ok(1) => {
            mark_below(at.engine, at.group);
            // Those that wait are woken by `files::after_write`: we are pinned.
            Ok(())
        }
        Ok(_) | Err(integer::NoInteger::Range) => Err(FileError::new(
            Errno::ERANGE,
            "write 1, no other number".into(),
        )),
        Err(integer::NoInteger::Text) => Err(FileError::invalid("write 1")),
    }
}
