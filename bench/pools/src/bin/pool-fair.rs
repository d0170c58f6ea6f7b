//! Image: an even share for each consumer that can spill, under a lock.

use datafusion_execution::memory_pool::{FairSpillPool, MemoryPool};
use memcg_bench_pools::{Of, Pool};
use std::sync::Arc;

struct Fair;

impl Pool for Fair {
    fn make(bytes: usize) -> Arc<dyn MemoryPool> {
        Arc::new(FairSpillPool::new(bytes))
    }
}

fn main() {
    memcg_bench::main::<Of<Fair>>();
}
