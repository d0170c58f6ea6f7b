//! Image: first come, first served, one atomic.

use datafusion_execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use memcg_bench_pools::{Of, Pool};
use std::sync::Arc;

struct Greedy;

impl Pool for Greedy {
    fn make(bytes: usize) -> Arc<dyn MemoryPool> {
        Arc::new(GreedyMemoryPool::new(bytes))
    }
}

fn main() {
    memcg_bench::main::<Of<Greedy>>();
}
