//! Threads that look up, walk, shrink, remove groups and change the tree, all at once.

mod books;
mod common;

use memcg::root;
use memcg_dentry::{DentryCache, Freshness, Kind};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

const ROUNDS: usize = 200;

fn run(freshness: Freshness) {
    let tree = tempfile::tempdir().unwrap();
    common::plant(tree.path(), 8, 40);
    fs::create_dir(tree.path().join("busy")).unwrap();
    let cache = DentryCache::with(tree.path(), freshness).unwrap();
    let parent = root().create(format!("threads-{freshness:?}")).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let lookers: Vec<_> = (0..3)
            .map(|nr| {
                let group = parent.create(format!("t{nr}")).unwrap();
                group.write("memory.max", "16K").unwrap();
                let cache = &cache;
                threads.spawn(move || {
                    let mut pins = Vec::new();
                    for round in 0..ROUNDS {
                        let at = round * 31 + nr * 7;
                        let path = format!("d{}/f{}", at % 8, at / 8 % 40);
                        let found = group.run(|| cache.lookup(&path).unwrap().kind);
                        assert_eq!(found, Kind::File, "{path}");
                        let missing = group.run(|| cache.lookup(format!("d1/no{}", at % 50)));
                        assert_eq!(missing.unwrap().kind, Kind::Missing);
                        // This one comes and goes.
                        let busy = group.run(|| cache.lookup("busy/x/y"));
                        let busy = busy.map(|found| found.kind);
                        assert!(matches!(busy, Ok(Kind::Missing | Kind::File)), "{busy:?}");
                        if round % 5 == 0 {
                            pins.truncate(3);
                            pins.insert(0, group.run(|| cache.pin(&path).unwrap()));
                        }
                    }
                    drop(pins);
                    group.remove().unwrap();
                })
            })
            .collect();
        let shrinker = threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for group in parent.children() {
                    cache.shrink(&group, 7);
                }
                cache.shrink(&parent, 7);
            }
        });
        let remover = threads.spawn(|| {
            let mut policies = ["next-touch", "parent", "auto"].iter().cycle();
            while !over.load(Ordering::Relaxed) {
                let group = parent.create("passing").unwrap();
                group
                    .write("memory.offline", policies.next().unwrap())
                    .unwrap();
                group.run(|| cache.walk("d3").unwrap());
                group.remove().unwrap();
            }
        });
        let changer = threads.spawn(|| {
            let (busy, gone) = (tree.path().join("busy/x"), tree.path().join("gone"));
            while !over.load(Ordering::Relaxed) {
                fs::create_dir(&busy).unwrap();
                fs::write(busy.join("y"), "").unwrap();
                fs::rename(&busy, &gone).unwrap();
                fs::remove_dir_all(&gone).unwrap();
            }
        });
        let ended: Vec<_> = lookers.into_iter().map(|looker| looker.join()).collect();
        over.store(true, Ordering::Relaxed);
        for thread in [shrinker, remover, changer] {
            thread.join().unwrap();
        }
        for looker in ended {
            looker.unwrap();
        }
    });
    let (left, bytes) = (parent.current(), cache.entry_bytes());
    assert_eq!(left % bytes, 0);
    // An entry that lost its place in the table to another of its name lives on, uncounted, while
    // there are entries below it: the one directory that is renamed away all the time.
    let uncounted = (left / bytes).checked_sub(cache.stats().entries);
    assert!(uncounted.is_some_and(|n| n <= 4), "{uncounted:?}");
    drop(cache);
    books::comes_to_nothing(&parent);
    parent.remove().unwrap();
}

#[test]
fn answers_are_right_and_the_books_balance_whatever_threads_do_at_once() {
    run(Freshness::Always);
}

#[test]
fn books_balance_with_a_cache_that_asks_now_and_then() {
    run(Freshness::Within(std::time::Duration::from_millis(20)));
}
