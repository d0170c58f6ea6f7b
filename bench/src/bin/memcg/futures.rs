//! Rows about futures in groups: made, polled once, dropped.

use memcg::{Memcg, in_group, root};
use memcg_bench::measure::{Run, measure};
use std::future::{Future, pending, ready};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// A future in a group, as one writes it by hand.
struct ByHand<F> {
    group: Memcg,
    future: F,
}

impl<F: Future + Unpin> Future for ByHand<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _entered = this.group.enter();
        Pin::new(&mut this.future).poll(cx)
    }
}

/// Runs one of these rows.
pub fn run(name: &str, ops: u64) -> Option<Run> {
    let group = || {
        let a = root().create("futures").expect("a group");
        a.create("tenant").expect("a group")
    };
    Some(match name {
        "future-by-hand" => {
            let group = group();
            each(ops, || ByHand {
                group: group.clone(),
                future: ready(7),
            })
        }
        "future-scope" => {
            let group = group();
            each(ops, || group.scope(ready(7)))
        }
        "future-killable" => {
            let group = group();
            each(ops, || group.scope(ready(7)).killable())
        }
        "future-task" => {
            let group = group();
            each(ops, || in_group(&group, "request", ready(7)))
        }
        "future-task-waits" => {
            let group = group();
            each(ops, || in_group(&group, "request", pending::<()>()))
        }
        _ => return None,
    })
}

fn each<F: Future>(ops: u64, make: impl Fn() -> F) -> Run {
    let mut cx = Context::from_waker(Waker::noop());
    let mut once = || {
        let future = pin!(black_box(make()));
        let _ = black_box(future.poll(&mut cx));
    };
    (0..1000).for_each(|_| once());
    measure(ops, || (0..ops).for_each(|_| once()))
}
