//! Image: memcg's own slabs, accounting on; and the rows only memcg has.

mod books;
mod futures;
mod load;
mod loaded;
mod objects;
mod over;
mod pool;
mod whole;

use memcg_bench::Peer;
use memcg_bench::groups::On;
use memcg_bench::measure::Run;
use memcg_bench::rows::{ROWS, TENANTS};

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

struct Own;

impl Peer for Own {
    type Thread = <On as Peer>::Thread;
    type Tenant = <On as Peer>::Tenant;

    fn start() {
        On::start();
    }

    fn thread() -> Self::Thread {
        On::thread()
    }

    #[inline]
    fn tenant(index: usize) -> Self::Tenant {
        On::tenant(index % TENANTS)
    }

    fn own_row(name: &str, ops: Option<u64>) -> Option<Run> {
        let row = ROWS.iter().find(|row| row.own && row.name == name)?;
        let ops = ops.unwrap_or(row.ops);
        let _thread = On::thread();
        books::run(name, ops)
            .or_else(|| futures::run(name, ops))
            .or_else(|| whole::run(name, ops))
            .or_else(|| loaded::run(name, ops))
            .or_else(|| over::run(name, ops))
            .or_else(|| pool::run(name, ops))
            .or_else(|| objects::run(name, ops))
    }
}

fn main() {
    memcg_bench::main::<Own>();
}
