//! Image: the greedy pool that also knows who holds what, and says it when it refuses: what a
//! memory limit of a DataFusion runtime makes.

use datafusion_execution::memory_pool::{GreedyMemoryPool, MemoryPool, TrackConsumersPool};
use memcg_bench_pools::{Of, Pool};
use std::num::NonZeroUsize;
use std::sync::Arc;

struct Tracked;

impl Pool for Tracked {
    fn make(bytes: usize) -> Arc<dyn MemoryPool> {
        let top = NonZeroUsize::new(5).expect("not 0");
        Arc::new(TrackConsumersPool::new(GreedyMemoryPool::new(bytes), top))
    }
}

fn main() {
    memcg_bench::main::<Of<Tracked>>();
}
