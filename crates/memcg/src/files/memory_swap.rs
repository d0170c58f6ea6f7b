//! `memory.swap.*` and `memory.zswap.current`: what pages have outside of memory, and its limits.
//!
//! Invariants: a group that never had a page has nothing in swap and no limit of it; setting one
//! makes its record.
//! Depends on: `group::page_books`.
//! Never: swaps anything.

#![forbid(unsafe_code)]

use super::memory::line;
use super::{At, FileError};
use crate::counter::page_counter::UNLIMITED;
use crate::group::{GroupPages, PageCount, PageEvent};
use crate::os::errno::Errno;
use crate::units::{Limit, parse_limit};

fn of<R>(at: At<'_>, none: R, f: impl FnOnce(&GroupPages) -> R) -> R {
    at.engine.tree.group_pages(at.group).map_or(none, f)
}

fn set(at: At<'_>, value: &[u8], f: impl FnOnce(&GroupPages, u64)) -> Result<(), FileError> {
    let bytes = parse_limit(value)
        .map(Limit::get)
        .map_err(|why| FileError::invalid(format!("{why}: write bytes, as 100M, or max")))?;
    let tree = &at.engine.tree;
    match tree.make_group_pages(at.group) {
        Some(pages) => {
            f(pages, bytes);
            Ok(())
        }
        None => Err(FileError::new(
            Errno::ENOMEM,
            "no memory to remember that".into(),
        )),
    }
}

pub fn current(at: At<'_>) -> String {
    line(of(at, 0, |pages| pages.swap.usage()))
}

pub fn peak(at: At<'_>) -> String {
    line(of(at, 0, |pages| pages.swap.peak()))
}

pub fn max(at: At<'_>) -> String {
    line(of(at, UNLIMITED, |pages| pages.swap.max()))
}

pub fn set_max(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    set(at, value, |pages, bytes| {
        pages.swap.set_max(bytes);
    })
}

pub fn high(at: At<'_>) -> String {
    line(of(at, UNLIMITED, |pages| pages.swap.high()))
}

pub fn set_high(at: At<'_>, value: &[u8]) -> Result<(), FileError> {
    set(at, value, |pages, bytes| pages.swap.set_high(bytes))
}

pub fn events(at: At<'_>) -> String {
    let of_swap = PageEvent::ALL
        .into_iter()
        .filter(|event| event.is_of_swap());
    of_swap
        .map(|event| {
            let n = of(at, 0, |pages| pages.nr_events(event));
            format!("{} {n}\n", event.name())
        })
        .collect()
}

pub fn zswap_current(at: At<'_>) -> String {
    line(of(at, 0, |pages| pages.bytes(PageCount::Zswap)))
}
