//! `memory.stat` and `memory.numa_stat`: flat keyed, as tools read them.
//!
//! The root's adds the rest of the process: what the allocator has beside what is charged, the engine's tables, and what
//! of the resident size nobody here knows of.

use super::At;
use super::text::lines;
use crate::group::Event;
use std::sync::OnceLock;

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
    let mut text = String::with_capacity(1 << 10);
    lines(
        &mut text,
        &[
            ("anon", usage.heap + usage.mapped + usage.slab),
            ("heap", usage.heap),
            ("mapped", usage.mapped),
            ("reserved", usage.reserved),
            ("slab", usage.slab),
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
    if at.is_root() {
        let rss = rss();
        let (kmem, own) = (at.engine.kmem.stat(), engine_bytes(at));
        let slabs = [kmem.live, kmem.free, kmem.spare].map(|bytes| bytes as u64);
        let known = slabs.iter().sum::<u64>() + own + usage.mapped;
        lines(
            &mut text,
            &[
                ("slab_live", slabs[0]),
                ("slab_free", slabs[1]),
                ("span_cached", slabs[2]),
                ("span_mapped", kmem.mapped as u64),
                ("engine", own),
                ("elsewhere", rss.saturating_sub(known)),
                ("rss", rss),
                (
                    "coverage_permille",
                    (usage.current * 1000).checked_div(rss).unwrap_or(0),
                ),
                ("groups", u64::from(tree.memcgs.in_use())),
                ("owners", u64::from(tree.objcgs.in_use())),
                ("cells", u64::from(tree.cells.in_use())),
                ("limbo", u64::from(tree.limbo_len())),
            ],
        );
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

/// Resident bytes of this process, as the kernel counts them; 0 when it does not say.
pub fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    // SAFETY: sysconf has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap_or(crate::units::PAGE_SIZE)
}

/// The most there ever were; 0 when the kernel does not say.
pub fn rss_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or(0)
        << 10
}

/// Bytes of the engine's own tables, as far as they have been used.
fn engine_bytes(at: At<'_>) -> u64 {
    let tree = &at.engine.tree;
    [
        (tree.memcgs.high_water(), size_of::<crate::group::Memcg>()),
        (
            tree.cells.high_water(),
            size_of::<crate::group::cell::Cell>(),
        ),
        (tree.objcgs.high_water(), size_of::<crate::group::Objcg>()),
        (
            tree.names.high_water(),
            size_of::<crate::group::name::NameRec>(),
        ),
        (
            tree.tallies.high_water(),
            size_of::<crate::group::events::Tally>(),
        ),
        (
            tree.pressures.high_water(),
            size_of::<crate::group::pressure::Pressure>(),
        ),
        (
            tree.watches.high_water(),
            size_of::<crate::group::watch::WatchRec>(),
        ),
    ]
    .into_iter()
    .map(|(n, bytes)| u64::from(n) * bytes as u64)
    .chain([
        tree.kmem_ids.bytes(),
        at.engine.kmem.lists.bytes(),
        at.engine.kmem.tables.stat().trees_most,
    ])
    .sum()
}

/// Whether all memory is on one node, so that whose it is need not be asked page by page.
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
        "anon N0={}\nheap N0={}\nmapped N0={}\n",
        usage.heap + usage.mapped + usage.slab,
        usage.heap,
        usage.mapped
    )
}
