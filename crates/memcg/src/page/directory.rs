//! The way from a page's number in its region to its leaf: one array of pointers, which is replaced
//! by a longer one when the region grows beyond it.
//!
//! Invariants: an array that was published stays until the region ends, so who found it may use it:
//! it has every leaf that was there when it was replaced. Leaves are added to the newest alone.
//! Depends on: the region's lock for every change.
//! Never: takes a leaf out before the region ends.

use super::leaf::Leaf;
use crate::os::mmap;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use crate::sync::lock::Held;
use core::ptr::NonNull;

/// An array, in memory of its own. The entries follow.
#[repr(C)]
struct Array {
    /// The one that this one has replaced.
    older: *mut Array,
    /// Bytes of its memory.
    bytes: usize,
}

/// Bytes before the entries.
const HEAD: usize = size_of::<Array>();

type Entry = AtomicPtr<Leaf>;

/// See the module.
#[derive(Default)]
pub struct Directory {
    /// The entries of the newest array; null: there is only `first`.
    entries: AtomicPtr<Entry>,
    /// How many there are, `first` not counted.
    capacity: AtomicUsize,
    /// The first leaf, which small regions need alone.
    first: Entry,
    /// The newest array. Under the lock.
    newest: AtomicPtr<Array>,
}

// SAFETY: null pointers and a zero.
unsafe impl Zeroed for Directory {}

impl Directory {
    /// The leaf of that number, if it is there. `no` is below what [`Self::ensure`] was asked for,
    /// before the region's length said so.
    #[inline(always)]
    pub fn get(&self, no: usize) -> Option<&Leaf> {
        let entry = if no == 0 {
            &self.first
        } else {
            self.entry(no)?
        };
        // Acquire pairs with the Release of `set`: the leaf is open.
        let leaf = NonNull::new(entry.load(Ordering::Acquire))?;
        // SAFETY: a leaf is an arena's record, whose memory never goes.
        Some(unsafe { leaf.as_ref() })
    }

    #[inline(always)]
    fn entry(&self, no: usize) -> Option<&Entry> {
        // Acquire pairs with the Release of `ensure`: an array comes with its capacity, or with a
        // larger one's, which is looked at first.
        if no > self.capacity.load(Ordering::Acquire) {
            return None;
        }
        let entries = NonNull::new(self.entries.load(Ordering::Acquire))?;
        // SAFETY: the array has at least as many entries as the capacity that was read before it
        // said, since arrays only get longer; `no` is from 1 to that. It stays until the region
        // ends, which the caller has named.
        Some(unsafe { entries.add(no - 1).as_ref() })
    }

    /// Makes room for leaves below `nr`. `None`: no memory. O(leaves).
    pub fn ensure(&self, nr: usize, _held: &Held<'_>) -> Option<()> {
        let wanted = nr.saturating_sub(1);
        let capacity = self.capacity.load(Ordering::Relaxed);
        if wanted <= capacity {
            return Some(());
        }
        let bytes = (HEAD + wanted * size_of::<Entry>())
            .next_power_of_two()
            .max(4096);
        let memory = mmap::map(bytes)?;
        let capacity_then = (bytes - HEAD) / size_of::<Entry>();
        let array = memory.cast::<Array>();
        let older = self.newest.load(Ordering::Relaxed);
        // SAFETY: the memory was mapped a moment ago, is nobody else's, aligned to a page, and
        // longer than the head.
        unsafe { array.write(Array { older, bytes }) };
        // SAFETY: behind the head there is room for `capacity_then` entries; zero bytes are null.
        let entries = unsafe { memory.add(HEAD).cast::<Entry>() };
        for no in 1..=capacity {
            if let Some(leaf) = self.entry(no) {
                // SAFETY: `no - 1` is below the old capacity, which is below the new one.
                let to = unsafe { entries.add(no - 1).as_ref() };
                to.store(leaf.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        self.newest.store(array.as_ptr(), Ordering::Relaxed);
        // Release pairs with the Acquire of `entry`: first the array, then how long it is.
        self.entries.store(entries.as_ptr(), Ordering::Release);
        self.capacity.store(capacity_then, Ordering::Release);
        Some(())
    }

    /// Adds a leaf that is not there. `no` is as for [`Self::get`].
    pub fn set(&self, no: usize, leaf: &Leaf, _held: &Held<'_>) {
        let entry = if no == 0 {
            Some(&self.first)
        } else {
            self.entry(no)
        };
        if let Some(entry) = entry {
            // Release pairs with the Acquire of `get`.
            entry.store(core::ptr::from_ref(leaf).cast_mut(), Ordering::Release);
        }
    }

    /// Each leaf there is of those numbers, with its number.
    pub fn each(
        &self,
        numbers: core::ops::RangeInclusive<usize>,
    ) -> impl Iterator<Item = (usize, &Leaf)> {
        // Acquire pairs with the Release of `ensure`, as in `entry`.
        let capacity = self.capacity.load(Ordering::Acquire);
        (*numbers.start()..=capacity.min(*numbers.end())).filter_map(|no| Some((no, self.get(no)?)))
    }

    /// Gives all arrays back. The leaves are the caller's.
    ///
    /// # Safety
    /// Nobody else uses the directory meanwhile.
    pub unsafe fn release(&self) {
        self.capacity.store(0, Ordering::Relaxed);
        self.entries.store(core::ptr::null_mut(), Ordering::Relaxed);
        self.first.store(core::ptr::null_mut(), Ordering::Relaxed);
        let mut at = self.newest.swap(core::ptr::null_mut(), Ordering::Relaxed);
        while let Some(array) = NonNull::new(at) {
            // SAFETY: each array lives until here, and its head was written before it was
            // published.
            let (older, bytes) = unsafe { ((*at).older, (*at).bytes) };
            // SAFETY: the memory is one mapping of so many bytes, and the caller has promised that
            // nobody else uses it.
            unsafe { mmap::unmap(array.cast(), bytes) };
            at = older;
        }
    }
}
