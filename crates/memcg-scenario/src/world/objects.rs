//! Objects of the engine's own allocator, each filled with a pattern that tells whether it was
//! overwritten.
//!
//! Invariants: every byte of an object is written when it is made; objects are freed when their
//! [`Objects`] is dropped.
//! Depends on: `pattern`; the engine's heap and its caches.
//! Never: two objects of one scenario with one pattern.

use crate::world::pattern::Pattern;
use memcg::testing::engine::{Flags, kmalloc};
use memcg::{AllocError, KBytes, Memcg, ReserveError, Shared, SizedCache};
use std::any::Any;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// Objects of one size, live until this is dropped. Each belongs to the task that the thread worked
/// for when the object was made.
pub struct Objects {
    size: usize,
    seed: u64,
    all: All,
}

enum All {
    /// Of the heap.
    Heap(Vec<NonNull<u8>>),
    /// Of a cache. Kept: it ends after its objects.
    Cache(Arc<SizedCache>, Vec<Object>),
}

/// An object of a cache.
enum Object {
    /// Its maker's alone.
    Own(KBytes),
    /// Others may hold it.
    Shared(Shared<KBytes>),
}

impl Deref for Object {
    type Target = KBytes;

    fn deref(&self) -> &KBytes {
        match self {
            Object::Own(object) => object,
            Object::Shared(object) => object,
        }
    }
}

// SAFETY: a heap object is reached through this value alone, which is not cloned, and the engine's
// `free` takes an object back on any thread. Objects of a cache are `KBytes`, which are Send.
unsafe impl Send for Objects {}

impl Objects {
    /// No objects as yet, of the heap, with `size` bytes each.
    pub fn of_heap(size: usize, seed: u64) -> Objects {
        let all = All::Heap(Vec::new());
        Objects { size, seed, all }
    }

    /// No objects as yet, of `cache`.
    pub fn of_cache(cache: Arc<SizedCache>, seed: u64) -> Objects {
        Objects {
            size: cache.object_bytes(),
            seed,
            all: All::Cache(cache, Vec::new()),
        }
    }

    /// Makes one more, charged to the task that the thread works for, and writes every byte of it.
    ///
    /// # Errors
    /// Why it was refused; `None` when the heap had no room.
    pub fn push(&mut self, flags: Flags) -> Result<(), Option<AllocError>> {
        let pattern = Pattern::of(self.seed, self.len() as u64);
        match &mut self.all {
            All::Heap(all) => {
                let at = NonNull::new(kmalloc::alloc(self.size, flags)).ok_or(None)?;
                // SAFETY: `alloc` has just made an object of `size` bytes, and nobody else has its
                // address. `write` only writes, so it does not matter that the bytes have no value.
                let bytes = unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), self.size) };
                pattern.write(bytes);
                all.push(at);
            }
            All::Cache(cache, all) => {
                let mut object = cache.alloc_flags(flags).map_err(Some)?;
                pattern.write(&mut object);
                all.push(Object::Own(object));
            }
        }
        Ok(())
    }

    /// Takes the last ones out, as many as make up `bytes`, or all: to be dropped.
    pub fn split_off(&mut self, bytes: u64) -> Objects {
        let each = (self.bytes() / (self.len() as u64).max(1)).max(1);
        let stay = self.len().saturating_sub(bytes.div_ceil(each) as usize);
        let all = match &mut self.all {
            All::Heap(all) => All::Heap(all.split_off(stay)),
            All::Cache(cache, all) => All::Cache(cache.clone(), all.split_off(stay)),
        };
        let (size, seed) = (self.size, self.seed);
        Objects { size, seed, all }
    }

    /// Whether the objects are of a cache, not of the heap.
    pub fn are_of_a_cache(&self) -> bool {
        matches!(self.all, All::Cache(..))
    }

    /// Charges those of a cache to `group` from now on, one after the other, up to the one that
    /// finds no room.
    pub fn recharge_to(&self, group: &Memcg) -> Result<(), ReserveError> {
        match &self.all {
            All::Heap(_) => Ok(()),
            All::Cache(_, all) => all.iter().try_for_each(|object| object.recharge_to(group)),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.all {
            All::Heap(all) => all.len(),
            All::Cache(_, all) => all.len(),
        }
    }

    /// Bytes that the objects take. One of the heap takes what its size class has.
    pub fn bytes(&self) -> u64 {
        let each = match &self.all {
            // SAFETY: a live object of the heap.
            All::Heap(all) => all
                .first()
                .map_or(0, |at| unsafe { kmalloc::usable(at.as_ptr()) }),
            All::Cache(..) => self.size,
        };
        each as u64 * self.len() as u64
    }

    /// The number of the first object that does not hold what was written into it.
    pub fn first_damaged(&self) -> Option<usize> {
        let is_damaged = |i: usize, bytes: &[u8]| !Pattern::of(self.seed, i as u64).is_in(bytes);
        match &self.all {
            All::Heap(all) => all.iter().enumerate().position(|(i, at)| {
                // SAFETY: a live object of `size` bytes, initialised by `push`.
                is_damaged(i, unsafe {
                    std::slice::from_raw_parts(at.as_ptr(), self.size)
                })
            }),
            All::Cache(_, all) => {
                let mut all = all.iter().enumerate();
                all.position(|(i, object)| is_damaged(i, object))
            }
        }
    }

    /// Uses those of a cache. What an ended group left may be charged to the task that the thread
    /// works for from now on.
    pub fn touch(&self) {
        if let All::Cache(_, all) = &self.all {
            for object in all {
                object.touch();
            }
        }
    }

    /// Has `group` hold those of a cache as well, as long as what is put into `held` lives.
    pub fn hold(&mut self, group: &Memcg, held: &mut Vec<Box<dyn Any + Send>>) {
        let All::Cache(_, all) = &mut self.all else {
            return;
        };
        for object in std::mem::take(all) {
            let shared = match object {
                Object::Own(object) => Shared::new(object),
                Object::Shared(shared) => shared,
            };
            held.push(Box::new(shared.hold(group)));
            all.push(Object::Shared(shared));
        }
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        if let All::Heap(all) = &mut self.all {
            for at in all.drain(..) {
                // SAFETY: an object made by `push` of the heap, which ends here.
                unsafe { kmalloc::free(at.as_ptr()) };
            }
        }
    }
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
            match &mut objects.all {
                // SAFETY: inside a live object.
                All::Heap(all) => unsafe { *all[17].as_ptr().add(99) ^= 1 },
                All::Cache(_, all) => match &mut all[17] {
                    Object::Own(object) => object[99] ^= 1,
                    Object::Shared(_) => unreachable!("nobody holds it"),
                },
            }
            assert_eq!(objects.first_damaged(), Some(17));
        }
    }
}
