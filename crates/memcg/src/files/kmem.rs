//! `memory.kmem.*`: objects of kmem caches.
//!
//! Invariants: bytes are those charged for objects of caches, which `memory.current` includes.
//! Depends on: `kmem` for caches and their figures; the tree for their counts.
//! Never: shows a cache that has no record any more.

#![forbid(unsafe_code)]

use super::{At, Errno, FileError, memory, path_of};
use crate::engine::group_limits::Bound;
use crate::group::ROOT;
use crate::kmem::cache::{CacheStat, Ways, filter};
use crate::units::Limit;
use core::fmt::Write;

pub fn current(at: At<'_>) -> String {
    format!("{}\n", at.engine.tree.slab_bytes(at.group))
}

pub fn max(at: At<'_>) -> String {
    format!("{}\n", Limit::bytes(at.group.kmem_max()))
}

pub fn set_max(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    memory::set(at, Bound::KmemMax, value)
}

pub fn caches(at: At<'_>) -> String {
    let text = at.engine.kmem.caches.filter_text(at.group);
    let text = text.unwrap_or([0; filter::FILTER_BYTES]);
    let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
    format!("{}\n", String::from_utf8_lossy(&text[..end]))
}

pub fn set_caches(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    if !filter::is_valid(value) {
        return Err(FileError::invalid(format!(
            "write words +NAME, -NAME or *, in which * is anything, {} bytes at most; nothing to inherit",
            filter::FILTER_BYTES
        )));
    }
    if at.engine.set_cache_filter(at.group, value) {
        Ok(())
    } else {
        Err(FileError::new(Errno::ENOMEM, "no memory for it".into()))
    }
}

/// The names of the columns of `memory.kmem.slabinfo`.
pub const HEADER: &str =
    "NAME\tACTIVE\tOBJECTS\tOBJSIZE\tPERSLAB\tPAGESPERSLAB\tSLABS\tSTATE\tLAYOUT\tSCHOOL\tOWNER\n";

/// A line for each cache that belongs to the group or to one below. Caches that belong to no group
/// are the root's.
pub fn slabinfo(at: At<'_>) -> String {
    let caches = &at.engine.kmem.caches;
    let mut stats = vec![CacheStat::default(); caches.high_water() as usize];
    at.engine.kmem.cache_stats(&mut stats);
    let mut text = String::from(HEADER);
    // Of one that came meanwhile there is no figure: it is left out.
    for ((_, cache), stat) in caches.each().zip(stats.iter().skip(1)) {
        if !cache.is_there() {
            continue;
        }
        let owner = match cache.owner() {
            None => at.engine.tree.memcgs.get(ROOT),
            Some(tag) => {
                let cell = at.engine.tree.objcgs.get(tag).cell();
                at.engine.tree.resolve(cell).group
            }
        };
        if !owner.is_within(at.group) {
            continue;
        }
        let name = cache.name();
        let name: String = String::from_utf8_lossy(&name)
            .chars()
            .filter(|c| *c != '\0')
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        let has = |ways, yes, no| if cache.ways().has(ways) { yes } else { no };
        let shape = cache.shape();
        let _ = writeln!(
            text,
            "{name}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            stat.active,
            stat.objects,
            shape.stride,
            shape.per_slab(),
            shape.units * 16,
            stat.slabs,
            if cache.is_dead() { "dead" } else { "live" },
            if cache.root().is_some() {
                "child"
            } else {
                has(Ways::PER_GROUP, "pergroup", "shared")
            },
            has(Ways::MAGAZINES, "slab", "slub"),
            path_of(at.engine, owner.index()),
        );
    }
    text
}
