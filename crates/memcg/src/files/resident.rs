//! What is resident in this process, and which part of it no group holds.
//!
//! Invariants: what the kernel does not say counts as 0.
//! Depends on: `engine`; two files of /proc.
//! Never: reads more than those two files at a time.

use crate::engine::Engine;

/// Resident bytes of this process, as the kernel counts them; 0 when it does not say.
pub fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    // SAFETY: sysconf takes a number and answers one; it touches no memory of this program.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap_or(crate::units::PAGE_SIZE)
}

/// The most resident bytes that this process ever had; 0 when the kernel does not say.
pub fn rss_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    of_status(&status, "VmHWM:")
}

/// The number in a line of /proc/self/status, which is in KiB there, as bytes; 0 without that line.
fn of_status(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Resident bytes of the process that no group holds, beside what the allocator keeps free.
pub struct Outside {
    /// The engine's own tables.
    pub engine: u64,
    /// What neither the allocator nor the tables nor counted mappings explain.
    pub elsewhere: u64,
    /// Resident bytes with a file behind: code and mapped files.
    pub file: u64,
    /// Resident bytes of shared memory.
    pub shared: u64,
}

/// What is outside the groups now; `mapped` is what the root holds of that kind. Reads two files of
/// /proc.
pub fn outside(engine: &Engine, mapped: u64) -> Outside {
    let own = engine_bytes(engine);
    let kmem = engine.kmem.stat();
    let slabs = (kmem.live + kmem.uncollected + kmem.free + kmem.spare) as u64;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    Outside {
        engine: own,
        elsewhere: elsewhere(slabs, own, mapped, rss()),
        file: of_status(&status, "RssFile:"),
        shared: of_status(&status, "RssShmem:"),
    }
}

/// Of `rss` resident bytes, those that neither the allocator (`slabs` bytes, free ones included)
/// nor the engine's tables (`own`) nor counted mappings explain.
pub fn elsewhere(slabs: u64, own: u64, mapped: u64, rss: u64) -> u64 {
    rss.saturating_sub(slabs + own + mapped)
}

/// Bytes of engine tables, as far as they have been used.
pub fn engine_bytes(engine: &Engine) -> u64 {
    let tree = &engine.tree;
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
            tree.event_counts.high_water(),
            size_of::<crate::group::events::EventCounts>(),
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
        engine.kmem.lists.bytes(),
        engine.kmem.tables.stat().trees_most,
    ])
    .sum()
}
