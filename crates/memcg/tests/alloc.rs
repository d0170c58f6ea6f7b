//! Promises of the Rust allocator and API, on the process's own engine, in a program whose every
//! byte is accounted.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::{Event, Limit, Memcg, OomKilled, in_group, no_account, root};
use std::alloc::{Layout, alloc, dealloc, realloc};
use std::future::Future;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

fn group(name: &str) -> Memcg {
    root().create(name).unwrap()
}

#[test]
fn the_allocator_is_installed() {
    drop(vec![1u8; 10]);
    assert!(memcg::is_installed());
}

#[test]
fn what_is_freed_elsewhere_is_credited_to_its_owner() {
    let (a, b) = (group("elsewhere-a"), group("elsewhere-b"));
    let (send, receive) = mpsc::channel::<Vec<u8>>();
    let consumer = {
        let b = b.clone();
        thread::spawn(move || b.run(|| receive.into_iter().map(drop).count()))
    };
    for n in 0..10_000 {
        // The channel's own blocks are nobody's.
        let thing = a.run(|| vec![0u8; n % 2_000 + 1]);
        let _free = no_account();
        send.send(thing).unwrap();
    }
    drop(send);
    assert_eq!(consumer.join().unwrap(), 10_000);
    assert_eq!(a.current(), 0);
    assert_eq!(b.current(), 0);
}

#[test]
fn a_panic_leaves_the_scope() {
    let a = group("panic");
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(|| a.run(|| panic!("on purpose")));
    std::panic::set_hook(hook);
    drop(result);
    let outside = vec![0u8; 1 << 20];
    assert!(a.current() < 1 << 20);
    drop(outside);
}

#[test]
fn realloc_keeps_the_owner_and_the_content() {
    let (a, b) = (group("realloc-a"), group("realloc-b"));
    let mut data = a.run(|| (0..1_000u32).collect::<Vec<_>>());
    b.run(|| data.extend(1_000..200_000));
    assert!(data.iter().copied().eq(0..200_000));
    assert!(a.current() >= 800_000);
    assert_eq!(b.current(), 0);
    b.run(|| {
        data.truncate(10);
        data.shrink_to_fit();
    });
    assert!(a.current() < 1_000 && data == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    drop(data);
    assert_eq!(a.current(), 0);
}

#[test]
fn every_size_and_alignment_balances() {
    let a = group("layouts");
    a.run(|| {
        for align in (0..13).map(|shift| 1usize << shift) {
            for size in [1, 7, 8, 20, 21, 24, 100, 4_095, 4_096, 70_000, 200_000] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: a non-zero layout; the block is written within it, grown, and freed by
                // its last layout.
                unsafe {
                    let p = alloc(layout);
                    assert!(!p.is_null() && (p as usize).is_multiple_of(align));
                    p.write_bytes(0xa5, size);
                    let p = realloc(p, layout, size * 2 + 3);
                    assert!((p as usize).is_multiple_of(align));
                    assert!((0..size).all(|i| *p.add(i) == 0xa5));
                    dealloc(p, Layout::from_size_align(size * 2 + 3, align).unwrap());
                }
            }
        }
    });
    assert_eq!(a.current(), 0);
}

#[test]
fn deny_is_null_and_debt_is_debt() {
    let a = group("deny");
    a.set_max(Limit::bytes(1 << 20)).unwrap();
    let layout = Layout::from_size_align(2 << 20, 8).unwrap();
    // The default of a Rust global allocator is debt, without a bound.
    // SAFETY: a valid layout.
    let p = a.run(|| unsafe { alloc(layout) });
    assert!(!p.is_null() && a.current() >= 2 << 20);
    // SAFETY: allocated with this layout above, and not used after this.
    unsafe { dealloc(p, layout) };
    a.write("memory.debt.max", "256K").unwrap();
    // SAFETY: a valid layout; null is expected.
    assert!(a.run(|| unsafe { alloc(layout) }).is_null());
    let over = a.run(|| vec![0u8; (1 << 20) + (100 << 10)]);
    assert!(a.current() > 1 << 20);
    assert!(a.nr_events(Event::Debt) > 0 && a.nr_events(Event::Max) > 0);
    drop(over);
    a.write("memory.oom.policy", "deny").unwrap();
    let more_than_max = Layout::from_size_align((1 << 20) + 4096, 8).unwrap();
    // SAFETY: as above.
    let refused = a.run(|| unsafe { alloc(more_than_max) });
    assert!(refused.is_null());
    assert!(a.nr_events(Event::Oom) > 0);
    assert_eq!(a.current(), 0);
}

