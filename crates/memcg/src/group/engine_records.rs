//! What a group counts of the engine's records, and what of it is free; see `engine_charge`.
//!
//! Invariants: a group has the first 64 KiB of records for nothing, and is charged whole steps
//! beyond them.
//! Depends on: nothing.
//! Never: a charge: `engine_charge` makes it.

#![forbid(unsafe_code)]

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes of records that a group has for nothing.
pub const FREE: u64 = 64 << 10;
/// What is charged at a time.
pub const STEP: u64 = 4 << 10;

/// What a group counts of the kind.
#[derive(Default)]
pub(super) struct EngineRecords {
    /// Bytes of records made in the group; for a moment, while it ends, less than 0.
    pub(super) records: AtomicU64,
    /// Steps that the group is charged for them.
    pub(super) steps: AtomicU32,
    /// Steps that the group and all below are charged.
    pub(super) steps_below: AtomicU32,
}

impl EngineRecords {
    /// As every group begins.
    pub(super) fn open(&self) {
        self.records.store(0, Ordering::Relaxed);
        self.steps.store(0, Ordering::Relaxed);
        self.steps_below.store(0, Ordering::Relaxed);
    }

    /// Steps that the records ask for.
    pub(super) fn due(&self) -> u32 {
        let records = self.records.load(Ordering::SeqCst) as i64;
        let beyond = u64::try_from(records).unwrap_or(0).saturating_sub(FREE);
        u32::try_from(beyond.div_ceil(STEP)).unwrap_or(u32::MAX)
    }
}
