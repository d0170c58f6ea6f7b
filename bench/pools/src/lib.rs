//! Rows about reservations in a pool of DataFusion: the same as memcg's of those names
//! (`rows::ROWS`, those with `pools`).
//!
//! A tenant is a reservation of a consumer of its own; all are in one pool, as an engine has one.
//! Memory for what a refusal says is the C library's.

use datafusion_execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use memcg_bench::Peer;
use memcg_bench::measure::{Run, measure, pin, threads};
use memcg_bench::random::Random;
use memcg_bench::rows::{ROWS, TENANTS};
use std::hint::black_box;
use std::sync::Arc;

/// A pool of a number of bytes.
pub trait Pool: 'static {
    /// Makes one.
    fn make(bytes: usize) -> Arc<dyn MemoryPool>;
}

/// The image of a pool.
pub struct Of<P>(std::marker::PhantomData<P>);

impl<P: Pool> Peer for Of<P> {
    type Thread = ();
    type Tenant = ();
    fn start() {}
    fn thread() {}
    fn tenant(_index: usize) {}

    fn own_row(name: &str, ops: Option<u64>) -> Option<Run> {
        let row = ROWS.iter().find(|row| row.pools && row.name == name)?;
        let ops = ops.unwrap_or(row.ops);
        Some(match name {
            "reserve-1" => {
                let tenant = &tenants(&P::make(1 << 40), 1)[0];
                measure(ops, || (0..ops).for_each(|_| there_and_back(tenant)))
            }
            "reserve-8" => {
                let all = tenants(&P::make(1 << 40), 8);
                measure(ops, || {
                    (0..ops as usize).for_each(|i| there_and_back(&all[i & 7]));
                })
            }
            "reserve-threads" => {
                let all = tenants(&P::make(1 << 40), threads());
                each_thread(ops, |thread| {
                    let tenant = &all[thread];
                    move || there_and_back(tenant)
                })
            }
            "refuse" => {
                let full = full(P::make(64 << 20), 1);
                measure(ops, || (0..ops).for_each(|_| refused(&full[0])))
            }
            "refuse-storm" => {
                let full = full(P::make(64 << 20), TENANTS);
                each_thread(ops, |thread| {
                    let (mut random, full) = (Random::new(thread as u64), &full);
                    move || refused(&full[random.below(TENANTS as u64) as usize])
                })
            }
            _ => return None,
        })
    }
}

fn tenants(pool: &Arc<dyn MemoryPool>, count: usize) -> Vec<MemoryReservation> {
    (0..count)
        .map(|i| {
            MemoryConsumer::new(format!("tenant-{i}"))
                .with_can_spill(true)
                .register(pool)
        })
        .collect()
}

/// Tenants that together hold all of a pool of 64 MiB.
fn full(pool: Arc<dyn MemoryPool>, count: usize) -> Vec<MemoryReservation> {
    let all = tenants(&pool, count);
    for tenant in &all {
        tenant
            .try_grow((64 << 20) / count)
            .expect("a share of the pool");
    }
    all
}

fn there_and_back(tenant: &MemoryReservation) {
    tenant.try_grow(black_box(64)).expect("room");
    tenant.shrink(black_box(64));
}

fn refused(tenant: &MemoryReservation) {
    assert!(black_box(tenant.try_grow(black_box(4096))).is_err());
}

/// As many threads as the other rows have, each with an operation of its own.
fn each_thread<F: FnMut() + Send>(ops: u64, make: impl Fn(usize) -> F) -> Run {
    let threads = threads();
    let each = ops / threads as u64;
    let all: Vec<F> = (0..threads).map(make).collect();
    measure(each * threads as u64, || {
        std::thread::scope(|scope| {
            for (thread, mut operation) in all.into_iter().enumerate() {
                scope.spawn(move || {
                    pin(thread);
                    (0..each).for_each(|_| operation());
                });
            }
        });
    })
}
