//! Tests of pressure: a model of which task stalls where after every step; and threads that stall,
//! move, end and remove groups all at once.
//!
//! Invariants: each test has an engine of its own. A task's tag is in one place of `ids` or with
//! one thread.
//! Depends on: the helpers of `files::tests`.
//! Never: uses the process's engine.

#![forbid(unsafe_code)]

use super::*;
use crate::group::Hierarchy;
use crate::group::Tag;
use crate::group::stall::Stall;
use crate::offline;
use crate::sync::id::AtomicId;
use proptest::prelude::*;
use std::time::Instant;

fn totals(w: &World, path: &str) -> [u64; 2] {
    let text = w.get(path, "memory.pressure");
    let mut lines = text.lines();
    ["some", "full"].map(|name| {
        let line = lines.next().unwrap();
        assert!(
            line.starts_with(&format!("{name} avg10=")) && line.contains(" avg300="),
            "{text}"
        );
        line.rsplit_once(" total=").unwrap().1.parse().unwrap()
    })
}

#[test]
fn a_group_that_never_stalled_shows_the_kernel_s_text_and_keeps_no_record() {
    let w = World::new();
    w.mkdir("/a");
    assert_eq!(
        w.get("/a", "memory.pressure"),
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    );
    assert_eq!(w.set("/a", "memory.pressure", "x"), Err(Errno::EACCES));
    assert_eq!(w.engine.tree.pressures.in_use(), 0);
}

#[test]
fn a_sleep_for_high_is_a_stall_of_the_task_s_group_and_those_above() {
    let w = World::new();
    for path in ["/a", "/a/b", "/a/c"] {
        w.mkdir(path);
    }
    let _pin = w.engine.tree.threads.epoch.pin(w.rec);
    let new = |path| w.engine.tree.new_task(w.group(path), b"t", 0).unwrap();
    let (sleeper, _awake) = (new("/a/b"), new("/a/c"));
    let scope = w.engine.tree.enter_scope(w.rec, Some(sleeper));
    w.set("/a", "memory.high", "1M").unwrap();
    let charge = || {
        w.engine
            .charge(
                w.rec,
                Request {
                    tag: sleeper,
                    bytes: 1 << 20,
                    kind: Kind::Mapped,
                    flags: Flags::NOWAIT,
                },
            )
            .unwrap()
    };
    charge();
    charge();
    let start = Instant::now();
    let slept = w.engine.safe_point(w.rec, 60_000_000) / 1000;
    let most = start.elapsed().as_micros() as u64;
    assert_eq!(slept, 60_000);
    let [some, full] = totals(&w, "/a/b");
    assert!((59_999..=most).contains(&some), "{some}");
    // Both were asked one after the other, and the clock was.
    assert!(
        full <= some && some - full < 1_000,
        "nobody else is in /a/b"
    );
    for path in ["/a", "/"] {
        let [some, full] = totals(&w, path);
        assert!((59_999..=most).contains(&some), "{some}");
        assert_eq!(full, 0, "the task of /a/c goes on");
    }
    assert_eq!(totals(&w, "/a/c"), [0, 0]);
    w.engine.tree.leave_scope(w.rec, scope);
}

#[test]
fn a_charge_that_waits_for_a_drain_stalls_and_one_refused_at_once_does_not() {
    let w = World::new();
    w.mkdir("/a");
    assert!(w.charge("/a", 64, Flags::NOWAIT));
    w.set("/a", "memory.max", "1M").unwrap();
    assert!(!w.charge("/a", 2 << 20, Flags::NOWAIT));
    assert_eq!(totals(&w, "/a"), [0, 0]);
    assert_eq!(w.engine.tree.pressures.in_use(), 0);
    assert!(w.charge("/a", 64, Flags::NOWAIT));
    assert!(key(&w.get("/a", "memory.stat"), "stocked") > 0);
    assert!(w.charge("/a", (1 << 20) - 128, Flags::NOWAIT));
    assert_eq!(w.engine.tree.pressures.in_use(), 2, "of /a and of the root");
    w.engine.tree.audit().unwrap();
}

#[test]
fn records_go_with_their_groups() {
    let w = World::new();
    for _ in 0..1000 {
        w.mkdir("/a");
        let tag = w.tag("/a");
        w.engine.tree.ref_objcg(tag);
        let stall = w.engine.tree.stall(w.rec, tag);
        rmdir(w.engine, w.rec, b"/a").unwrap();
        drop(stall);
        let _pin = w.engine.tree.threads.epoch.pin(w.rec);
        w.engine.tree.unref_objcg(tag);
    }
    let tree = &w.engine.tree;
    assert!(tree.pressures.high_water() < 600 && tree.event_counts.high_water() < 600);
    for _ in 0..8 {
        tree.collect();
    }
    assert_eq!(
        (tree.pressures.in_use(), tree.event_counts.in_use()),
        (1, 1)
    );
    tree.audit().unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Begin(usize),
    BeginWithoutTask(usize),
    End(usize),
    NewTask(usize),
    EndTask(usize),
    Move(usize, usize),
    Remove,
    Recount,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..8usize;
    prop_oneof![
        6 => n.clone().prop_map(Step::Begin),
        2 => n.clone().prop_map(Step::BeginWithoutTask),
        6 => n.clone().prop_map(Step::End),
        4 => n.clone().prop_map(Step::NewTask),
        2 => n.clone().prop_map(Step::EndTask),
        4 => (n.clone(), n).prop_map(|(task, to)| Step::Move(task, to)),
        1 => Just(Step::Remove),
        1 => Just(Step::Recount),
    ]
}

