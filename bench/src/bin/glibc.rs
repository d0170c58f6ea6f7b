//! Image: the C library's malloc.

use memcg_bench::Plain;

#[global_allocator]
static ALLOCATOR: std::alloc::System = std::alloc::System;

fn main() {
    memcg_bench::main::<Plain>();
}
