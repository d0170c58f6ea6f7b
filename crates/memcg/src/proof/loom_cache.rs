//! Caches under every schedule: the making of a group's cache against the group's end, a dead cache's end against the last free.
//!
//! The words are the real ones, and so is the whole of the making and of the group's end. Slabs are bytes, which loom does not
//! know: where a slab is needed it is its word alone, with the steps of `kmem::cache::slub`.

use crate::group::{Hierarchy, ROOT};
use crate::kmem::Kmem;
use crate::kmem::cache::word::{NEVER, Pushed, Word};
use crate::kmem::cache::{Cache, Plan, Ways};
use crate::offline;
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use loom::thread;
use std::sync::Arc;

fn model(bound: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.max_branches = 50_000;
    builder.check(f);
}

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

/// A cache with one slab, full, one object of it out.
struct Mini {
    cache: Cache,
    word: AtomicU64,
    /// In the stack of returned slabs.
    returned: AtomicU32,
    released: AtomicU32,
    ended: AtomicU32,
    lock: Mutex<()>,
}

impl Mini {
    /// As `settle_returned`, then `settle`: its only object is back, so it is empty.
    fn settle_returned(&self) {
        let gone = {
            let _held = self.lock.lock().unwrap();
            self.returned.swap(0, AcqRel) != 0 && {
                let word = Word(&self.word);
                word.arrive();
                let found = word.collect();
                assert_eq!(found.map(|found| found.count), Some(1));
                assert!(word.arm(NEVER));
                true
            }
        };
        // A live cache would keep it: here it goes in any case, if the cache is dead.
        if gone {
            assert!(
                self.cache.is_dead(),
                "settled while the cache lives: nobody did that here"
            );
            assert_eq!(self.released.fetch_add(1, Relaxed), 0, "released twice");
            self.count_less();
        }
    }

    fn count_less(&self) {
        if self.cache.sub_slab() {
            assert_eq!(self.ended.fetch_add(1, Relaxed), 0, "ended twice");
        }
    }
}

#[test]
fn loom_the_last_free_of_a_dying_cache_is_not_missed() {
    model(4, || {
        let mini = Arc::new(Mini {
            cache: Cache::default(),
            word: AtomicU64::new(0),
            returned: AtomicU32::new(0),
            released: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            lock: Mutex::new(()),
        });
        assert!(mini.cache.add_slab());
        Word(&mini.word).reset();
        assert!(Word(&mini.word).arm(1));
        let freer = {
            let mini = mini.clone();
            thread::spawn(move || {
                // As `put_slub` and `see_to`.
                assert_eq!(Word(&mini.word).push(0, |_| ()), Pushed::Notify);
                mini.returned.swap(1, AcqRel);
                if mini.cache.is_dead_surely() {
                    mini.settle_returned();
                }
            })
        };
        // As `bury`.
        assert!(mini.cache.die());
        mini.settle_returned();
        mini.count_less();
        freer.join().unwrap();
        assert_eq!(mini.released.load(Relaxed), 1);
        assert_eq!(mini.ended.load(Relaxed), 1);
    });
}

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
            ctor: 0,
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
