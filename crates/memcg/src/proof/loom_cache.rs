//! Caches under every schedule: the making of a group's cache against the group's end, a dead
//! cache's end against the last free.
//!
//! All of it is the real code. Of a slab's record loom knows the word of frees and the link of
//! returned slabs; its other fields, and the bytes of objects, are only ever touched by who has the
//! slab, or under the lock of its cache.

use crate::group::{Hierarchy, ROOT};
use crate::kmem::Kmem;
use crate::kmem::cache::{Cache, Plan, Ways};
use crate::kmem::id::CacheId;
use crate::offline;
use crate::thread::ThreadRec;
use loom::sync::atomic::{AtomicU32, Ordering::*};
use loom::thread;
use std::sync::Arc;

fn model(bound: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.max_branches = 50_000;
    builder.check(f);
}

/// Three, since it is about who is last. Catches: an end that counts no slab of its own while it is
/// under way.
#[test]
fn loom_a_dead_cache_ends_once_and_takes_no_slab_after() {
    model(4, || {
        let cache = Arc::new(Cache::default());
        assert!(cache.add_slab());
        let ends = Arc::new(AtomicU32::new(0));
        let note = |ends: &AtomicU32, ended: bool| {
            if ended {
                assert_eq!(ends.fetch_add(1, Relaxed), 0, "ended twice");
            }
        };
        let free = {
            let (cache, ends) = (cache.clone(), ends.clone());
            thread::spawn(move || note(&ends, cache.sub_slab()))
        };
        let take = {
            let (cache, ends) = (cache.clone(), ends.clone());
            thread::spawn(move || {
                if cache.add_slab() {
                    assert_eq!(ends.load(Relaxed), 0, "a slab for a cache that has ended");
                    note(&ends, cache.sub_slab());
                }
            })
        };
        assert!(cache.die());
        note(&ends, cache.sub_slab());
        free.join().unwrap();
        take.join().unwrap();
        assert_eq!(ends.load(Relaxed), 1, "never ended");
        assert!(!cache.add_slab());
    });
}

/// A cache of slabs of eight objects, in memory of its own.
#[derive(Clone, Copy)]
struct World {
    tree: &'static Hierarchy,
    kmem: &'static Kmem,
    rec: &'static ThreadRec,
    cache: CacheId,
}

impl World {
    fn take(&self) -> usize {
        let found = self.kmem.alloc_cached(None, self.cache, None);
        found.expect("a live cache").at
    }

    fn free(&self, at: usize) {
        let (slab, offset) = self.kmem.locate_cached(at).unwrap();
        // SAFETY: every object of these models is freed once.
        unsafe { self.kmem.free_cached(None, slab, offset, false) };
    }

    fn bury(&self) {
        let _pin = self.tree.threads.epoch.pin(self.rec);
        self.kmem.bury(self.tree, self.cache);
    }

    /// Whether nothing is left of the cache, which is dead, and its number is to be used again.
    fn is_over(&self) -> bool {
        let cache = self.kmem.caches.get(self.cache);
        assert!(cache.is_dead());
        if self.kmem.have_caches_ended() {
            let _pin = self.tree.threads.epoch.pin(self.rec);
            self.kmem.tend_caches(self.tree);
        }
        assert!(!self.kmem.have_caches_ended());
        assert_eq!(cache.is_there(), cache.nr_slabs() > 0);
        !cache.is_there()
    }
}

fn with_cache(bound: usize, f: impl Fn(World) + Sync + Send + 'static) {
    model(bound, move || {
        let tree = Hierarchy::leaked();
        let kmem: &'static Kmem = Box::leak(Box::default());
        kmem.init().unwrap();
        let (_, rec) = tree.threads.join().unwrap();
        let plan = Plan {
            name: b"thing",
            bytes: 64 << 10,
            align: 8,
            ways: Ways::default(),
            ctor: None,
        };
        let cache = {
            let _pin = tree.threads.epoch.pin(rec);
            kmem.create_cache(tree, &plan).unwrap()
        };
        f(World {
            tree,
            kmem,
            rec,
            cache,
        });
        // SAFETY: both were leaked above; the threads that knew them have been joined.
        drop(unsafe {
            (
                Box::from_raw(core::ptr::from_ref(tree).cast_mut()),
                Box::from_raw(core::ptr::from_ref(kmem).cast_mut()),
            )
        });
    });
}

