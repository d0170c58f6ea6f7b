//! Image: one counter and one limit (crate cap) over the C library's malloc.

use memcg_bench::Plain;

#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

fn main() {
    memcg_bench::main::<Plain>();
}
