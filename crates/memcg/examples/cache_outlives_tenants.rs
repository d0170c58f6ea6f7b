//! A cache filled by tenants that are long gone: deleting a group costs nothing and loses nothing.
//!
//! `cargo run --release --example cache_outlives_tenants`

use memcg::root;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

fn main() {
    let service = root().create("service").expect("a group");
    let cache: Mutex<HashMap<u64, Vec<u8>>> = Mutex::new(service.run(HashMap::new));

    let mut removing = std::time::Duration::ZERO;
    for n in 0..10_000u64 {
        let tenant = service.create(format!("tenant-{n}")).expect("a group");
        tenant.run(|| {
            let value = vec![n as u8; 256];
            // The table itself is the service's; the value is the tenant's.
            service.run(|| cache.lock().expect("not poisoned").insert(n, value));
        });
        let start = Instant::now();
        tenant.remove().expect("no tasks");
        removing += start.elapsed();
    }
    // Nothing was moved, freed or counted again: the service had it all along.
    println!(
        "10000 tenants came and went, {} ns each to remove",
        removing.as_nanos() / 10_000
    );
    println!(
        "{} holds {} bytes of what they left",
        service.path(),
        service.current()
    );
    assert!(service.current() >= 10_000 * 256);

    cache.lock().expect("not poisoned").clear();
    drop(cache);
    assert_eq!(service.current(), 0);
    println!("cache dropped: {} bytes", service.current());
    service.remove().expect("no children");
}
