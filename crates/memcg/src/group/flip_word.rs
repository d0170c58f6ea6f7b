//! The flip word: where an amount is accounted and how much it is, in one atomic.
//!
//! {cell:24 | amount/8:40}. A charge adds only while the word still names the cell whose path it
//! charged; a move changes cell only while the amount is within what it has reserved at the target.
//! So at any moment the amount is accounted in exactly the groups of the cell beside it, up to
//! walks that are under way and will finish. No cell: in no group.
//!
//! Invariants: cell and amount change in one step. An amount never passes its limit or falls below
//! zero.
//! Depends on: `id`.
//! Never: a look at the cell that it names; a charge.

use super::id::CellId;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::id::Id;

const CELL_BITS: u32 = 24;
const AMOUNT_BITS: u32 = 40;
const AMOUNT: u64 = (1 << AMOUNT_BITS) - 1;

/// Amounts are multiples of this many bytes.
pub const UNIT: u64 = 8;
/// The most one owner can hold: 8 TiB − 8.
pub const AMOUNT_LIMIT: u64 = AMOUNT * UNIT;
/// Cells are numbered below this.
pub const CELL_LIMIT: u32 = (1 << CELL_BITS) - 1;

/// See the module.
#[derive(Default)]
pub struct Word(AtomicU64);

// SAFETY: one atomic integer; zero is "no bytes, no cell", as Default builds it.
unsafe impl Zeroed for Word {}

/// One reading of a [`Word`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The cell; `None`: the amount is in no group.
    pub cell: Option<CellId>,
    /// The amount, in bytes.
    pub bytes: u64,
}

/// Why a word did not change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unchanged {
    /// It names another cell now.
    Moved,
    /// The amount would pass [`AMOUNT_LIMIT`], or fall below zero.
    Range,
    /// The amount is larger than was reserved for it: this many bytes.
    Grown(u64),
}

fn split(word: u64) -> Reading {
    Reading {
        cell: CellId::from_raw((word >> AMOUNT_BITS) as u32),
        bytes: (word & AMOUNT) * UNIT,
    }
}

/// The arena gives no cell of [`CELL_LIMIT`] or above, so a cell fits its bits.
fn join(cell: Option<CellId>, bytes: u64) -> u64 {
    debug_assert!(bytes.is_multiple_of(UNIT) && bytes <= AMOUNT_LIMIT);
    let cell = cell.map_or(0, CellId::raw);
    debug_assert!(cell < CELL_LIMIT);
    (u64::from(cell) << AMOUNT_BITS) | (bytes / UNIT)
}

impl Reading {
    /// The cell.
    ///
    /// # Panics
    /// If the amount is in no group: of a lost rest.
    pub fn in_cell(self) -> CellId {
        match self.cell {
            Some(cell) => cell,
            None => in_no_cell(),
        }
    }
}

#[cold]
fn in_no_cell() -> ! {
    panic!("bytes in no group")
}

impl Word {
    /// Sets a word nobody else knows yet.
    pub fn reset(&self, cell: Option<CellId>) {
        self.0.store(join(cell, 0), Ordering::Relaxed);
    }

    /// Reads both halves at one moment.
    pub fn read(&self) -> Reading {
        // Acquire pairs with the Release half of every change: a cell comes with what its group's
        // creator wrote.
        split(self.0.load(Ordering::Acquire))
    }

    /// Adds `bytes` if the word still names `cell`.
    pub fn add(&self, cell: Option<CellId>, bytes: u64) -> Result<(), Unchanged> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let now = split(word);
            if now.cell != cell {
                return Err(Unchanged::Moved);
            }
            if now.bytes + bytes > AMOUNT_LIMIT {
                return Err(Unchanged::Range);
            }
            // AcqRel: pairs with `read` and the other changes; they are one total order.
            match self.0.compare_exchange_weak(
                word,
                join(cell, now.bytes + bytes),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(seen) => word = seen,
            }
        }
    }

    /// Takes `bytes` off, wherever the word points; answers where it pointed and what is left.
    pub fn sub(&self, bytes: u64) -> Result<Reading, Unchanged> {
        // Acquire pairs with the Release half of every change.
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let now = split(word);
            let left = now.bytes.checked_sub(bytes).ok_or(Unchanged::Range)?;
            // AcqRel pairs with `read` and the other changes, as in `add`; Acquire on failure
            // likewise.
            match self.0.compare_exchange_weak(
                word,
                join(now.cell, left),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    return Ok(Reading {
                        cell: now.cell,
                        bytes: left,
                    });
                }
                Err(seen) => word = seen,
            }
        }
    }

    /// Takes off what there is above `floor`, at most `bytes`; answers where it pointed and how
    /// much was taken.
    pub fn sub_up_to(&self, bytes: u64, floor: u64) -> Reading {
        // Acquire pairs with the Release half of every change.
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let now = split(word);
            let taken = now.bytes.saturating_sub(floor).min(bytes);
            // AcqRel pairs with `read` and the other changes, as in `add`; Acquire on failure
            // likewise.
            match self.0.compare_exchange_weak(
                word,
                join(now.cell, now.bytes - taken),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    return Reading {
                        cell: now.cell,
                        bytes: taken,
                    };
                }
                Err(seen) => word = seen,
            }
        }
    }

    /// The flip: `from` becomes `to` if the amount is at most `reserved`; answers the amount.
    pub fn flip(&self, from: CellId, to: CellId, reserved: u64) -> Result<u64, Unchanged> {
        // Acquire pairs with the Release half of every change.
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let now = split(word);
            if now.cell != Some(from) {
                return Err(Unchanged::Moved);
            }
            if now.bytes > reserved {
                return Err(Unchanged::Grown(now.bytes));
            }
            // AcqRel pairs with `read` and the other changes, as in `add`; Acquire on failure
            // likewise. The target's counters were charged before.
            match self.0.compare_exchange_weak(
                word,
                join(Some(to), now.bytes),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(now.bytes),
                Err(seen) => word = seen,
            }
        }
    }
}
