//! Image: jemalloc.

use memcg_bench::Plain;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    memcg_bench::main::<Plain>();
}
