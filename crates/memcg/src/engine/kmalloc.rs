//! The allocator of the process: slabs, with every object charged to whom its thread works for.
//!
//! Kept: an object is charged before it is taken and uncharged before it is published as free, so a
//! thread that does not look at what others freed into its slabs never causes a refusal. An object
//! keeps its owner through every resize.
//!
//! A thread's heap is made at its first allocation, in a section a signal handler sees. A handler
//! inside such a section, and a thread that has departed, use one heap for all of them, under a
//! lock.

use super::process_engine::{engine, known_rec, try_engine};
use super::{Flags, heap_charge};
use crate::group::Tag;
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

/// The calling thread's record and heap, if it has both.
#[inline(always)]
fn known() -> Option<(&'static ThreadRec, &'static Heap)> {
    let (heap, rec) = tls::heap_and_rec();
    if heap == 0 {
        return None;
    }
    // SAFETY: `heap` is set after `rec`, and taken away before it: both are records of arenas, this
    // thread's.
    unsafe { core::hint::assert_unchecked(rec != 0) };
    // SAFETY: as above.
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
    // SAFETY: the thread's own; a class.
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
        // SAFETY: the thread's own; a class.
        && let Some(p) = unsafe { heap_hit::alloc(rec, heap, class) }
    {
        return p;
    }
    alloc_slow(bytes, align, flags, false)
}

/// As [`alloc_aligned`], all zero.
#[inline]
#[must_use]
pub fn alloc_zeroed(bytes: usize, align: usize, flags: Flags) -> *mut u8 {
    // Where pages of zeros may be at hand, they are looked for.
    if bytes >= 1024 {
        return alloc_slow(bytes, align, flags, true);
    }
    let p = alloc_aligned(bytes, align, flags);
    if !p.is_null() {
        // SAFETY: at least `bytes` bytes, just taken.
        unsafe { p.write_bytes(0, bytes) };
    }
    p
}

/// Frees an object into the thread's own heap and stock, if it is from there. `false`: nothing was
/// done.
///
/// # Safety
/// `p` is null or a live object of this allocator; it ends here if the answer is `true`.
#[inline(always)]
pub unsafe fn free_hit(p: *mut u8) -> bool {
    match known() {
        // SAFETY: the thread's own; the caller's.
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
    // SAFETY: the caller's.
    if !unsafe { free_hit(p) } {
        // SAFETY: the caller's.
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
    // SAFETY: the caller's.
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
    let _errno = errno::keep();
    let class = class_of_aligned(bytes, align);
    let Some(size) = size_of_object(bytes, align) else {
        return null_mut();
    };
    let Some(tag) = heap_charge::charge(size, flags) else {
        return null_mut();
    };
    let Some(taken) = alloc_charged(class, size, align, tag, zeroed) else {
        heap_charge::uncharge(tag, size);
        return null_mut();
    };
    let p = taken.at as *mut u8;
    if zeroed && !taken.zeroed {
        // SAFETY: `size` bytes at least, just taken.
        unsafe { p.write_bytes(0, bytes) };
    }
    p
}

/// An object that is no hit but for its charge: what its class has at hand is used up.
#[inline(always)]
fn alloc_nearly(bytes: usize) -> Option<*mut u8> {
    let class = class_if_any(bytes)?;
    let (rec, own) = known()?;
    let size = bytes_of(class) as u64;
    let tag = rec.charge_hit(size)?;
    let kmem = &engine().kmem;
    let taken = rec
        .enter_heap()
        // SAFETY: the thread's own heap, in its section.
        .and_then(|_section| unsafe { kmem.alloc(own, class, tag, false) });
    match taken {
        Some(taken) => Some(taken.at as *mut u8),
        None => {
            heap_charge::uncharge(tag, size as usize);
            None
        }
    }
}

/// An object for `tag`, charged already.
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
        // SAFETY: the thread's own heap, in its section, which lasts to the end of this function.
        (Some(class), Some(heap)) => unsafe { kmem.alloc(heap, class, tag, zeroed) },
        (Some(class), None) => kmem.alloc_shared(class, tag),
        // SAFETY: as above.
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
        // SAFETY: the block is this thread's.
        unsafe { (*tls::block()).heap.set(core::ptr::from_ref(heap) as usize) };
    }
    known()
}

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
        // SAFETY: the thread's own; the caller's.
        && unsafe { heap_hit::free_nearly(&engine().kmem, rec, heap, p as usize) }
    {
        return;
    }
    let _errno = errno::keep();
    let object = locate(p, b"free");
    heap_charge::uncharge(object.tag, object.bytes);
    // SAFETY: live, as far as could be seen; uncharged.
    unsafe { free_uncharged(object) };
}

