//! The hits: an object taken out of, or freed into, the thread's own slab, its bytes charged to the
//! thread's stock.
//!
//! A hit makes no call and no atomic instruction, and touches no shared cache line: only the
//! thread's record, the slab's first line, the object, and its tag in a mixed slab.
//!
//! Invariants: stock and slab change inside one look at the slots (`ThreadRec::enter_unfenced`). A
//! signal handler that comes between finds the thread busy and uses neither. What does not fit is
//! answered with `None` or `false`, with nothing changed.
//! Depends on: `heap` and `slab`, and the thread's slots in `thread`.
//! Never: a charge beyond stock; `engine` does that after a hit has refused.

use super::address_map::Place;
use super::bad::{self, BadFree};
use super::heap::Heap;
use super::slab::{Slab, SlabKind};
use super::{Kmem, layout, remote_free};
use crate::thread::ThreadRec;
use core::sync::atomic::Ordering::Relaxed;

/// Takes an object of `class` for the tag that the thread works for.
///
/// # Safety
/// `rec` and `heap` are the record and the heap of the calling thread. `class` is below
/// [`super::class::NR_CLASSES`].
#[inline(always)]
pub unsafe fn alloc(rec: &ThreadRec, heap: &Heap, class: usize) -> Option<*mut u8> {
    let busy = rec.enter_unfenced()?;
    // Not read before `busy`: a signal handler may put another slab in use, and release this one.
    // SAFETY: the caller promised that `class` is below NR_CLASSES, which is all that this wants.
    let slab = unsafe { heap.active_unchecked(class) };
    let offset = slab.free.load(Relaxed);
    if offset >= slab.bytes.load(Relaxed) {
        return None;
    }
    let tag = rec.current();
    // The tag is noted before the charge: beside a free object it means nothing yet.
    if !slab.fit_tag(offset, tag) || !busy.consume(tag, u64::from(slab.size.load(Relaxed))) {
        return None;
    }
    // SAFETY: `busy` keeps this thread's signal handlers out of the heap and no other thread acts
    // for it, so this one does. `offset` is what `free` said, and was found below `bytes`.
    Some(unsafe { slab.pop_first(offset) } as *mut u8)
}

/// Frees an object into its slab, which is the thread's own, and its bytes into stock. `false`:
/// nothing was done.
///
/// # Safety
/// `rec` and `heap` are the record and the heap of the calling thread. `at` is a live object, and
/// nobody uses it after this call if the answer is `true`.
#[inline(always)]
pub unsafe fn free(rec: &ThreadRec, heap: &Heap, at: usize) -> bool {
    // SAFETY: the heap is the calling thread's, and only that thread, or who borrows a parked heap,
    // acts for it.
    if !unsafe { heap.can_read(at) } {
        return false;
    }
    // SAFETY: `can_read` has just said that `at` lies in a window, in which the first unit of every
    // 32 MiB is mapped for as long as the process lives, whatever the address is.
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
    // SAFETY: the slab is this heap's, and `busy` makes this thread act for it. The caller gave the
    // object at `at` up; it is not the first of the list, as was asked above.
    unsafe { slab.push_at(at, offset) };
    true
}

/// Frees an object that was no hit, but whose bytes fit into the thread's stock: into a slab of the
/// thread's own that was full or becomes empty, or by a remote free. `false`: nothing was done.
///
/// # Safety
/// `rec`, and `heap` if it is given, are the record and the heap of the calling thread. `at` is a
/// live object, and nobody uses it after this call if the answer is `true`.
#[inline]
pub unsafe fn free_nearly(kmem: &Kmem, rec: &ThreadRec, heap: Option<&Heap>, at: usize) -> bool {
    if kmem.place(at) != Place::Chunk {
        return false;
    }
    // SAFETY: the map says that a chunk is mapped at `at`; the live object in it keeps it mapped.
    let slab = unsafe { Slab::of(at) }.lead();
    if slab.kind() != SlabKind::Objects {
        return false;
    }
    let Some(offset) = slab.offset_of(at) else {
        return false;
    };
    let own = heap.filter(|heap| slab.is_of(heap.at()));
    // What these refuse, `Kmem::locate` refuses again, with its reason.
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
        // SAFETY: `_section` is a heap section of the calling thread and `heap` its own, which owns
        // the slab. The bytes went to stock above, and the caller gave the live object up.
        (Some(_section), Some(heap)) => unsafe { heap.free(kmem, slab, offset) },
        // SAFETY: the caller gave the live object up and its bytes went to stock. The heap is given
        // only if the thread is in its section.
        (section, _) => unsafe {
            remote_free::free_remote(kmem, heap.filter(|_| section.is_some()), slab, offset);
        },
    }
    true
}
