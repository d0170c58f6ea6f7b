//! Futures in groups: who is charged, who is killed, who is held back. Polled by hand; `runtimes`
//! has the same on real ones.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::{Flags, Limit, Memcg, OomKilled, checkpoint, in_group, root};
use std::cell::Cell;
use std::future::{Future, pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

#[path = "common/bell.rs"]
mod bell;

use bell::Bell;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const MIB: u64 = 1 << 20;

fn group(name: &str) -> Memcg {
    root().create(name).unwrap()
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Tells whose it was when it was dropped.
struct Last<'a> {
    group: &'a Memcg,
    charged: Rc<Cell<u64>>,
}

impl Drop for Last<'_> {
    fn drop(&mut self) {
        let before = self.group.current();
        let held = std::hint::black_box(vec![1u8; 1 << 16]);
        self.charged.set(self.group.current() - before);
        drop(held);
    }
}

#[test]
fn a_scope_charges_its_group_and_yields_the_output() {
    let g = group("scope-charges");
    let text: Poll<String> = poll(pin!(g.scope(async { "x".repeat(5_000) })));
    assert!(matches!(&text, Poll::Ready(text) if text.len() == 5_000));
    assert!(g.current() >= 5_000);
    drop(text);
    assert_eq!(g.current(), 0);
    assert!(g.remove().is_ok(), "no record, no task");
}

#[test]
fn scopes_nest_and_stand_inside_tasks() {
    let (a, b, c) = (group("nest-a"), group("nest-b"), group("nest-c"));
    let all = async {
        let held_a = vec![0u8; 1 << 20];
        let held_b = b.scope(async { vec![0u8; 2 << 20] }).await;
        let held_c = c.scope(b.scope(async { vec![0u8; 4 << 20] })).await;
        pending::<()>().await;
        drop((held_a, held_b, held_c));
    };
    let mut all = Box::pin(in_group(&a, "outer", all));
    assert!(poll(all.as_mut()).is_pending());
    assert!((MIB..MIB + 4096).contains(&a.current()), "{}", a.current());
    assert!(b.current() >= 6 * MIB && c.current() == 0);
    drop(all);
    assert_eq!((a.current(), b.current()), (0, 0));
}

#[test]
fn a_future_is_dropped_in_its_group() {
    let g = group("dropped-in");
    let charged = Rc::new(Cell::new(0));
    async fn waits(last: Last<'_>) {
        pending::<()>().await;
        drop(last);
    }
    let last = || Last {
        group: &g,
        charged: charged.clone(),
    };
    // Early, killed, never polled, and when it is ready.
    let mut early = Box::pin(g.scope(waits(last())));
    assert!(poll(early.as_mut()).is_pending());
    drop(early);
    assert!(charged.replace(0) >= 1 << 16);
    let mut killed = Box::pin(g.scope(waits(last())).killable());
    assert!(poll(killed.as_mut()).is_pending());
    g.kill();
    assert_eq!(poll(killed.as_mut()), Poll::Ready(Err(OomKilled)));
    assert!(charged.replace(0) >= 1 << 16);
    drop(g.scope(waits(last())).killable());
    assert!(charged.replace(0) >= 1 << 16);
    let kept = last();
    let done = in_group(&g, "done", async move {
        let _kept = &kept;
    });
    assert_eq!(poll(pin!(done)), Poll::Ready(Ok(())));
    assert!(charged.replace(0) >= 1 << 16);
    assert_eq!(g.current(), 0);
}

