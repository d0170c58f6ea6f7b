//! Image: mimalloc 2 through its crate.

use memcg_bench::Plain;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    memcg_bench::main::<Plain>();
}
