//! One thread, 64 bytes: the hits of both slab kinds and layouts, beside the heap's; accounted, and
//! not.

use super::maker::{Kmalloc, Maker, With, by_name, cache};
use memcg::{no_account, root, set_cache_tracking};
use memcg_bench::Peer as _;
use memcg_bench::groups::On;
use memcg_bench::measure::{Run, measure, pin};
use memcg_bench::random::{shuffles, steps};
use memcg_bench::rows::TENANTS;
use std::hint::black_box;

/// Runs one of these rows.
pub fn run(name: &str, ops: u64) -> Option<Run> {
    let pair = Pair(ops);
    pin(1);
    if let Some(of) = name.strip_prefix("batch-") {
        return by_name(of, &Batch(ops));
    }
    if let Some(of) = name.strip_prefix("tenants-") {
        return by_name(of, &Tenants(ops));
    }
    Some(match name {
        "kmalloc-nobody" => {
            let _nobody = no_account();
            pair.with(&Kmalloc)
        }
        "slub-nobody" | "slab-nobody" => {
            let _nobody = no_account();
            pair.with(&cache(&name[..4], false)?)
        }
        "slub-exempt" => pair.with(&cache("slub", true)?),
        "slub-root" | "slub-untracked" => {
            set_cache_tracking(false, name == "slub-root");
            let _root = root().enter();
            pair.with(&cache("slub", false)?)
        }
        _ => return by_name(name, &pair),
    })
}

/// Allocate, write, free, last in first out.
struct Pair(u64);

impl With<Run> for Pair {
    fn with<M: Maker>(&self, maker: &M) -> Run {
        let go = |ops: u64| {
            for _ in 0..ops {
                black_box(M::first(&maker.make()));
            }
        };
        go(1000);
        measure(self.0, || go(self.0))
    }
}

const BATCH: usize = 256;

/// 256 at a time, freed in random order.
struct Batch(u64);

impl With<Run> for Batch {
    fn with<M: Maker>(&self, maker: &M) -> Run {
        let orders = shuffles(1, BATCH, 64);
        let mut held: Vec<Option<M::Object>> = (0..BATCH).map(|_| None).collect();
        let mut once = |order: &[u16]| {
            held.iter_mut()
                .for_each(|place| *place = Some(maker.make()));
            for &i in order {
                held[usize::from(i)] = None;
            }
        };
        orders.chunks(BATCH).for_each(&mut once);
        let turns = self.0 as usize / BATCH;
        measure((turns * BATCH) as u64, || {
            orders.chunks(BATCH).cycle().take(turns).for_each(&mut once);
        })
    }
}

/// A tenant at random enters, replaces one of 4096 objects, leaves.
struct Tenants(u64);

impl With<Run> for Tenants {
    fn with<M: Maker>(&self, maker: &M) -> Run {
        let steps = steps(2, 4096, TENANTS as u64, 64, 64);
        let mut held: Vec<Option<M::Object>> = (0..4096).map(|_| None).collect();
        let mut go = |ops: u64| {
            for i in 0..ops as usize {
                let step = steps[i & 0xffff];
                let _tenant = On::tenant(step.tenant as usize);
                let place = &mut held[step.slot as usize & 4095];
                *place = None;
                *place = Some(maker.make());
            }
        };
        go(1 << 16);
        measure(self.0, || go(self.0))
    }
}
