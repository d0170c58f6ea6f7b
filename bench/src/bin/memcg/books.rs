//! Rows about the books alone: charges, scopes, reservations, files.

use memcg::internal::{bench, files};
use memcg::{Limit, Memcg, root};
use memcg_bench::measure::{Run, measure};
use std::hint::black_box;
use std::sync::Barrier;

/// Runs one of these rows.
pub fn run(name: &str, ops: u64) -> Option<Run> {
    Some(match name {
        "charge-1" => {
            let _entered = deep("acme").enter();
            measure(ops, || (0..ops).for_each(|_| charge()))
        }
        "charge-8" => {
            let tenants = eight();
            measure(ops, || {
                for i in 0..ops as usize {
                    let _entered = tenants[i & 7].enter();
                    charge();
                }
            })
        }
        "scope" => {
            let group = deep("acme");
            measure(ops, || {
                (0..ops).for_each(|_| drop(black_box(group.enter())))
            })
        }
        "scope-8" => {
            let tenants = eight();
            measure(ops, || {
                (0..ops as usize).for_each(|i| drop(black_box(tenants[i & 7].enter())));
            })
        }
        "reserve-1" => {
            let group = deep("acme");
            measure(ops, || {
                (0..ops).for_each(|_| drop(group.try_reserve(black_box(64))))
            })
        }
        "reserve-8" => {
            let tenants = eight();
            measure(ops, || {
                (0..ops as usize).for_each(|i| drop(tenants[i & 7].try_reserve(black_box(64))));
            })
        }
        "refuse" => refuse(ops),
        "read-current" => read(ops, b"memory.current"),
        "read-stat" => read(ops, b"memory.stat"),
        "create-remove" => {
            let parent = deep("acme");
            let go = |n: u64| {
                for _ in 0..n {
                    let group = parent.create("session-1234").expect("a group");
                    group.remove().expect("removed");
                }
            };
            go(1000);
            measure(ops, || go(ops))
        }
        _ => return None,
    })
}

fn charge() {
    // SAFETY: a multiple of 8.
    let owner = unsafe { bench::charge(black_box(64)) }.expect("no limit");
    // SAFETY: charged above.
    unsafe { bench::uncharge(black_box(owner), 64) };
}

/// A group at depth 4.
fn deep(name: &str) -> Memcg {
    ["a", "b", "c", name].iter().fold(root(), |at, part| {
        at.lookup(part)
            .unwrap_or_else(|| at.create(part).expect("a group"))
    })
}

/// Eight of them, side by side, with stock.
fn eight() -> Vec<Memcg> {
    let all: Vec<Memcg> = (0..8).map(|i| deep(&format!("tenant-{i}"))).collect();
    for group in &all {
        group.run(charge);
    }
    all
}

fn refuse(ops: u64) -> Run {
    let group = deep("full");
    group.set_max(Limit::bytes(1 << 20)).unwrap();
    let _most = group.try_reserve(1 << 20).expect("empty");
    measure(ops, || {
        for _ in 0..ops {
            assert!(black_box(group.try_reserve(black_box(4096))).is_err());
        }
    })
}

/// A file's text, with 32 threads that hold something.
fn read(ops: u64, file: &[u8]) -> Run {
    let group = deep("read");
    let (ready, done) = (Barrier::new(33), Barrier::new(33));
    std::thread::scope(|scope| {
        for i in 0..32 {
            let (group, ready, done) = (&group, &ready, &done);
            scope.spawn(move || {
                let _held = group.run(|| vec![1u8; 1000 + i]);
                ready.wait();
                done.wait();
            });
        }
        ready.wait();
        let run = measure(ops, || {
            for _ in 0..ops {
                black_box(files::read(b"/a/b/c/read", file)).expect("a file");
            }
        });
        done.wait();
        run
    })
}
