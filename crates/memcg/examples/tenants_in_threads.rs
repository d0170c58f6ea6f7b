//! Two tenants in one process, each a pool of threads: who uses what, a limit, and one tenant's
//! end.
//!
//! `cargo run --release --example tenants_in_threads`

use memcg::{Limit, root};
use std::collections::HashMap;
use std::thread;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

fn main() {
    let acme = root().create("acme").expect("a group");
    let zeta = root().create("zeta").expect("a group");

    // Whatever runs inside is charged to the tenant, on any thread; what it returns keeps its
    // owner.
    let indexes: Vec<HashMap<u64, String>> = thread::scope(|s| {
        let workers: Vec<_> = [(&acme, 20_000), (&acme, 30_000), (&zeta, 5_000)]
            .into_iter()
            .map(|(tenant, rows)| {
                s.spawn(move || tenant.run(|| (0..rows).map(|n| (n, format!("row {n}"))).collect()))
            })
            .collect();
        workers
            .into_iter()
            .map(|w| w.join().expect("a worker"))
            .collect()
    });
    for tenant in [&acme, &zeta] {
        println!("{:8} {:>10} bytes", tenant.path(), tenant.current());
    }

    // A limit that is already passed: reservations are refused, with the reason.
    zeta.set_max(Limit::bytes(zeta.current() + 4096)).unwrap();
    println!(
        "refused: {}",
        zeta.try_reserve(1 << 20).expect_err("over the limit")
    );

    // Freed here, by nobody in particular, and credited to who owns it.
    let held = acme.current();
    drop(indexes);
    println!("acme held {held} bytes, now {}", acme.current());
    assert_eq!((acme.current(), zeta.current()), (0, 0));

    acme.remove().expect("no children, no tasks");
    zeta.remove().expect("no children, no tasks");
}
