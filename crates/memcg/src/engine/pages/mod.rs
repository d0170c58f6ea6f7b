//! Pages: the loops around a touch, a region's life, and what becomes of its pages.
//!
//! Invariants: a page that has content is charged to its owner, and is counted in the owner's books
//! under what it is. A touch that fails has charged nobody and changed nothing.
//! Depends on: `page` for words, frames and regions; `group::page_books` for the books;
//! `charge_loop` for the charge.
//! Never: reclaims, waits or runs code of the program while a page is on its way into a frame, but
//! for the file's or the device's own answer.

#![forbid(unsafe_code)]

pub mod async_touch;
mod content;
pub mod evict;
pub mod eviction;
pub mod file_region;
pub mod mappings;
pub mod regions;
mod release;
mod swap_in;
mod swap_out;
pub mod touch;
mod whom;
pub mod write_back;
pub mod zswap_out;

use super::ChargeError;
use crate::group::PageCount;
use crate::os::errno::Errno;
use crate::page::cost_balance::Class;
use crate::page::region::RegionKind;

/// Why a page was not to be had; nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TouchError {
    /// A group was full.
    Full(ChargeError),
    /// No memory for a frame or a record.
    NoMemory,
    /// Beyond the end of the region.
    Range,
    /// Others are at the page, and the caller would not or could not wait longer.
    Busy,
    /// The thread would wait for itself.
    Deadlock,
    /// The file or the device failed.
    Io(Errno),
    /// A file that may be read alone.
    ReadOnly,
    /// The region caches a file, for which this is not done.
    IsFile,
    /// The region is the parent's of this process, which is a fork's child.
    Child,
}

/// The count under which pages in frames of a kind of region are.
const fn count_of(kind: RegionKind) -> PageCount {
    match kind {
        RegionKind::Anon => PageCount::Anon,
        RegionKind::Shmem => PageCount::Shmem,
        RegionKind::File => PageCount::File,
    }
}

/// Of which class pages of a kind of region are.
const fn class_of(kind: RegionKind) -> Class {
    match kind {
        RegionKind::Anon | RegionKind::Shmem => Class::Anon,
        RegionKind::File => Class::File,
    }
}
