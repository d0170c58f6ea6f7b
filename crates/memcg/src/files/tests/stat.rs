//! `memory.stat` of the root: the allocator's numbers beside the books', and a sum that is the process.

use super::*;
use crate::kmem::extent_bytes;

const REST: [&str; 7] = [
    "slab_live",
    "slab_free",
    "span_cached",
    "span_mapped",
    "engine",
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
    // SAFETY: no heap is given.
    let taken = unsafe { kmem.alloc_extent(None, bytes, 16, w.tag("/")) }.unwrap();
    let with = w.get("/", "memory.stat");
    assert_eq!(key(&with, "slab_live"), bytes as u64);
    assert!(key(&with, "span_mapped") >= bytes as u64);
    // SAFETY: taken above, and not used.
    unsafe { kmem.put(None, kmem.locate(taken.at).unwrap()) };
    let without = w.get("/", "memory.stat");
    assert_eq!(key(&without, "slab_live"), 0);
    assert!(key(&without, "span_cached") >= bytes as u64);
    // SAFETY: no heap is given.
    unsafe { kmem.trim(None) };
    assert_eq!(key(&w.get("/", "memory.stat"), "span_cached"), 0);
}

#[test]
fn the_parts_make_the_resident_size_or_more() {
    let w = World::new();
    assert!(w.charge("/", 1 << 20, Flags::NOWAIT));
    let stat = w.get("/", "memory.stat");
    let parts = [
        "slab_live",
        "slab_free",
        "span_cached",
        "engine",
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
            let taken = kmem.alloc_extent(None, 3 << 20, 16, w.tag("/")).unwrap();
            kmem.put(None, kmem.locate(taken.at).unwrap());
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
