//! Image: memcg's accounting over the C library's malloc, a tag in each object's last bytes.

use memcg::{Accounted, Glibc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: Accounted<System, Glibc> = Accounted::new(System);

fn main() {
    memcg_bench::main::<memcg_bench::groups::On>();
}
