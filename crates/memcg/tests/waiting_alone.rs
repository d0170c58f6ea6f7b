//! Waiting where the engine has no thread of its own: polls make progress, and nobody wakes.

// Under loom there is no engine to test.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

use memcg::testing::engine::engine;
use memcg::{Limit, WaitError, root, run_deferred};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::sleep;
use std::time::Duration;

const MIB: u64 = 1 << 20;

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn without_a_worker_a_poll_tries_again_and_deferred_work_wakes() {
    engine().options.set_no_thread(true);
    let group = root().create("alone").unwrap();
    group.set_max(Limit::bytes(MIB)).unwrap();
    let held = group.try_reserve(MIB).unwrap();

    // The second is polled: it has the first served, and then itself.
    let (mut first, mut second) = (group.reserve(MIB / 2, None), group.reserve(MIB / 2, None));
    assert!(poll(&mut first).is_pending());
    assert!(poll(&mut second).is_pending());
    drop(held);
    let Poll::Ready(Ok(second)) = poll(&mut second) else {
        panic!("there is room for both");
    };
    let Poll::Ready(Ok(first)) = poll(&mut first) else {
        panic!("it was first");
    };
    assert_eq!(group.current(), MIB);

    // Deferred work that is done elsewhere wakes who waits.
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut third = group.reserve(MIB / 2, None);
    let polled = Pin::new(&mut third).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    drop(first);
    run_deferred();
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    let Poll::Ready(Ok(third)) = poll(&mut third) else {
        panic!("it was served");
    };

    // Time is looked at by polls.
    let mut late = group.reserve(MIB, Some(Duration::from_millis(20)));
    assert!(poll(&mut late).is_pending());
    sleep(Duration::from_millis(30));
    let ended = poll(&mut late);
    assert!(
        matches!(ended, Poll::Ready(Err(WaitError::TimedOut(_)))),
        "{ended:?}"
    );
    drop((second, third));

    let task = group.task("t").unwrap();
    let mut emptied = group.emptied();
    assert_eq!(poll(&mut emptied), Poll::Pending);
    drop(task);
    assert_eq!(poll(&mut emptied), Poll::Ready(()));
}
