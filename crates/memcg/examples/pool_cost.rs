//! What a shared pool costs, beside what a query engine's trait object over a mutex around a
//! `Charge` does: ns for one growth or one shrinking, medians of rounds that alternate.
//!
//! `cargo run --release --example pool_cost`

use memcg::{Charge, Limit, Pool, root};
use std::hint::black_box;
use std::sync::{Barrier, Mutex};
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const ROUNDS: usize = 31;
const PAIRS: u32 = 100_000;

/// Rounds, and pairs of calls in each: few where it only tries itself.
fn size() -> (usize, u32) {
    match std::env::args().any(|word| word == "--check") {
        true => (3, 1_000),
        false => (ROUNDS, PAIRS),
    }
}

/// As the memory pools of query engines are used.
trait MemoryPool: Sync {
    fn try_grow(&self, bytes: u64) -> bool;
    fn shrink(&self, bytes: u64);
}

impl MemoryPool for Pool {
    fn try_grow(&self, bytes: u64) -> bool {
        Pool::try_grow(self, bytes).is_ok()
    }

    fn shrink(&self, bytes: u64) {
        Pool::shrink(self, bytes);
    }
}

struct Locked(Mutex<Charge>);

impl MemoryPool for Locked {
    fn try_grow(&self, bytes: u64) -> bool {
        let mut charge = self.0.lock().expect("nobody panics");
        let all = charge.bytes() + bytes;
        charge.resize(all).is_ok()
    }

    fn shrink(&self, bytes: u64) {
        let mut charge = self.0.lock().expect("nobody panics");
        let rest = charge.bytes() - bytes;
        charge.resize(rest).expect("less always fits");
    }
}

/// ns for one call, all threads calling at once.
fn round(pool: &dyn MemoryPool, threads: usize, bytes: u64) -> f64 {
    let start = Barrier::new(threads);
    let pairs = if bytes > 1 << 20 {
        size().1 / 10
    } else {
        size().1
    };
    let work = || {
        start.wait();
        let begun = Instant::now();
        for _ in 0..pairs {
            assert!(pool.try_grow(black_box(bytes)));
            pool.shrink(black_box(bytes));
        }
        begun.elapsed().as_nanos() as f64 / f64::from(pairs) / 2.0
    };
    let all: Vec<f64> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .map(|h| h.join().expect("a thread"))
            .collect()
    });
    all.iter().sum::<f64>() / threads as f64
}

fn main() {
    let query = root()
        .create("queries")
        .expect("a group")
        .create("query")
        .expect("a group");
    query.set_max(Limit::bytes(4 << 30)).expect("a limit");
    let pool = Pool::new(&query);
    let locked = Locked(Mutex::new(query.try_reserve(0).expect("nothing")));
    println!("ns a call, median of {} (least to most)", size().0);
    for threads in [1, 2] {
        for bytes in [64, 4096, 1 << 20, 8 << 20] {
            let mut found: [Vec<f64>; 2] = Default::default();
            for _ in 0..size().0 {
                let both: [&dyn MemoryPool; 2] = [&pool, &locked];
                for (found, pool) in found.iter_mut().zip(both) {
                    found.push(round(pool, threads, bytes));
                }
            }
            let [pool, locked] = found.map(|mut all| {
                all.sort_by(f64::total_cmp);
                let (least, most) = (all[0], all[size().0 - 1]);
                format!("{:6.1} ({least:.1} to {most:.1})", all[size().0 / 2])
            });
            println!("{threads} threads, {bytes:>8} bytes: Pool {pool}, Mutex<Charge> {locked}");
        }
    }
}
