//! A group whose policy is to kill: who goes, who does not, and that his memory goes with him.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::{Charge, Event, Flags, InGroup, Limit, Memcg, OomKilled, ReserveError, in_group, root};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

#[path = "common/bell.rs"]
mod bell;

use bell::Bell;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const MIB: u64 = 1 << 20;

fn group(name: &str, max: u64) -> Memcg {
    let group = root().create(name).unwrap();
    group.set_max(Limit::bytes(max)).unwrap();
    group.write("memory.oom.policy", "kill").unwrap();
    group
}

type Idle = Pin<Box<InGroup<Pin<Box<dyn Future<Output = ()> + Send>>>>>;

/// A future that has taken `bytes` and waits for ever.
fn idle(group: &Memcg, bytes: u64, bell: &Arc<Bell>) -> Idle {
    let future: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        let held = vec![1u8; bytes as usize];
        pending::<()>().await;
        drop(held);
    });
    let mut idle = Box::pin(in_group(group, "idle", future));
    assert_eq!(poll(&mut idle, bell), Poll::Pending);
    idle
}

fn poll(idle: &mut Idle, bell: &Arc<Bell>) -> Poll<Result<(), OomKilled>> {
    bell.poll(idle.as_mut())
}

/// As C's malloc takes it.
fn take(group: &Memcg, bytes: u64) -> Result<Charge, ReserveError> {
    group.try_reserve_with(bytes, Flags::MALLOC)
}

fn is_killed(idle: &Idle) -> bool {
    idle.task().unwrap().is_killed()
}

#[test]
fn the_largest_goes_also_when_idle_and_its_memory_is_lent_until_it_has_gone() {
    let g = group("largest", 6 * MIB);
    let (of_large, of_small): (Arc<Bell>, Arc<Bell>) = Default::default();
    let mut large = idle(&g, 3 * MIB, &of_large);
    let small = idle(&g, MIB, &of_small);
    // Malloc may neither wait nor wake: it is served all the same, above max.
    let held = take(&g, 3 * MIB).unwrap();
    assert!(is_killed(&large) && !is_killed(&small));
    assert!(g.current() > 6 * MIB && g.current() < 8 * MIB);
    assert_eq!(
        (g.nr_events(Event::OomKill), g.nr_events(Event::Oom)),
        (1, 1)
    );
    // What even the end of all would not make room for is refused, and nobody is told to die.
    assert!(take(&g, 4 * MIB).is_err());
    assert!(!is_killed(&small));
    of_large.wait();
    assert_eq!(poll(&mut large, &of_large), Poll::Ready(Err(OomKilled)));
    assert!(g.current() < 5 * MIB, "{}", g.current());
    assert_eq!((g.nr_events(Event::OomKill), of_small.rung()), (1, 0));
    drop(large);
    // The next one's turn.
    let more = take(&g, 5 * MIB / 2).unwrap();
    assert!(is_killed(&small));
    of_small.wait();
    drop((held, more, small));
    assert_eq!(g.current(), 0);
}

#[test]
fn of_a_group_that_dies_as_a_whole_nobody_is_left() {
    let g = group("whole", 8 * MIB);
    let unit = g.create("unit").unwrap();
    unit.write("memory.oom.group", "1").unwrap();
    let part = unit.create("part").unwrap();
    let bell: Arc<Bell> = Default::default();
    let mut members = [idle(&part, 3 * MIB, &bell), idle(&unit, MIB, &bell)];
    let bystander = idle(&g, 2 * MIB, &bell);
    let held = take(&g, 4 * MIB).unwrap();
    assert!(members.iter().all(is_killed) && !is_killed(&bystander));
    assert_eq!(unit.nr_events(Event::OomGroupKill), 1);
    assert_eq!(
        (unit.nr_events(Event::OomKill), g.nr_events(Event::OomKill)),
        (2, 2)
    );
    for member in &mut members {
        assert_eq!(poll(member, &bell), Poll::Ready(Err(OomKilled)));
    }
    drop(held);
}

#[test]
fn who_is_never_to_be_killed_outlives_a_group_that_dies_as_a_whole() {
    let g = group("spared", 8 * MIB);
    g.write("memory.oom.group", "1").unwrap();
    let bell: Arc<Bell> = Default::default();
    let (safe, other) = (idle(&g, 4 * MIB, &bell), idle(&g, MIB, &bell));
    safe.task().unwrap().set_oom_score_adj(-1000);
    let held = take(&g, 7 * MIB / 2).unwrap();
    assert!(is_killed(&other) && !is_killed(&safe));
    assert_eq!(g.nr_events(Event::OomKill), 1);
    drop(held);
}

#[test]
fn without_anybody_to_kill_who_can_be_refused_is_refused() {
    let g = group("nobody", 4 * MIB);
    let held = take(&g, 3 * MIB).unwrap();
    assert!(take(&g, 2 * MIB).is_err());
    assert!(
        g.try_reserve_with(2 * MIB, Flags::MALLOC | Flags::WAIT | Flags::USER)
            .is_err()
    );
    assert_eq!(g.nr_events(Event::OomKill), 0);
    assert_eq!(g.nr_events(Event::Oom), 2, "one a refusal");
    // A task of elsewhere is none of this group's.
    let elsewhere = group("elsewhere", 64 * MIB);
    let bell: Arc<Bell> = Default::default();
    let other = idle(&elsewhere, 8 * MIB, &bell);
    assert!(take(&g, 2 * MIB).is_err());
    assert!(!is_killed(&other));
    drop(held);
}

