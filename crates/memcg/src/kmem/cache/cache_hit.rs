//! The hits: an object taken from, or freed into, what the thread has at hand, its bytes out of
//! what it has in stock.
//!
//! No call, no atomic instruction, no lock: the thread's record, its slot, the slab's record, the
//! object (and its tag, where each has its own). Whatever does not fit is answered with `None` or
//! `false`, nothing changed.

use super::objects::Found;
use super::slots::Own;
use super::{Caches, Ways, magazine};
use crate::group::CellId;
use crate::kmem::bad::{self, BadFree};
use crate::kmem::id::CacheId;
use crate::kmem::slab::SlabRef;
use crate::thread::Tag;
use core::sync::atomic::Ordering::Relaxed;

/// Takes an object of the cache of a number for `tag`: whom the thread works for, or nobody.
#[inline(always)]
pub fn alloc(own: Own<'_>, ways: Ways, cache: CacheId, tag: Option<Tag>) -> Option<Found> {
    alloc_if(own, ways, cache, tag, || true)
}

/// The same of the group's cache that the thread has used last for that `cache` and `cell`, if that
/// is still so.
#[inline(always)]
pub fn alloc_by_hint(
    own: Own<'_>,
    caches: &Caches,
    (cache, ways): (CacheId, Ways),
    cell: Option<CellId>,
    tag: Option<Tag>,
) -> Option<Found> {
    let child = own.table.hint(cache, cell).load(Relaxed)?;
    alloc_if(own, ways, child, tag, || {
        caches.get(child).does_serve(cache, cell)
    })
}

/// `serves` is asked in the look, the thread having something of the cache: so that has not ended,
/// and its number is its own.
#[inline(always)]
fn alloc_if(
    own: Own<'_>,
    ways: Ways,
    cache: CacheId,
    tag: Option<Tag>,
    serves: impl FnOnce() -> bool,
) -> Option<Found> {
    if ways.has(Ways::MAGAZINES) {
        return magazine::alloc(own, cache, tag, serves);
    }
    let busy = own.enter_slots()?;
    let slab = own.slot(cache).slab_of(cache)?;
    if !serves() {
        return None;
    }
    let offset = slab.free.load(Relaxed);
    if offset >= slab.bytes.load(Relaxed) || !slab.fit_tag(offset, tag) {
        return None;
    }
    if let Some(tag) = tag
        && !busy.consume_slab(tag, slab.charged_bytes())
    {
        return None;
    }
    // SAFETY: in the slot of the thread, inside its look; `offset` is the first of the list.
    Some(unsafe { slab.pop_free(offset) })
}

/// Frees an object into the thread's magazine, or the slab that it allocates from.
///
/// # Safety
/// The object at `offset` is live, and ends here.
#[inline(always)]
pub unsafe fn free(own: Own<'_>, slab: SlabRef, offset: u32, raw: bool) -> bool {
    if slab.has_magazines() {
        return magazine::free(own, slab, offset, raw);
    }
    let slot = own.slot_of_slab(slab);
    let Some(busy) = own.enter_slots() else {
        return false;
    };
    if slot.at.load(Relaxed) != slab.address() {
        return false;
    }
    if slab.free.load(Relaxed) == offset || slab.used.load(Relaxed) == 0 {
        bad::bad_free(slab.start() + offset as usize, BadFree::Double);
    }
    let tag = slab.tag_of(offset);
    if let Some(tag) = tag
        && !busy.give_slab(tag, slab.charged_bytes())
    {
        return false;
    }
    // SAFETY: as above; the object is live by the caller's promise.
    unsafe { slab.push_free(offset, raw) };
    true
}
