//! Objects of a cache that are taken and freed as raw bytes: what they hold is never handed out as
//! constructed.
//!
//! Invariants: an object of [`SizedCache::alloc`] is as the constructor made it, or as a user of
//! such an object left it. Depends on: the Rust face.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::{CacheOptions, Flags, SizedCache, SlabKind};

const BYTES: usize = 96;

fn construct(object: &mut [u8]) {
    assert!(
        object.iter().all(|&byte| byte == 0),
        "a constructor gets zeros"
    );
    object.fill(7);
}

fn cache(kind: SlabKind, checked: bool) -> SizedCache {
    let options = CacheOptions::new("raw")
        .slab_kind(kind)
        .constructor(construct);
    let options = if checked { options.checked() } else { options };
    options.sized(BYTES).unwrap()
}

/// Takes an object raw, overwrites it, frees it raw.
fn scribble(cache: &SizedCache) {
    let at = cache.alloc_raw(Flags::WAIT).unwrap();
    // SAFETY: an object of so many bytes, ours until it is freed; of this cache.
    unsafe {
        at.as_ptr().cast::<u8>().write_bytes(0xee, BYTES);
        cache.free_raw(at);
    }
}

#[test]
fn an_object_that_was_freed_raw_is_constructed_before_it_is_handed_out() {
    for kind in [SlabKind::Slub, SlabKind::Slab] {
        for checked in [false, true] {
            let cache = cache(kind, checked);
            // Of a fresh object, and of one that was constructed before.
            for _ in 0..2 {
                scribble(&cache);
                let object = cache.alloc().unwrap();
                assert_eq!(object[..], [7; BYTES], "{kind:?}, checked: {checked}");
            }
        }
    }
}

#[test]
fn an_object_that_was_freed_raw_on_another_thread_is_constructed_as_well() {
    for kind in [SlabKind::Slub, SlabKind::Slab] {
        let cache = cache(kind, false);
        let held: Vec<_> = (0..200)
            .map(|_| cache.alloc_raw(Flags::WAIT).unwrap())
            .collect();
        let addresses: Vec<usize> = held.iter().map(|at| at.as_ptr() as usize).collect();
        std::thread::scope(|s| {
            s.spawn(|| {
                for at in addresses {
                    let at = std::ptr::NonNull::new(at as *mut _).unwrap();
                    // SAFETY: a live object of this cache, which ends here.
                    unsafe {
                        at.cast::<u8>().as_ptr().write_bytes(0xee, BYTES);
                        cache.free_raw(at);
                    }
                }
            });
        });
        let objects: Vec<_> = (0..400).map(|_| cache.alloc().unwrap()).collect();
        assert!(
            objects.iter().all(|object| object[..] == [7; BYTES]),
            "{kind:?}"
        );
    }
}

#[test]
fn what_the_last_user_of_a_constructed_object_left_stays() {
    let cache = cache(SlabKind::Slub, false);
    let mut object = cache.alloc().unwrap();
    object[3] = 9;
    drop(object);
    assert_eq!(cache.alloc().unwrap()[3], 9);
}
