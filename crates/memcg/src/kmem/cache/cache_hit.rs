//! The hits: an object of a cache taken from, or freed into, what the thread has in its slot, its
//! bytes charged to the thread's stock.
//!
//! A hit makes no call and no atomic instruction and takes no lock. It touches the thread's record,
//! its slot, the slab's record, the object, and the object's tag where each has its own.
//!
//! Invariants: slot, slab and stock change inside one look at the slots. What does not fit is
//! answered with `None` or `false`, with nothing changed.
//! Depends on: `slots`, `objects` and `magazine`, and the thread's slots in `thread`.
//! Never: a charge beyond stock; code of the program.

use super::objects::Found;
use super::slots::Own;
use super::{Caches, Ways, magazine};
use crate::group::CellId;
use crate::kmem::bad::{self, BadFree};
use crate::kmem::id::CacheId;
use crate::kmem::slab::SlabRef;
use crate::thread::Tag;
use core::sync::atomic::Ordering::Relaxed;

/// Takes an object of a cache for `tag`, which is what the thread works for; `None` charges nobody.
#[inline(always)]
pub fn alloc(own: Own<'_>, ways: Ways, cache: CacheId, tag: Option<Tag>) -> Option<Found> {
    alloc_if(own, ways, cache, tag, || true)
}

/// As [`alloc`], from the cache that served the group of `cell` for `cache` when this thread last
/// asked, if it still does.
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

/// As [`alloc`]. `serves` is asked inside the look, when the thread has a slab or magazine of the
/// cache: so the cache has not ended, and its number still means this cache.
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
    // SAFETY: the slab is in this thread's slot and `busy` is a look at the slots, so this thread
    // may touch the slab. `offset` is what `free` said, and was found below `bytes`.
    Some(unsafe { slab.pop_free(offset) })
}

/// Frees an object into the thread's magazine, or into the slab that the thread allocates from.
/// `false`: nothing was done.
///
/// # Safety
/// The object at `offset` of `slab` is live, and nobody uses it after this call if the answer is
/// `true`.
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
    // SAFETY: the slot names this slab and `busy` is a look at the slots, so this thread may touch
    // the slab. The caller gave the live object up; it is not the first of the list, as was asked
    // above.
    unsafe { slab.push_free(offset, raw) };
    true
}
