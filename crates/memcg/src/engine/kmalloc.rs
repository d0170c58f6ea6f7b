//! The allocator of the process: slabs, with every object charged to the owner its thread works
//! for.
//!
//! A thread's heap is made at its first allocation, in a heap section that a signal handler sees. A
//! handler inside such a section, and a thread that has departed, allocate from one heap that all
//! of them share, under a lock.
//!
//! Invariants: an object is charged before it is taken, and uncharged before it is published as
//! free. So a thread that does not look at what others freed into its slabs never causes a refusal.
//! An object keeps its owner through every resize. A thread's block names a heap only while it
//! names a record.
//! Depends on: `heap_charge` for charges; `kmem` for slabs and extents; `thread::tls` for the
//! block.
//! Never: unwinds out of a slow path; changes errno; runs code of the program.

use super::process_engine::{engine, known_rec, try_engine};
use super::{Flags, heap_charge};
use crate::group::Tag;
use crate::group::stock::Charged;
use crate::kmem::allocator_stat::KmemStat;
use crate::kmem::bad::{self, BadFree};
use crate::kmem::class::{bytes_of, class_if_any, class_of_aligned};
use crate::kmem::{Heap, Kmem, Object, Taken, extent_bytes, heap_hit};
use crate::os::errno;
use crate::thread::ThreadRec;
use crate::thread::tls::{self, DEPARTED};
use core::ptr::null_mut;
use core::sync::atomic::Ordering::Relaxed;

/// What every object is aligned to.
pub const ALIGN: usize = 16;
/// From this size on pages of zeros are looked for where an object is to be zero.
pub const MAYBE_ZEROED: usize = 1024;

/// The calling thread's record and heap, if it has both. A thread that has only freed, or whose
/// record is all it needed, has no heap.
#[inline(always)]
fn known() -> Option<(&'static ThreadRec, &'static Heap)> {
    let (heap, rec) = tls::heap_and_rec();
    if heap == 0 {
        return None;
    }
    // SAFETY: `own_heap` sets the block's `heap` after `rec`, `leave` clears it before `rec`, and
    // `heap_and_rec` reads `heap` first. So a heap that is there has a record beside it.
    unsafe { core::hint::assert_unchecked(rec != 0) };
    // SAFETY: `rec` is the address of a record, by `with_rec` (it is not DEPARTED, since there is a
    // heap), and `heap` that of a heap, by `own_heap`. Both lie in arenas, which never move or
    // unmap what they hold, and both are this thread's until it departs.
    Some(unsafe { (&*(rec as *const ThreadRec), &*(heap as *const Heap)) })
}

/// An object of `bytes` at a multiple of 16, if the thread has one at hand and in stock.
///
/// Cost: no call, no atomic instruction.
#[inline(always)]
#[must_use]
pub fn alloc_hit(bytes: usize) -> Option<*mut u8> {
    let class = class_if_any(bytes)?;
    let (rec, heap) = known()?;
    // SAFETY: `known` answers the calling thread's record and heap; `class_if_any` answers classes
    // below NR_CLASSES only.
    unsafe { heap_hit::alloc(rec, heap, class) }
}

/// Takes `bytes` at a multiple of 16. Null: a limit refuses, or the kernel has no memory.
#[inline(always)]
#[must_use]
pub fn alloc(bytes: usize, flags: Flags) -> *mut u8 {
    match alloc_hit(bytes) {
        Some(p) => p,
        None => alloc_slow(bytes, ALIGN, flags, false),
    }
}

/// As [`alloc`], at a multiple of `align`, a power of two.
#[inline]
#[must_use]
pub fn alloc_aligned(bytes: usize, align: usize, flags: Flags) -> *mut u8 {
    if align <= ALIGN {
        return alloc(bytes, flags);
    }
    if let Some(class) = class_of_aligned(bytes, align)
        && let Some((rec, heap)) = known()
        // SAFETY: `known` answers the calling thread's record and heap; `class_of_aligned` answers
        // classes below NR_CLASSES only.
        && let Some(p) = unsafe { heap_hit::alloc(rec, heap, class) }
    {
        return p;
    }
    alloc_slow(bytes, align, flags, false)
}

