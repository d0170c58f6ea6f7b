//! Every call for memory fails once: nobody falls over, the caller is told, nothing is lost, and
//! the books balance.
//!
//! A fixed workload in a process of its own, once for every call it makes, with that call failing;
//! and again with all calls from that one on. Left out: forks, and threads' stacks, which are the C
//! library's.

#![forbid(unsafe_code)]

use super::ledger::{self, Object, some_bytes};
use super::own_process;
use crate::api::{Memcg, Task, root};
use crate::engine::{Flags, kmalloc, process_engine, try_engine};
use crate::os::fault::{Plan, follow};
use crate::testing::common::Random;
use std::sync::atomic::{AtomicU64, Ordering};

const TEST: &str =
    "proof::faults::whatever_call_for_memory_fails_the_caller_is_told_and_the_books_balance";

/// What one thread does. Answers what it holds in the end.
fn work(seed: u64, task: Option<&Task>) -> Vec<Object> {
    let mut random = Random(seed);
    let mut mine: Vec<Object> = Vec::new();
    let _scope = task.map(Task::enter);
    for step in 0..300 {
        let align = if step % 13 == 0 { 1 << (step % 23) } else { 1 };
        mine.extend(Object::new(some_bytes(&mut random), align, step % 5 == 0));
        if step % 3 == 0 && !mine.is_empty() {
            let at = random.next(mine.len() as u64) as usize;
            let _ = mine[at].resize(some_bytes(&mut random).max(1));
        }
        if step % 2 == 0 && !mine.is_empty() {
            mine.swap_remove(random.next(mine.len() as u64) as usize)
                .free();
        }
    }
    // Grows through all sizes, then shrinks again. What shrinks does so without memory.
    if let Some(mut object) = Object::new(10, 1, false) {
        let sizes = [200, 5_000, 40_000, 66_000, 1 << 20, 3 << 20, 20 << 20];
        for bytes in sizes {
            let _ = object.resize(bytes);
        }
        // With another in its way it has to move.
        mine.extend(Object::new(20 << 20, 1, false));
        let _ = object.resize(70 << 20);
        let smaller = sizes
            .into_iter()
            .rev()
            .filter(|&bytes| bytes < object.bytes);
        for bytes in smaller.collect::<Vec<_>>() {
            assert!(object.resize(bytes), "an object does not get smaller");
        }
        mine.push(object);
    }
    mine
}

fn run(plan: &'static Plan) {
    follow(Some(plan));
    let Some(engine) = try_engine() else {
        // No memory for the first tables: it stays so, and that is told.
        assert!(kmalloc::alloc(100, Flags::NOWAIT).is_null());
        assert!(Object::new(100_000, 1, true).is_none());
        return;
    };
    // A handle takes a record, and says so by a panic.
    let known = process_engine::with_rec(|_, _| ()).is_some();
    let a = known.then(|| root().create("a").ok()).flatten();
    let b = a.as_ref().and_then(|a| a.create("b").ok());
    let task = b.as_ref().and_then(|b| b.task("task").ok());
    let mut objects = work(1, task.as_ref());
    for round in 0..2 {
        let task = task.as_ref();
        let theirs: Vec<Vec<Object>> = std::thread::scope(|s| {
            let go = |me: u64| {
                s.spawn(move || {
                    follow(Some(plan));
                    work(me + 10 * round, task)
                })
            };
            let threads = [go(2), go(3)];
            threads.map(|thread| thread.join().unwrap()).into()
        });
        // Freed here, with their threads gone.
        objects.extend(theirs.into_iter().flatten().skip(round as usize * 50));
        if let (Some(task), Some(a)) = (task, &a) {
            let _ = task.move_to(a);
        }
    }
    drop(task);
    for group in [b, a].into_iter().flatten() {
        // Neither allocates nor fails.
        Memcg::remove(&group).unwrap();
    }
    follow(None);
    ledger::check(engine);
    follow(Some(plan));
    objects.into_iter().for_each(Object::free);
    kmalloc::trim();
    follow(None);
    ledger::check(engine);
}

/// Runs the workload with calls `first` to `last` failing; answers how many it made.
fn with_failing(first: u64, last: u64) -> u64 {
    let text = own_process::passes_again(TEST, &format!("{first} {last}"));
    let calls = text
        .split_once("calls: ")
        .map(|(_, rest)| rest.lines().next().unwrap());
    calls.unwrap().trim().parse().unwrap()
}

#[test]
fn whatever_call_for_memory_fails_the_caller_is_told_and_the_books_balance() {
    if let Some(argument) = own_process::argument() {
        let (first, last) = argument.split_once(' ').unwrap();
        let plan = Plan::new(first.parse().unwrap(), last.parse().unwrap());
        let plan: &'static Plan = Box::leak(Box::new(plan));
        run(plan);
        println!("calls: {}", plan.calls());
        return;
    }
    let most = with_failing(u64::MAX, u64::MAX);
    assert!(most > 50, "{most} calls are few");
    // A call more or less, by what the threads do when.
    let next = AtomicU64::new(1);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                loop {
                    let nr = next.fetch_add(1, Ordering::Relaxed);
                    if nr > most + 5 {
                        return;
                    }
                    with_failing(nr, nr);
                    with_failing(nr, u64::MAX);
                }
            });
        }
    });
    println!("{most} calls, each failed");
}
