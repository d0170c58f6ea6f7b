//! What a group's bytes are; at the root also the process and the engine itself.

use super::owners::inherited_here;
use super::process::{only_node, rss};
use super::table::At;
use super::text::{key, put};
use crate::engine::Engine;
use crate::group::cell::Cell;
use crate::group::name::NameRec;
use crate::group::stat::Usage;
use crate::group::{Event, Memcg, Objcg};
use crate::thread::ThreadRec;

pub(super) fn stat(at: &At<'_>, out: &mut String) {
    let (engine, group) = (at.engine, at.group);
    let usage = engine.tree.usage(group);
    let (inherited_bytes, inherited_owners) = inherited_here(at);
    for (name, value) in [
        ("anon", usage.heap + usage.mapped),
        ("heap", usage.heap),
        ("mapped", usage.mapped),
        ("reserved", usage.reserved),
        ("stocked", usage.stocked),
        ("granted", group.counter.granted()),
        ("tasks", group.nr_tasks().into()),
        ("throttled_us", group.throttled_us()),
        ("drains", group.nr_drains()),
        ("late", group.nr_events(Event::Late, false)),
        ("inherited_bytes", inherited_bytes),
        ("inherited_owners", inherited_owners),
    ] {
        key(out, name, value);
    }
    if at.is_root() {
        root(engine, &usage, out);
    }
}

/// What only the root shows: charged memory against the process's, and what the engine needs for itself.
fn root(engine: &Engine, usage: &Usage, out: &mut String) {
    let tree = &engine.tree;
    let rss = rss();
    let permille = usage.current.saturating_mul(1000).checked_div(rss);
    for (name, value) in [
        ("rss", rss),
        ("coverage_permille", permille.unwrap_or(0)),
        ("owners_in_use", tree.objcgs.in_use().into()),
        ("groups", tree.memcgs.in_use().into()),
        ("cells_in_use", tree.cells.in_use().into()),
        ("limbo", tree.limbo_len().into()),
        ("engine_bytes", engine_bytes(engine)),
    ] {
        key(out, name, value);
    }
}

/// Bytes of the tables that have ever been touched, to within a page a table.
fn engine_bytes(engine: &Engine) -> u64 {
    fn table<T>(high_water: u32) -> u64 {
        u64::from(high_water) * core::mem::size_of::<T>() as u64
    }
    let tree = &engine.tree;
    let threads = tree.threads.each().map(|(index, _)| index + 1).max();
    core::mem::size_of::<Engine>() as u64
        + table::<Memcg>(tree.memcgs.high_water())
        + table::<Cell>(tree.cells.high_water())
        + table::<Objcg>(tree.objcgs.high_water())
        + table::<NameRec>(tree.names.high_water())
        + table::<ThreadRec>(threads.unwrap_or(0))
}

/// Whether all memory is on one node, so that the division by node is known.
pub(super) fn has_one_node() -> bool {
    only_node().is_some()
}

pub(super) fn numa_stat(at: &At<'_>, out: &mut String) {
    let Some(node) = only_node() else { return };
    let usage = at.engine.tree.usage(at.group);
    for (name, value) in [
        ("anon", usage.heap + usage.mapped),
        ("heap", usage.heap),
        ("mapped", usage.mapped),
    ] {
        put(out, format_args!("{name} N{node}={value}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;
    use crate::group::Kind;

    #[test]
    fn bytes_are_shown_by_kind() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let tag = bench.group("/a").tag();
        assert!(bench.charge(tag, 4000, Kind::Heap));
        assert!(bench.charge(tag, 4096, Kind::Mapped));
        assert!(bench.charge(tag, 8192, Kind::Reserved));
        let stat = |key| bench.value("/a", "memory.stat", key);
        assert_eq!(
            ["anon", "heap", "mapped", "reserved"].map(stat),
            [8096, 4000, 4096, 8192]
        );
        assert_eq!(stat("stocked") > 0, stat("granted") > 0);
        assert_eq!(bench.text("/a", "memory.current"), "16288\n");
        if let Some(node) = only_node() {
            let text = bench.text("/a", "memory.numa_stat");
            assert_eq!(
                text,
                format!("anon N{node}=8096\nheap N{node}=4000\nmapped N{node}=4096\n")
            );
        }
    }

    #[test]
    fn the_root_shows_the_process_and_the_engine() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let stat = |key| bench.value("/", "memory.stat", key);
        assert!(stat("rss") > 0);
        assert_eq!(
            ["groups", "owners_in_use", "cells_in_use"].map(stat),
            [2, 2, 2]
        );
        assert!(stat("engine_bytes") > 0);
        assert!(!bench.text("/a", "memory.stat").contains("rss"));
    }
}
