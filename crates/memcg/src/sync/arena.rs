//! Typed arenas: records by index, at addresses that never change, in pages that are never given
//! back.
//!
//! Segment k holds `BASE << k` records, so 26 pointers reach 2³² of them and a lookup is a count of
//! leading zeros, an add and a load. Untouched pages of a segment cost address space only. Index 0
//! is never handed out: it means none.
//!
//! Invariants: a record stays at its address, and can be read by its index for the life of the
//! process. One that is handed out again is as its last user left it.
//! Depends on: `os::mmap` for pages; `stack` for the free records.
//! Never: a lock; a page given back, but for a segment that nobody has seen.

use super::Zeroed;
use super::atomic::{AtomicPtr, AtomicU32, Ordering};
use super::id::Id;
use super::stack::Stack;
use core::marker::PhantomData;

/// A record that can lie in an arena's free list or a limbo list.
///
/// # Safety
/// As [`Zeroed`]; and the link must not be used for anything else while the record is free or in
/// limbo.
pub unsafe trait Record: Zeroed + Sync {
    /// The link of the lists a record is in when nobody uses it.
    fn link(&self) -> &AtomicU32;

    /// Told when the record leaves limbo for the free list: nobody looks at what it was any more.
    fn forgotten(&self) {}
}

#[cfg(not(loom))]
const BASE_BITS: u32 = 6;
/// Few: loom makes and forgets them all for every schedule.
#[cfg(loom)]
const BASE_BITS: u32 = 2;
const BASE: u64 = 1 << BASE_BITS;
const SEGMENTS: usize = if cfg!(loom) { 5 } else { 26 };

/// A growing table of `T`, whose indices are `I`.
pub struct Arena<I, T> {
    segments: [AtomicPtr<T>; SEGMENTS],
    /// Indices handed out so far from fresh memory, index 0 included once the first was taken.
    fresh: AtomicU32,
    free: Stack,
    in_use: AtomicU32,
    ids: PhantomData<fn() -> I>,
}

impl<I, T> Default for Arena<I, T> {
    fn default() -> Self {
        Self {
            segments: Default::default(),
            fresh: AtomicU32::default(),
            free: Stack::default(),
            in_use: AtomicU32::default(),
            ids: PhantomData,
        }
    }
}

// SAFETY: null pointers and zero counts are an arena that has handed out nothing, as Default builds
// it.
unsafe impl<I, T: Record> Zeroed for Arena<I, T> {}

#[inline(always)]
fn place(index: u32) -> (usize, usize) {
    let at = u64::from(index) + BASE;
    let segment = at.ilog2() - BASE_BITS;
    (segment as usize, (at - (BASE << segment)) as usize)
}

impl<I: Id, T: Record> Arena<I, T> {
    /// Takes a record: a recycled one as its last user left it, or a fresh zeroed one.
    ///
    /// `None` when `limit` indices are in use or the kernel gives no pages. Cost: a CAS, rarely an
    /// mmap.
    pub fn alloc(&self, limit: u32) -> Option<I> {
        let index = match self.free.pop(|i| self.at(i).link()) {
            Some(index) => index,
            None => self.alloc_fresh(limit)?,
        };
        self.in_use.fetch_add(1, Ordering::Relaxed);
        I::from_raw(index)
    }

    /// Whether [`Self::alloc`] would have to take fresh memory now.
    pub fn is_dry(&self) -> bool {
        self.free.is_empty()
    }

    #[cold]
    fn alloc_fresh(&self, limit: u32) -> Option<u32> {
        let mut index = self.fresh.load(Ordering::Relaxed);
        loop {
            let candidate = index.max(1);
            if candidate >= limit {
                return None;
            }
            self.ensure(place(candidate).0)?;
            match self.fresh.compare_exchange_weak(
                index,
                candidate + 1,
                // Release pairs with the Acquire of `high_water`: the segment is there for whoever
                // walks the table.
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(candidate),
                Err(now) => index = now,
            }
        }
    }