#[test]
fn a_killed_group_ends_the_killable_scopes_made_before_there_and_below() {
    let top = group("kill-top");
    let (below, beside) = (top.create("below").unwrap(), group("kill-beside"));
    let bells: [Arc<Bell>; 4] = Default::default();
    let waits = |g: &Memcg, bell: &Arc<Bell>| {
        let mut future = Box::pin(g.scope(pending::<()>()).killable());
        assert_eq!(bell.poll(future.as_mut()), Poll::Pending);
        future
    };
    let mut in_top = waits(&top, &bells[0]);
    let mut in_below = waits(&below, &bells[1]);
    let mut in_beside = waits(&beside, &bells[2]);
    let mut plain = Box::pin(top.scope(pending::<()>()));
    assert_eq!(bells[3].poll(plain.as_mut()), Poll::Pending);
    top.write("cgroup.kill", "1").unwrap();
    assert_eq!(bells.each_ref().map(|bell| bell.rung()), [1, 1, 0, 0]);
    let mut after = waits(&top, &bells[3]);
    assert_eq!(poll(in_top.as_mut()), Poll::Ready(Err(OomKilled)));
    assert_eq!(poll(in_below.as_mut()), Poll::Ready(Err(OomKilled)));
    assert_eq!(poll(in_beside.as_mut()), Poll::Pending);
    assert_eq!(poll(plain.as_mut()), Poll::Pending, "not killable");
    assert_eq!(bells[3].poll(after.as_mut()), Poll::Pending);
    top.kill();
    assert_eq!(
        bells[3].rung(),
        1,
        "its waker was there for the second kill"
    );
    assert_eq!(poll(after.as_mut()), Poll::Ready(Err(OomKilled)));
}

#[test]
fn a_scope_outlives_its_group_and_is_killed_with_the_one_above() {
    let top = group("outlives");
    let gone = top.create("gone").unwrap();
    let bell: Arc<Bell> = Default::default();
    let mut future = Box::pin(
        gone.scope(async {
            let held = vec![0u8; 1 << 20];
            pending::<()>().await;
            drop(held);
        })
        .killable(),
    );
    gone.remove().unwrap();
    assert!(bell.poll(future.as_mut()).is_pending());
    assert!(top.current() >= MIB);
    // Killed, then removed, and only then polled: it is killed all the same.
    let last = top.create("last").unwrap();
    let mut late = Box::pin(last.scope(pending::<()>()).killable());
    top.kill();
    last.remove().unwrap();
    assert_eq!(bell.rung(), 1);
    assert_eq!(poll(future.as_mut()), Poll::Ready(Err(OomKilled)));
    assert_eq!(poll(late.as_mut()), Poll::Ready(Err(OomKilled)));
    drop((future, late));
    assert_eq!(top.current(), 0);
}

#[test]
fn who_is_ready_in_the_poll_of_the_kill_delivers_and_who_waits_ends_in_it() {
    let g = group("in-the-poll");
    let killer = g.clone();
    let mut killed_and_ready = pin!(in_group(&g, "ready", async move {
        killer.kill();
        assert_eq!(checkpoint(), Err(OomKilled));
        7
    }));
    assert_eq!(poll(killed_and_ready.as_mut()), Poll::Ready(Ok(7)));
    let killer = g.clone();
    let scope = g.scope(async move {
        killer.kill();
        8
    });
    assert_eq!(poll(pin!(scope.killable())), Poll::Ready(Ok(8)));
    let killer = g.clone();
    let mut waits = pin!(in_group(&g, "waits", async move {
        killer.kill();
        pending::<()>().await;
    }));
    assert_eq!(poll(waits.as_mut()), Poll::Ready(Err(OomKilled)));
}

#[test]
fn a_loop_that_does_not_yield_asks_for_its_task_its_scope_and_those_around_them() {
    let (a, b) = (group("asks-a"), group("asks-b"));
    assert_eq!(checkpoint(), Ok(()));
    let killer = a.clone();
    // Not killable: it finds out, and decides itself.
    let inner = b.scope(async move {
        assert_eq!(checkpoint(), Ok(()));
        killer.kill();
        checkpoint()
    });
    let outer = a.scope(async move {
        let answer = inner.await;
        (answer, checkpoint())
    });
    let both = (Err(OomKilled), Err(OomKilled));
    assert_eq!(poll(pin!(outer)), Poll::Ready(both));
    assert_eq!(checkpoint(), Ok(()));
    // A scope inside a task: either.
    let task = in_group(&a, "task", b.scope(poll_fn(|_| Poll::Ready(checkpoint()))));
    let mut task = pin!(task);
    b.kill();
    assert_eq!(poll(task.as_mut()), Poll::Ready(Ok(Err(OomKilled))));
    let job = a.task("job").unwrap();
    a.kill();
    assert_eq!(job.run(checkpoint), Err(OomKilled));
    let _plain = a.enter();
    assert_eq!(checkpoint(), Ok(()));
}

