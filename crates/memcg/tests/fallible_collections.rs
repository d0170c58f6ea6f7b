//! Promises of `Fallible` as the allocator of collections (the feature `allocator-api2`).

#![cfg(not(loom))]

use allocator_api2::alloc::{Allocator, Layout};
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use memcg::{Fallible, Limit, root};

#[test]
fn a_collection_is_told_no_and_keeps_what_it_has() {
    let tenant = root().create("collection").unwrap();
    tenant.set_max(Limit::bytes(1 << 20)).unwrap();
    let _entered = tenant.enter();
    let mut rows: Vec<u64, Fallible> = Vec::new_in(Fallible);
    let mut n = 0;
    while rows.try_reserve(1).is_ok() {
        rows.push(n);
        n += 1;
    }
    assert!(n >= 64 << 10, "{n}");
    assert!(rows.iter().copied().eq(0..n));
    assert!(tenant.current() <= 1 << 20);
    let mut text: Vec<u8, Fallible> = Vec::new_in(Fallible);
    assert!(text.try_reserve_exact(600 << 10).is_err());
    drop(rows);
    assert_eq!(tenant.current(), 0);
    text.try_reserve_exact(600 << 10).unwrap();
    let boxed = Box::try_new_in([7u8; 4096], Fallible).unwrap();
    assert_eq!(tenant.current(), (600 << 10) + 4096);
    assert_eq!(boxed[4095], 7);
}

#[test]
fn blocks_grow_and_shrink_between_none_and_some_and_other_alignments() {
    let layout = |bytes, align| Layout::from_size_align(bytes, align).unwrap();
    let empty = Fallible.allocate(layout(0, 64)).unwrap();
    assert_eq!((empty.len(), empty.cast::<u8>().addr().get() % 64), (0, 0));
    // SAFETY: each block is used by the layout it has at the time, and not after it was given up.
    unsafe {
        let small = Fallible.grow_zeroed(empty.cast(), layout(0, 64), layout(100, 64));
        let small = small.unwrap().cast::<u8>();
        assert!((0..100).all(|i| small.add(i).read() == 0));
        small.write_bytes(7, 100);
        let large = Fallible.grow_zeroed(small, layout(100, 64), layout(9_000, 4_096));
        let large = large.unwrap().cast::<u8>();
        assert_eq!(large.addr().get() % 4_096, 0);
        assert!((0..9_000).all(|i| large.add(i).read() == if i < 100 { 7 } else { 0 }));
        let less = Fallible.shrink(large, layout(9_000, 4_096), layout(50, 8));
        let less = less.unwrap().cast::<u8>();
        assert!((0..50).all(|i| less.add(i).read() == 7));
        let none = Fallible.shrink(less, layout(50, 8), layout(0, 1)).unwrap();
        assert_eq!(none.len(), 0);
        Fallible.deallocate(none.cast(), layout(0, 1));
    }
}
