//! Requests as futures on tokio: each charged to its customer wherever it is polled; one is told to
//! stop.
//!
//! `cargo run --release --example tenants_in_futures`

use memcg::{OomKilled, in_group, root};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

async fn handle(request: usize) -> Vec<u8> {
    let mut answer = Vec::new();
    for part in 0..64 {
        answer.extend(std::iter::repeat_n(b'x', 1_000 + request));
        if part % 16 == 0 {
            // Comes back on whatever worker is free.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    answer
}

#[tokio::main]
async fn main() {
    let customers: Vec<_> = (0..4)
        .map(|n| root().create(format!("customer-{n}")).expect("a group"))
        .collect();

    let requests: Vec<_> = (0..40)
        .map(|n| tokio::spawn(customers[n % customers.len()].scope(handle(n))))
        .collect();
    let mut answers = Vec::new();
    for request in requests {
        answers.push(request.await.expect("a request"));
    }
    for customer in &customers {
        println!(
            "{:14} {:>9} bytes in answers",
            customer.path(),
            customer.current()
        );
        assert!(customer.current() >= 10 * 64 * 1_000);
    }

    // An idle future is told to stop: it is dropped in place, with all it holds. It is a task, so
    // it could be killed alone, or moved.
    let idle = in_group(&customers[0], "idle", async {
        let _held = vec![1u8; 10 << 20];
        std::future::pending::<()>().await;
    });
    let idle = tokio::spawn(idle);
    while customers[0].current() < 10 << 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    customers[0].kill();
    assert_eq!(idle.await.expect("a request"), Err(OomKilled));
    println!(
        "killed: {} holds {} bytes",
        customers[0].path(),
        customers[0].current()
    );

    drop(answers);
    for customer in &customers {
        assert_eq!(customer.current(), 0);
        customer.remove().expect("its tasks have ended");
    }
}
