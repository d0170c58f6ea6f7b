//! A number beside each record of an arena, for the few that need one.
//!
//! Invariants: a place that was never set is 0, and costs address space alone.
//! Depends on: `os::mmap`.
//! Never: takes a segment back.

use super::Zeroed;
use super::atomic::{AtomicPtr, AtomicU32, Ordering};
use super::id::Id;
use core::marker::PhantomData;

#[cfg(not(loom))]
const BASE_BITS: u32 = 10;
/// Few: loom makes and forgets them all for every schedule.
#[cfg(loom)]
const BASE_BITS: u32 = 3;
const BASE: u64 = 1 << BASE_BITS;
const SEGMENTS: usize = if cfg!(loom) { 3 } else { 22 };

/// See the module. Places are named by `I`; what is in them is a `V`, or none.
pub struct Sparse<I, V> {
    segments: [AtomicPtr<AtomicU32>; SEGMENTS],
    types: PhantomData<fn(I) -> V>,
}

impl<I, V> Default for Sparse<I, V> {
    fn default() -> Self {
        Self {
            segments: Default::default(),
            types: PhantomData,
        }
    }
}

// SAFETY: null pointers are a table without a segment, as Default builds it.
unsafe impl<I, V> Zeroed for Sparse<I, V> {}

/// Segment and place of a number: segments double in size.
#[inline(always)]
fn place(index: u32) -> (usize, usize) {
    let at = u64::from(index) + BASE;
    let segment = at.ilog2() - BASE_BITS;
    (segment as usize, (at - (BASE << segment)) as usize)
}

impl<I: Id, V: Id> Sparse<I, V> {
    /// What is at the place of `id`. Cost: two loads.
    #[inline]
    pub fn get(&self, id: I) -> Option<V> {
        let (segment, offset) = place(id.raw());
        // Acquire pairs with the Release of `ensure`.
        let base = self.segments.get(segment)?.load(Ordering::Acquire);
        if base.is_null() {
            return None;
        }
        // SAFETY: a segment holds BASE << segment numbers, `offset` is below that by `place`, and
        // a segment never goes while the table is there.
        let word = unsafe { &*base.add(offset) };
        // Acquire pairs with the Release of `set`: what is found is whole.
        V::from_raw(word.load(Ordering::Acquire))
    }

    /// Puts `value` at the place of `id`, if nothing is there; answers what is there now. `None`:
    /// no memory.
    pub fn set(&self, id: I, value: V) -> Option<V> {
        let (segment, offset) = place(id.raw());
        let base = self.ensure(segment)?;
        // SAFETY: as in `get`.
        let word = unsafe { &*base.add(offset) };
        // Release pairs with the Acquire of `get`; Acquire with the Release of another `set`.
        match word.compare_exchange(0, value.raw(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Some(value),
            Err(there) => V::from_raw(there),
        }
    }

    /// Takes away what is at the place of `id`, and answers it.
    pub fn take(&self, id: I) -> Option<V> {
        let (segment, offset) = place(id.raw());
        // Acquire pairs with the Release of `ensure`.
        let base = self.segments.get(segment)?.load(Ordering::Acquire);
        if base.is_null() {
            return None;
        }
        // SAFETY: as in `get`.
        let word = unsafe { &*base.add(offset) };
        // Mostly nothing is there, and the page of the table need not be made for that.
        if word.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // Acquire pairs with the Release of `set`.
        V::from_raw(word.swap(0, Ordering::AcqRel))
    }

    fn ensure(&self, segment: usize) -> Option<*mut AtomicU32> {
        let at = self.segments.get(segment)?;
        // Acquire pairs with the Release of the exchange below.
        let there = at.load(Ordering::Acquire);
        if !there.is_null() {
            return Some(there);
        }
        let new = segment_new(segment)?;
        // Release pairs with the Acquire of `get` and `take`: the segment is mapped. Acquire pairs
        // with this same exchange, when another thread's has won.
        match at.compare_exchange(
            core::ptr::null_mut(),
            new,
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => Some(new),
            Err(there) => {
                // SAFETY: the other thread's segment won; nobody has seen this one.
                unsafe { segment_free(new, segment) };
                Some(there)
            }
        }
    }
}

#[cfg(not(loom))]
fn segment_new(segment: usize) -> Option<*mut AtomicU32> {
    let bytes = ((BASE as usize) << segment) * size_of::<AtomicU32>();
    crate::os::mmap::map(bytes).map(|p| p.as_ptr().cast())
}

#[cfg(not(loom))]
unsafe fn segment_free(p: *mut AtomicU32, segment: usize) {
    let bytes = ((BASE as usize) << segment) * size_of::<AtomicU32>();
    if let Some(p) = core::ptr::NonNull::new(p.cast()) {
        // SAFETY: the caller passes a segment of `segment_new` that nobody has seen.
        unsafe { crate::os::mmap::unmap(p, bytes) };
    }
}

// Loom's atomics are objects, not bytes: its segments are built from `Default`.
#[cfg(loom)]
fn segment_new(segment: usize) -> Option<*mut AtomicU32> {
    let n = (BASE as usize) << segment;
    let all: Vec<AtomicU32> = (0..n).map(|_| AtomicU32::default()).collect();
    Some(Box::leak(all.into_boxed_slice()).as_mut_ptr())
}

#[cfg(loom)]
unsafe fn segment_free(p: *mut AtomicU32, segment: usize) {
    let n = (BASE as usize) << segment;
    // SAFETY: made by `segment_new` with this length; the caller is the last who knows it.
    drop(unsafe { Box::from_raw(core::ptr::slice_from_raw_parts_mut(p, n)) });
}

#[cfg(loom)]
impl<I, V> Drop for Sparse<I, V> {
    fn drop(&mut self) {
        for (segment, at) in self.segments.iter_mut().enumerate() {
            at.with_mut(|p| {
                if !p.is_null() {
                    // SAFETY: made by `segment_new`; who drops the table is the last to know it.
                    unsafe { segment_free(*p, segment) };
                }
            });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::id::ids;

    ids! {
        /// A place of these tests.
        At;
        /// What is there.
        Thing;
    }

    #[test]
    fn what_is_set_first_stays_until_it_is_taken() {
        let table = Sparse::<At, Thing>::default();
        for at in [1, 2, 1023, 1024, 5000, 4_000_000].map(At::new) {
            assert_eq!((table.get(at), table.take(at)), (None, None));
            assert_eq!(table.set(at, Thing::new(7)), Some(Thing::new(7)));
            assert_eq!(table.set(at, Thing::new(8)), Some(Thing::new(7)));
            assert_eq!(table.get(at), Some(Thing::new(7)));
            assert_eq!(table.take(at), Some(Thing::new(7)));
            assert_eq!(table.get(at), None);
        }
    }
}
