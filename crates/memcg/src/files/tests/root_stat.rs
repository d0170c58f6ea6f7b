//! Tests of `memory.stat` of the root: the allocator's numbers beside the books', and parts that
//! add up to the process.
//!
//! Invariants: each test has an engine of its own.
//! Depends on: the helpers of `files::tests`.
//! Never: uses the process's engine.

use super::*;
use crate::kmem::extent_bytes;

const REST: [&str; 8] = [
    "slab_live",
    "slab_uncollected",
    "slab_free",
    "span_cached",
    "span_mapped",
    "engine_tables",
    "elsewhere",
    "coverage_permille",
];

#[test]
fn the_rest_of_the_process_is_the_roots_alone() {
    let w = World::new();
    w.mkdir("/a");
    let (root, below) = (w.get("/", "memory.stat"), w.get("/a", "memory.stat"));
    for name in REST {
        let line = format!("\n{name} ");
        assert!(root.contains(&line) && !below.contains(&line), "{name}");
    }
}

#[test]
fn what_an_object_takes_is_live_then_cached_then_the_kernels() {
    let w = World::new();
    let kmem = &w.engine.kmem;
    let bytes = extent_bytes(3 << 20).unwrap();
    // SAFETY: no heap is given, so none has to be the calling thread's own.
    let taken = unsafe { kmem.alloc_extent(None, bytes, 16, Some(w.tag("/"))) }.unwrap();
    let with = w.get("/", "memory.stat");
    assert_eq!(key(&with, "slab_live"), bytes as u64);
    assert!(key(&with, "span_mapped") >= bytes as u64);
    // SAFETY: the extent was taken above, is live, and nobody uses it any more. No heap is given.
    unsafe { kmem.free_object(None, kmem.locate(taken.at).unwrap()) };
    let without = w.get("/", "memory.stat");
    assert_eq!(key(&without, "slab_live"), 0);
    assert!(key(&without, "span_cached") >= bytes as u64);
    // SAFETY: no heap is given, so none has to be the calling thread's own.
    unsafe { kmem.trim(None) };
    assert_eq!(key(&w.get("/", "memory.stat"), "span_cached"), 0);
}

#[test]
fn what_others_freed_and_nobody_collected_is_shown_apart() {
    let w = World::new();
    let kmem = &w.engine.kmem;
    let (_, heap) = kmem.join().unwrap();
    let class = crate::kmem::class::class_if_any(64).unwrap();
    let taken = [0; 8].map(|_| {
        // SAFETY: the heap was made for this thread, and nothing else uses it.
        unsafe { kmem.alloc(heap, class, None, false) }.unwrap().at
    });
    let shown = || {
        let stat = w.get("/", "memory.stat");
        ["slab_live", "slab_uncollected"].map(|name| key(&stat, name))
    };
    assert_eq!(shown(), [8 * 64, 0]);
    for at in &taken[..5] {
        // SAFETY: taken above, and not used; as a thread without a heap frees it.
        unsafe { kmem.free_object(None, kmem.locate(*at).unwrap()) };
    }
    assert_eq!(shown(), [3 * 64, 5 * 64]);
}

#[test]
fn the_parts_make_the_resident_size_or_more() {
    let w = World::new();
    assert!(w.charge("/", 1 << 20, Flags::NOWAIT));
    let stat = w.get("/", "memory.stat");
    let parts = [
        "slab_live",
        "slab_uncollected",
        "slab_free",
        "span_cached",
        "engine_tables",
        "mapped",
        "elsewhere",
    ];
    let sum: u64 = parts.iter().map(|name| key(&stat, name)).sum();
    assert!(sum >= key(&stat, "rss") && key(&stat, "rss") > 0, "{stat}");
    assert!(key(&stat, "coverage_permille") > 0, "{stat}");
}

