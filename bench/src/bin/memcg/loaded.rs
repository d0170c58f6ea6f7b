//! Rows about a process under load: refusals and limits by the thousand, drains, ends and moves
//! while threads allocate.

use crate::load::{Load, idle, since, under};
use memcg::{Limit, Memcg, Task, root};
use memcg_bench::measure::{Run, cpu_of, measure, own_clock, pin, table, threads, wall_ns};
use memcg_bench::random::Random;
use memcg_bench::rows::{TENANTS, layout, take};
use std::alloc::{alloc, dealloc};
use std::hint::black_box;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const BUSY: usize = 8;
/// How long the workers are watched before something happens.
const USUAL_NS: u64 = 50_000_000;

/// Runs one of these rows.
pub fn run(name: &str, ops: u64) -> Option<Run> {
    Some(match name {
        "reserve-threads" => each_thread(ops, |thread| {
            let group = tenant(thread, Limit::MAX);
            move || drop(group.try_reserve(black_box(64)))
        }),
        "refuse-storm" => {
            let tenants: Vec<Memcg> = (0..TENANTS)
                .map(|i| tenant(i, Limit::bytes(1 << 20)))
                .collect();
            let _full: Vec<_> = tenants.iter().map(|t| t.try_reserve(1 << 20)).collect();
            each_thread(ops, |thread| {
                let (mut random, tenants) = (Random::new(thread as u64), &tenants);
                move || {
                    let group = &tenants[random.below(TENANTS as u64) as usize];
                    assert!(group.try_reserve(black_box(4096)).is_err());
                }
            })
        }
        "at-limit" => at_limit(ops, Limit::bytes(256 << 10)),
        "below-limit" => at_limit(ops, Limit::bytes(1 << 30)),
        "drain" => drain(ops),
        "remove-busy" => remove_chain(ops),
        "remove-load" => remove_many(ops),
        "move-load" => moves(ops),
        _ => return None,
    })
}

/// A tenant of its own parent, two below the root.
fn tenant(index: usize, max: Limit) -> Memcg {
    let parent = root()
        .lookup("storm")
        .unwrap_or_else(|| root().create("storm").expect("a group"));
    let group = parent.create(format!("tenant-{index}")).expect("a group");
    group.set_max(max).unwrap();
    group
}

/// As many threads as the other rows have, each with an operation of its own.
fn each_thread<F: FnMut() + Send>(ops: u64, make: impl Fn(usize) -> F) -> Run {
    let threads = threads();
    let each = ops / threads as u64;
    let all: Vec<F> = (0..threads).map(make).collect();
    measure(each * threads as u64, || {
        std::thread::scope(|scope| {
            for (thread, mut operation) in all.into_iter().enumerate() {
                scope.spawn(move || {
                    pin(thread);
                    (0..each).for_each(|_| operation());
                });
            }
        });
    })
}

/// Tenants that allocate until they are refused, and then free one; all threads work for all of
/// them.
fn at_limit(ops: u64, max: Limit) -> Run {
    const HELD: usize = 64;
    let tenants: Vec<Memcg> = (0..TENANTS).map(|i| tenant(i, max)).collect();
    for group in &tenants {
        group.write("memory.oom.policy", "deny").expect("a policy");
    }
    each_thread(ops, |thread| {
        let (mut random, tenants) = (Random::new(thread as u64), &tenants);
        // Twice what a limit of 256 KiB leaves to each of two threads.
        let held = table::<(usize, usize)>(TENANTS * HELD);
        move || {
            let drawn = random.draw();
            let tenant = drawn as usize % TENANTS;
            let place = &mut held[tenant * HELD + (drawn >> 32) as usize % HELD];
            if place.0 != 0 {
                // SAFETY: of that layout.
                unsafe { dealloc(place.0 as *mut u8, layout(place.1)) };
                *place = (0, 0);
            }
            let size = 1024 + (drawn >> 48) as usize % 7168;
            let _entered = tenants[tenant].enter();
            // SAFETY: no size here is 0.
            let p = unsafe { alloc(layout(size)) };
            if !p.is_null() {
                *place = (p as usize, size);
            }
        }
    })
}

/// Limits written again and again: each takes back the stock of a thread that charged meanwhile. It
/// and the writer take turns on one CPU; elsewhere runs a bystander, in another group. Wall time is
/// the writes' alone. `value`: all CPU a drain costs; `extra`: the bystander's time for a pair, to
/// that without drains.
fn drain(ops: u64) -> Run {
    let (drained, bystander) = (tenant(0, Limit::MAX), tenant(1, Limit::MAX));
    let turn = AtomicUsize::new(0);
    under(
        1,
        |_| bystander.enter(),
        |load| {
            let start = load.all();
            idle(USUAL_NS);
            let usual = since(start, load.all()).each();
            let writer = std::thread::current();
            std::thread::scope(|scope| {
                let holder = scope.spawn(|| {
                    let _entered = drained.enter();
                    for i in 0..ops as usize {
                        while turn.load(Acquire) != 2 * i + 1 {
                            std::thread::park();
                        }
                        // SAFETY: of that layout, at once freed.
                        unsafe { dealloc(black_box(alloc(layout(100))), layout(100)) };
                        turn.store(2 * i + 2, Release);
                        writer.unpark();
                    }
                });
                let before = load.all();
                let mut writes = 0;
                let mut run = measure(ops, || {
                    for i in 0..ops as usize {
                        turn.store(2 * i + 1, Release);
                        holder.thread().unpark();
                        while turn.load(Acquire) != 2 * i + 2 {
                            std::thread::park();
                        }
                        let start = wall_ns();
                        let max = Limit::bytes((1 << 40) + (i as u64 & 1) * 4096);
                        drained.set_max(max).unwrap();
                        writes += wall_ns() - start;
                    }
                });
                let work = since(before, load.all());
                run.wall_ns = writes;
                run.value = (writes as f64 + work.lost(usual)) / ops as f64;
                run.extra = work.each() / usual;
                run
            })
        },
    )
}

