//! `memory.stat` and `memory.numa_stat`: lines of key and number, as tools read them.
//!
//! The root's file has lines about the rest of the process, too: what the allocator has beside what
//! is charged, the engine's tables, and the part of the resident size that nothing here explains.
//!
//! Invariants: `memory.numa_stat` exists only where all memory is on one node.
//! Depends on: the tree for usage; `kmem` for the allocator; `resident` for the process.
//! Never: asks page by page where memory is.

#![forbid(unsafe_code)]

use super::At;
use super::resident::{elsewhere, engine_bytes, rss};
use super::text::lines;
use crate::group::usage::Usage;
use crate::group::{Event, PageCount, PageEvent};
use std::sync::OnceLock;

/// Memory that is in no file: objects, what the program maps, and pages of anonymous regions.
fn anon(usage: &Usage) -> u64 {
    usage.heap + usage.mapped + usage.slab + usage.anon
}

pub fn stat(at: At<'_>) -> String {
    let tree = &at.engine.tree;
    let usage = tree.usage(at.group);
    let (mut owners, mut bytes) = (0u64, 0);
    tree.each_ended_owner(|line| {
        if line.held > 0 && tree.memcgs.get(line.group).is_within(at.group) {
            owners += 1;
            bytes += line.held;
        }
    });
    let count = |count| {
        let pages = tree.group_pages(at.group);
        pages.map_or(0, |pages| pages.bytes(count))
    };
    let mut text = String::with_capacity(1 << 10);
    lines(
        &mut text,
        &[
            ("anon", anon(&usage)),
            ("file", usage.file + usage.shmem),
            ("shmem", usage.shmem),
            ("zswap", usage.zswap),
            ("zswapped", count(PageCount::Zswapped)),
            ("swapcached", count(PageCount::SwapCached)),
            ("file_dirty", count(PageCount::FileDirty)),
            ("file_writeback", count(PageCount::FileWriteback)),
            ("heap", usage.heap),
            ("mapped", usage.mapped),
            ("reserved", usage.reserved),
            ("slab", usage.slab),
            ("anon_pages", usage.anon),
            ("engine", usage.engine),
            ("stocked", usage.stocked),
            ("granted", at.group.counter.granted()),
            ("tasks", u64::from(at.group.nr_tasks())),
            ("inherited_owners", owners),
            ("inherited_bytes", bytes),
            ("late", at.group.nr_events(Event::Late, false)),
            ("drains", at.group.nr_drains()),
            ("throttled_us", at.group.throttled_us()),
            ("shrinker_scanned", at.group.shrunk().0),
            ("shrinker_freed", at.group.shrunk().1),
        ],
    );
    for event in PageEvent::ALL
        .into_iter()
        .filter(|event| !event.is_of_swap())
    {
        let n = tree
            .group_pages(at.group)
            .map_or(0, |pages| pages.nr_events(event));
        lines(&mut text, &[(event.name(), n)]);
    }
    if at.is_root() {
        let rss = rss();
        let (kmem, own) = (at.engine.kmem.stat(), engine_bytes(at.engine));
        let slabs = [kmem.live, kmem.uncollected, kmem.free, kmem.spare].map(|bytes| bytes as u64);
        let frames = &at.engine.pages.frames;
        let frames = (frames.in_use_bytes(), frames.free_bytes());
        lines(
            &mut text,
            &[
                ("slab_live", slabs[0]),
                ("slab_uncollected", slabs[1]),
                ("slab_free", slabs[2]),
                ("span_cached", slabs[3]),
                ("span_mapped", kmem.mapped as u64),
                ("frames", frames.0),
                ("frames_free", frames.1),
                ("engine_tables", own),
                (
                    "elsewhere",
                    elsewhere(
                        slabs.iter().sum::<u64>() + frames.0 + frames.1,
                        own,
                        usage.mapped,
                        rss,
                    ),
                ),
                ("rss", rss),
                (
                    "coverage_permille",
                    (usage.current * 1000).checked_div(rss).unwrap_or(0),
                ),
                ("groups", u64::from(tree.memcgs.in_use())),
                ("owners", u64::from(tree.objcgs.in_use())),
                ("cells", u64::from(tree.cells.in_use())),
                ("limbo", u64::from(tree.limbo_len())),
                ("scope_order", tree.nr_misordered_scopes()),
            ],
        );
        // Ids of groups that have gone are free when nobody can look at them any more.
        at.engine.tree.collect();
        let ids = at.engine.id_stat();
        lines(
            &mut text,
            &[
                ("dying", u64::from(ids.lingering)),
                ("dying_gone", ids.lingered),
                ("kmem_ids", u64::from(ids.in_use)),
                ("kmem_ids_max", u64::from(ids.max)),
                ("kmem_ids_exhausted", ids.exhausted),
                ("kmem_id_bytes", ids.id_bytes),
                ("kmem_array_bytes", ids.tables.arrays),
                ("kmem_array_grown", ids.tables.grown),
                ("kmem_tree_bytes", ids.tables.trees),
                ("kmem_hint_bytes", ids.hint_bytes),
                ("kmem_ids_asked", ids.tables.asked),
                ("kmem_ids_given", ids.tables.helped),
            ],
        );
    }
    text
}

/// Whether all memory of the machine is on one node, so that nobody has to ask page by page.
pub fn has_one_node() -> bool {
    static ONE: OnceLock<bool> = OnceLock::new();
    *ONE.get_or_init(|| {
        std::fs::read_to_string("/sys/devices/system/node/online")
            .is_ok_and(|nodes| nodes.trim() == "0")
    })
}

pub fn numa_stat(at: At<'_>) -> String {
    let usage = at.engine.tree.usage(at.group);
    format!(
        "anon N0={}\nfile N0={}\nshmem N0={}\nheap N0={}\nmapped N0={}\n",
        anon(&usage),
        usage.file + usage.shmem,
        usage.shmem,
        usage.heap,
        usage.mapped
    )
}
