//! Single-threaded rows of small objects: the hit paths.

use super::{Held, TENANTS, give, take};
use crate::Peer;
use crate::measure::{Run, measure, table};
use crate::random::{shuffles, steps};
use std::hint::black_box;

/// Allocate and free, last in first out.
pub fn pair(size: usize, ops: u64) -> Run {
    let size = black_box(size);
    for _ in 0..1000 {
        give(take(size), size);
    }
    measure(ops, || {
        for _ in 0..ops {
            give(take(size), size);
        }
    })
}

const BATCH: usize = 256;
const ORDERS: usize = 64;

/// 256 objects, freed in random order, another each time.
pub fn batch(size: usize, ops: u64) -> Run {
    let size = black_box(size);
    let objects = table::<*mut u8>(BATCH);
    let orders = shuffles(1, BATCH, ORDERS);
    let mut once = |order: &[u16]| {
        for place in objects.iter_mut() {
            *place = take(size);
        }
        for &i in order {
            give(objects[usize::from(i)], size);
        }
    };
    orders.chunks(BATCH).for_each(&mut once);
    measure(ops / BATCH as u64 * BATCH as u64, || {
        for order in orders.chunks(BATCH).cycle().take(ops as usize / BATCH) {
            once(order);
        }
    })
}

/// Tenants at random replace random objects, `1 << turn` a turn.
pub fn tenants<P: Peer>(ops: u64, turn: u32) -> Run {
    let steps = steps(2, 4096, TENANTS as u64, 16, 4096);
    let slots = table::<Held>(4096);
    let mut go = |ops: u64| {
        let mut i = 0;
        while i < ops as usize {
            let _tenant = P::tenant(steps[(i >> turn) & 0xffff].tenant as usize);
            for _ in 0..1 << turn {
                let step = steps[i & 0xffff];
                slots[step.slot as usize & 4095].replace(step.size as usize);
                i += 1;
            }
        }
    };
    go(1 << 16);
    measure(ops, || go(ops))
}

/// The scopes of [`tenants`] alone.
pub fn scopes<P: Peer>(ops: u64) -> Run {
    let steps = steps(2, 4096, TENANTS as u64, 16, 4096);
    measure(ops, || {
        for i in 0..ops as usize {
            let _tenant = black_box(P::tenant(steps[i & 0xffff].tenant as usize));
        }
    })
}
