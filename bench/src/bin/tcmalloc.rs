//! Image: Google's tcmalloc.

use memcg_bench::Plain;

#[global_allocator]
static ALLOCATOR: tcmalloc_better::TCMalloc = tcmalloc_better::TCMalloc;

fn main() {
    memcg_bench::main::<Plain>();
}