#[test]
fn the_overhead_that_may_be_kept_is_bounded_at_once_and_later() {
    let w = World::new();
    let kmem = &w.engine.kmem;
    let give_and_take = || {
        // SAFETY: no heap is given; taken here, and not used.
        unsafe {
            let taken = kmem
                .alloc_extent(None, 3 << 20, 16, Some(w.tag("/")))
                .unwrap();
            kmem.free_object(None, kmem.locate(taken.at).unwrap());
        }
        key(&w.get("/", "memory.stat"), "span_cached")
    };
    assert_eq!(w.get("/", "memory.overhead.max"), "max\n");
    assert!(give_and_take() >= 3 << 20);
    w.set("/", "memory.overhead.max", "1M").unwrap();
    assert_eq!(w.get("/", "memory.overhead.max"), "1048576\n");
    assert!(key(&w.get("/", "memory.stat"), "span_cached") <= 1 << 20);
    assert!(give_and_take() <= 1 << 20);
    w.set("/", "memory.overhead.max", "0").unwrap();
    assert_eq!(give_and_take(), 0);
    w.set("/", "memory.overhead.max", "max").unwrap();
    assert!(give_and_take() >= 3 << 20);
    assert_eq!(
        w.set("/", "memory.overhead.max", "some"),
        Err(Errno::EINVAL)
    );
    w.mkdir("/a");
    assert_eq!(w.set("/a", "memory.overhead.max", "0"), Err(Errno::ENOENT));
}

#[test]
fn stock_of_more_owners_than_a_read_remembers_is_each_group_s_own() {
    let w = World::new();
    let others: Vec<&ThreadRec> = (0..3)
        .map(|_| w.engine.tree.threads.join().unwrap().1)
        .collect();
    let paths: Vec<String> = (0..50).map(|i| format!("/of{}/g{i}", i % 3)).collect();
    for top in 0..3 {
        w.mkdir(&format!("/of{top}"));
    }
    for path in &paths {
        w.mkdir(path);
    }
    w.set("/of1", "memory.reserve", "1M").unwrap();
    let mut expected = [0; 3];
    for (i, path) in paths.iter().enumerate() {
        let bytes = 64 * (i as u64 + 1);
        for rec in others.iter().copied().chain([w.rec]) {
            let charged = w
                .engine
                .charge(rec, Request::heap(w.tag(path), bytes, Flags::NOWAIT));
            assert!(charged.is_ok());
        }
        expected[i % 3] += 4 * bytes;
    }
    for (i, path) in paths.iter().enumerate() {
        let bytes = 4 * 64 * (i as u64 + 1);
        assert_eq!(w.get(path, "memory.current"), format!("{bytes}\n"));
        assert!(key(&w.get(path, "memory.stat"), "stocked") > 0);
    }
    for (top, bytes) in expected.iter().enumerate() {
        assert_eq!(
            w.get(&format!("/of{top}"), "memory.current"),
            format!("{bytes}\n")
        );
    }
    // A reserve that is not used up counts in full above.
    let all = expected[0] + (1 << 20) + expected[2];
    assert_eq!(w.get("/", "memory.current"), format!("{all}\n"));
}

#[test]
fn within_a_reserve_there_is_stock_though_the_group_above_is_full_and_in_a_full_group_there_is_none()
 {
    let w = World::new();
    for path in ["/a", "/a/b", "/a/c"] {
        w.mkdir(path);
    }
    w.set("/a/b", "memory.reserve", "512K").unwrap();
    assert!(w.charge("/a/c", 512 << 10, Flags::NOWAIT));
    w.set("/a", "memory.max", "1M").unwrap();
    assert_eq!(w.get("/a", "memory.current"), "1048576\n");
    assert!(!w.charge("/a/c", 64, Flags::NOWAIT));
    assert_eq!(key(&w.get("/a/c", "memory.stat"), "stocked"), 0);
    assert!(w.charge("/a/b", 64, Flags::NOWAIT));
    assert!(key(&w.get("/a/b", "memory.stat"), "stocked") > 0);
}
