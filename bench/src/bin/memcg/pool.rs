//! Rows about a pool that threads share, beside a reservation behind a lock.

use memcg::{Memcg, Pool, root};
use memcg_bench::measure::{Run, measure};
use std::hint::black_box;
use std::sync::Mutex;

/// More than a thread has in stock.
const ABOVE_STOCK: u64 = 1 << 20;

/// Runs one of these rows. An operation is a growth or a shrinkage.
pub fn run(name: &str, ops: u64) -> Option<Run> {
    Some(match name {
        "pool" => pooled(ops, 64),
        "pool-above-stock" => pooled(ops, ABOVE_STOCK),
        "pool-by-lock" => locked(ops, 64),
        "pool-by-lock-above-stock" => locked(ops, ABOVE_STOCK),
        _ => return None,
    })
}

/// A query's group, two below the root.
fn query() -> Memcg {
    let parent = root().create("queries").expect("a group");
    parent.create("query").expect("a group")
}

fn pooled(ops: u64, bytes: u64) -> Run {
    let pool = Pool::new(&query());
    // Something is held all the while.
    pool.try_grow(1000).expect("no limit");
    measure(ops, || {
        for _ in 0..ops / 2 {
            pool.try_grow(black_box(bytes)).expect("no limit");
            pool.shrink(black_box(bytes));
        }
    })
}

fn locked(ops: u64, bytes: u64) -> Run {
    let charge = Mutex::new(query().try_reserve(1000).expect("no limit"));
    let resize = |by: i64| {
        let mut charge = charge.lock().expect("no panic");
        let all = charge.bytes().wrapping_add_signed(by);
        charge.resize(all).expect("no limit");
    };
    measure(ops, || {
        for _ in 0..ops / 2 {
            resize(black_box(bytes as i64));
            resize(black_box(-(bytes as i64)));
        }
    })
}