#[test]
fn what_was_said_about_a_task_counts_and_follows_it() {
    let (from, g) = (group("said-before", 64 * MIB), group("said", 8 * MIB));
    let bell: Arc<Bell> = Default::default();
    let (never, first) = (idle(&from, 4 * MIB, &bell), idle(&g, MIB, &bell));
    let third = idle(&g, MIB, &bell);
    never.task().unwrap().set_oom_score_adj(-1000);
    first.task().unwrap().set_oom_score_adj(500);
    third.task().unwrap().set_oom_score_adj(-999);
    never.task().unwrap().move_to(&g).unwrap();
    let held = take(&g, 5 * MIB / 2).unwrap();
    assert!(is_killed(&first) && !is_killed(&never) && !is_killed(&third));
    drop(first);
    let more = take(&g, MIB).unwrap();
    assert!(is_killed(&third) && !is_killed(&never));
    drop(third);
    assert!(take(&g, MIB).is_err(), "nobody is left to kill");
    assert!(!is_killed(&never));
    let stays = memcg::MovePolicy::Stay;
    never.task().unwrap().move_to_with(&from, stays).unwrap();
    assert_eq!(never.task().unwrap().oom_score_adj(), -1000);
    drop((held, more));
}

#[test]
fn a_max_that_is_written_below_what_is_used_has_the_largest_go() {
    let g = group("shrunk", 16 * MIB);
    let bell: Arc<Bell> = Default::default();
    let mut large = idle(&g, 4 * MIB, &bell);
    let small = idle(&g, MIB, &bell);
    g.write("memory.max", "2M").unwrap();
    assert!(is_killed(&large) && !is_killed(&small));
    bell.wait();
    assert_eq!(poll(&mut large, &bell), Poll::Ready(Err(OomKilled)));
    assert!(g.current() <= 2 * MIB);
}

#[test]
fn a_max_that_is_written_has_as_many_go_as_it_takes_and_no_more() {
    let g = group("shrunk-far", 16 * MIB);
    let bells: [Arc<Bell>; 4] = Default::default();
    let mut all = [4 * MIB, 3 * MIB, 2 * MIB, MIB]
        .into_iter()
        .zip(&bells)
        .map(|(bytes, bell)| idle(&g, bytes, bell))
        .collect::<Vec<_>>();
    g.write("memory.max", "5M").unwrap();
    let killed = |all: &[Idle]| all.iter().map(is_killed).collect::<Vec<_>>();
    assert_eq!(killed(&all), [true, true, false, false]);
    // What those two hold is expected back: the same once more costs nobody.
    g.set_max(Limit::bytes(5 * MIB)).unwrap();
    assert_eq!(killed(&all), [true, true, false, false]);
    assert_eq!(g.nr_events(Event::OomKill), 2);
    for (idle, bell) in all.iter_mut().zip(&bells).take(2) {
        bell.wait();
        assert_eq!(poll(idle, bell), Poll::Ready(Err(OomKilled)));
    }
    assert!(g.current() <= 5 * MIB, "{}", g.current());
}

#[test]
fn a_thread_that_works_for_a_task_sees_that_it_is_to_stop() {
    let g = group("thread", 4 * MIB);
    let task = g.task("job").unwrap();
    let mut held = Vec::new();
    while !task.is_killed() {
        let more = task.run(|| vec![1_u8; MIB as usize]);
        held.push(more);
    }
    assert!((4..=5).contains(&held.len()), "{}", held.len());
    assert!(task.try_reserve(MIB).is_err(), "asked at the door");
    // It goes on as long as it does not look; the process lives.
    held.push(task.run(|| vec![1_u8; MIB as usize]));
    assert_eq!(g.nr_events(Event::OomKill), 1);
}

#[test]
fn many_groups_at_once_have_one_victim_each() {
    let bell: Arc<Bell> = Default::default();
    let all: Vec<_> = (0..70)
        .map(|n| {
            let g = group(&format!("many{n}"), MIB);
            let members = [idle(&g, MIB / 2, &bell), idle(&g, MIB / 4, &bell)];
            (g, members)
        })
        .collect();
    let charge = |g: &Memcg| take(g, 3 * MIB / 8).unwrap();
    let first: Vec<_> = all.iter().map(|(g, _)| charge(g)).collect();
    // What each victim will give back is still credited to its own group.
    let more: Vec<_> = all
        .iter()
        .map(|(g, _)| take(g, MIB / 16).unwrap())
        .collect();
    for (g, members) in &all {
        assert_eq!(g.nr_events(Event::OomKill), 1);
        assert!(is_killed(&members[0]) && !is_killed(&members[1]));
    }
    drop((first, more));
}
