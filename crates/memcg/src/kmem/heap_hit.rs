//! The hits: an object taken or freed out of what the thread has, charged out of what it has in
//! stock.
//!
//! No call, no atomic instruction, no shared line: the thread's record, the slab's first line, the
//! object (and its tag, in a mixed slab). Whatever does not fit is answered with `None` or `false`,
//! nothing changed, and left to `engine`.
//!
//! Slots and slab change inside one look (`ThreadRec::enter`): a signal handler that comes between
//! finds the thread busy and uses neither.

use super::address_map::Place;
use super::bad::{self, BadFree};
use super::heap::{self, Heap};
use super::slab::{Slab, SlabKind};
use super::{Kmem, layout};
use crate::thread::ThreadRec;
use core::sync::atomic::Ordering::Relaxed;

/// Takes an object of `class` for whom the thread is working for.
///
/// # Safety
/// `rec` and `heap` are the calling thread's; `class` is below [`super::class::NR_CLASSES`].
#[inline(always)]
pub unsafe fn alloc(rec: &ThreadRec, heap: &Heap, class: usize) -> Option<*mut u8> {
    let busy = rec.enter_unfenced()?;
    // Not before: a signal handler may put another slab in its place, and give this one back.
    // SAFETY: the caller's.
    let slab = unsafe { heap.active_unchecked(class) };
    let offset = slab.free.load(Relaxed);
    if offset >= slab.bytes.load(Relaxed) {
        return None;
    }
    let tag = rec.current();
    // Noted before it is charged: beside a free object a tag says nothing.
    if !slab.fit_tag(offset, tag) || !busy.consume(tag, u64::from(slab.size.load(Relaxed))) {
        return None;
    }
    // SAFETY: the owner, inside the look; `offset` is the first of the list.
    Some(unsafe { slab.pop_first(offset) } as *mut u8)
}

/// Frees an object of the thread's own slabs into them, and its bytes into stock.
///
/// # Safety
/// `rec` and `heap` are the calling thread's; `at` is a live object that ends here.
#[inline(always)]
pub unsafe fn free(rec: &ThreadRec, heap: &Heap, at: usize) -> bool {
    // SAFETY: the caller's: the heap is the calling thread's.
    if !unsafe { heap.can_read(at) } {
        return false;
    }
    // SAFETY: as just asked: wherever the address comes from, the first unit of its 32 MiB is
    // mapped.
    let slab = unsafe { Slab::of(at) };
    if !slab.is_of(heap.at()) {
        return false;
    }
    let Some(busy) = rec.enter_unfenced() else {
        return false;
    };
    if slab.used.load(Relaxed) <= 1 {
        return false;
    }
    let offset = (at & (layout::UNIT - 1)) as u32;
    if slab.free.load(Relaxed) == offset {
        bad::bad_free(at, BadFree::Double);
    }
    let tag = slab.tag_of(offset);
    if !busy.give_home(tag, u64::from(slab.size.load(Relaxed))) {
        return false;
    }
    // SAFETY: the owner, inside the look; the object is live by the caller's promise.
    unsafe { slab.push_at(at, offset) };
    true
}

/// Frees an object that is no hit but for its bytes, which go into the thread's stock: into a slab
/// of the thread's own that was full or becomes empty, or to where another owner finds it. `false`:
/// nothing was done.
///
/// # Safety
/// As [`free`].
#[inline]
pub unsafe fn free_nearly(kmem: &Kmem, rec: &ThreadRec, heap: Option<&Heap>, at: usize) -> bool {
    if kmem.place(at) != Place::Chunk {
        return false;
    }
    // SAFETY: the chunk is mapped.
    let slab = unsafe { Slab::of(at) }.lead();
    if slab.kind() != SlabKind::Objects {
        return false;
    }
    let Some(offset) = slab.offset_of(at) else {
        return false;
    };
    let own = heap.filter(|heap| slab.is_of(heap.at()));
    // What these say is wrong `Kmem::locate` says again, with its reason.
    if slab.begins_a_list(offset) || own.is_some() && slab.nr_held() == 0 {
        return false;
    }
    let given = rec
        .enter_unfenced()
        .is_some_and(|busy| busy.give_home(slab.tag_of(offset), slab.object_bytes() as u64));
    if !given {
        return false;
    }
    match (rec.enter_heap(), own) {
        // SAFETY: the thread's own heap, in its section; uncharged above, live by the caller's
        // promise.
        (Some(_section), Some(heap)) => unsafe { heap.free(kmem, slab, offset) },
        // SAFETY: as above.
        (section, _) => unsafe {
            heap::free_remote(kmem, heap.filter(|_| section.is_some()), slab, offset);
        },
    }
    true
}