/// As [`alloc_aligned`]; all bytes of the object are zero.
#[inline]
#[must_use]
pub fn alloc_zeroed(bytes: usize, align: usize, flags: Flags) -> *mut u8 {
    if bytes >= MAYBE_ZEROED {
        return alloc_slow(bytes, align, flags, true);
    }
    let p = alloc_aligned(bytes, align, flags);
    if !p.is_null() {
        // SAFETY: `alloc_aligned` has just taken `p`, which nobody else knows, and which has at
        // least `bytes` bytes.
        unsafe { p.write_bytes(0, bytes) };
    }
    p
}

/// Whether the thread has stock of the owner it works for that was forced above a limit. It is for
/// those who cannot be refused.
#[inline(always)]
fn has_forced_stock() -> bool {
    known_rec().is_some_and(ThreadRec::has_forced_stock)
}

/// Takes `bytes` at a multiple of `align` for who asks at the door: null where a limit is in the
/// way, whatever the size and the policy. `zeroed`: all bytes are zero.
#[inline]
#[must_use]
pub fn alloc_at_door(bytes: usize, align: usize, zeroed: bool) -> *mut u8 {
    match (has_forced_stock(), zeroed) {
        (true, _) => alloc_by(bytes, align, zeroed, heap_charge::charge_at_door),
        (false, true) => alloc_zeroed(bytes, align, Flags::NOWAIT),
        (false, false) => alloc_aligned(bytes, align, Flags::NOWAIT),
    }
}

/// As [`resize`], for who asks at the door. What is to be smaller is never refused.
///
/// # Safety
/// As for [`resize`].
#[must_use]
pub unsafe fn resize_at_door(p: *mut u8, bytes: usize, align: usize) -> *mut u8 {
    // SAFETY: the caller has promised what `resize` wants.
    unsafe { resize(p, bytes, align, Flags::NOWAIT) }
}

/// Frees an object into the thread's own heap and stock, if it is from there. `false`: nothing was
/// done.
///
/// # Safety
/// `p` is null or a live object of this allocator; it ends here if the answer is `true`.
#[inline(always)]
pub unsafe fn free_hit(p: *mut u8) -> bool {
    match known() {
        // SAFETY: `known` answers the calling thread's record and heap. `p` is null, which no chunk
        // contains, or a live object that its holder gives up by calling `free_hit`.
        Some((rec, heap)) => unsafe { heap_hit::free(rec, heap, p as usize) },
        None => false,
    }
}

/// Frees an object; null is none.
///
/// # Safety
/// `p` is null or a live object of this allocator, which ends here.
#[inline(always)]
pub unsafe fn free(p: *mut u8) {
    // SAFETY: `p` is null or a live object, which the caller of `free` gives up here.
    if !unsafe { free_hit(p) } {
        // SAFETY: `p` is null or a live object, which the caller of `free` gives up here;
        // `free_hit` has answered that it did nothing with it.
        unsafe { free_slow(p) };
    }
}

/// As [`alloc`], after [`alloc_hit`] had none.
#[must_use]
pub fn alloc_missed(bytes: usize, flags: Flags) -> *mut u8 {
    alloc_slow(bytes, ALIGN, flags, false)
}

/// Frees an object that [`free_hit`] did nothing with; null is none.
///
/// # Safety
/// `p` is null or a live object of this allocator, which ends here.
pub unsafe fn free_missed(p: *mut u8) {
    // SAFETY: `p` is null or a live object, which the caller of `free_missed` gives up here.
    unsafe { free_slow(p) };
}

// The slow paths are of the C ABI, which does not unwind: a hit has nothing to prepare for them.

#[cold]
#[inline(never)]
extern "C" fn alloc_slow(bytes: usize, align: usize, flags: Flags, zeroed: bool) -> *mut u8 {
    if align <= ALIGN
        && !zeroed
        && let Some(p) = alloc_nearly(bytes)
    {
        return p;
    }
    alloc_by(bytes, align, zeroed, |size| {
        heap_charge::charge(size, flags)
    })
}

