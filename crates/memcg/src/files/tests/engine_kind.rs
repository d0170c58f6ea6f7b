//! Records that a tenant makes the engine keep are charged to it, in steps, beyond what is free.

#![forbid(unsafe_code)]

use super::*;
use crate::group::engine_records::{FREE, STEP};

/// What an owner with a short name takes: its record and a name's.
const OWNER: u64 = 72 + 44;

fn engine_of(w: &World, path: &str) -> u64 {
    key(&w.get(path, "memory.stat"), "engine")
}

fn current(w: &World, path: &str) -> u64 {
    w.get(path, "memory.current").trim().parse().unwrap()
}

/// Tasks that have ended and left 8 bytes each.
fn leave(w: &World, path: &str, n: u64) -> Vec<Tag> {
    let tree = &w.engine.tree;
    let _pin = tree.threads.epoch.pin(w.rec);
    (0..n)
        .map(|_| {
            let tag = tree.new_task(w.group(path), b"request", 0).unwrap();
            let request = Request::heap(tag, 8, Flags::FORCE);
            w.engine.charge(w.rec, request).unwrap();
            tree.end_task(tag);
            tag
        })
        .collect()
}

fn free_all(w: &World, tags: Vec<Tag>) {
    for tag in tags {
        w.engine.uncharge(w.rec, tag, 8, Kind::Heap);
    }
    w.engine.tree.drain(w.rec, w.group("/"));
}

fn steps(records: u64) -> u64 {
    records.saturating_sub(FREE).div_ceil(STEP) * STEP
}

#[test]
fn a_small_tree_reads_as_without_the_kind() {
    let w = World::new();
    w.mkdir("/a");
    let tags = leave(&w, "/a", 500);
    assert_eq!((engine_of(&w, "/a"), engine_of(&w, "/")), (0, 0));
    assert_eq!(current(&w, "/a"), 500 * 8);
    free_all(&w, tags);
    assert_eq!(current(&w, "/"), 0);
    w.engine.tree.audit().unwrap();
}

#[test]
fn what_ended_tasks_make_the_engine_keep_is_the_groups_and_goes_with_them() {
    let w = World::new();
    w.mkdir("/a");
    w.mkdir("/a/b");
    let tags = leave(&w, "/a/b", 5_000);
    let charged = steps(5_000 * OWNER);
    assert!(charged > 400_000);
    for path in ["/a/b", "/a", "/"] {
        assert_eq!(engine_of(&w, path), charged, "{path}");
        assert_eq!(current(&w, path), 5_000 * 8 + charged, "{path}");
    }
    let stat = w.get("/a/b", "memory.stat");
    assert_eq!(key(&stat, "heap"), 5_000 * 8);
    // Through no owner: the ledger knows of what they hold alone.
    assert_eq!(key(&stat, "inherited_bytes"), 5_000 * 8);
    w.engine.tree.audit().unwrap();
    free_all(&w, tags);
    for path in ["/a/b", "/a", "/"] {
        assert_eq!((engine_of(&w, path), current(&w, path)), (0, 0), "{path}");
    }
    w.engine.tree.audit().unwrap();
}

#[test]
fn an_ended_group_hands_its_records_to_its_parent() {
    let w = World::new();
    w.mkdir("/a");
    w.mkdir("/a/b");
    w.mkdir("/a/c");
    let tags = leave(&w, "/a/b", 500);
    let more = leave(&w, "/a/c", 500);
    // Free in each, and not in both together.
    assert_eq!(engine_of(&w, "/a"), 0);
    for child in ["/a/b", "/a/c"] {
        rmdir(w.engine, w.rec, child.as_bytes()).unwrap();
    }
    assert!(engine_of(&w, "/a") >= steps(1_000 * OWNER));
    w.engine.tree.audit().unwrap();
    rmdir(w.engine, w.rec, b"/a").unwrap();
    assert!(engine_of(&w, "/") >= steps(1_000 * OWNER));
    w.engine.tree.audit().unwrap();
    free_all(&w, tags);
    free_all(&w, more);
    assert_eq!((engine_of(&w, "/"), current(&w, "/")), (0, 0));
    w.engine.tree.audit().unwrap();
}

#[test]
fn groups_are_made_below_a_full_one_and_their_records_are_its_own() {
    let w = World::new();
    w.mkdir("/full");
    assert!(w.charge("/full", 1 << 20, Flags::NOWAIT));
    w.set("/full", "memory.max", "1M").unwrap();
    w.set("/full", "memory.oom.policy", "deny").unwrap();
    let paths: Vec<String> = (0..1_000).map(|n| format!("/full/{n}")).collect();
    for path in &paths {
        w.mkdir(path);
    }
    let charged = engine_of(&w, "/full");
    assert!(charged >= steps(1_000 * 400), "{charged}");
    assert_eq!(engine_of(&w, &paths[0]), 0);
    assert!(!w.charge("/full", 8, Flags::NOWAIT));
    w.engine.tree.audit().unwrap();
    for path in &paths {
        rmdir(w.engine, w.rec, path.as_bytes()).unwrap();
    }
    assert_eq!(engine_of(&w, "/full"), 0);
    w.engine.tree.audit().unwrap();
}

#[test]
fn threads_that_make_and_end_tasks_across_the_steps_leave_exact_books() {
    let w = World::new();
    w.mkdir("/a");
    w.mkdir("/a/b");
    let kept = leave(&w, "/a/b", 580);
    let (engine, group) = (w.engine, w.group("/a/b"));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let rec = engine.tree.threads.join().unwrap().1;
                for round in 0..300 {
                    let _pin = engine.tree.threads.epoch.pin(rec);
                    let tasks: Vec<Tag> = (0..20 + round % 30)
                        .map(|_| engine.tree.new_task(group, b"t", 0).unwrap())
                        .collect();
                    for task in tasks {
                        engine.tree.end_task(task);
                    }
                }
            });
        }
    });
    engine.tree.audit().unwrap();
    free_all(&w, kept);
    assert_eq!(current(&w, "/"), 0);
    engine.tree.audit().unwrap();
}
