//! Pages that leave memory and come back: content, counts and limits.

// Under loom there is no process's engine to test.
#![cfg(not(loom))]

use memcg::{Limit, Mapping, Memcg, PAGE_SIZE, PageError, Region, root, swap_on, zswap_on};
use std::sync::{Mutex, MutexGuard, Once};

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const PAGE: u64 = PAGE_SIZE as u64;

/// Swap is the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// With a device of 64 MiB, and with compressed memory of so many bytes.
fn swap(zswap: u64) -> MutexGuard<'static, ()> {
    static ON: Once = Once::new();
    let alone = ALONE.lock().unwrap_or_else(|held| held.into_inner());
    ON.call_once(|| {
        let path = std::env::temp_dir().join(format!("memcg-swap-{}", std::process::id()));
        swap_on(&path, 64 << 20).unwrap();
        std::fs::remove_file(&path).unwrap();
    });
    zswap_on(zswap).unwrap();
    alone
}

fn stat(group: &Memcg, key: &str) -> u64 {
    let text = group.read("memory.stat").unwrap();
    let line = text
        .lines()
        .find(|line| line.split(' ').next() == Some(key));
    line.unwrap_or_else(|| panic!("{key} is in {text}"))
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

fn file(group: &Memcg, name: &str) -> u64 {
    group.read(name).unwrap().trim().parse().unwrap()
}

/// What is in page `n` of the tests: every 64 bytes another number, or noise that no compressor
/// makes smaller.
fn content(n: u64, noise: bool) -> Vec<u8> {
    let mut state = n + 1;
    let mut number = |at: u64| {
        if noise {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state ^ state >> 29
        } else {
            n * 1000 + at / 8
        }
    };
    (0..PAGE / 8)
        .flat_map(|at| number(at).to_ne_bytes())
        .collect()
}

fn fill(table: &Mapping, pages: u64, noise: bool) {
    for n in 0..pages {
        table.write_at(n * PAGE, &content(n, noise)).unwrap();
    }
}

fn check(table: &Mapping, pages: u64, noise: bool) {
    let mut into = vec![0; PAGE_SIZE];
    for n in 0..pages {
        table.read_at(n * PAGE, &mut into).unwrap();
        assert!(into == content(n, noise), "page {n}");
    }
}

/// Each page that a group has is in memory or in swap, or in both and counted as such; once the
/// engine's worker, which takes pages away meanwhile, is done.
fn has_pages(group: &Memcg, pages: u64) {
    let found = || {
        let here = group.usage().anon + file(group, "memory.swap.current");
        here - stat(group, "swapcached").min(here)
    };
    for _ in 0..200 {
        if found() == pages * PAGE {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(found(), pages * PAGE);
}

fn is_balanced() {
    let tree = &memcg::testing::engine::engine().tree;
    let mut books = tree.audit();
    for _ in 0..100 {
        if books.is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        books = tree.audit();
    }
    assert_eq!(books, Ok(()));
}

#[test]
fn a_region_four_times_its_limit_is_written_and_read_by_way_of_a_device() {
    let _alone = swap(0);
    let tenant = root().create("device").unwrap();
    tenant.set_max(Limit::bytes(256 * PAGE)).unwrap();
    let table = tenant.map_anon(1024 * PAGE).unwrap();
    fill(&table, 1024, true);
    assert!(tenant.current() <= 256 * PAGE);
    has_pages(&tenant, 1024);
    for _ in 0..2 {
        check(&table, 1024, true);
    }
    assert!(stat(&tenant, "pswpin") >= 768 && stat(&tenant, "pswpout") >= 768);
    assert_eq!(table.region().nr_pages(), 1024);
    is_balanced();
    drop(table);
    assert_eq!(
        (tenant.current(), file(&tenant, "memory.swap.current")),
        (0, 0)
    );
    is_balanced();
    tenant.remove().unwrap();
}

#[test]
fn compressed_pages_stay_charged_with_what_they_take() {
    let _alone = swap(64 << 20);
    let tenant = root().create("compressed").unwrap();
    tenant.set_max(Limit::bytes(512 * PAGE)).unwrap();
    let table = tenant.map_anon(1024 * PAGE).unwrap();
    fill(&table, 1024, false);
    has_pages(&tenant, 1024);
    let mut usage = tenant.usage();
    for _ in 0..100 {
        if usage.current - usage.engine == usage.anon + usage.zswap {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        usage = tenant.usage();
    }
    assert!(usage.current <= 512 * PAGE && usage.zswap > 0, "{usage:?}");
    assert_eq!(usage.current - usage.engine, usage.anon + usage.zswap);
    assert!(stat(&tenant, "zswapped") >= 4 * usage.zswap, "{usage:?}");
    check(&table, 1024, false);
    is_balanced();
    table.region().resize(10 * PAGE).unwrap();
    check(&table, 10, false);
    drop(table);
    let left = (
        tenant.current(),
        file(&tenant, "memory.swap.current"),
        stat(&tenant, "zswapped"),
    );
    assert_eq!(left, (0, 0, 0));
    is_balanced();
    tenant.remove().unwrap();
}

/// The pool of compressed memory has room for a part of it; the oldest go on to the device.
#[test]
fn compressed_pages_go_on_to_the_device_when_their_pool_is_full() {
    let _alone = swap(256 << 10);
    let tenant = root().create("compressed-on").unwrap();
    tenant.set_max(Limit::bytes(256 * PAGE)).unwrap();
    let table = tenant.map_anon(2048 * PAGE).unwrap();
    fill(&table, 2048, false);
    let (out, compressed) = (stat(&tenant, "pswpout"), stat(&tenant, "zswapped"));
    assert!(out > 0 && compressed > 0, "{out} {compressed}");
    has_pages(&tenant, 2048);
    is_balanced();
    check(&table, 2048, false);
    is_balanced();
    drop(table);
    assert_eq!(
        (tenant.current(), file(&tenant, "memory.swap.current")),
        (0, 0)
    );
    tenant.remove().unwrap();
}

#[test]
fn swap_max_keeps_pages_in_memory_and_the_refusal_says_who_is_full() {
    let _alone = swap(0);
    let tenant = root().create("swap-max").unwrap();
    tenant.set_max(Limit::bytes(64 * PAGE)).unwrap();
    tenant
        .write("memory.swap.max", &(32 * PAGE).to_string())
        .unwrap();
    let table = tenant.map_anon(1024 * PAGE).unwrap();
    let mut written = 0;
    let refused = loop {
        match table.write_at(written * PAGE, &content(written, true)) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, PageError::Full(_)), "{refused}");
    // The error names the group.
    drop(refused);
    assert_eq!(file(&tenant, "memory.swap.current"), 32 * PAGE);
    assert_eq!(written, 96);
    // Places that have copies of pages in memory are no reason to refuse.
    table.region().discard(0..80 * PAGE).unwrap();
    for n in 80..96 {
        let mut into = vec![0; PAGE_SIZE];
        table.read_at(n * PAGE, &mut into).unwrap();
        assert!(into == content(n, true), "page {n}");
    }
    for n in 0..80 {
        table.write_at(n * PAGE, &content(n, true)).unwrap();
    }
    assert_eq!(file(&tenant, "memory.swap.current"), 32 * PAGE);
    assert_eq!(stat(&tenant, "swapcached"), 0);
    is_balanced();
    drop(table);
    tenant.remove().unwrap();
}

#[test]
fn what_is_swapped_out_goes_with_its_task_and_to_the_parent() {
    let _alone = swap(8 << 20);
    let above = root().create("swap-moves").unwrap();
    let (a, b) = (above.create("a").unwrap(), above.create("b").unwrap());
    let task = a.task("sleeper").unwrap();
    let table = task.map_anon(256 * PAGE).unwrap();
    fill(&table, 256, false);
    a.reclaim(200 * PAGE);
    let swapped = file(&a, "memory.swap.current");
    assert!(swapped >= 200 * PAGE, "{swapped}");
    task.move_to(&b).unwrap();
    assert_eq!(file(&a, "memory.swap.current"), 0);
    assert_eq!(file(&b, "memory.swap.current"), swapped);
    assert_eq!(a.current(), 0);
    is_balanced();
    drop(task);
    b.remove().unwrap();
    assert_eq!(file(&above, "memory.swap.current"), swapped);
    check(&table, 256, false);
    // What was the child's is reclaimed from the parent's own.
    above.reclaim(200 * PAGE);
    assert!(file(&above, "memory.swap.current") >= 200 * PAGE);
    check(&table, 256, false);
    is_balanced();
    drop(table);
    assert_eq!(
        (above.current(), file(&above, "memory.swap.current")),
        (0, 0)
    );
    a.remove().unwrap();
    above.remove().unwrap();
}

#[test]
fn a_protected_group_keeps_its_pages() {
    let _alone = swap(32 << 20);
    let above = root().create("protected-pages").unwrap();
    let (kept, taken) = (
        above.create("kept").unwrap(),
        above.create("taken").unwrap(),
    );
    above.set_max(Limit::bytes(600 * PAGE)).unwrap();
    kept.write("memory.min", &(300 * PAGE).to_string()).unwrap();
    above
        .write("memory.min", &(300 * PAGE).to_string())
        .unwrap();
    let (one, other) = (
        kept.map_anon(1024 * PAGE).unwrap(),
        taken.map_anon(1024 * PAGE).unwrap(),
    );
    fill(&one, 280, false);
    fill(&other, 900, false);
    assert_eq!(kept.usage().anon, 280 * PAGE);
    check(&other, 900, false);
    assert_eq!(kept.usage().anon, 280 * PAGE);
    drop((one, other));
    is_balanced();
}

/// Many threads touch more than fits, of two groups, by device and by compressor, while pages are
/// dropped and a task moves: no content is wrong, and nothing is left.
#[test]
fn content_is_right_whatever_leaves_and_comes_back_meanwhile() {
    for zswap in [0, 4 << 20] {
        let _alone = swap(zswap);
        let above = root().create("swap-storm").unwrap();
        let (a, b) = (above.create("a").unwrap(), above.create("b").unwrap());
        above.set_max(Limit::bytes(400 * PAGE)).unwrap();
        let task = a.task("mover").unwrap();
        let shared = Region::shmem("swap-storm", 512 * PAGE).unwrap();
        let table = task.map_anon(512 * PAGE).unwrap();
        let done = &std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|s| {
            for part in 0..2_u64 {
                let mapping = shared.map(if part == 0 { &a } else { &b }).unwrap();
                let table = &table;
                s.spawn(move || {
                    // Each thread has every second page to itself.
                    let mut state = part + 1;
                    let mut written = [[None; 512]; 2];
                    let rounds = if cfg!(debug_assertions) {
                        4_000
                    } else {
                        30_000
                    };
                    for i in 0..rounds {
                        state = state
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1);
                        let page = (state >> 33) % 256 * 2 + part;
                        let which = (state >> 20) as usize % 2;
                        let mapping = if which == 0 { table } else { &mapping };
                        let expected = &mut written[which][page as usize];
                        if state >> 50 & 3 == 0 {
                            let noise = state >> 52 & 1 == 0;
                            mapping.write_at(page * PAGE, &content(i, noise)).unwrap();
                            *expected = Some((i, noise));
                        } else {
                            let mut into = vec![0; PAGE_SIZE];
                            mapping.read_at(page * PAGE, &mut into).unwrap();
                            let right = match *expected {
                                Some((i, noise)) => content(i, noise),
                                None => vec![0; PAGE_SIZE],
                            };
                            assert!(into == right, "page {page} of {which} in round {i}");
                        }
                        if i % 97 == 0 {
                            let at = page * PAGE;
                            mapping.region().discard(at..at + PAGE).unwrap();
                            written[which][page as usize] = None;
                        }
                    }
                    done.store(true, std::sync::atomic::Ordering::Relaxed);
                });
            }
            s.spawn(|| {
                let mut n = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    n += 1;
                    let _ = task.move_to(if n % 2 == 0 { &a } else { &b });
                    a.reclaim(20 * PAGE);
                    let passing = above.create("passing").unwrap();
                    let mapping = passing.map_anon(16 * PAGE).unwrap();
                    fill(&mapping, 16, false);
                    passing.reclaim(8 * PAGE);
                    passing.remove().unwrap();
                    check(&mapping, 16, false);
                }
            });
        });
        is_balanced();
        drop((table, shared, task));
        let left = (above.current(), file(&above, "memory.swap.current"));
        assert_eq!(left, (0, 0));
        is_balanced();
        for group in [a, b, above] {
            group.remove().unwrap();
        }
    }
}

