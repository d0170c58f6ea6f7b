//! What futures in groups promise on every runtime: each function is one promise, run by
//! `tests/runtimes.rs` on each runtime.
//!
//! A runtime is named by a [`Runtime`]. Nothing here depends on one: sleeping is a thread that
//! wakes, since not every runtime has timers.

#![forbid(unsafe_code)]
#![allow(clippy::missing_panics_doc)]

mod waiting;

pub use waiting::{
    who_is_killed_in_line_makes_way, who_waits_for_news_is_told, who_waits_for_room_is_served,
};

use memcg::{Limit, Memcg, OomKilled, checkpoint, in_group, root};
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// What a spawned future answers, when it has; dropped, it may cancel the future.
pub type Handle<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A runtime.
pub trait Runtime {
    /// Its name, which begins those of the tests' groups.
    const NAME: &'static str;

    /// Runs a future to its end, with the runtime around it.
    fn block_on<F: Future>(&self, future: F) -> F::Output;

    /// Runs a future on the runtime, beside others.
    fn spawn<F>(&self, future: F) -> Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send;

    /// As [`Self::spawn`], with a way to end the future early.
    fn spawn_to_cancel(&self, future: Handle<()>) -> Box<dyn FnOnce() + Send>;
}

fn group<R: Runtime>(name: &str) -> Memcg {
    root().create(format!("{}-{name}", R::NAME)).unwrap()
}