fn percentile(times: &mut [u64], percent: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() * percent).div_ceil(100) - 1] as f64
}

/// 10^6 objects and 10^4 inherited owners go up a chain of groups, each of which is removed while
/// threads allocate in it. Wall time is the median, `value` the most.
fn remove_chain(ops: u64) -> Run {
    let chain: Vec<Memcg> = (0..ops).fold(vec![root()], |mut chain, i| {
        let name = format!("level-{i}");
        chain.push(chain[i as usize].create(name).expect("a group"));
        chain
    });
    let last = &chain[ops as usize];
    for i in 0..10_000 {
        // Ended children whose objects live on: their owners are the group's now.
        let child = last.create(format!("child-{i}")).expect("a group");
        child.run(|| take(100));
        child.remove().expect("removed");
    }
    last.run(|| {
        (0..1_000_000).for_each(|_| {
            take(100);
        })
    });
    // The first of a process reads the code of it into the caches.
    let first = root().create("first").expect("a group");
    first.remove().expect("removed");
    let at = AtomicUsize::new(ops as usize);
    let times = table::<u64>(ops as usize);
    under(
        BUSY,
        |_| chain[at.load(Relaxed)].enter(),
        |_| {
            let mut run = measure(ops, || {
                for time in times.iter_mut() {
                    // So that the workers are in it.
                    idle(300_000);
                    let group = &chain[at.load(Relaxed)];
                    let start = wall_ns();
                    group.remove().expect("removed");
                    *time = wall_ns() - start;
                    at.fetch_sub(1, Relaxed);
                }
            });
            run.wall_ns = percentile(times, 50) as u64 * ops;
            run.value = percentile(times, 100);
            run
        },
    )
}

/// Groups side by side, all of them together with 10^6 objects and 10^4 inherited owners, removed
/// one after the other while threads allocate in the one that is next. `value`: all CPU a removal
/// costs.
fn remove_many(ops: u64) -> Run {
    let parent = root().create("service").expect("a group");
    let groups: Vec<Memcg> = (0..ops)
        .map(|i| {
            let group = parent.create(format!("session-{i}")).expect("a group");
            for n in 0..10_000 / ops {
                let child = group.create(format!("child-{n}")).expect("a group");
                child.run(|| take(100));
                child.remove().expect("removed");
            }
            group.run(|| {
                (0..1_000_000 / ops).for_each(|_| {
                    take(100);
                })
            });
            group
        })
        .collect();
    let at = AtomicUsize::new(0);
    under(
        BUSY,
        |_| groups[at.load(Relaxed)].enter(),
        |load| {
            let mut next = 0;
            // A session has some time before it ends; then the next ones are.
            all_cpu(load, ops, |end, count| {
                for (i, group) in groups.iter().enumerate().skip(next).take(count) {
                    idle(20_000);
                    if end {
                        group.remove().expect("removed");
                    }
                    at.store((i + 1) % groups.len(), Relaxed);
                }
                next += if end { count } else { 0 };
            })
        },
    )
}

/// A task with 10^6 objects goes to and fro while threads allocate in it. `value`: all CPU a move
/// costs.
fn moves(ops: u64) -> Run {
    let (a, b) = (tenant(0, Limit::MAX), tenant(1, Limit::MAX));
    let task: Task = a.task("query").expect("a task");
    task.run(|| {
        (0..1_000_000).for_each(|_| {
            take(100);
        })
    });
    under(
        BUSY,
        |_| task.enter(),
        |load| {
            all_cpu(load, ops, |go, count| {
                for i in 0..count {
                    idle(10_000);
                    // One that is told to come again does.
                    while go && task.move_to(if i & 1 == 0 { &b } else { &a }).is_err() {}
                }
            })
        },
    )
}

/// The CPU of `turn(true, n)`, the workers' losses included, less that of `turn(false, n)`, for
/// each of the n: the median of some turns, each beside one without.
fn all_cpu(load: &Load, ops: u64, mut turn: impl FnMut(bool, usize)) -> Run {
    const TURNS: usize = 10;
    let count = ops as usize / TURNS;
    let mut costs = [0.0; TURNS];
    let run = measure(ops, || {
        for cost in &mut costs {
            let mut counted = |really| {
                let (before, own) = (load.all(), cpu_of(own_clock()));
                turn(really, count);
                let own = cpu_of(own_clock()) - own;
                (since(before, load.all()), own as f64)
            };
            let (usual, idle_ns) = counted(false);
            let (work, own_ns) = counted(true);
            *cost = (own_ns - idle_ns + work.lost(usual.each())) / count as f64;
        }
    });
    costs.sort_unstable_by(f64::total_cmp);
    Run {
        value: costs[TURNS / 2],
        ..run
    }
}
