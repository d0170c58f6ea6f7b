//! The promise of `Accounted::adopt`: as `Memcg::adopt`, over another allocator.

#![cfg(not(loom))]

use memcg::{Accounted, Glibc, Limit, root};
use std::alloc::System;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[global_allocator]
static ALLOCATOR: Accounted<System, Glibc> = Accounted::new(System);

#[test]
fn blocks_over_another_allocator_change_owners_or_are_refused() {
    let (from, to) = (root().create("from").unwrap(), root().create("to").unwrap());
    for bytes in [1, 100, 5_000, 300_000] {
        let mut block = from.run(|| vec![7u8; bytes]);
        let held = from.current();
        // SAFETY: it is the program's global allocator.
        unsafe { ALLOCATOR.adopt(&to, &mut block) }.unwrap();
        assert_eq!((from.current(), to.current()), (0, held));
        block.extend_from_slice(&vec![7; bytes]);
        assert!(block.iter().all(|&b| b == 7));
        assert_eq!(from.current(), 0);
        drop(block);
        assert_eq!(to.current(), 0);
    }
    to.set_max(Limit::bytes(1 << 20)).unwrap();
    let mut block = from.run(|| vec![0u8; 2 << 20]);
    let held = from.current();
    // SAFETY: it is the program's global allocator.
    let refused = unsafe { ALLOCATOR.adopt(&to, &mut block) }.unwrap_err();
    assert_eq!(refused.group, "/to");
    assert_eq!((from.current(), to.current()), (held, 0));
}

#[test]
fn the_call_for_memcgs_own_allocator_finds_out() {
    let to = root().create("wrong").unwrap();
    let mut block = vec![1u8; 100];
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(|| to.adopt(&mut block)));
    std::panic::set_hook(hook);
    assert!(outcome.is_err());
}
