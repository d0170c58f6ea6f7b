//! What the cache is for: one tenant walks a huge tree under a small limit, and another, who uses
//! the same few names all the time, finds them in the cache.

mod common;

use memcg::{Memcg, root};
use memcg_dentry::{Answer, DentryCache, Freshness};

const HOT_DIRS: usize = 4;
const HOT_FILES: usize = 100;
const ROUNDS: usize = 5;
/// Of the huge tree in each round: more than there is room for.
const DIRS_A_ROUND: usize = 20;
/// Room for some 1,300 entries.
const ROOM: &str = "256K";

/// The hot names looked up once; how many were in the cache.
fn look_up_hot(cache: &DentryCache, group: &Memcg) -> usize {
    let names =
        (0..HOT_DIRS * HOT_FILES).map(|nr| format!("hot/d{}/f{}", nr % HOT_DIRS, nr / HOT_DIRS));
    group.run(|| {
        names
            .filter(|name| cache.lookup(name).unwrap().answer == Answer::Hit)
            .count()
    })
}

/// The hot tenant's hits in percent, while the other walks.
fn hit_ratio(cache: &DentryCache, hot: &Memcg, walker: &Memcg) -> f64 {
    let before = look_up_hot(cache, hot);
    assert_eq!(before, 0);
    let mut hits = 0;
    let mut walked = 0;
    for round in 0..ROUNDS {
        for dir in 0..DIRS_A_ROUND {
            // The other half of it each time: none of what is in the cache is met again.
            let dir = format!("huge/d{}", round % 2 * DIRS_A_ROUND + dir);
            walked += walker.run(|| cache.walk(dir).unwrap().names);
        }
        hits += look_up_hot(cache, hot);
    }
    assert_eq!(walked, (ROUNDS * DIRS_A_ROUND * 100) as u64);
    100.0 * hits as f64 / (ROUNDS * HOT_DIRS * HOT_FILES) as f64
}

#[test]
fn with_groups_a_tenant_keeps_its_hits_and_without_it_loses_them() {
    let tree = tempfile::tempdir().unwrap();
    common::plant(&tree.path().join("hot"), HOT_DIRS, HOT_FILES);
    common::plant(&tree.path().join("huge"), 2 * DIRS_A_ROUND, 100);
    let cache = || DentryCache::with(tree.path(), Freshness::Trusted).unwrap();

    // The same room in both: for the two together, and of it half at most for the one who walks.
    let both = root().create("both").unwrap();
    both.write("memory.max", ROOM).unwrap();
    let hot = both.create("hot").unwrap();
    let walker = both.create("walker").unwrap();
    walker.write("memory.max", "128K").unwrap();
    let grouped = cache();
    let with = hit_ratio(&grouped, &hot, &walker);
    let stats = grouped.stats();
    assert!(walker.current() <= 128 << 10);
    assert_eq!(stats.uncached, 0);
    assert!(stats.reclaimed > 8000, "{stats:?}");

    let one = root().create("one").unwrap();
    one.write("memory.max", ROOM).unwrap();
    let shared = cache();
    let without = hit_ratio(&shared, &one, &one);
    assert!(one.current() <= 256 << 10);

    assert!(with >= 99.0, "{with} % with groups");
    assert!(without <= 10.0, "{without} % without");
    drop((grouped, shared));
    assert_eq!((both.current(), one.current()), (0, 0));
}

#[test]
fn a_tenant_without_room_is_answered_all_the_same() {
    let tree = tempfile::tempdir().unwrap();
    common::plant(tree.path(), 3, 10);
    let cache = DentryCache::new(tree.path()).unwrap();
    let none = root().create("no-room").unwrap();
    none.write("memory.max", "0").unwrap();
    none.run(|| {
        for _ in 0..2 {
            let found = cache.lookup("d1/f1").unwrap();
            assert_eq!(
                (found.kind, found.answer),
                (memcg_dentry::Kind::File, Answer::Uncached)
            );
        }
        assert!(cache.pin("d1").unwrap().is_none());
        let tour = cache.walk("").unwrap();
        assert_eq!((tour.names, tour.uncached, tour.failed), (33, 33, 0));
    });
    assert_eq!(none.current(), 0);
    // What another tenant has in the cache is there for it as well.
    let rich = root().create("room").unwrap();
    rich.run(|| cache.lookup("d1/f1").unwrap());
    assert_eq!(
        none.run(|| cache.lookup("d1/f1").unwrap().answer),
        Answer::Hit
    );
}