/// The live object at `p`; ends the process when there is none, for whoever is named.
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

/// Whether nothing of the object's slab is held by anybody, as far as the thread can tell.
fn is_idle(kmem: &Kmem, object: &Object) -> bool {
    known().is_some_and(|(rec, heap)| !rec.is_busy() && kmem.is_idle(heap, object))
}

/// # Safety
/// A live, uncharged object, which ends here.
unsafe fn free_uncharged(object: Object) {
    let kmem = &engine().kmem;
    let known = known();
    match known.and_then(|(rec, heap)| Some((rec.enter_heap()?, heap))) {
        // SAFETY: the caller's; the thread's own heap, in its section.
        Some((_section, heap)) => unsafe { kmem.free_object(Some(heap), object) },
        // SAFETY: the caller's.
        None => unsafe { kmem.free_object(None, object) },
    }
}

/// Bytes that may be used of an object: what it is charged.
///
/// # Safety
/// A live object of this allocator.
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
        && let Some(at) = alloc_hit(bytes)
    {
        // SAFETY: two live objects, the new one of at least `bytes`, the old one of `old.bytes`.
        unsafe { core::ptr::copy_nonoverlapping(p, at, old.bytes.min(bytes)) };
        // SAFETY: the caller's.
        unsafe { free(p) };
        return at;
    }
    let grows = size.saturating_sub(old.bytes);
    if grows > 0 && !heap_charge::charge_more(old.tag, grows, flags) {
        return null_mut();
    }
    if class.is_none()
        // SAFETY: the caller's; what is cut off is beyond the new size.
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
    // SAFETY: two live objects, the new one of at least `bytes`, the old one of `old.bytes`.
    unsafe { core::ptr::copy_nonoverlapping(p, taken.at as *mut u8, old.bytes.min(bytes)) };
    heap_charge::uncharge(old.tag, old.bytes.saturating_sub(size));
    // SAFETY: the caller's; what it held beyond the new object is uncharged.
    unsafe { free_uncharged(old) };
    taken.at as *mut u8
}

/// What an object of `bytes` at a multiple of `align` has, and is charged. `None`: more than there
/// can be.
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
        // SAFETY: the thread's own heap, in its section.
        Some((_section, heap)) => unsafe { engine.kmem.trim(Some(heap)) },
        // SAFETY: no heap is given.
        None => unsafe { engine.kmem.trim(None) },
    }
}

/// Marks the calling thread as departed, and parks its heap. All in one section: a signal handler
/// in between does not find a heap without a record, nor join another that nobody would park.
pub(super) fn leave(kmem: &Kmem, rec: &ThreadRec) {
    let section = rec.enter_heap();
    let index = rec.heap.swap(None, Relaxed);
    // SAFETY: the block is this thread's.
    let block = unsafe { &*tls::block() };
    block.heap.set(0);
    block.rec.set(DEPARTED);
    match (index, section) {
        (None, _) => {}
        // SAFETY: the thread's own heap, in its section, for the last time.
        (Some(index), Some(_section)) => unsafe { kmem.park(kmem.heap(index)) },
        // Its exit cut off a change of its own.
        (Some(index), None) => kmem.lose(kmem.heap(index)),
    }
}

/// In the child of a fork: parks the heap of a thread the child does not have, or gives it up if it
/// was at it.
pub(super) fn abandon(kmem: &Kmem, rec: &ThreadRec, was_busy: bool) {
    let Some(index) = rec.heap.swap(None, Relaxed) else {
        return;
    };
    if was_busy {
        kmem.lose(kmem.heap(index));
    } else {
        // SAFETY: nobody else acts for it in this process.
        unsafe { kmem.park(kmem.heap(index)) };
    }
}

/// Whether there is an engine, and memory for the first objects: asked before an allocator is
/// chosen.
#[must_use]
pub fn is_able() -> bool {
    try_engine().is_some_and(|engine| engine.kmem.is_able())
}
