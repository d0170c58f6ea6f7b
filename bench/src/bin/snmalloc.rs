//! Image: snmalloc.

use memcg_bench::Plain;

#[global_allocator]
static ALLOCATOR: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

fn main() {
    memcg_bench::main::<Plain>();
}