/// Lets others run.
pub async fn yield_now() {
    let mut first = true;
    poll_fn(|cx| {
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}

/// Waits, by a thread that sleeps.
pub async fn sleep(time: Duration) {
    let shared: Arc<(AtomicBool, Mutex<Option<Waker>>)> = Arc::default();
    let theirs = shared.clone();
    thread::spawn(move || {
        thread::sleep(time);
        theirs.0.store(true, Ordering::Release);
        if let Some(waker) = theirs.1.lock().unwrap().take() {
            waker.wake();
        }
    });
    poll_fn(|cx| {
        *shared.1.lock().unwrap() = Some(cx.waker().clone());
        if shared.0.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

async fn until(mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Idle futures of a killed group end, tasks and scopes, those below included; no other does.
pub fn idle_futures_are_woken_by_a_kill<R: Runtime>(runtime: &R) {
    let (top, beside) = (group::<R>("woken"), group::<R>("woken-not"));
    let below = top.create("below").unwrap();
    let hold = |bytes: usize| async move {
        let held = vec![1u8; bytes];
        pending::<()>().await;
        drop(held);
    };
    let mut killed = Vec::new();
    for n in 0..100 {
        let group = if n % 2 == 0 { &top } else { &below };
        killed.push(if n % 3 == 0 {
            runtime.spawn(in_group(group, "idle", hold(10_000)))
        } else {
            runtime.spawn(group.scope(hold(10_000)).killable())
        });
    }
    let other = runtime.spawn(beside.scope(hold(1_000_000)).killable());
    runtime.block_on(async {
        until(|| top.current() >= 1_000_000 && beside.current() >= 1_000_000).await;
        top.kill();
        for future in killed {
            assert_eq!(future.await, Err(OomKilled));
        }
        assert_eq!(top.current(), 0);
        assert!(beside.current() >= 1_000_000);
        beside.kill();
        assert_eq!(other.await, Err(OomKilled));
    });
}

/// Two futures of one tenant under `kill`: the one that yields is dropped, the one that never does
/// asks; the other tenant goes on.
pub fn two_futures_under_kill_both_end<R: Runtime>(runtime: &R) {
    let (g, other) = (group::<R>("kill"), group::<R>("kill-not"));
    g.set_max(Limit::bytes(8 * MIB)).unwrap();
    g.write("memory.oom.policy", "kill").unwrap();
    g.write("memory.oom.group", "1").unwrap();
    for _ in 0..10 {
        let yields = runtime.spawn(in_group(&g, "yields", async {
            let held = vec![1u8; 4 << 20];
            loop {
                yield_now().await;
                std::hint::black_box(&held);
            }
        }));
        let idle = runtime.spawn(g.scope(pending::<()>()).killable());
        let bystander = runtime.spawn(other.scope(async {
            for _ in 0..100 {
                yield_now().await;
            }
            "done".to_owned()
        }));
        let ask = g.clone();
        let never = runtime.spawn(async move {
            until(|| ask.current() >= 4 * MIB).await;
            in_group(&ask, "never", async {
                let mut held = Vec::new();
                while checkpoint().is_ok() {
                    held.push(vec![1u8; 1 << 14]);
                    assert!(held.len() < 10_000, "it was not told");
                }
                held.len()
            })
            .await
        });
        runtime.block_on(async {
            let chunks = never
                .await
                .expect("it is ready in the poll that it was told in");
            assert!(chunks > 0);
            assert_eq!(
                yields.await.map(|never: std::convert::Infallible| never),
                Err(OomKilled)
            );
            assert_eq!(idle.await, Err(OomKilled));
            assert_eq!(bystander.await, "done");
            until(|| g.current() == 0).await;
        });
    }
    assert_eq!(other.current(), 0);
}

/// A group above its high holds back the future that charged, and nobody else on the thread.
pub fn high_holds_back_its_own_futures_alone<R: Runtime>(runtime: &R) {
    let (slow, free) = (group::<R>("slow"), group::<R>("free"));
    slow.set_high(Limit::bytes(MIB)).unwrap();
    let held = slow.try_reserve(MIB).unwrap();
    let _ = memcg::safe_point();
    let steps = Arc::new(AtomicU32::new(0));
    let counted = steps.clone();
    let is_over = Arc::new(AtomicBool::new(false));
    let (asked, grown) = (is_over.clone(), slow.clone());
    let hog = runtime.spawn(slow.scope(async move {
        let mut all = Vec::new();
        while !asked.load(Ordering::Relaxed) {
            // Owes more than 100 ms.
            let from = memcg::owed();
            while memcg::owed() < from + Duration::from_millis(150) && memcg::owed().as_secs() < 2 {
                all.push(grown.try_reserve(64 << 10).unwrap());
            }
            all.truncate(64);
            counted.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
    }));
    let turns = Arc::new(AtomicU32::new(0));
    let counted = turns.clone();
    let asked = is_over.clone();
    let neighbour = runtime.spawn(free.scope(async move {
        while !asked.load(Ordering::Relaxed) {
            drop(vec![1u8; 1000]);
            counted.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
    }));
    runtime.block_on(async {
        sleep(Duration::from_millis(500)).await;
        let (steps, turns) = (steps.load(Ordering::Relaxed), turns.load(Ordering::Relaxed));
        assert!((1..=6).contains(&steps), "{steps} steps of 100 ms each");
        assert!(turns > 100, "{turns}: it was held up as well");
        is_over.store(true, Ordering::Relaxed);
        hog.await;
        neighbour.await;
    });
    let stat = slow.read("memory.stat").unwrap();
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix("throttled_us "));
    assert!(line.unwrap().parse::<u64>().unwrap() >= 200_000, "{line:?}");
    drop(held);
}

/// `pause()` waits on the runtime, not on the thread.
pub fn a_pause_lets_others_run<R: Runtime>(runtime: &R) {
    let slow = group::<R>("pause");
    slow.set_high(Limit::bytes(MIB)).unwrap();
    let of = slow.clone();
    let pays = runtime.spawn(slow.scope(async move {
        let mut all = vec![of.try_reserve(MIB).unwrap()];
        while memcg::owed() < Duration::from_millis(50) {
            all.push(of.try_reserve(64 << 10).unwrap());
        }
        drop(all);
        let owed = memcg::owed();
        (owed, memcg::pause().await)
    }));
    let turns = runtime.spawn(async {
        let start = Instant::now();
        let mut turns = 0;
        while start.elapsed() < Duration::from_millis(50) {
            turns += 1;
            yield_now().await;
        }
        turns
    });
    runtime.block_on(async {
        let (owed, paid) = pays.await;
        assert_eq!(paid, owed);
        assert!(turns.await > 100);
    });
}

/// Charges follow a future over threads, nested scopes included, and all is given back when it is
/// cancelled.
pub fn nested_futures_are_charged_where_they_belong<R: Runtime>(runtime: &R) {
    let (outer, inner) = (group::<R>("outer"), group::<R>("inner"));
    let all: Vec<_> = (0..20)
        .map(|n| {
            let inner = inner.clone();
            runtime.spawn(in_group(&outer, format!("request {n}"), async move {
                let mut held = Vec::new();
                for _ in 0..10 {
                    held.push(vec![1u8; 10_000]);
                    held.push(
                        inner
                            .scope(async {
                                yield_now().await;
                                let part = vec![1u8; 20_000];
                                yield_now().await;
                                part
                            })
                            .await,
                    );
                    yield_now().await;
                }
                held
            }))
        })
        .collect();
    runtime.block_on(async {
        let mut held = Vec::new();
        for future in all {
            held.push(future.await.unwrap());
        }
        assert!(outer.current() >= 20 * 10 * 10_000 && inner.current() >= 20 * 10 * 20_000);
        assert!(outer.current() < 20 * 10 * 20_000);
        drop(held);
        assert_eq!((outer.current(), inner.current()), (0, 0));
    });
    let idle: Handle<()> = {
        let (outer, inner) = (outer.clone(), inner.clone());
        Box::pin(async move {
            let of = outer.clone();
            let waits = in_group(&outer, "idle", async move {
                let _held = vec![1u8; 1 << 20];
                inner.scope(async { pending::<()>().await }).await;
                drop(of);
            });
            let _ = waits.await;
        })
    };
    let cancel = runtime.spawn_to_cancel(idle);
    runtime.block_on(async {
        until(|| outer.current() >= MIB).await;
        cancel();
        until(|| outer.current() == 0).await;
    });
    outer.remove().unwrap();
    inner.remove().unwrap();
}

/// A future that is ready in the poll in which it was marked delivers what it has.
pub fn who_is_ready_delivers<R: Runtime>(runtime: &R) {
    let g = group::<R>("ready");
    for _ in 0..100 {
        let killer = g.clone();
        let delivers = runtime.spawn(in_group(&g, "ready", async move {
            yield_now().await;
            killer.kill();
            checkpoint()
        }));
        assert_eq!(runtime.block_on(delivers), Ok(Err(OomKilled)));
    }
}