const PATHS: [&str; 5] = ["/", "/a", "/a/b", "/a/b/c", "/d"];

/// A task of the model, or a thread without one: where it is, and the stalls for it.
struct Who {
    tag: Tag,
    at: usize,
    is_task: bool,
    stalls: Vec<Stall<'static>>,
}

/// The place of the parent, by PATHS.
fn above(at: usize) -> Option<usize> {
    [None, Some(0), Some(1), Some(2), Some(0)][at]
}

fn is_within(at: usize, top: usize) -> bool {
    at == top || above(at).is_some_and(|above| is_within(above, top))
}

fn should_be(all: &[Who], top: usize) -> (bool, bool) {
    let here = || all.iter().filter(|who| is_within(who.at, top));
    let some = here().any(|who| !who.stalls.is_empty());
    let full = some && here().all(|who| !who.stalls.is_empty());
    (some, full)
}

proptest! {
    #[test]
    fn who_stalls_where_is_what_a_model_says(steps in prop::collection::vec(step(), 1..60)) {
        let w = World::new();
        let tree: &'static Hierarchy = &w.engine.tree;
        for path in &PATHS[1..] {
            w.mkdir(path);
        }
        let _pin = tree.threads.epoch.pin(w.rec);
        // The last, "/d", may be removed: then it is not used any more.
        let mut groups = PATHS.len();
        let mut scope = None;
        let mut all: Vec<Who> = Vec::new();
        for step in steps {
            let nth_task = |all: &[Who], n: usize| {
                let tasks: Vec<usize> = (0..all.len()).filter(|&i| all[i].is_task).collect();
                tasks.get(n % tasks.len().max(1)).copied()
            };
            match step {
                Step::Begin(n) => if let Some(i) = nth_task(&all, n) {
                    let tag = all[i].tag;
                    all[i].stalls.push(tree.stall(w.rec, tag));
                },
                Step::BeginWithoutTask(n) => {
                    let at = n % groups;
                    let tag = w.tag(PATHS[at]);
                    tree.ref_objcg(tag);
                    all.push(Who { tag, at, is_task: false, stalls: vec![tree.stall(w.rec, tag)] });
                }
                Step::End(n) => {
                    let stalled: Vec<usize> = (0..all.len()).filter(|&i| !all[i].stalls.is_empty()).collect();
                    if let Some(&i) = stalled.get(n % stalled.len().max(1)) {
                        all[i].stalls.pop();
                        if !all[i].is_task {
                            tree.unref_objcg(all.swap_remove(i).tag);
                        }
                    }
                }
                Step::NewTask(n) => {
                    let at = n % groups;
                    let tag = tree.new_task(w.group(PATHS[at]), b"task", 0).unwrap();
                    all.push(Who { tag, at, is_task: true, stalls: Vec::new() });
                }
                Step::EndTask(n) => if let Some(i) = nth_task(&all, n) {
                    // A stall ends with its task; the guard is dropped behind it.
                    tree.ref_objcg(all[i].tag);
                    tree.end_task(all[i].tag);
                    let who = all.swap_remove(i);
                    drop(who.stalls);
                    tree.unref_objcg(who.tag);
                },
                Step::Move(n, to) => if let Some(i) = nth_task(&all, n) {
                    // The thread that stalls is one that works for the task.
                    if let Some(scope) = scope.take() {
                        tree.leave_scope(w.rec, scope);
                    }
                    scope = Some(tree.enter_scope(w.rec, Some(all[i].tag)));
                    attach::move_task(tree, w.rec, all[i].tag, w.group(PATHS[to % groups])).unwrap();
                    all[i].at = to % groups;
                },
                Step::Remove => if groups == PATHS.len() && offline::remove_alone(tree, w.group("/d")).is_ok() {
                    groups -= 1;
                    for who in &mut all {
                        if who.at == groups {
                            who.at = 0;
                        }
                    }
                },
                Step::Recount => {
                    // As in the child of a fork: whoever stalled is not here.
                    tree.recount();
                    for who in core::mem::take(&mut all) {
                        drop(who.stalls);
                        if who.is_task {
                            all.push(Who { stalls: Vec::new(), ..who });
                        } else {
                            tree.unref_objcg(who.tag);
                        }
                    }
                }
            }
            for (at, path) in PATHS[..groups].iter().enumerate() {
                prop_assert_eq!(tree.is_stalled(w.group(path)), should_be(&all, at), "{}", path);
            }
        }
        if let Some(scope) = scope {
            tree.leave_scope(w.rec, scope);
        }
        for who in all {
            drop(who.stalls);
            if who.is_task {
                tree.end_task(who.tag);
            } else {
                tree.unref_objcg(who.tag);
            }
        }
        tree.return_all(w.rec);
        tree.audit().unwrap();
    }
}

