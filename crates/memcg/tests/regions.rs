//! Regions: what guards, mappings and the end of things promise; many threads; fork.

// Under loom there is no process's engine to test.
#![cfg(not(loom))]

use memcg::{Errno, Limit, Mapping, Memcg, PAGE_SIZE, PageError, Region, root};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const PAGE: u64 = PAGE_SIZE as u64;

fn group(name: &str) -> Memcg {
    root().create(name).unwrap()
}

/// What pages a group is charged for.
fn pages(group: &Memcg) -> u64 {
    let usage = group.usage();
    (usage.anon + usage.shmem) / PAGE
}

#[test]
fn mapping_charges_nothing_and_reading_what_was_never_written_charges_nobody() {
    let tenant = group("holes");
    let table = tenant.map_anon(8 << 40).unwrap();
    let mut into = [7; 100];
    table.read_at((8 << 40) - 100, &mut into).unwrap();
    assert_eq!((into, pages(&tenant), tenant.current()), ([0; 100], 0, 0));
    assert_eq!(table.read_with(3, |page| page.load::<u32>(16)), Ok(0));
    assert_eq!(table.pin(5).unwrap()[9], 0);
    assert_eq!(pages(&tenant), 1);
    assert_eq!(
        tenant.map_anon((8 << 40) + 1).unwrap_err(),
        PageError::OutOfRange
    );
}

#[test]
fn who_is_full_is_said_and_nothing_has_changed() {
    let tenant = group("full-pages");
    tenant.set_max(Limit::bytes(3 * PAGE)).unwrap();
    let table = tenant.map_anon(1 << 20).unwrap();
    let error = table.write_at(0, &[1; 4 * PAGE_SIZE]).unwrap_err();
    assert_eq!(error.errno(), Errno::ENOMEM);
    let PageError::Full(full) = error else {
        panic!("{error}");
    };
    assert_eq!(
        (full.group.as_str(), full.bytes, full.max),
        ("/full-pages", PAGE, 3 * PAGE)
    );
    assert_eq!(pages(&tenant), 3);
    table.region().discard(0..PAGE).unwrap();
    table.write_at(3 * PAGE, &[1]).unwrap();
    assert_eq!(pages(&tenant), 3);
}

#[test]
fn many_read_one_writes_and_a_thread_does_not_wait_for_itself() {
    let (tenant, other) = (group("guards"), group("guards-other"));
    let shared = Region::shmem("guarded", 1 << 20).unwrap();
    let (mine, others) = (shared.map(&tenant).unwrap(), shared.map(&other).unwrap());
    let first = mine.pin(0).unwrap();
    let second = others.pin(0).unwrap();
    assert_eq!(mine.pin_mut(0).unwrap_err(), PageError::Deadlock);
    drop(first);
    assert_eq!(
        mine.pin_mut(0).unwrap_err(),
        PageError::Busy,
        "for another of this thread"
    );
    drop(second);
    let mut alone = mine.pin_mut(0).unwrap();
    alone[0] = 1;
    assert_eq!(mine.pin(0).unwrap_err(), PageError::Deadlock);
    assert_eq!(mine.read_at(0, &mut [0]), Err(PageError::Deadlock));
    std::thread::scope(|s| {
        let waiting = s.spawn(|| {
            assert_eq!(mine.try_pin(0).unwrap_err(), PageError::Busy);
            let start = Instant::now();
            assert_eq!(mine.pin(0).unwrap()[0], 2);
            start.elapsed()
        });
        std::thread::sleep(Duration::from_millis(50));
        alone[0] = 2;
        drop(alone);
        let waited = waiting.join().unwrap();
        assert!(waited < Duration::from_secs(5), "{waited:?}");
    });
}

#[test]
fn a_region_lasts_as_long_as_a_handle_or_a_mapping() {
    let tenant = group("lasting");
    let region = Region::shmem("lasting", 1 << 20).unwrap();
    let mapping = region.map(&tenant).unwrap();
    mapping.write_at(0, b"here").unwrap();
    drop(mapping);
    assert_eq!(
        (region.nr_mappings(), region.nr_pages(), pages(&tenant)),
        (0, 1, 1)
    );
    let again = region.clone().map(&tenant).unwrap();
    drop(region);
    let mut back = [0; 4];
    again.read_at(0, &mut back).unwrap();
    assert_eq!(&back, b"here");
    drop(again);
    assert_eq!((pages(&tenant), tenant.current()), (0, 0));
}

#[test]
fn what_a_group_leaves_is_its_parents_and_a_task_takes_its_pages_along() {
    let (above, other) = (group("ends-pages"), group("ends-pages-other"));
    let ending = above.create("ending").unwrap();
    let left = ending.map_anon(1 << 20).unwrap();
    left.write_at(0, &[5; 3 * PAGE_SIZE]).unwrap();
    let task = ending.task("mover").unwrap();
    let moved = task.map_anon(1 << 20).unwrap();
    moved.write_at(0, &[6; 2 * PAGE_SIZE]).unwrap();
    assert_eq!((pages(&ending), pages(&above)), (5, 5));
    task.move_to(&other).unwrap();
    assert_eq!((pages(&ending), pages(&above), pages(&other)), (3, 3, 2));
    ending.remove().unwrap();
    assert_eq!(pages(&above), 3);
    left.write_at(7 * PAGE, &[5]).unwrap();
    assert_eq!(pages(&above), 4, "a late page is the parent's");
    drop(task);
    assert_eq!(pages(&other), 2, "an ended task's pages stay");
    drop((left, moved));
    assert_eq!((above.current(), other.current()), (0, 0));
}