/// Two futures of one tenant under `kill`: one yields, one never does.
#[test]
fn under_kill_who_yields_is_dropped_and_who_does_not_asks() {
    let g = group("two-futures");
    g.set_max(Limit::bytes(8 * MIB)).unwrap();
    g.write("memory.oom.policy", "kill").unwrap();
    g.write("memory.oom.group", "1").unwrap();
    let bell: Arc<Bell> = Default::default();
    let mut yields = Box::pin(in_group(&g, "yields", async {
        let held = vec![1u8; 6 << 20];
        pending::<()>().await;
        drop(held);
    }));
    assert!(bell.poll(yields.as_mut()).is_pending());
    let mut idle = Box::pin(g.scope(pending::<()>()).killable());
    let bell_of_idle: Arc<Bell> = Default::default();
    assert!(bell_of_idle.poll(idle.as_mut()).is_pending());
    let mut never = pin!(in_group(&g, "never", async {
        let mut held = Vec::new();
        while checkpoint().is_ok() {
            held.push(vec![1u8; 1 << 16]);
            assert!(held.len() < 1000, "not told");
        }
        held.len()
    }));
    let Poll::Ready(Ok(chunks)) = poll(never.as_mut()) else {
        panic!("it is ready");
    };
    assert!(chunks >= 16, "{chunks}");
    // By the worker: who charged may not run code of the program.
    bell.wait();
    bell_of_idle.wait();
    assert_eq!(poll(yields.as_mut()), Poll::Ready(Err(OomKilled)));
    assert_eq!(poll(idle.as_mut()), Poll::Ready(Err(OomKilled)));
    assert_eq!(g.current(), 0);
}

/// Charges in `g`, which is above its high, until `at_least` is owed here.
fn run_up(g: &Memcg, at_least: Duration) -> Vec<memcg::Charge> {
    let mut held = Vec::new();
    while memcg::owed() < at_least {
        held.push(g.try_reserve(64 << 10).unwrap());
    }
    held
}

fn above_high(name: &str) -> Memcg {
    let g = group(name);
    g.set_high(Limit::bytes(MIB)).unwrap();
    g
}

fn throttled_us(g: &Memcg) -> u64 {
    let stat = g.read("memory.stat").unwrap();
    let line = stat.lines().find(|line| line.starts_with("throttled_us "));
    line.unwrap()[13..].parse().unwrap()
}