    fn ensure(&self, segment: usize) -> Option<()> {
        // Acquire pairs with the Release of the exchange below, by whichever thread made the
        // segment.
        if !self.segments[segment].load(Ordering::Acquire).is_null() {
            return Some(());
        }
        let new = segment_new::<T>(segment)?;
        // Release pairs with the Acquire of `try_at` and `each`: the segment is mapped. Acquire
        // pairs with this same exchange, when another thread's has won.
        if self.segments[segment]
            .compare_exchange(
                core::ptr::null_mut(),
                new,
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_err()
        {
            // SAFETY: the other thread's segment won; nobody has seen this one.
            unsafe { segment_free(new, segment) };
        }
        Some(())
    }

    /// Puts a record back, to be handed out again as it is now.
    pub fn free(&self, id: I) {
        self.in_use.fetch_sub(1, Ordering::Relaxed);
        self.free.push(id.raw(), self.get(id).link());
    }

    /// The record of an index that was handed out at any time in the past.
    ///
    /// # Panics
    /// When the index was never handed out: a corrupt tag ends here, not in foreign memory.
    #[inline]
    pub fn get(&self, id: I) -> &T {
        self.at(id.raw())
    }

    /// As [`Self::get`], for an index that may be garbage.
    #[inline]
    pub fn try_get(&self, id: I) -> Option<&T> {
        self.try_at(id.raw())
    }

    #[inline]
    fn at(&self, index: u32) -> &T {
        match self.try_at(index) {
            Some(record) => record,
            None => never_handed_out(index),
        }
    }

    #[inline]
    fn try_at(&self, index: u32) -> Option<&T> {
        let (segment, offset) = place(index);
        // Acquire pairs with the Release of `ensure`. (On x86 and for a segment long there: a plain
        // load.)
        let base = self.segments.get(segment)?.load(Ordering::Acquire);
        if base.is_null() {
            return None;
        }
        // SAFETY: the segment holds BASE << segment records, `offset` is below that by `place`, all
        // valid since zeroed.
        Some(unsafe { &*base.add(offset) })
    }

    /// One past the highest index ever handed out: `1..high_water()` is the whole table.
    pub fn high_water(&self) -> u32 {
        // Acquire pairs with the Release of `alloc_fresh`.
        self.fresh.load(Ordering::Acquire)
    }

    /// Every record there ever was, with its index, in order: `1..high_water()`. Cheaper than to
    /// get each by its index: the segments are gone through as they lie.
    pub fn each(&self) -> impl Iterator<Item = (I, &T)> {
        let end = u64::from(self.high_water());
        let segments = self.segments.iter().enumerate();
        let part = move |(segment, base): (usize, &AtomicPtr<T>)| {
            let first = (BASE << segment) - BASE;
            let n = end.saturating_sub(first).min(BASE << segment) as usize;
            if n == 0 {
                return None;
            }
            // Acquire pairs with the Release of `ensure`.
            let base = base.load(Ordering::Acquire);
            // SAFETY: indices below the high water are in segments that are there, all valid since
            // zeroed.
            let records = unsafe { core::slice::from_raw_parts(base, n) };
            Some((first as u32, records))
        };
        let parts = segments.map_while(part);
        let records = parts.flat_map(|(first, records)| (first..).zip(records));
        records
            .skip(1)
            .filter_map(|(index, record)| Some((I::from_raw(index)?, record)))
    }

    /// As [`Self::each`], from the record after `from` on; `None`: from the first. Each record is
    /// got by its index.
    pub fn each_after(&self, from: Option<I>) -> impl Iterator<Item = (I, &T)> {
        let first = from.map_or(1, |id| id.raw() + 1);
        (first..self.high_water()).filter_map(|index| Some((I::from_raw(index)?, self.at(index))))
    }

    /// Records in use, limbo included.
    pub fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::Relaxed)
    }
}

#[cold]
fn never_handed_out(index: u32) -> ! {
    panic!("record {index} was never handed out")
}

#[cfg(not(loom))]
fn segment_new<T: Record>(segment: usize) -> Option<*mut T> {
    let bytes = ((BASE as usize) << segment).checked_mul(core::mem::size_of::<T>())?;
    crate::os::mmap::map(bytes).map(|p| p.as_ptr().cast())
}

#[cfg(not(loom))]
unsafe fn segment_free<T>(p: *mut T, segment: usize) {
    let bytes = ((BASE as usize) << segment) * core::mem::size_of::<T>();
    if let Some(p) = core::ptr::NonNull::new(p.cast()) {
        // SAFETY: the caller passes a segment of `segment_new` nobody has seen.
        unsafe { crate::os::mmap::unmap(p, bytes) };
    }
}

// Loom's atomics are objects, not bytes: its segments are built from `Default`.
#[cfg(loom)]
fn segment_new<T: Record>(segment: usize) -> Option<*mut T> {
    let n = (BASE as usize) << segment;
    let all: Vec<T> = (0..n).map(|_| T::default()).collect();
    Some(Box::leak(all.into_boxed_slice()).as_mut_ptr())
}