#[test]
fn a_limit_holds_to_the_byte_over_many_threads() {
    let a = group("storm");
    a.set_max(Limit::bytes(8 << 20)).unwrap();
    a.write("memory.oom.policy", "deny").unwrap();
    let layout = Layout::from_size_align(1_000, 8).unwrap();
    let kept: Vec<Vec<usize>> = thread::scope(|s| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                s.spawn(|| {
                    let mut mine = Vec::with_capacity(20_000);
                    a.run(|| {
                        // SAFETY: a valid layout; null ends the loop.
                        while let Some(p) = std::ptr::NonNull::new(unsafe { alloc(layout) }) {
                            mine.push(p.as_ptr() as usize);
                        }
                    });
                    mine
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let n: usize = kept.iter().map(Vec::len).sum();
    let full = a.current();
    assert!(full <= 8 << 20, "{full}");
    // A refusal with stock about is preceded by a drain, so the last bytes are used as well.
    assert!(
        full + 8 * 1_016 > 8 << 20,
        "{n} objects, {full} bytes of {}",
        8 << 20
    );
    for p in kept.into_iter().flatten() {
        // SAFETY: allocated above by the same layout.
        unsafe { dealloc(p as *mut u8, layout) };
    }
    assert_eq!(a.current(), 0);
}

#[test]
fn a_moved_task_takes_every_byte() {
    let (a, b) = (group("move-a"), group("move-b"));
    let task = a.task("query").unwrap();
    let data: Vec<Vec<u8>> = task.run(|| (0..1_000).map(|n| vec![0; n]).collect());
    let held = a.current();
    b.set_max(Limit::bytes(held / 2)).unwrap();
    assert!(task.move_to(&b).is_err());
    assert_eq!((a.current(), b.current()), (held, 0));
    b.set_max(Limit::MAX).unwrap();
    task.move_to(&b).unwrap();
    assert_eq!((a.current(), b.current()), (0, held));
    assert_eq!(task.group().unwrap().path(), "/move-b");
    drop(data);
    assert_eq!(b.current(), 0);
    assert!(b.remove().is_err());
    drop(task);
    b.remove().unwrap();
}

#[test]
fn a_group_is_removed_with_all_it_holds_and_its_owner_stays_in_the_ledger() {
    let parent = group("ledger");
    let child = parent.create("gone").unwrap();
    let data = child.run(|| vec![0u8; 100_000]);
    child.remove().unwrap();
    assert!(!child.is_online());
    assert!(parent.current() >= 100_000);
    assert!(
        parent
            .read("memory.owners")
            .unwrap()
            .contains("/ledger/gone")
    );
    let late = child.run(|| vec![0u8; 1 << 20]);
    assert!(parent.current() >= 100_000 + (1 << 20));
    drop((data, late));
    assert_eq!(parent.current(), 0);
    assert!(!parent.read("memory.owners").unwrap().contains("gone"));
    parent.remove().unwrap();
}

#[test]
fn reservations_of_a_removed_group_are_the_parents_until_dropped_anywhere() {
    let parent = root().create("reservations-above").unwrap();
    let group = parent.create("below").unwrap();
    let task = group.task("task").unwrap();
    let mut held: Vec<_> = [8, 64, 4096, 1 << 20]
        .into_iter()
        .flat_map(|bytes| [group.try_reserve(bytes), task.try_reserve(bytes)])
        .map(Result::unwrap)
        .collect();
    held.push(group.try_reserve(0).unwrap());
    let emptied = held[0].split(8);
    let all: u64 = held
        .iter()
        .chain([&emptied])
        .map(memcg::Charge::bytes)
        .sum();
    assert_eq!((group.current(), parent.usage().reserved), (all, all));
    drop(task);
    group.remove().unwrap();
    drop(group);
    assert_eq!((parent.current(), parent.usage().reserved), (all, all));
    // Others come in the place of the owners that have ended.
    for round in 0..200 {
        let other = parent.create(format!("other-{round}")).unwrap();
        drop(other.try_reserve(64).unwrap());
        other.remove().unwrap();
    }
    assert_eq!(parent.current(), all);
    std::thread::scope(|s| {
        s.spawn(move || drop(held));
    });
    drop(emptied);
    assert_eq!((parent.current(), parent.usage().reserved), (0, 0));
    parent.remove().unwrap();
}

#[test]
fn reservations_split_merge_resize_and_stay_when_forgotten() {
    let (a, b) = (group("reserve-a"), group("reserve-b"));
    a.set_max(Limit::bytes(1_000)).unwrap();
    let mut all = a.try_reserve(1_000).unwrap();
    let refused = a.try_reserve(1).unwrap_err();
    assert_eq!(
        (refused.group.as_str(), refused.max, refused.usage),
        ("/reserve-a", 1_000, 1_000)
    );
    assert!(all.resize(1_001).is_err());
    assert_eq!(all.bytes(), 1_000);
    let half = all.split(504);
    assert_eq!((all.bytes(), half.bytes(), a.current()), (496, 504, 1_000));
    let other = b.try_reserve(8).unwrap();
    let (_, other) = all.merge(other).unwrap_err();
    all.merge(half).unwrap();
    assert_eq!((all.bytes(), a.current(), b.current()), (1_000, 1_000, 8));
    drop(other);
    all.resize(80).unwrap();
    all.forget();
    assert_eq!(a.current(), 80);
    a.remove().unwrap();
    assert!(root().read("memory.owners").unwrap().contains("/reserve-a"));
}

#[test]
fn no_account_is_free() {
    let a = group("free");
    let data = a.run(|| {
        let _free = no_account();
        vec![0u8; 1 << 20]
    });
    assert_eq!(a.current(), 0);
    drop(data);
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_future_is_charged_where_it_belongs_and_killed_where_it_stands() {
    let a = group("future");
    let mut future = pin!(in_group(&a, "future", async {
        let data = vec![0u8; 1 << 20];
        std::future::pending::<()>().await;
        data.len()
    }));
    assert!(poll(future.as_mut()).is_pending());
    assert!(a.current() >= 1 << 20);
    assert!(a.remove().is_err());
    a.kill();
    assert_eq!(poll(future.as_mut()), Poll::Ready(Err(OomKilled)));
    assert_eq!(a.current(), 0);
}

#[test]
fn a_refusal_names_its_group_also_when_that_has_gone() {
    let parent = group("refusing");
    let deep = parent.create("deep").unwrap();
    deep.set_max(Limit::bytes(4096)).unwrap();
    let refused = deep.try_reserve(8192).unwrap_err();
    let path = deep.path();
    deep.remove().unwrap();
    // Another takes its place.
    let again = parent.create("another").unwrap();
    let copy = refused.clone();
    assert_eq!(copy, refused);
    assert_eq!(refused.group, path.as_str());
    assert!(
        refused
            .to_string()
            .starts_with(&format!("{path}: 8192 bytes do not fit"))
    );
    drop(refused);
    assert_eq!(format!("{:?}", copy.group), format!("{path:?}"));
    again.remove().unwrap();
}

#[test]
fn a_thread_that_exits_leaves_no_stock() {
    let a = group("exits");
    let data: Vec<_> = (0..20)
        .map(|_| thread::scope(|s| s.spawn(|| a.run(|| vec![0u8; 100])).join().unwrap()))
        .collect();
    let usage = a.usage();
    // This thread may hold some, of one slot; those that exited none.
    assert!(usage.stocked <= 64 << 10, "{usage:?}");
    drop(data);
    assert_eq!(a.current(), 0);
}

#[test]
fn books_survive_a_fork() {
    let a = group("fork");
    let kept = a.run(|| vec![0u8; 50_000]);
    // What it is charged, and at most one object of each of the two threads.
    let least = a.current();
    let most = least + 2 * 4096;
    let busy = std::sync::atomic::AtomicBool::new(true);
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while busy.load(std::sync::atomic::Ordering::Relaxed) {
                    a.run(|| drop(vec![0u8; 3_000]));
                }
            });
        }
        let mut statuses = Vec::new();
        for _ in 0..20 {
            // SAFETY: the child only allocates, looks and ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let ok = (least..=most).contains(&a.current())
                    && a.create("born-in-the-child").is_ok()
                    && a.run(|| vec![1u8; 100_000]).len() == 100_000;
                // SAFETY: ends the child without the parent's exit handlers.
                unsafe { libc::_exit(if ok { 0 } else { 1 }) };
            }
            let mut status = 0;
            // SAFETY: waits for the child just made.
            let waited = unsafe { libc::waitpid(child, &mut status, 0) };
            statuses.push((waited == child, status));
        }
        // Before anything may fail, or the threads would never end.
        busy.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(statuses, [(true, 0); 20]);
    });
    drop(kept);
    assert_eq!(a.current(), 0);
}
