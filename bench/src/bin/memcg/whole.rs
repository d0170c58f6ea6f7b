//! Rows about whole groups and tasks: how long an end or a move takes, whatever is held.

use crate::load::under;
use memcg::{Memcg, Task, root};
use memcg_bench::measure::{Run, cpu_ns, measure, rss, table, wall_ns};
use memcg_bench::rows::take;

const BUSY: usize = 8;

/// Runs one of these rows.
pub fn run(name: &str, ops: u64) -> Option<Run> {
    Some(match name {
        "remove-1e6" => remove(),
        "move-1e5" => moves(ops, 100_000, false),
        "move-1e6" => moves(ops, 1_000_000, false),
        "move-1e7" => moves(ops, 10_000_000, false),
        "move-busy" => moves(ops, 10_000_000, true),
        "groups-rss" => groups(ops),
        _ => return None,
    })
}

fn remove() -> Run {
    let parent = root().create("service").expect("a group");
    let group = parent.create("session").expect("a group");
    group.run(|| {
        for _ in 0..1_000_000 {
            take(100);
        }
    });
    // The first of a process reads the code of it into the caches.
    let first = parent.create("first").expect("a group");
    let end = |group: Memcg| {
        let start = wall_ns();
        group.remove().expect("removed");
        wall_ns() - start
    };
    end(first);
    let mut wall = 0;
    let mut run = measure(1, || wall = end(group));
    // Without the process's CPU clock, of which two readings take longer than an end.
    run.wall_ns = wall;
    run
}

fn moves(ops: u64, objects: usize, busy: bool) -> Run {
    let (a, b) = (
        root().create("a").expect("a group"),
        root().create("b").expect("a group"),
    );
    let task: Task = a.task("query").expect("a task");
    task.run(|| {
        for _ in 0..objects {
            take(100);
        }
    });
    let times = table::<u64>(ops as usize);
    let to = |i: usize| -> &Memcg { if i & 1 == 0 { &b } else { &a } };
    let cpu = cpu_ns();
    let mut run = under(
        if busy { BUSY } else { 0 },
        |_| task.enter(),
        |_| {
            let mut i = 0;
            measure(ops, || {
                for time in times.iter_mut() {
                    let start = wall_ns();
                    // One that is told to come again does.
                    while task.move_to(to(i)).is_err() {}
                    *time = wall_ns() - start;
                    i += 1;
                }
            })
        },
    );
    times.sort_unstable();
    run.cpu_ns = cpu_ns() - cpu;
    run.wall_ns = times[times.len() / 2] * ops;
    run.value = times[times.len() * 99 / 100] as f64;
    run
}

fn groups(ops: u64) -> Run {
    let parent = root().create("many").expect("a group");
    let before = rss();
    let mut run = measure(ops, || {
        for i in 0..ops {
            let mut name = *b"s00000000000";
            let mut left = i;
            for digit in name[1..].iter_mut().rev() {
                *digit = b'0' + (left % 10) as u8;
                left /= 10;
            }
            parent.create(name).expect("a group");
        }
    });
    run.value = rss().saturating_sub(before) as f64 / ops as f64;
    run
}