const RACED_GROUPS: [&str; 4] = ["/r", "/r/a", "/r/b", "/r/b/c"];

/// One thread's tasks, moved by it and by others, and stalls for them.
fn stall_some(w: &World, random: &mut Random, ids: &[AtomicId<Tag>]) {
    let tree: &'static Hierarchy = &w.engine.tree;
    // The AcqRel swaps and CASes of a slot pair with each other, and the Acquire load with all of
    // them: whoever gets a tag sees the task that was made for it.
    let slot = &ids[random.below(ids.len() as u64) as usize];
    match random.below(10) {
        // A task is born or ends; whoever takes it out of its place is the one to end it.
        0 => {
            let _pin = tree.threads.epoch.pin(w.rec);
            // Pairs with the CASes of the other threads, which put tags in.
            if let Some(tag) = slot.swap(None, Ordering::AcqRel) {
                tree.end_task(tag);
                return;
            }
            let tag = tree
                .new_task(w.group(random.of(&RACED_GROUPS)), b"t", 0)
                .unwrap();
            // The CAS pairs with the swaps and loads of the other threads, which take tags out.
            if slot
                .compare_exchange(None, Some(tag), Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
            {
                tree.end_task(tag);
            }
        }
        1 | 2 => {
            let _pin = tree.threads.epoch.pin(w.rec);
            // Acquire pairs with the AcqRel CASes that put tags in.
            if let Some(tag) = slot.load(Ordering::Acquire) {
                // It may have ended meanwhile: then it is no task and the move is refused.
                let target = w.group(random.of(&RACED_GROUPS));
                let _ = attach::move_task(tree, w.rec, tag, target);
            }
        }
        3 => {
            let tag = w.tag(random.of(&RACED_GROUPS));
            let stall = tree.stall(w.rec, tag);
            std::thread::yield_now();
            drop(stall);
        }
        _ => {
            // Taken out for the while, or another thread ends it before we have named it.
            // The swap pairs with the CASes of the other threads, as does the CAS below.
            let Some(tag) = slot.swap(None, Ordering::AcqRel) else {
                return;
            };
            let scope = tree.enter_scope(w.rec, Some(tag));
            let taken = slot
                .compare_exchange(None, Some(tag), Ordering::AcqRel, Ordering::Relaxed)
                .is_err();
            let stall = tree.stall(w.rec, tag);
            if random.below(4) == 0 {
                std::thread::yield_now();
            }
            drop(stall);
            tree.leave_scope(w.rec, scope);
            if taken {
                let _pin = tree.threads.epoch.pin(w.rec);
                tree.end_task(tag);
            }
        }
    }
}

#[test]
fn stalls_moves_ends_and_removals_at_once_end_balanced() {
    let w = World::new();
    for path in RACED_GROUPS {
        w.mkdir(path);
    }
    let (engine, stop) = (w.engine, &AtomicBool::new(false));
    let ids: [AtomicId<Tag>; 6] = Default::default();
    let start = Instant::now();
    std::thread::scope(|s| {
        for seed in 1..=4 {
            let random = core::cell::RefCell::new(Random(0x9e37_79b9 * seed));
            let ids = &ids;
            s.spawn(move || {
                race(engine, stop, |w, (): &mut ()| {
                    stall_some(w, &mut random.borrow_mut(), ids)
                })
            });
        }
        s.spawn(move || {
            race(engine, stop, |w, (): &mut ()| {
                w.mkdir("/r/a/gone");
                let tag = {
                    let group = w.group("/r/a/gone");
                    engine.tree.ref_objcg(group.tag());
                    group.tag()
                };
                let stall = engine.tree.stall(w.rec, tag);
                rmdir(w.engine, w.rec, b"/r/a/gone").unwrap();
                drop(stall);
                let _pin = engine.tree.threads.epoch.pin(w.rec);
                engine.tree.unref_objcg(tag);
            })
        });
        s.spawn(move || {
            let seen = core::cell::RefCell::new([[0; 2]; RACED_GROUPS.len()]);
            race(engine, stop, |w, (): &mut ()| {
                for (path, last) in RACED_GROUPS.iter().zip(seen.borrow_mut().iter_mut()) {
                    let now = totals(w, path);
                    assert!(now[0] >= last[0] && now[1] >= last[1], "{last:?} {now:?}");
                    *last = now;
                }
            })
        });
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
    });
    let elapsed = start.elapsed().as_micros() as u64;
    let _pin = engine.tree.threads.epoch.pin(w.rec);
    for slot in &ids {
        if let Some(tag) = slot.load(Ordering::Relaxed) {
            engine.tree.end_task(tag);
        }
    }
    for path in ["/", "/r", "/r/a", "/r/b", "/r/b/c"] {
        assert_eq!(engine.tree.is_stalled(w.group(path)), (false, false));
        let [some, full] = totals(&w, path);
        assert!(full <= some && some <= elapsed, "{path} {full} {some}");
    }
    assert!(totals(&w, "/")[0] > 0);
    engine.tree.audit().unwrap();
}
