//! A live task's word of stalls: {1:1 | threads:39 | cell:24}, or 0 while nobody stalls for the
//! task.
//!
//! After the task's end the same word is the time of the end.
//!
//! Invariants: the highest bit says which of the two it is.
//! Depends on: `id`.
//! Never: reads or writes the word; `stall` and `objcg` do.

#![forbid(unsafe_code)]

use super::id::CellId;
use crate::sync::id::Id;

pub(super) const STALLED: u64 = 1 << 63;
pub(super) const THREADS_AT: u32 = 24;
pub(super) const A_THREAD: u64 = 1 << THREADS_AT;
pub(super) const CELL: u64 = A_THREAD - 1;

/// The present cell of a task's word; `None` when nobody stalls for it or it has ended.
pub(super) fn cell_of(word: u64) -> Option<CellId> {
    CellId::from_raw((word & CELL) as u32).filter(|_| word & STALLED != 0)
}

pub(super) fn with_cell(word: u64, cell: CellId) -> u64 {
    (word & !CELL) | u64::from(cell.raw())
}

/// The time a task ended, of its word: 0 while it lives.
pub(super) fn time_of(word: u64) -> u64 {
    if word & STALLED == 0 { word } else { 0 }
}
