//! Entries outlive groups, pins outlive caches, and the books balance.

mod books;
mod common;

use memcg::root;
use memcg::testing::engine::process_engine::engine;
use memcg_dentry::{Answer, DentryCache, Freshness, Kind};
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is counted here is the whole process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn rss() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn dying() -> String {
    let stat = root().read("cgroup.stat").unwrap();
    let line = stat
        .lines()
        .find(|line| line.starts_with("nr_dying_descendants"));
    line.unwrap().to_owned()
}

#[test]
fn what_a_removed_group_has_looked_up_is_its_parents_and_stays_in_the_cache() {
    let _alone = alone();
    let tree = tempfile::tempdir().unwrap();
    common::plant(tree.path(), 2, 50);
    let cache = DentryCache::new(tree.path()).unwrap();
    let parent = root().create("above").unwrap();
    let group = parent.create("ends").unwrap();
    assert_eq!(group.run(|| cache.walk("").unwrap().names), 102);
    assert_eq!((cache.count(&group), cache.count(&parent)), (102, 0));
    let bytes = group.current();
    group.remove().unwrap();
    assert_eq!((cache.count(&parent), parent.current()), (102, bytes));
    assert_eq!(cache.lookup("d1/f49").unwrap().answer, Answer::Hit);
    // And its limit is what they are kept by; directories after what is in them.
    let _ = parent.write("memory.max", "0");
    assert_eq!((cache.count(&parent), parent.current()), (0, 0));
    assert_eq!(cache.stats().entries, 0);
    parent.remove().unwrap();
}

#[test]
fn two_thousand_groups_that_use_one_path_leave_nothing() {
    let _alone = alone();
    let tree = tempfile::tempdir().unwrap();
    common::plant(tree.path(), 1, 1);
    let cache = DentryCache::new(tree.path()).unwrap();
    let parent = root().create("tenants").unwrap();
    let figures = || {
        let tree = &engine().tree;
        // What waits for its grace period has nobody to wait for here.
        for _ in 0..4 {
            tree.collect();
        }
        (tree.objcgs.in_use(), tree.kmem_ids.in_use(), dying())
    };
    let mut before = None;
    for round in 0..2200 {
        let group = parent.create("tenant").unwrap();
        // Of two, what one leaves is taken over by the next.
        let policy = ["next-touch", "parent"][round % 2];
        group.write("memory.offline", policy).unwrap();
        group.run(|| assert_eq!(cache.lookup("d0/f0").unwrap().kind, Kind::File));
        // Now and then no entry is left, and the next tenant's is what all use.
        if round % 7 == 0 {
            for owner in [&parent, &group] {
                while cache.shrink(owner, 100) > 0 || cache.count(owner) > 0 {}
            }
            assert_eq!(cache.stats().entries, 0);
        }
        group.remove().unwrap();
        if round == 200 {
            before = Some((figures(), rss()));
        }
    }
    let (counts, bytes) = before.unwrap();
    let after = figures();
    // An owner and an id or two may be on their way out: that takes a grace period.
    let is_flat = after.0 <= counts.0 + 2 && after.1 <= counts.1 + 2 && after.2 == counts.2;
    assert!(is_flat, "{counts:?}, {after:?}");
    let grown = rss().saturating_sub(bytes);
    assert!(grown < 2 << 20, "{grown} bytes more");
    drop(cache);
    books::comes_to_nothing(&parent);
    parent.remove().unwrap();
}

#[test]
fn a_pin_keeps_its_entry_and_the_directories_above_it() {
    let _alone = alone();
    let tree = tempfile::tempdir().unwrap();
    common::plant(&tree.path().join("a"), 2, 10);
    let cache = DentryCache::with(tree.path(), Freshness::Trusted).unwrap();
    let group = root().create("pins").unwrap();
    group.run(|| cache.walk("").unwrap());
    let pin = group.run(|| cache.pin("a/d0/f0").unwrap().unwrap());
    let _ = group.write("memory.max", "0");
    assert_eq!(cache.stats().entries, 3);
    assert_eq!(pin.path().to_str(), Some("a/d0/f0"));
    assert_eq!(cache.lookup("a/d0/f0").unwrap().answer, Answer::Hit);
    let other = cache.pin("a/d0").unwrap().unwrap();
    drop(pin);
    group.write("memory.max", "max").unwrap();
    // It is asked twice: it was used since.
    while cache.shrink(&group, 100) > 0 || cache.count(&group) > 0 {}
    assert_eq!(cache.stats().entries, 2);
    drop(cache);
    // The cache has gone, and the pin stays what it was.
    assert_eq!((other.kind(), group.current() > 0), (Kind::Directory, true));
    drop(other);
    books::comes_to_nothing(&group);
    group.remove().unwrap();
}

#[test]
fn entries_no_path_leads_to_any_more_go() {
    let _alone = alone();
    let tree = tempfile::tempdir().unwrap();
    common::plant(&tree.path().join("now"), 10, 100);
    let cache = DentryCache::with(tree.path(), Freshness::Always).unwrap();
    let group = root().create("renamer").unwrap();
    for round in 0..10 {
        group.run(|| assert_eq!(cache.walk("").unwrap().names, 1011));
        let other = tree.path().join(format!("{round}"));
        fs::rename(tree.path().join("now"), &other).unwrap();
        assert_eq!(cache.lookup("now/d1/f1").unwrap().kind, Kind::Missing);
        fs::rename(&other, tree.path().join("now")).unwrap();
    }
    let stats = cache.stats();
    assert!(stats.swept > 5000 && stats.entries < 4000, "{stats:?}");
    drop(cache);
    books::comes_to_nothing(&group);
    group.remove().unwrap();
}
