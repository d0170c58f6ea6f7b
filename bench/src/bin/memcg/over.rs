//! Rows about a tenant that is above its max: what it costs the tenant, and what its neighbour.

use crate::load::{beside, since};
use memcg::{Limit, Memcg, root};
use memcg_bench::measure::{Run, cpu_of, measure, own_clock, table};
use memcg_bench::random::Random;
use memcg_bench::rows::layout;
use std::alloc::{alloc, dealloc};

/// Objects that a tenant holds.
const HELD: usize = 4096;
/// Turns below max, each followed by one above it.
const TURNS: usize = 15;

/// Runs one of these rows.
pub fn run(name: &str, ops: u64) -> Option<Run> {
    match name {
        "over" => Some(over(ops, |tenant, _| tenant)),
        "over-neighbour" => Some(over(ops, |_, neighbour| neighbour)),
        _ => None,
    }
}

/// Replaces one of its objects, chosen at random, by one of 16 to 8,207 bytes.
fn churn(seed: u64) -> impl FnMut() {
    let mut random = Random::new(seed);
    let held = table::<(usize, usize)>(HELD);
    move || {
        let drawn = random.draw();
        let place = &mut held[drawn as usize % HELD];
        if place.0 != 0 {
            // SAFETY: of that layout.
            unsafe { dealloc(place.0 as *mut u8, layout(place.1)) };
        }
        let size = 16 + (drawn >> 48) as usize % 8192;
        // SAFETY: no size here is 0.
        let p = unsafe { alloc(layout(size)) };
        assert!(!p.is_null(), "nobody is refused");
        *place = (p as usize, size);
    }
}

/// A tenant replaces objects, in turns below its max and at twice its max. A neighbour on the other
/// CPU, in a group beside it below one parent, does the same, always within its max. `extra`: of
/// the one that `whose` picks, CPU for an operation while the tenant is above to that while it is
/// below; the median of the turns.
fn over(ops: u64, whose: impl Fn(f64, f64) -> f64) -> Run {
    let parent = root().create("over").expect("a group");
    let [tenant, neighbour]: [Memcg; 2] =
        ["tenant", "neighbour"].map(|name| parent.create(name).expect("a group"));
    neighbour.set_max(Limit::bytes(1 << 30)).expect("a limit");
    beside(
        1,
        |_| neighbour.enter(),
        |index| churn(index as u64 + 1),
        |load| {
            let _entered = tenant.enter();
            let mut replace = churn(0);
            (0..20 * HELD).for_each(|_| replace());
            let each = ops / (2 * TURNS) as u64;
            let mut ratios = [0.0; TURNS];
            let run = measure(ops, || {
                for ratio in &mut ratios {
                    let mut timed = |max| {
                        tenant.set_max(max).expect("a limit");
                        // So that it has stock again, and the neighbour too.
                        (0..HELD).for_each(|_| replace());
                        let (cpu, work) = (cpu_of(own_clock()), load.all());
                        (0..each).for_each(|_| replace());
                        let work = since(work, load.all());
                        ((cpu_of(own_clock()) - cpu) as f64, work.each())
                    };
                    let below = timed(Limit::MAX);
                    let above = timed(Limit::bytes(tenant.current() / 2));
                    assert!(tenant.is_over());
                    *ratio = whose(above.0 / below.0, above.1 / below.1);
                }
            });
            ratios.sort_unstable_by(f64::total_cmp);
            Run {
                extra: ratios[TURNS / 2],
                ..run
            }
        },
    )
}
