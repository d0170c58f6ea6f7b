//! What a group has looked up and left, and who pays for it then.

mod books;
mod common;

use memcg::{Event, Memcg, root};
use memcg_dentry::{Answer, DentryCache};

/// A group that has walked a tree of 2 directories and 20 files, and is gone; its parent, and the
/// cache.
fn left_by(policy: &str, name: &str) -> (Memcg, DentryCache, tempfile::TempDir) {
    let tree = tempfile::tempdir().unwrap();
    common::plant(tree.path(), 2, 10);
    let long = "a-name-that-is-longer-than-what-is-kept-in-place";
    std::fs::write(tree.path().join("d0").join(long), "").unwrap();
    let cache = DentryCache::new(tree.path()).unwrap();
    let parent = root().create(name).unwrap();
    let gone = parent.create("gone").unwrap();
    gone.write("memory.offline", policy).unwrap();
    assert_eq!(gone.run(|| cache.walk("").unwrap().names), 23);
    gone.remove().unwrap();
    (parent, cache, tree)
}

#[test]
fn who_next_looks_up_what_a_group_has_left_pays_for_it_where_the_group_said_so() {
    for policy in ["next-touch", "auto"] {
        let (parent, cache, _tree) = left_by(policy, policy);
        let entry = cache.entry_bytes();
        let next = parent.create("next").unwrap();
        // Work in no group takes nothing over.
        assert_eq!(cache.lookup("d0/f0").unwrap().answer, Answer::Hit);
        assert_eq!((next.current(), cache.count(&parent)), (0, 23));
        let all = parent.current();
        next.run(|| assert_eq!(cache.lookup("d0/f0").unwrap().answer, Answer::Hit));
        assert_eq!(next.current(), 2 * entry);
        assert_eq!((cache.count(&next), cache.count(&parent)), (2, 21));
        // A name in an object of its own goes along.
        let before = next.current();
        let long = "d0/a-name-that-is-longer-than-what-is-kept-in-place";
        next.run(|| cache.lookup(long).unwrap());
        assert!(next.current() > before + entry);
        next.run(|| cache.walk("").unwrap());
        assert_eq!((next.current(), cache.count(&parent)), (all, 0));
        assert_eq!(parent.current(), all);
        drop(cache);
        books::comes_to_nothing(&parent);
        next.remove().unwrap();
        parent.remove().unwrap();
    }
}

#[test]
fn what_a_group_has_left_stays_its_parents_where_it_did_not_say_otherwise() {
    let (parent, cache, _tree) = left_by("parent", "stays");
    let next = parent.create("next").unwrap();
    next.run(|| cache.walk("").unwrap());
    assert_eq!((next.current(), cache.count(&parent)), (0, 23));
}

#[test]
fn what_does_not_fit_where_it_is_looked_up_stays_and_is_counted() {
    let (parent, cache, _tree) = left_by("next-touch", "no-room-next");
    let next = parent.create("next").unwrap();
    next.write("memory.max", "1K").unwrap();
    next.run(|| assert_eq!(cache.walk("").unwrap().uncached, 0));
    assert!(next.current() <= 1024);
    assert_eq!(cache.count(&next) + cache.count(&parent), 23);
    assert!(cache.count(&next) > 0 && next.nr_events(Event::RechargeFailed) > 0);
}
