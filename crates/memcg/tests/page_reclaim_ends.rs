//! Reclaim of pages where owners and groups have ended, and of what is cut in swap: each was seen
//! to go wrong before.

// Under loom there is no process's engine to test.
#![cfg(not(loom))]

use memcg::{Limit, Mapping, Memcg, PAGE_SIZE, Region, root, swap_on, zswap_on};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, Once};

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const PAGE: u64 = PAGE_SIZE as u64;

fn swap() {
    static ON: Once = Once::new();
    ON.call_once(|| {
        let path = std::env::temp_dir().join(format!("memcg-ends-{}", std::process::id()));
        swap_on(&path, 64 << 20).unwrap();
        std::fs::remove_file(&path).unwrap();
        zswap_on(0).unwrap();
    });
}

fn file(group: &Memcg, name: &str) -> u64 {
    group.read(name).unwrap().trim().parse().unwrap()
}

fn fill(table: &Mapping, pages: u64) {
    for n in 0..pages {
        table.write_at(n * PAGE, &[n as u8 | 1; PAGE_SIZE]).unwrap();
    }
}

#[test]
fn an_owner_that_is_gone_does_not_stand_in_the_way_of_others() {
    swap();
    let above = root().create("gone-owner").unwrap();
    // By a thread that ends before anything else is done, so that nothing names the task any more.
    std::thread::scope(|s| {
        let gone = s.spawn(|| {
            let task = above.task("gone").unwrap();
            let region = task.map_anon(16 * PAGE).unwrap();
            fill(&region, 10);
            drop((region, task));
        });
        gone.join().unwrap();
    });
    let table = above.map_anon(256 * PAGE).unwrap();
    fill(&table, 128);
    assert!(above.reclaim(64 * PAGE) >= 64 * PAGE);
    above.set_max(Limit::bytes(140 * PAGE)).unwrap();
    fill(&table, 256);
    drop(table);
    above.remove().unwrap();
}

#[test]
fn what_is_cut_of_a_page_in_swap_does_not_come_back() {
    swap();
    let tenant = root().create("cut-in-swap").unwrap();
    let table = tenant.map_anon(16 * PAGE).unwrap();
    fill(&table, 16);
    tenant.reclaim(16 * PAGE);
    assert_eq!(file(&tenant, "memory.swap.current"), 16 * PAGE);
    let region = table.region();
    region.discard(2 * PAGE + 10..2 * PAGE + 20).unwrap();
    region.resize(5 * PAGE + 100).unwrap();
    region.resize(16 * PAGE).unwrap();
    let mut into = vec![9; PAGE_SIZE];
    table.read_at(5 * PAGE, &mut into).unwrap();
    assert!(into[..100].iter().all(|&byte| byte == 5) && into[100..].iter().all(|&byte| byte == 0));
    table.read_at(2 * PAGE, &mut into).unwrap();
    assert_eq!((into[9], &into[10..20], into[20]), (3, &[0; 10][..], 3));
    drop((table, region));
    assert_eq!(
        (tenant.current(), file(&tenant, "memory.swap.current")),
        (0, 0)
    );
    tenant.remove().unwrap();
}

#[test]
fn a_move_between_siblings_is_no_more_swap_above_them() {
    swap();
    let above = root().create("swap-peak").unwrap();
    let (a, b) = (above.create("a").unwrap(), above.create("b").unwrap());
    let task = a.task("sleeper").unwrap();
    let table = task.map_anon(64 * PAGE).unwrap();
    fill(&table, 64);
    a.reclaim(64 * PAGE);
    let all = file(&above, "memory.swap.current");
    above.write("memory.swap.max", &all.to_string()).unwrap();
    task.move_to(&b).unwrap();
    assert_eq!(file(&above, "memory.swap.peak"), all);
    assert_eq!(
        (
            file(&a, "memory.swap.current"),
            file(&b, "memory.swap.current")
        ),
        (0, all)
    );
    assert!(
        above
            .read("memory.swap.events")
            .unwrap()
            .contains("max 0\n")
    );
    drop((table, task));
    for group in [a, b, above] {
        group.remove().unwrap();
    }
}

/// The first page of an owner comes while its group ends: whoever wins, the parent's reclaim finds
/// the page.
#[test]
fn a_page_that_comes_while_its_group_ends_is_found_by_reclaim() {
    swap();
    let above = root().create("late-page").unwrap();
    let rounds = if cfg!(debug_assertions) { 1_000 } else { 4_000 };
    let shared = Region::shmem("late", rounds * PAGE).unwrap();
    let (go, done, slot) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(None));
    let until = |word: &AtomicU64, n: u64| {
        while word.load(SeqCst) < n {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|s| {
        s.spawn(|| {
            for n in 1..=rounds {
                until(&go, n);
                let mapping: Mapping = slot.lock().unwrap().take().unwrap();
                done.store(2 * n - 1, SeqCst);
                mapping.write_at((n - 1) * PAGE, &[1; 64]).unwrap();
                drop(mapping);
                done.store(2 * n, SeqCst);
            }
        });
        for n in 1..=rounds {
            let child = above.create("child").unwrap();
            *slot.lock().unwrap() = Some(shared.map(&child).unwrap());
            go.store(n, SeqCst);
            until(&done, 2 * n - 1);
            for _ in 0..n * 37 % 3_000 {
                std::hint::spin_loop();
            }
            child.remove().unwrap();
            until(&done, 2 * n);
        }
    });
    assert_eq!(above.usage().shmem, rounds * PAGE);
    while above.reclaim(1 << 30) > 0 {}
    assert_eq!(
        (above.usage().shmem, file(&above, "memory.swap.current")),
        (0, rounds * PAGE)
    );
    drop(shared);
    assert_eq!(
        (above.current(), file(&above, "memory.swap.current")),
        (0, 0)
    );
    above.remove().unwrap();
}
