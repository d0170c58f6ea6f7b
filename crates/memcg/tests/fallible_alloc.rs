//! Promises of `Fallible` and its functions: no within the limit, under every policy, whatever the
//! size; nobody is killed and nothing is forced.

#![cfg(not(loom))]

use core::ffi::c_void;
use core::ptr::null_mut;
use memcg::{Event, Fallible, Limit, Memcg, OomPolicy, Task, fallible, root};
use std::alloc::{GlobalAlloc, Layout};

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

fn tenant(name: &str, max: u64) -> Memcg {
    let tenant = root().create(name).unwrap();
    tenant.set_max(Limit::bytes(max)).unwrap();
    tenant
}

/// Takes blocks until it is told no.
fn fill(bytes: usize) -> Vec<*mut c_void> {
    let mut all = Vec::with_capacity(1 << 16);
    loop {
        let block = fallible::alloc(bytes);
        if block.is_null() {
            return all;
        }
        all.push(block);
    }
}

fn free_all(blocks: Vec<*mut c_void>) {
    for block in blocks {
        // SAFETY: taken by `fill`, and given up here.
        unsafe { fallible::free(block) };
    }
}

#[test]
fn every_policy_but_observe_refuses_whatever_the_size_and_kills_nobody() {
    for policy in [
        OomPolicy::Default,
        OomPolicy::Deny,
        OomPolicy::Debt,
        OomPolicy::Kill,
    ] {
        for bytes in [16, 500, 4_096, 50_000, 300 << 10] {
            let tenant = tenant(&format!("{policy:?}-{bytes}"), 1 << 20);
            tenant.set_oom_policy(policy).unwrap();
            let task = Task::new(&tenant, "bystander").unwrap();
            let mut blocks = Vec::new();
            {
                let _entered = tenant.enter();
                // The list itself is nobody's.
                let free = memcg::no_account();
                blocks.reserve(1 << 17);
                drop(free);
                loop {
                    let block = fallible::alloc(bytes);
                    if block.is_null() {
                        break;
                    }
                    blocks.push(block);
                }
            }
            let held = tenant.current();
            assert!(held <= 1 << 20, "{policy:?} {bytes}: {held}");
            assert!(
                held + bytes as u64 + 8192 > 1 << 20,
                "{policy:?} {bytes}: {held}"
            );
            assert!(!tenant.is_over() && !task.is_killed());
            assert_eq!(tenant.nr_events(Event::OomKill), 0);
            free_all(blocks);
            assert_eq!(tenant.current(), 0);
            drop(task);
            tenant.remove().unwrap();
        }
    }
}

#[test]
fn what_was_forced_above_the_limit_is_not_given_to_who_can_be_refused() {
    let tenant = tenant("forced", 1 << 20);
    tenant.set_oom_policy(OomPolicy::Debt).unwrap();
    let _entered = tenant.enter();
    // Rust's allocator goes on above the limit, with stock.
    let mut rows: Vec<Box<[u8; 256]>> = Vec::new();
    for _ in 0..12_000 {
        rows.push(Box::new([1; 256]));
        let block = fallible::alloc(256);
        if !block.is_null() {
            // SAFETY: the block that was just taken.
            unsafe { fallible::free(block) };
            assert!(tenant.current() <= 1 << 20, "refused above the limit");
        }
    }
    assert!(tenant.is_over());
    for bytes in [16, 256, 5_000, 100_000] {
        assert!(fallible::alloc(bytes).is_null());
        let layout = Layout::from_size_align(bytes, 64).unwrap();
        // SAFETY: the layout is not empty.
        assert!(unsafe { Fallible.alloc_zeroed(layout) }.is_null());
    }
    // A block that is there does not grow, but shrinks.
    let free = memcg::no_account();
    let block = fallible::alloc(3_000);
    drop(free);
    assert!(!block.is_null());
    drop(rows);
    // SAFETY: the block that was just taken.
    unsafe { fallible::free(block) };
}

#[test]
fn a_block_that_may_not_grow_is_as_it_was_and_what_shrinks_is_not_refused() {
    let tenant = tenant("shrinks", 4 << 20);
    let _entered = tenant.enter();
    // SAFETY: the blocks are taken here and given up once.
    unsafe {
        let block = fallible::realloc(null_mut(), 3 << 20).cast::<u8>();
        block.write_bytes(5, 3 << 20);
        assert!(fallible::realloc(block.cast(), 5 << 20).is_null());
        assert_eq!(fallible::usable_size(block.cast()), 3 << 20);
        let filler = fill(64 << 10);
        let mut block = block;
        for bytes in [2 << 20, 70_000, 5_000, 900, 17, 0] {
            block = fallible::realloc(block.cast(), bytes).cast();
            assert!(!block.is_null(), "{bytes}");
            assert!((0..bytes).all(|i| block.add(i).read() == 5));
        }
        fallible::free(block.cast());
        free_all(filler);
        fallible::free(null_mut());
        assert_eq!(fallible::usable_size(null_mut()), 0);
    }
    assert_eq!(tenant.current(), 0);
}

#[test]
fn an_observed_tenant_is_refused_nothing() {
    let tenant = tenant("observed", 1 << 20);
    tenant.set_oom_policy(OomPolicy::Observe).unwrap();
    let block = tenant.run(|| fallible::alloc(2 << 20));
    assert!(!block.is_null() && tenant.is_over());
    // SAFETY: the block that was just taken.
    unsafe { fallible::free(block) };
}