#[cfg(loom)]
impl<I, T> Drop for Arena<I, T> {
    fn drop(&mut self) {
        for (segment, at) in self.segments.iter_mut().enumerate() {
            at.with_mut(|p| {
                if !p.is_null() {
                    // SAFETY: made by `segment_new`; who drops the arena is the last to know it.
                    unsafe { segment_free(*p, segment) };
                }
            });
        }
    }
}

#[cfg(loom)]
unsafe fn segment_free<T>(p: *mut T, segment: usize) {
    let n = (BASE as usize) << segment;
    // SAFETY: made by `segment_new` with this length, seen by nobody else.
    drop(unsafe { Box::from_raw(core::ptr::slice_from_raw_parts_mut(p, n)) });
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::id::ids;

    ids! {
        /// A record of these tests.
        RecId;
    }

    fn id(number: u32) -> RecId {
        RecId::new(number)
    }

    #[derive(Default)]
    struct Rec {
        link: AtomicU32,
        owner: AtomicU32,
    }
    // SAFETY: both fields are atomic integers, for which zero bytes are the value 0.
    unsafe impl Zeroed for Rec {}
    // SAFETY: `link` is used by the arena alone.
    unsafe impl Record for Rec {
        fn link(&self) -> &AtomicU32 {
            &self.link
        }
    }

    #[test]
    fn places_fill_segments_without_gap_or_overlap() {
        let mut expected = (0, 0);
        for index in 0..10_000 {
            assert_eq!(place(index), expected);
            expected.1 += 1;
            if expected.1 == (BASE as usize) << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(place(u32::MAX - BASE as u32).0 < SEGMENTS);
    }

    #[test]
    fn a_limit_refuses_and_a_free_heals() {
        let arena = Arena::<RecId, Rec>::default();
        let all: Vec<RecId> = (0..9).map(|_| arena.alloc(10).unwrap()).collect();
        assert_eq!(all, (1..10).map(id).collect::<Vec<_>>());
        assert_eq!(arena.alloc(10), None);
        arena.free(id(4));
        assert_eq!(arena.alloc(10), Some(id(4)));
    }

    /// What a tag read from overwritten memory comes to.
    #[test]
    fn a_number_of_no_record_is_none_or_ends_in_a_panic() {
        let arena = Arena::<RecId, Rec>::default();
        assert_eq!(arena.alloc(u32::MAX), Some(id(1)));
        for garbage in [BASE as u32, 0xdead_beef, u32::MAX - 1, u32::MAX] {
            assert!(arena.try_get(id(garbage)).is_none());
            let got = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                arena.get(id(garbage));
            }));
            assert!(got.is_err(), "{garbage:#x}");
        }
    }

    #[test]
    fn each_record_is_gone_through_once_in_order_in_all_segments() {
        let arena = Arena::<RecId, Rec>::default();
        assert_eq!(arena.each().count(), 0);
        for n in 1..500 {
            assert_eq!(arena.alloc(u32::MAX), Some(id(n)));
            assert_eq!(arena.each().count(), n as usize);
        }
        for (index, (at, record)) in (1..).zip(arena.each()) {
            assert_eq!(id(index), at);
            assert!(core::ptr::eq(record, arena.get(at)));
        }
        let after = |from: Option<u32>| {
            let records = arena.each_after(from.map(id));
            records.map(|(at, _)| at.raw()).collect::<Vec<_>>()
        };
        assert_eq!(after(None), (1..500).collect::<Vec<_>>());
        assert_eq!(after(Some(497)), [498, 499]);
        assert_eq!(after(Some(499)), []);
    }

    #[test]
    fn no_index_is_handed_out_twice_under_threads() {
        let arena = Arena::<RecId, Rec>::default();
        std::thread::scope(|s| {
            for me in 1..=4 {
                let arena = &arena;
                s.spawn(move || {
                    for round in 0..2_000 {
                        let mine: Vec<RecId> = (0..round % 7)
                            .map(|_| arena.alloc(u32::MAX).unwrap())
                            .collect();
                        for &i in &mine {
                            assert_eq!(arena.get(i).owner.swap(me, Ordering::AcqRel), 0);
                        }
                        for &i in &mine {
                            arena.get(i).owner.store(0, Ordering::Release);
                            arena.free(i);
                        }
                    }
                });
            }
        });
        assert_eq!(arena.in_use(), 0);
        assert!(arena.high_water() <= 4 * 7 + 1);
    }
}