/// Takes an object that is no hit, once `charge` has charged its size. Null where it refuses.
fn alloc_by(
    bytes: usize,
    align: usize,
    zeroed: bool,
    charge: impl FnOnce(usize) -> Option<Charged>,
) -> *mut u8 {
    let _errno = errno::keep();
    let class = class_of_aligned(bytes, align);
    let Some(size) = size_of_object(bytes, align) else {
        return null_mut();
    };
    let Some(Charged { owner: tag }) = charge(size) else {
        return null_mut();
    };
    let Some(taken) = alloc_charged(class, size, align, tag, zeroed) else {
        heap_charge::uncharge(tag, size);
        return null_mut();
    };
    let p = taken.at as *mut u8;
    if zeroed && !taken.zeroed {
        // SAFETY: `alloc_charged` has just taken an object of at least `size` bytes, `size` is at
        // least `bytes`, and nobody else knows the object.
        unsafe { p.write_bytes(0, bytes) };
    }
    p
}

/// An object that is charged from stock, but whose class has no free object at hand.
#[inline(always)]
fn alloc_nearly(bytes: usize) -> Option<*mut u8> {
    let class = class_if_any(bytes)?;
    let (rec, own) = known()?;
    let size = bytes_of(class) as u64;
    let tag = rec.charge_hit(size)?.owner;
    let kmem = &engine().kmem;
    let taken = rec
        .enter_heap()
        // SAFETY: `known` answers the calling thread's own heap, and `_section` is its heap
        // section.
        .and_then(|_section| unsafe { kmem.alloc(own, class, tag, false) });
    match taken {
        Some(taken) => Some(taken.at as *mut u8),
        None => {
            heap_charge::uncharge(tag, size as usize);
            None
        }
    }
}

/// Takes an object for `tag`, which is charged for it already.
fn alloc_charged(
    class: Option<usize>,
    size: usize,
    align: usize,
    tag: Option<Tag>,
    zeroed: bool,
) -> Option<Taken> {
    let kmem = &try_engine()?.kmem;
    let own = own_heap(kmem).and_then(|(rec, heap)| Some((rec.enter_heap()?, heap)));
    let heap = own.as_ref().map(|(_section, heap)| *heap);
    match (class, heap) {
        // SAFETY: `heap` is the calling thread's own, by `own_heap`, and `own` keeps its heap
        // section open to the end of this function.
        (Some(class), Some(heap)) => unsafe { kmem.alloc(heap, class, tag, zeroed) },
        (Some(class), None) => kmem.alloc_shared(class, tag),
        // SAFETY: `heap` is the calling thread's own, by `own_heap`, or there is none. `own` keeps
        // its heap section open to the end of this function.
        (None, heap) => unsafe { kmem.alloc_extent(heap, size, align, tag) },
    }
}

/// The calling thread's heap, made now if it has none. `None`: it has departed, is unknown, or is
/// inside its section.
fn own_heap(kmem: &'static Kmem) -> Option<(&'static ThreadRec, &'static Heap)> {
    if let Some(found) = known() {
        return Some(found);
    }
    let rec = known_rec()?;
    {
        let _section = rec.enter_heap()?;
        let (index, heap) = kmem.join()?;
        rec.heap.store(Some(index), Relaxed);
        // SAFETY: `tls::block` is the calling thread's block: it lives as long as the thread, and
        // only this thread uses its cells.
        unsafe { (*tls::block()).heap.set(core::ptr::from_ref(heap) as usize) };
    }
    known()
}

/// Frees an object that [`free_hit`] did nothing with; null is none.
///
/// # Safety
/// `p` is null or a live object of this allocator, which its holder gives up with this call.
#[cold]
#[inline(never)]
unsafe extern "C" fn free_slow(p: *mut u8) {
    if p.is_null() {
        return;
    }
    // A thread that only frees has no heap.
    let own = match known() {
        Some((rec, heap)) => Some((rec, Some(heap))),
        None => known_rec().map(|rec| (rec, None)),
    };
    if let Some((rec, heap)) = own
        // SAFETY: the record and the heap are the calling thread's, by `known` and `known_rec`. `p`
        // is not null; it is a live object that its holder gives up by calling `free_slow`.
        && unsafe { heap_hit::free_nearly(&engine().kmem, rec, heap, p as usize) }
    {
        return;
    }
    let _errno = errno::keep();
    let object = locate(p, b"free");
    heap_charge::uncharge(object.tag, object.bytes);
    // SAFETY: `locate` found a live object at `p`, which the caller of `free_slow` gives up, and
    // its bytes were uncharged one line above.
    unsafe { free_uncharged(object) };
}

