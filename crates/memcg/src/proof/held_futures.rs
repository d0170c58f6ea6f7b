//! Futures that owe, where there is no worker to wake them: in a process that wants none, and in
//! the child of a fork.

use super::own_process;
use crate::api::{Memcg, OomKilled, owed, pause, root};
use crate::engine::process_engine::engine;
use crate::engine::worker::worker_thread;
use crate::units::Limit;
use core::future::{Future, pending};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

const MIB: u64 = 1 << 20;

fn above_high() -> Memcg {
    let group = root().create("high").unwrap();
    group.set_high(Limit::bytes(MIB)).unwrap();
    group
}

/// Charges until more is owed than is waived, many times over.
fn run_up(group: &Memcg) {
    let mut held = vec![group.try_reserve(MIB).unwrap()];
    while owed() < Duration::from_secs(1) {
        held.push(group.try_reserve(64 << 10).unwrap());
    }
}

fn poll<F: Future>(future: core::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn without_one() {
    engine().options.set_no_thread(true);
    let group = above_high();
    let mut polls = 0;
    let mut future = pin!(group.scope(async {
        run_up(&group);
        assert_eq!(pause().await, Duration::ZERO);
        assert!(owed() >= Duration::from_secs(1), "it stays owed");
        core::future::poll_fn(|_| {
            polls += 1;
            if polls < 3 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }));
    assert!(poll(future.as_mut()).is_pending());
    assert!(poll(future.as_mut()).is_pending());
    assert!(poll(future.as_mut()).is_ready(), "it was held back");
    assert!(!worker_thread::serves(engine()));
}

fn over_a_fork() {
    let group = above_high();
    let mut future = pin!(
        group
            .scope(async {
                run_up(&group);
                let mut first = true;
                core::future::poll_fn(|_| {
                    if core::mem::take(&mut first) {
                        Poll::Pending
                    } else {
                        Poll::Ready(())
                    }
                })
                .await;
                pending::<()>().await;
            })
            .killable()
    );
    assert!(poll(future.as_mut()).is_pending());
    assert!(poll(future.as_mut()).is_pending());
    assert!(worker_thread::serves(engine()), "it is held back");
    // SAFETY: the child does nothing but what this library is made to do in a child, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        assert!(!worker_thread::serves(engine()));
        // Let go, and polled.
        assert!(poll(future.as_mut()).is_pending());
        group.kill();
        assert_eq!(poll(future.as_mut()), Poll::Ready(Err(OomKilled)));
        assert!(poll(pin!(group.scope(async {}))).is_ready());
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    let mut status = 1;
    // SAFETY: waits for our child; a valid place.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0);
    assert!(poll(future.as_mut()).is_pending(), "not killed here");
}

#[test]
fn where_no_worker_runs_no_future_is_held_back() {
    const NAME: &str = "proof::held_futures::where_no_worker_runs_no_future_is_held_back";
    match own_process::argument().as_deref() {
        None => {
            own_process::passes_again(NAME, "without");
            own_process::passes_again(NAME, "fork");
        }
        Some("without") => without_one(),
        Some(_) => over_a_fork(),
    }
}
