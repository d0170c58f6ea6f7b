//! Objects of the engine's own allocator, each filled with a pattern that tells whether it was overwritten.

use memcg::engine::{Flags, kmalloc};
use memcg::{AllocError, SizedCache};
use std::ptr::NonNull;
use std::sync::Arc;

/// Objects of one size, live until this is dropped. They belong to whom the thread worked for when they were made.
pub struct Objects {
    size: usize,
    seed: u64,
    /// Where they are from, if not the heap. Kept: a cache ends after its objects.
    cache: Option<Arc<SizedCache>>,
    all: Vec<NonNull<u8>>,
}

// SAFETY: the objects are this value's alone, and the allocator takes them back from any thread.
unsafe impl Send for Objects {}

impl Objects {
    /// None as yet; they will be of the heap.
    pub fn of_heap(size: usize, seed: u64) -> Objects {
        Objects {
            size,
            seed,
            cache: None,
            all: Vec::new(),
        }
    }

    /// None as yet; they will be of a cache.
    pub fn of_cache(cache: Arc<SizedCache>, seed: u64) -> Objects {
        Objects {
            size: cache.object_bytes(),
            seed,
            cache: Some(cache),
            all: Vec::new(),
        }
    }

    /// One more, charged to whom the thread works for, and every byte of it written; or why it was refused.
    pub fn push(&mut self, flags: Flags) -> Result<(), Option<AllocError>> {
        let at = match &self.cache {
            None => NonNull::new(kmalloc::alloc(self.size, flags)).ok_or(None)?,
            Some(cache) => cache.alloc_raw(flags).map_err(Some)?.cast(),
        };
        let mut pattern = pattern(self.seed, self.all.len());
        // SAFETY: an object of `size` bytes that was just made, and is nobody else's; bytes need no value before they are
        // written.
        let bytes = unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), self.size) };
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&pattern.to_ne_bytes()[..piece.len()]);
            pattern = pattern.wrapping_add(STEP);
        }
        self.all.push(at);
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Bytes they take: of the heap, what their class takes.
    pub fn bytes(&self) -> u64 {
        let each = match (&self.cache, self.all.first()) {
            // SAFETY: a live object of the heap.
            (None, Some(at)) => unsafe { kmalloc::usable(at.as_ptr()) },
            _ => self.size,
        };
        each as u64 * self.all.len() as u64
    }

    /// The number of the first object that does not hold what was written into it.
    pub fn first_damaged(&self) -> Option<usize> {
        self.all.iter().enumerate().position(|(i, at)| {
            let mut pattern = pattern(self.seed, i);
            // SAFETY: a live object of `size` bytes, initialised by `push`.
            let bytes = unsafe { std::slice::from_raw_parts(at.as_ptr(), self.size) };
            !bytes.chunks(8).all(|piece| {
                let is_whole = piece == &pattern.to_ne_bytes()[..piece.len()];
                pattern = pattern.wrapping_add(STEP);
                is_whole
            })
        })
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        for at in self.all.drain(..) {
            match &self.cache {
                // SAFETY: an object made by `push` of the heap, which ends here.
                None => unsafe { kmalloc::free(at.as_ptr()) },
                // SAFETY: an object made by `push` of this cache, which ends here.
                Some(cache) => unsafe { cache.free_raw(at.cast()) },
            }
        }
    }
}

/// What one word differs from the next by: odd, so that no two of an object are alike for 2⁶⁴ words.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The first word of object `i`.
fn pattern(seed: u64, i: usize) -> u64 {
    (seed << 32 ^ i as u64).wrapping_mul(STEP) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overwritten_byte_is_found() {
        let cache = Arc::new(SizedCache::new("pattern", 100).expect("a cache"));
        for mut objects in [Objects::of_heap(100, 3), Objects::of_cache(cache, 3)] {
            for _ in 0..50 {
                assert_eq!(objects.push(Flags::NOWAIT), Ok(()));
            }
            assert_eq!((objects.len(), objects.first_damaged()), (50, None));
            // SAFETY: inside a live object.
            unsafe { *objects.all[17].as_ptr().add(99) ^= 1 };
            assert_eq!(objects.first_damaged(), Some(17));
        }
    }
}