/// The live object at `p`. Where there is none, ends the process with a line that names the
/// function `what`, which was called with `p`.
fn locate(p: *mut u8, what: &[u8]) -> Object {
    let why = match try_engine() {
        Some(engine) => match engine.kmem.locate(p as usize) {
            Ok(object) if is_idle(&engine.kmem, &object) => BadFree::Double,
            Ok(object) => return object,
            Err(why) => why,
        },
        None => BadFree::Foreign,
    };
    bad::bad_pointer(what, p as usize, why)
}

/// Whether nobody holds any object of the object's slab, as far as this thread can tell: then the
/// object has been freed before.
fn is_idle(kmem: &Kmem, object: &Object) -> bool {
    known().is_some_and(|(rec, heap)| !rec.is_busy() && kmem.is_idle(heap, object))
}

/// Frees an object whose bytes are no longer charged.
///
/// # Safety
/// `object` is live, its bytes have been uncharged, and it ends here.
unsafe fn free_uncharged(object: Object) {
    let kmem = &engine().kmem;
    let known = known();
    match known.and_then(|(rec, heap)| Some((rec.enter_heap()?, heap))) {
        // SAFETY: the object is live, uncharged and ends here, as the caller of `free_uncharged`
        // promises. `known` answers the calling thread's own heap, and `_section` is its heap
        // section.
        Some((_section, heap)) => unsafe { kmem.free_object(Some(heap), object) },
        // SAFETY: the object is live, uncharged and ends here, as the caller of `free_uncharged`
        // promises. No heap is given, so none has to be the thread's own.
        None => unsafe { kmem.free_object(None, object) },
    }
}

/// The bytes of an object that may be used, which are those it is charged.
///
/// # Safety
/// `p` is a live object of this allocator, and stays so during the call.
#[must_use]
pub unsafe fn usable(p: *mut u8) -> usize {
    locate(p, b"malloc_usable_size").bytes
}

/// Makes an object `bytes` long, at a multiple of `align`, its owner as before; answers where it is
/// now. Null: a limit refuses or there is no memory; then nothing has changed.
///
/// # Safety
/// `p` is a live object of this allocator, allocated with that alignment; if the answer is not
/// null, it ends here.
#[must_use]
pub unsafe fn resize(p: *mut u8, bytes: usize, align: usize, flags: Flags) -> *mut u8 {
    let _errno = errno::keep();
    let old = locate(p, b"realloc");
    let class = class_of_aligned(bytes, align);
    let Some(size) = size_of_object(bytes, align) else {
        return null_mut();
    };
    // It stays where it fits, unless that wastes as much again.
    if size == old.bytes || (class.is_some() && size < old.bytes && size > old.bytes / 2) {
        return p;
    }
    // Out of what is at hand, if that is its owner's: charged in advance, so no limit is asked for
    // both at a time.
    if align <= ALIGN
        && old.bytes <= crate::kmem::class::MAX_CLASS_BYTES
        && known().is_some_and(|(rec, _)| rec.current() == old.tag)
        && (flags != Flags::NOWAIT || !has_forced_stock())
        && let Some(at) = alloc_hit(bytes)
    {
        // SAFETY: the old object, at `p`, has `old.bytes` bytes and is live. `alloc_hit` has just
        // taken the new one, at `at`, of at least `bytes` bytes. Two live objects do not overlap.
        unsafe { core::ptr::copy_nonoverlapping(p, at, old.bytes.min(bytes)) };
        // SAFETY: `p` is a live object that the caller of `resize` gives up when the answer is not
        // null, and the answer is `at`. Its bytes have been copied.
        unsafe { free(p) };
        return at;
    }
    let grows = size.saturating_sub(old.bytes);
    if grows > 0 && !heap_charge::charge_more(old.tag, grows, flags) {
        return null_mut();
    }
    if class.is_none()
        // SAFETY: `old` is the live object that the caller of `resize` holds. What is cut off lies
        // beyond the new size, which is all that the caller has asked to keep.
        && let Some(at) = unsafe { engine().kmem.resize(old, size) }
    {
        heap_charge::uncharge(old.tag, old.bytes.saturating_sub(size));
        return at as *mut u8;
    }
    let Some(taken) = alloc_charged(class, size, align, old.tag, false) else {
        heap_charge::uncharge(old.tag, grows);
        // What is to be smaller fits where it is: programs do not expect that to fail.
        return if grows == 0 { p } else { null_mut() };
    };
    // SAFETY: the old object, at `p`, has `old.bytes` bytes and is live. `alloc_charged` has just
    // taken the new one, of at least `bytes` bytes. Two live objects do not overlap.
    unsafe { core::ptr::copy_nonoverlapping(p, taken.at as *mut u8, old.bytes.min(bytes)) };
    heap_charge::uncharge(old.tag, old.bytes.saturating_sub(size));
    // SAFETY: the caller of `resize` gives `old` up, since the answer is not null. Its bytes are
    // uncharged: those beyond the new size above; the others are the new object's charge now.
    unsafe { free_uncharged(old) };
    taken.at as *mut u8
}

