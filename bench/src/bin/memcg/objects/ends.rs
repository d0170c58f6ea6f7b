//! Groups that used a cache and a list: their lives, their ends, refusals by `memory.kmem.max`,
//! tasks that move.

use super::lists::{on_all, with_threads};
use super::maker::{Maker, Thing, cache};
use memcg::{KBox, KmemCache, ListLru, LruItem, Memcg, Task, Verdict, root};
use memcg_bench::measure::{Run, measure, table, wall_ns};
use std::hint::black_box;

/// Runs one of these rows.
pub fn run(name: &str, ops: u64) -> Option<Run> {
    Some(match name {
        "life-shared" => life(ops, "slub", false),
        "life-groups" => life(ops, "slub-groups", false),
        "life-dead" => life(ops, "slub-groups", true),
        "remove-list-1" => removes(ops, |group, list, _, keep| {
            keep.0.push(list.insert_for(group, 1));
        }),
        "remove-list-1e5" => removes(ops, |group, list, _, keep| {
            (0..100_000).for_each(|_| keep.0.push(list.insert_for(group, 1)));
        }),
        "remove-cache-1" => removes(ops, |group, _, cache, keep| {
            group.run(|| keep.1.push(cache.make()));
        }),
        "remove-cache-1e5" => removes(ops, |group, _, cache, keep| {
            group.run(|| (0..100_000).for_each(|_| keep.1.push(cache.make())));
        }),
        "refuse" | "refuse-2" | "refuse-4" => refuse(ops, with_threads(name).1),
        "move-1" => moves(ops, 1),
        "move-1e5" => moves(ops, 100_000),
        "move-sort" => sort(ops),
        _ => return None,
    })
}

fn service(name: &str) -> Memcg {
    root().create(name).expect("a group")
}

/// A group is made, lists a thing, has an object of a cache, and is removed; with `dead` the object
/// is freed only then, so that the group's own cache ends with it.
fn life(ops: u64, of: &str, dead: bool) -> Run {
    let cache = cache(of, false).expect("one of these");
    let list: ListLru<u64> = ListLru::new();
    let parent = service("service");
    let go = |n: u64| {
        for _ in 0..n {
            let group = parent.create("session-1234").expect("a group");
            let (thing, object) = (list.insert_for(&group, 1), group.run(|| cache.make()));
            drop(thing);
            let object = dead.then_some(object);
            group.remove().expect("nobody is in it");
            drop(object);
        }
    };
    go(1000);
    measure(ops, || go(ops))
}

/// What outlives its group.
type Keep = (Vec<LruItem<u64>>, Vec<KBox<Thing>>);

/// Ends of `ops` groups that `fill` filled, the median's wall time. The first of a process is not
/// among them.
fn removes(ops: u64, fill: impl Fn(&Memcg, &ListLru<u64>, &KmemCache<Thing>, &mut Keep)) -> Run {
    let cache = cache("slub-groups", false).expect("one of these");
    let list: ListLru<u64> = ListLru::new();
    let parent = service("service");
    let mut keep = Keep::default();
    let groups: Vec<Memcg> = (0..=ops)
        .map(|i| {
            let group = parent.create(format!("session-{i}")).expect("a group");
            fill(&group, &list, &cache, &mut keep);
            group
        })
        .collect();
    let times = table::<u64>(ops as usize);
    groups[ops as usize].remove().expect("nobody is in it");
    let mut run = measure(ops, || {
        for (group, time) in groups.iter().zip(times.iter_mut()) {
            let start = wall_ns();
            group.remove().expect("nobody is in it");
            *time = wall_ns() - start;
        }
    });
    times.sort_unstable();
    run.value = times[times.len() / 2] as f64;
    run
}

/// An object for a group whose `memory.kmem.max` is reached; all threads ask for the same group.
fn refuse(ops: u64, threads: usize) -> Run {
    let group = service("full");
    let cache = cache("slub", false).expect("one of these");
    group.write("memory.kmem.max", "64K").expect("a limit");
    let held: Vec<KBox<Thing>> = group.run(|| (0..1024).map(|_| cache.make()).collect());
    let one = || cache.alloc_with(memcg::Flags::NOWAIT, || unreachable!("there is no room"));
    // Entered once: what is measured is the refusal.
    const AT_A_TIME: u64 = 1000;
    let turns = ops / threads as u64 / AT_A_TIME;
    let mut run = on_all(threads, turns, |_| {
        || group.run(|| (0..AT_A_TIME).for_each(|_| assert!(black_box(one()).is_err())))
    });
    run.ops *= AT_A_TIME;
    drop(held);
    run
}

/// A task goes to and fro, whose `count` things lie on a list, each an object of a cache as well;
/// the median's wall time.
fn moves(ops: u64, count: usize) -> Run {
    let (a, b) = (service("a"), service("b"));
    let task: Task = a.task("query").expect("a task");
    let list: ListLru<u64> = ListLru::new();
    let cache = cache("slub", false).expect("one of these");
    let _held: Vec<_> = task.run(|| {
        let all = 0..count;
        all.map(|_| (list.insert(1), cache.make())).collect()
    });
    let times = table::<u64>(ops as usize);
    let mut to = &b;
    let mut run = measure(ops, || {
        for time in times.iter_mut() {
            let start = wall_ns();
            task.move_to(to).expect("no limit");
            *time = wall_ns() - start;
            to = if std::ptr::eq(to, &a) { &b } else { &a };
        }
    });
    times.sort_unstable();
    run.value = times[times.len() / 2] as f64;
    run
}

/// A task with `ops` things in a list moves, and the worker, or whoever walks the list, puts each
/// where it belongs now. By thing, all CPU.
fn sort(ops: u64) -> Run {
    let (a, b) = (service("a"), service("b"));
    let task: Task = a.task("query").expect("a task");
    let list: ListLru<u64> = ListLru::new();
    let held: Vec<_> = task.run(|| (0..ops).map(|_| list.insert(1)).collect());
    let run = measure(ops, || {
        task.move_to(&b).expect("no limit");
        list.walk(&a, ops, |_| Verdict::Skip);
        while list.count(&b) < ops {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    });
    drop(held);
    run
}
