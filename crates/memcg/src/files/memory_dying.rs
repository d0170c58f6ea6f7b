//! `memory.dying`: removed groups that still hold bytes. It exists where groups linger.
//!
//! Invariants: a group is listed from its removal to its end.
//! Depends on: the tree's lingering groups.
//! Never: ends a group.

#![forbid(unsafe_code)]

use super::At;
use super::owners::{origin, utc};
use crate::sync::id::Id;
use core::fmt::Write;

/// The names of the columns.
pub const HEADER: &str = "ORIGIN\tENDED\tHELD\tID\n";

/// A line for each lingering group below this one, those that hold most first. ID is the kmem id
/// that the group keeps; `-`: it keeps none.
pub fn dying(at: At<'_>) -> String {
    let tree = &at.engine.tree;
    let mut all = Vec::new();
    let mut last = None;
    while let Some(index) = tree.next_lingering(at.group, last) {
        last = Some(index);
        let group = tree.memcgs.get(index);
        let ended = tree.objcgs.get(group.tag()).ended_at();
        let held = tree.usage(group).current;
        all.push((held, index, ended, tree.kmem_id_if_any(group)));
    }
    all.sort_by_key(|&(held, index, ..)| (core::cmp::Reverse(held), index));
    let mut text = String::from(HEADER);
    for (held, index, ended, id) in all {
        let origin = origin(at, tree.memcgs.get(index).name());
        let id = id.map_or_else(|| String::from("-"), |id| id.raw().to_string());
        let _ = writeln!(
            text,
            "{origin}\t{}\t{held}\t{id}",
            utc(ended / 1_000_000_000)
        );
    }
    text
}
