//! Caches under every schedule: the making of a group's cache against the group's end, a dead cache's end against the last free.
//!
//! The word of a cache's slabs is the real one, and so is the whole of the making and of the group's end.

use crate::group::{Hierarchy, ROOT};
use crate::kmem::Kmem;
use crate::kmem::cache::{Cache, Plan, Ways};
use crate::offline;
use loom::sync::atomic::{AtomicU32, Ordering::*};
use loom::thread;
use std::sync::Arc;

fn model(bound: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
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
