//! What the benchmarks measure and the API does not reach: one charge of the heap, and the bytes of
//! caches' slabs.
//!
//! Invariants: a charge here is the allocators' own, inlined as it is in them.
//! Depends on: the engine, `kmem`.
//! Never: measures.

use super::mapped::Owner;
use crate::engine::{Flags, heap_charge, try_engine};
use crate::kmem::layout::UNIT;

/// Charges `bytes` to the owner the thread works for, into debt where it must; answers the owner.
/// `None`: a limit refuses.
///
/// # Safety
/// `bytes` is a multiple of 8, or counters would no longer be: all charges are made in steps of 8.
#[inline(always)]
#[must_use]
pub unsafe fn charge(bytes: usize) -> Option<Owner> {
    heap_charge::charge(bytes, Flags::INFALLIBLE).map(|charged| Owner(charged.owner))
}

/// Uncharges `bytes` of `owner`.
///
/// # Safety
/// [`charge`] answered `owner` for as many bytes, which have not been uncharged since.
#[inline(always)]
pub unsafe fn uncharge(owner: Owner, bytes: usize) {
    heap_charge::uncharge(owner.0, bytes);
}

/// Bytes of the slabs of all kmem caches. O(caches).
#[must_use]
pub fn slab_bytes() -> usize {
    let Some(engine) = try_engine() else { return 0 };
    let caches = &engine.kmem.caches;
    caches
        .each()
        .filter(|(_, cache)| cache.is_there())
        .map(|(_, cache)| cache.nr_slabs() as usize * cache.shape().units * UNIT)
        .sum()
}
