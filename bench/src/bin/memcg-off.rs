//! Image: memcg's own slabs, accounting to nobody.

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

fn main() {
    memcg_bench::main::<memcg_bench::groups::Off>();
}
