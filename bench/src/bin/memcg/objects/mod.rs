//! Rows about kernel-style objects: kmem caches and lists, their slab kinds and layouts, and what
//! an end or a move does to them.

mod alone;
mod ends;
mod lists;
mod maker;
mod many;

use memcg_bench::measure::Run;

/// Runs one of these rows.
pub fn run(name: &str, ops: u64) -> Option<Run> {
    let name = name.strip_prefix("objects-")?;
    alone::run(name, ops)
        .or_else(|| many::run(name, ops))
        .or_else(|| lists::run(name, ops))
        .or_else(|| ends::run(name, ops))
}