#[test]
fn high_holds_back_the_future_that_owes_and_nobody_else() {
    let (g, other) = (above_high("holds-back"), group("holds-back-not"));
    let debt = Duration::from_millis(150);
    let before = g.try_reserve(MIB).unwrap();
    let owed_before = memcg::owed();
    let polls = Cell::new(0);
    let work = async {
        assert_eq!(memcg::owed(), Duration::ZERO, "not what the thread owes");
        let held = run_up(&g, debt);
        drop(held);
        let mut left = 2;
        poll_fn(|_| {
            polls.set(polls.get() + 1);
            left -= 1;
            if left == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    };
    let bell: Arc<Bell> = Default::default();
    let mut work = Box::pin(g.scope(work));
    assert!(bell.poll(work.as_mut()).is_pending());
    assert_eq!((polls.get(), memcg::owed()), (1, owed_before));
    let start = Instant::now();
    assert!(bell.poll(work.as_mut()).is_pending());
    assert!(bell.poll(work.as_mut()).is_pending());
    assert_eq!(polls.get(), 1, "held back");
    // Nobody else is.
    assert_eq!(poll(pin!(g.scope(ready(1)))), Poll::Ready(1));
    assert_eq!(poll(pin!(other.scope(ready(2)))), Poll::Ready(2));
    assert_eq!(bell.rung(), 0);
    bell.wait();
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert!(bell.poll(work.as_mut()).is_ready());
    assert_eq!(polls.get(), 2);
    assert!(throttled_us(&g) >= 100_000, "{}", throttled_us(&g));
    assert_eq!(memcg::owed(), owed_before);
    drop(before);
}

#[test]
fn a_charge_that_may_wait_owes_in_a_future() {
    let g = above_high("wait-owes");
    let work = g.scope(async {
        let start = Instant::now();
        let mut held = Vec::new();
        while memcg::owed() < Duration::from_secs(1) {
            held.push(g.try_reserve_with(64 << 10, Flags::WAIT).unwrap());
        }
        start.elapsed()
    });
    let Poll::Ready(took) = poll(pin!(work)) else {
        panic!("it is ready");
    };
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(memcg::owed(), Duration::ZERO);
}

#[test]
fn a_killed_future_is_not_held_back_any_longer() {
    let g = above_high("held-and-killed");
    let bell: Arc<Bell> = Default::default();
    let mut work = Box::pin(in_group(&g, "work", async {
        let held = run_up(&g, Duration::from_secs(1));
        pending::<()>().await;
        drop(held);
    }));
    assert!(bell.poll(work.as_mut()).is_pending());
    assert!(bell.poll(work.as_mut()).is_pending());
    g.kill();
    assert_eq!(bell.rung(), 1);
    assert_eq!(poll(work.as_mut()), Poll::Ready(Err(OomKilled)));
    drop(work);
    assert_eq!(g.current(), 0);
}

#[test]
fn what_holds_others_up_is_not_held_up() {
    let g = above_high("section");
    let polls = Cell::new(0);
    let mut work = Box::pin(g.scope(async {
        let section = memcg::Unthrottled::enter();
        let held = run_up(&g, Duration::from_millis(100));
        assert_eq!(memcg::safe_point(), Duration::ZERO);
        assert_eq!(memcg::pause().await, Duration::ZERO);
        for n in 0..3 {
            let mut first = true;
            poll_fn(|_| {
                polls.set(polls.get() + 1);
                if std::mem::take(&mut first) {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
            .await;
            assert_eq!(polls.get(), 2 * n + 2);
        }
        drop(section);
        drop(held);
        pending::<()>().await;
    }));
    for _ in 0..4 {
        assert!(poll(work.as_mut()).is_pending());
    }
    assert_eq!(polls.get(), 6);
    // Now it pays.
    let before = throttled_us(&g);
    assert!(poll(work.as_mut()).is_pending());
    std::thread::sleep(Duration::from_millis(5));
    drop(work);
    assert!(throttled_us(&g) >= before + 5_000);
    let slept = memcg::unthrottled(|| {
        let held = g.try_reserve(MIB).unwrap();
        let more = run_up(&g, Duration::from_millis(20));
        drop((held, more));
        memcg::safe_point()
    });
    assert_eq!(slept, Duration::ZERO);
    assert!(memcg::safe_point() >= Duration::from_millis(20));
}

#[test]
fn a_pause_pays_without_the_thread_and_what_it_does_not_pay_stays_owed() {
    let g = above_high("pause");
    let bell: Arc<Bell> = Default::default();
    let mut work = Box::pin(g.scope(async {
        drop(run_up(&g, Duration::from_millis(30)));
        let owed = memcg::owed();
        let mut dropped = Box::pin(memcg::pause());
        poll_fn(|cx| {
            assert!(dropped.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(memcg::owed(), Duration::ZERO);
        drop(dropped);
        assert!(memcg::owed() <= owed && memcg::owed() > owed / 2);
        let owed = memcg::owed();
        let paid = memcg::pause().await;
        (owed, paid, memcg::owed())
    }));
    assert!(bell.poll(work.as_mut()).is_pending());
    bell.wait();
    let Poll::Ready((owed, paid, left)) = bell.poll(work.as_mut()) else {
        panic!("it has paid");
    };
    assert_eq!((paid, left), (owed, Duration::ZERO));
    assert!(throttled_us(&g) >= 10_000);
}

#[test]
fn a_waker_that_panics_ends_its_own_call_alone() {
    struct Bad;
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }
    let g = group("bad-waker");
    let waker = Waker::from(Arc::new(Bad));
    let mut bad = Box::pin(g.scope(pending::<()>()).killable());
    assert!(
        bad.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    let bell: Arc<Bell> = Default::default();
    let mut good = Box::pin(g.scope(pending::<()>()).killable());
    assert!(bell.poll(good.as_mut()).is_pending());
    g.kill();
    assert_eq!(bell.rung(), 1);
    assert_eq!(poll(bad.as_mut()), Poll::Ready(Err(OomKilled)));
}

/// A waker that, when it is woken, kills, makes and drops what it can: it would meet any lock that
/// is held.
#[test]
fn no_lock_is_held_while_a_waker_runs() {
    struct Meddler(Memcg);
    impl Wake for Meddler {
        fn wake(self: Arc<Self>) {
            let mut other = Box::pin(self.0.scope(pending::<()>()).killable());
            assert!(poll(other.as_mut()).is_pending());
            self.0.kill();
            assert_eq!(poll(other.as_mut()), Poll::Ready(Err(OomKilled)));
            self.0.create("made-in-a-waker").unwrap().remove().unwrap();
        }
    }
    let g = group("meddler");
    let waker = Waker::from(Arc::new(Meddler(g.clone())));
    let mut waits = Box::pin(in_group(&g, "waits", pending::<()>()));
    assert!(
        waits
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    g.kill();
    assert_eq!(poll(waits.as_mut()), Poll::Ready(Err(OomKilled)));
}

#[test]
fn a_task_that_moves_while_it_waits_is_woken_where_it_is() {
    for policy in [memcg::MovePolicy::Transfer, memcg::MovePolicy::Stay] {
        let name = format!("moves-{policy:?}");
        let (from, to) = (group(&name), group(&format!("{name}-to")));
        let bell: Arc<Bell> = Default::default();
        let mut waits = Box::pin(in_group(&from, "waits", pending::<()>()));
        assert!(bell.poll(waits.as_mut()).is_pending());
        waits.task().unwrap().move_to_with(&to, policy).unwrap();
        from.kill();
        assert_eq!(bell.rung(), 0);
        assert!(bell.poll(waits.as_mut()).is_pending());
        to.kill();
        assert_eq!(bell.rung(), 1);
        assert_eq!(poll(waits.as_mut()), Poll::Ready(Err(OomKilled)));
    }
}

#[test]
fn a_scope_that_is_leaked_does_not_harm_who_kills() {
    let g = group("leaked");
    let mut leaked = Box::pin(g.scope(pending::<()>()).killable());
    let bell: Arc<Bell> = Default::default();
    assert!(bell.poll(leaked.as_mut()).is_pending());
    std::mem::forget(leaked);
    let mut on_stack = Box::new(g.scope(pending::<()>()).killable());
    // SAFETY: the box is leaked below: the future stays where it is for ever.
    let pinned = unsafe { Pin::new_unchecked(&mut *on_stack) };
    assert!(bell.poll(pinned).is_pending());
    std::mem::forget(on_stack);
    g.kill();
    assert_eq!(bell.rung(), 2);
    g.remove().unwrap();
    root().create("leaked").unwrap().kill();
    assert_eq!(bell.rung(), 2);
}

#[test]
fn its_name_is_told_among_the_owners() {
    let g = group("named");
    let held = poll(pin!(in_group(&g, "GET /rows", async {
        vec![0u8; 1 << 20]
    })));
    let owners = g.read("memory.owners").unwrap();
    assert!(owners.contains("GET /rows"), "{owners}");
    drop(held);
}
