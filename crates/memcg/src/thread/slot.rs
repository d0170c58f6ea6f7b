//! A slot: one owner's stock on one thread, and what is counted in advance for it.
//!
//! Invariants: bytes counted in advance are part of the owner's count of their kind, not of the
//! slot's balance.
//! Depends on: nothing.
//! Never: a decision about who may touch a slot; `record` says that.

#![forbid(unsafe_code)]

use super::Tag;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::id::AtomicId;

/// Bytes of a kind that a slot has counted in advance: less than 4 GiB.
#[derive(Default)]
pub(crate) struct Ahead(AtomicU32);

impl Ahead {
    #[inline(always)]
    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.0.load(order).into()
    }

    #[inline(always)]
    pub(crate) fn store(&self, bytes: u64, order: Ordering) {
        debug_assert!(bytes <= u32::MAX.into());
        self.0.store(bytes as u32, order);
    }

    #[inline(always)]
    pub(crate) fn swap(&self, bytes: u64, order: Ordering) -> u64 {
        debug_assert!(bytes <= u32::MAX.into());
        self.0.swap(bytes as u32, order).into()
    }
}

/// Bytes counted as reserved in advance: as [`Ahead`], or closed. A slot whose stock was forced
/// above a limit is closed: allocators that cannot be told no use it up, and who asks at the door
/// gets nothing out of it.
#[derive(Default)]
pub(crate) struct Spare(AtomicU32);

impl Spare {
    const CLOSED: u32 = 1 << 31;

    /// The bytes; negative while it is closed: less than any request, and as an unsigned number
    /// more than any bound.
    #[inline(always)]
    pub(crate) fn raw(&self) -> i64 {
        i64::from(self.0.load(Ordering::Relaxed) as i32)
    }

    /// The bytes; 0 while it is closed.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> u64 {
        self.raw().max(0) as u64
    }

    #[inline(always)]
    pub(crate) fn is_closed(&self) -> bool {
        self.raw() < 0
    }

    /// Sets the bytes, which opens it.
    #[inline(always)]
    pub(crate) fn set(&self, bytes: u64) {
        debug_assert!(bytes < Self::CLOSED.into());
        self.0.store(bytes as u32, Ordering::Relaxed);
    }

    /// Takes all bytes out and opens it.
    pub(crate) fn take(&self) -> u64 {
        let raw = self.0.swap(0, Ordering::Relaxed) as i32;
        raw.max(0) as u64
    }

    /// Takes all bytes out and closes it.
    pub(crate) fn close(&self) -> u64 {
        let raw = self.0.swap(Self::CLOSED, Ordering::Relaxed) as i32;
        raw.max(0) as u64
    }

    /// Opens it, if it is closed: it counts nothing in advance then.
    pub(crate) fn open(&self) {
        if self.is_closed() {
            self.set(0);
        }
    }
}

/// Stock of one owner.
#[derive(Default)]
#[repr(C, align(32))]
pub struct Slot {
    pub(crate) balance: AtomicU64,
    pub(crate) cap: AtomicU64,
    pub(crate) tag: AtomicId<Tag>,
    /// Scopes of this thread that charge it.
    pub(crate) scopes: AtomicU32,
    /// Bytes counted as objects of kmem caches in advance: of the owner's count of that kind, not
    /// of `balance`.
    pub(crate) slab: Ahead,
    /// Bytes counted as reserved in advance: of the owner's count of that kind, what no reservation
    /// holds.
    pub(crate) spare: Spare,
}

impl Slot {
    /// Whether there is anything of its owner's to take back.
    pub(crate) fn has_any(&self) -> bool {
        self.cap.load(Ordering::Relaxed) != 0 || self.slab.load(Ordering::Relaxed) != 0
    }
}