/// The bytes that an object for `bytes` at a multiple of `align` has, and is charged. `None`: more
/// than an object can have.
#[must_use]
pub fn size_of_object(bytes: usize, align: usize) -> Option<usize> {
    class_of_aligned(bytes, align)
        .map(bytes_of)
        .or_else(|| extent_bytes(bytes))
}

/// What the allocator has, and what of it is in use. Cost: O(units in use).
#[must_use]
pub fn stat() -> KmemStat {
    try_engine().map_or_else(KmemStat::default, |engine| engine.kmem.stat())
}

/// Gives back to the kernel what nobody has used for a while; for a thread that comes by now and
/// then.
pub fn decay() {
    if let Some(engine) = try_engine() {
        engine.kmem.decay();
        engine.tick_caches();
    }
}

/// Gives back to the kernel what nobody uses.
pub fn trim() {
    let Some(engine) = try_engine() else { return };
    match known().and_then(|(rec, heap)| Some((rec.enter_heap()?, heap))) {
        // SAFETY: `known` answers the calling thread's own heap, and `_section` is its heap
        // section.
        Some((_section, heap)) => unsafe { engine.kmem.trim(Some(heap)) },
        // SAFETY: no heap is given, so none has to be the calling thread's own.
        None => unsafe { engine.kmem.trim(None) },
    }
}

/// Marks the calling thread as departed, and parks its heap. All in one section: a signal handler
/// in between does not find a heap without a record, nor join another that nobody would park.
pub(super) fn leave(kmem: &Kmem, rec: &ThreadRec) {
    let section = rec.enter_heap();
    let index = rec.heap.swap(None, Relaxed);
    // SAFETY: `tls::block` is the calling thread's block: it lives as long as the thread, and only
    // this thread uses its cells.
    let block = unsafe { &*tls::block() };
    block.heap.set(0);
    block.rec.set(DEPARTED);
    match (index, section) {
        (None, _) => {}
        // SAFETY: `index` was the calling thread's heap, `_section` is its heap section, and
        // neither the block nor the record names the heap any more: the thread does not use it
        // again.
        (Some(index), Some(_section)) => unsafe { kmem.park(kmem.heap(index)) },
        // The thread's exit has cut off a change of its heap.
        (Some(index), None) => kmem.lose(kmem.heap(index)),
    }
}

/// Takes the heap away from a thread that does not go on with it: a thread that a fork's child does
/// not have, or one that has jumped out of a signal handler. The heap is parked for another thread,
/// or lost if the thread was in the middle of a change of it (`was_busy`).
pub(super) fn abandon(kmem: &Kmem, rec: &ThreadRec, was_busy: bool) {
    let Some(index) = rec.heap.swap(None, Relaxed) else {
        return;
    };
    if was_busy {
        kmem.lose(kmem.heap(index));
    } else {
        // SAFETY: the owner of the heap is a thread of the parent and was in no heap section at the
        // fork. The one thread of the child acts for it here, and the record no longer names the
        // heap.
        unsafe { kmem.park(kmem.heap(index)) };
    }
}

/// Whether there is an engine, and memory for the first objects: asked before an allocator is
/// chosen.
#[must_use]
pub fn is_able() -> bool {
    try_engine().is_some_and(|engine| engine.kmem.is_able())
}