/// Each page holds one number 512 times; whoever writes adds the same to all.
#[test]
fn under_many_threads_no_page_is_torn_or_lost_and_the_books_balance() {
    let tenants: Vec<Memcg> = (0..3).map(|n| group(&format!("threads-{n}"))).collect();
    let shared = Region::shmem("storm", 64 * PAGE).unwrap();
    let written: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    let random = |state: &mut u64| {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        *state >> 33
    };
    let sum_of = |mapping: &Mapping, page: u64| {
        mapping
            .read_with(page, |view| {
                let first = view.load::<u64>(0);
                (first, (0..512).all(|at| view.load::<u64>(at * 8) == first))
            })
            .unwrap()
    };
    std::thread::scope(|s| {
        for (n, tenant) in tenants.iter().enumerate() {
            let mapping = shared.map(tenant).unwrap();
            let (written, done) = (&written, &done);
            s.spawn(move || {
                let mut state = n as u64 + 1;
                for _ in 0..6_000 {
                    let page = random(&mut state) % 64;
                    let mut guard = mapping.pin_mut(page).unwrap();
                    let next = u64::from_ne_bytes(guard[..8].try_into().unwrap()) + 1;
                    for at in guard.chunks_exact_mut(8) {
                        at.copy_from_slice(&next.to_ne_bytes());
                    }
                    drop(guard);
                    written[page as usize].fetch_add(1, Relaxed);
                }
                done.store(true, Relaxed);
            });
        }
        let mapping = shared.map(&tenants[0]).unwrap();
        let done = &done;
        s.spawn(move || {
            let mut state = 99;
            while !done.load(Relaxed) {
                let (_, whole) = sum_of(&mapping, random(&mut state) % 64);
                assert!(whole, "a read without a pin saw two states of a page");
            }
        });
    });
    let mapping = shared.map(&tenants[0]).unwrap();
    for (page, written) in (0..).zip(&written) {
        assert_eq!(sum_of(&mapping, page), (written.load(Relaxed), true));
    }
    let sum: u64 = tenants.iter().map(pages).sum();
    assert_eq!(sum, shared.nr_pages());
    drop((mapping, shared));
    for tenant in &tenants {
        assert_eq!(tenant.current(), 0);
    }
}

/// Threads bring pages, others drop them, groups end and tasks move, all at once.
#[test]
fn touches_discards_moves_and_ends_at_once_leave_no_byte() {
    let above = group("mixed-pages");
    let (a, b) = (above.create("a").unwrap(), above.create("b").unwrap());
    b.set_max(Limit::bytes(40 * PAGE)).unwrap();
    let task = a.task("wanderer").unwrap();
    let table = task.map_anon(64 * PAGE).unwrap();
    let shared = Region::shmem("mixed", 64 * PAGE).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|s| {
        for n in 0..2_u64 {
            let (table, shared, a, done) = (&table, &shared, &a, &done);
            s.spawn(move || {
                let mapping = shared.map(a).unwrap();
                for i in 0..4_000_u64 {
                    let page = (i * 7 + n * 31) % 64;
                    for mapping in [table, &mapping] {
                        match mapping.write_at(page * PAGE, &i.to_ne_bytes()) {
                            Ok(()) | Err(PageError::Full(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                done.store(true, Relaxed);
            });
        }
        s.spawn(|| {
            let mut n = 0;
            while !done.load(Relaxed) {
                n += 1;
                let from = n * 13 % 60 * PAGE;
                table.region().discard(from..from + 4 * PAGE).unwrap();
                shared.discard(from..from + 2 * PAGE).unwrap();
                let _ = task.move_to(if n % 2 == 0 { &a } else { &b });
                let passing = above.create("passing").unwrap();
                let mapping = shared.map(&passing).unwrap();
                mapping.write_at(n % 64 * PAGE, &[1]).unwrap();
                passing.remove().unwrap();
            }
        });
    });
    drop((table, shared, task));
    assert_eq!(
        (above.current(), above.usage().anon, above.usage().shmem),
        (0, 0, 0)
    );
    for group in [a, b, above] {
        group.remove().unwrap();
    }
}

#[test]
fn in_the_child_of_a_fork_every_operation_is_an_error_and_the_parent_sees_nothing() {
    let tenant = group("forked-pages");
    let table = tenant.map_anon(1 << 20).unwrap();
    table.write_at(0, b"parent").unwrap();
    let guard = table.pin(0).unwrap();
    // SAFETY: the child allocates, which the engine allows in a fork's child, and leaves by _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let failed = |error: PageError| error == PageError::ParentProcess;
        let ok = failed(table.pin(1).unwrap_err())
            && failed(table.write_at(0, b"child!").unwrap_err())
            && failed(table.read_at(0, &mut [0]).unwrap_err())
            && failed(table.region().discard(0..PAGE).unwrap_err())
            && failed(table.region().resize(0).unwrap_err())
            && failed(tenant.map_anon(4096).unwrap_err())
            && table.region().map(&tenant).is_err_and(failed)
            && &guard[..6] == b"parent"
            && tenant.usage().anon == PAGE;
        drop(guard);
        drop(table);
        // What was charged stays charged: the memory is there.
        let ok = ok && tenant.usage().anon == PAGE;
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!ok)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child that was made above.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0);
    drop(guard);
    let mut back = [0; 6];
    table.read_at(0, &mut back).unwrap();
    assert_eq!((&back, pages(&tenant)), (b"parent", 1));
}