/// Catches: a slab given back while one is on his way to it; one that is empty not looked for when
/// the cache has died.
#[test]
fn loom_the_last_free_beside_the_end_of_its_cache_ends_it() {
    with_cache(3, |w| {
        let only = w.take();
        let freer = thread::spawn(move || w.free(only));
        w.bury();
        freer.join().unwrap();
        assert!(w.is_over());
    });
}

/// Catches: who returns a full slab asking by a load, or not at all, whether its cache is dead.
#[test]
fn loom_a_slab_that_was_full_when_its_cache_died_goes_with_its_last_object() {
    with_cache(4, |w| {
        let all: [usize; 8] = std::array::from_fn(|_| w.take());
        let freer = thread::spawn(move || w.free(all[0]));
        w.bury();
        freer.join().unwrap();
        for at in &all[1..] {
            assert!(!w.is_over());
            w.free(*at);
        }
        assert!(w.is_over());
    });
}

/// Catches: a partial slab whose last free nobody is told of.
#[test]
fn loom_the_last_two_frees_of_a_dead_cache_end_it_once() {
    with_cache(6, |w| {
        let [one, two] = [w.take(), w.take()];
        w.bury();
        let freer = thread::spawn(move || w.free(one));
        w.free(two);
        freer.join().unwrap();
        assert!(w.is_over());
    });
}

/// Catches: threads' slots not emptied at the end; a slab put into a slot without asking again.
#[test]
fn loom_a_slab_taken_while_its_cache_dies_is_not_left_in_a_thread() {
    with_cache(4, |w| {
        let (_, rec) = w.tree.threads.join().unwrap();
        let taker = thread::spawn(move || {
            let own = w.kmem.caches.own(rec).unwrap();
            if let Some(found) = w.kmem.alloc_cached(Some(own), w.cache, None) {
                let (slab, offset) = w.kmem.locate_cached(found.at).unwrap();
                // SAFETY: just taken.
                unsafe { w.kmem.free_cached(Some(own), slab, offset, false) };
            }
        });
        w.bury();
        taker.join().unwrap();
        assert!(w.is_over());
    });
}

/// The deferred making against the group's end. Catches: a cache kept without asking again whether
/// the group still has its id.
#[test]
fn loom_a_cache_made_for_a_group_that_ends_is_dead_when_both_are_done() {
    model(2, || {
        let tree = Hierarchy::leaked();
        let kmem: &'static Kmem = Box::leak(Box::default());
        let (_, rec) = tree.threads.join().unwrap();
        let plan = Plan {
            name: b"thing",
            bytes: 64,
            align: 8,
            ways: Ways::PER_GROUP,
            ctor: None,
        };
        let (cache, group) = {
            let _pin = tree.threads.epoch.pin(rec);
            let cache = kmem.create_cache(tree, &plan).unwrap();
            let group = tree.create(tree.memcgs.get(ROOT), b"a").unwrap();
            // It has an id already: the deferred making comes for a group that another cache knows.
            tree.kmem_id(tree.memcgs.get(group)).unwrap();
            (cache, group)
        };
        let maker = thread::spawn(move || {
            let (_, rec) = tree.threads.join().unwrap();
            let _pin = tree.threads.epoch.pin(rec);
            let group = tree.memcgs.get(group);
            group
                .is_online()
                .then(|| kmem.make_child(tree, rec, cache, group))
                .flatten()
        });
        {
            let _pin = tree.threads.epoch.pin(rec);
            offline::remove(tree, kmem, rec, tree.memcgs.get(group)).unwrap();
        }
        let made = maker.join().unwrap();
        if let Some(child) = made.filter(|&child| child != cache) {
            assert!(kmem.caches.get(child).is_dead(), "a live cache of nobody");
        }
        assert!(!kmem.caches.get(cache).is_dead());
    });
}