#[test]
fn in_the_child_of_a_fork_what_is_swapped_out_is_the_parents() {
    let _alone = swap(0);
    let tenant = root().create("swap-fork").unwrap();
    let table = tenant.map_anon(64 * PAGE).unwrap();
    fill(&table, 64, true);
    tenant.reclaim(48 * PAGE);
    let swapped = file(&tenant, "memory.swap.current");
    assert!(swapped >= 48 * PAGE);
    // SAFETY: the child allocates, which the engine allows in a fork's child, and leaves by _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let failed = |error: PageError| error == PageError::ParentProcess;
        let ok = (0..64).all(|n| table.read_at(n * PAGE, &mut [0]).is_err_and(failed))
            && file(&tenant, "memory.swap.current") == swapped
            && tenant.reclaim(PAGE) == 0;
        drop(table);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!ok)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child that was made above.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0);
    check(&table, 64, true);
    drop(table);
    tenant.remove().unwrap();
    is_balanced();
}

/// A file four times the limit, read and written at random by way of its cache: what is dirty is
/// written where it stands in the way, and the file has all of it after a sync.
#[test]
fn a_file_four_times_the_limit_is_read_and_written_through_its_cache() {
    let _alone = swap(0);
    let tenant = root().create("cached-file").unwrap();
    tenant.set_max(Limit::bytes(256 * PAGE)).unwrap();
    let path = std::env::temp_dir().join(format!("memcg-cached-{}", std::process::id()));
    let mut expected: Vec<u8> = (0..1024).flat_map(|n| content(n, true)).collect();
    std::fs::write(&path, &expected).unwrap();
    let cache = memcg::PageCache::open(&path).unwrap();
    let mapping = cache.map(&tenant).unwrap();
    let mut state = 7_u64;
    for i in 0..4_000_u64 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let page = (state >> 33) % 1024;
        let at = (page * PAGE) as usize;
        if state >> 50 & 3 == 0 {
            expected[at..at + 8].copy_from_slice(&i.to_ne_bytes());
            mapping.write_at(page * PAGE, &i.to_ne_bytes()).unwrap();
        } else {
            let mut into = vec![0; PAGE_SIZE];
            mapping.read_at(page * PAGE, &mut into).unwrap();
            assert!(into == expected[at..at + PAGE_SIZE], "page {page}");
        }
        assert!(tenant.current() <= 256 * PAGE);
    }
    assert!(stat(&tenant, "workingset_refault_file") > 0 && stat(&tenant, "pgsteal") > 0);
    mapping.sync().unwrap();
    assert_eq!(
        (stat(&tenant, "file_dirty"), stat(&tenant, "file_writeback")),
        (0, 0)
    );
    assert!(std::fs::read(&path).unwrap() == expected);
    is_balanced();
    drop((mapping, cache));
    std::fs::remove_file(&path).unwrap();
    tenant.reclaim(u64::MAX);
    assert_eq!((tenant.usage().file, tenant.current()), (0, 0));
    tenant.remove().unwrap();
}

/// What is used again and again stays, whatever a scan of pages that are used once brings by.
#[test]
fn a_scan_does_not_push_out_what_is_used_all_the_time() {
    let _alone = swap(32 << 20);
    let tenant = root().create("scanned").unwrap();
    tenant.set_max(Limit::bytes(256 * PAGE)).unwrap();
    let (hot, cold) = (
        tenant.map_anon(100 * PAGE).unwrap(),
        tenant.map_anon(4096 * PAGE).unwrap(),
    );
    fill(&hot, 100, false);
    for n in 0..4096 {
        cold.write_at(n * PAGE, &content(n, false)).unwrap();
        for page in [n % 100, (n * 7 + 3) % 100, (n * 31 + 11) % 100] {
            hot.read_with(page, |page| page.load::<u64>(0)).unwrap();
        }
    }
    let misses = stat(&tenant, "zswpin") + stat(&tenant, "pswpin");
    assert!(misses < 4096 * 3 / 50, "{misses} of 12288 touches missed");
    check(&hot, 100, false);
    drop((hot, cold));
    tenant.remove().unwrap();
}
