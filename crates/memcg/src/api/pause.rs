//! What is owed for `memory.high`: how much, how to pay it, and where it must wait.
//!
//! Invariants: what a pause does not get to pay stays owed.
//! Depends on: `paying`; the thread's record, which has the debt of the future that it polls.
//! Never: lets a thread sleep.

#![forbid(unsafe_code)]

use super::paying::{Paid, Paying};
use crate::counter::throttle_curve::{MAX_DELAY_NS, due_ns};
use crate::engine::process_engine::{known_rec, with_rec};
use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

/// The delay that is owed here for having charged groups above their `high`: by the future in a
/// group that is being polled ([`Memcg::scope`](super::Memcg::scope),
/// [`in_group`](super::in_group)), outside of those by the thread. At most 2 s. Cost: a load.
#[must_use]
pub fn owed() -> Duration {
    Duration::from_nanos(known_rec().map_or(0, |rec| rec.owed_ns()))
}

/// Pays what is owed here ([`owed`]) without blocking the thread: resolves when the time is over,
/// to the time that it took.
///
/// For places where a future should wait, such as before it answers, or takes a lock: a future that
/// owes is held back at some poll anyway, but not before its last. What is owed up to 10 ms stays
/// owed, and so does all of it where the engine has no thread to wake anybody, and in
/// [`unthrottled`] sections. Dropped early, it has paid for the time that it waited.
/// [`safe_point`](super::safe_point) is for threads.
///
/// ```
/// # use std::future::Future;
/// # use std::task::{Context, Poll, Waker};
/// async fn answer(rows: Vec<u64>) -> u64 {
///     let sum = rows.iter().sum();
///     drop(rows);
///     memcg::pause().await;
///     sum
/// }
/// # let mut cx = Context::from_waker(Waker::noop());
/// # let polled = std::pin::pin!(answer(vec![1, 2])).poll(&mut cx);
/// # assert_eq!(polled, Poll::Ready(3));
/// ```
pub fn pause() -> Pause {
    Pause { paying: None }
}

/// What [`pause`] answers.
#[must_use = "futures do nothing unless polled"]
pub struct Pause {
    paying: Option<Paying>,
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pause")
            .field("is_paying", &self.paying.is_some())
            .finish()
    }
}

impl Pause {
    /// It is over, or dropped: what was not paid is owed again. Answers what was.
    fn end(&mut self) -> Duration {
        let Some(paying) = self.paying.take() else {
            return Duration::ZERO;
        };
        let Paid { paid_ns, unpaid_ns } = paying.end();
        with_rec(|engine, rec| {
            rec.set_owed((rec.owed_ns() + unpaid_ns).min(MAX_DELAY_NS));
            engine.with_owner(rec, |tag| {
                if let Some(tag) = tag {
                    engine.count_held_back(rec, tag, paid_ns);
                }
            });
        });
        Duration::from_nanos(paid_ns)
    }
}

impl Future for Pause {
    type Output = Duration;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Duration> {
        if let Some(paying) = &self.paying {
            return match paying.poll(cx.waker()) {
                Poll::Ready(()) => Poll::Ready(self.end()),
                Poll::Pending => Poll::Pending,
            };
        }
        let Some(rec) = known_rec().filter(|rec| !rec.is_in_section()) else {
            return Poll::Ready(Duration::ZERO);
        };
        let owed = rec.owed_ns();
        let due_ns = due_ns(owed, MAX_DELAY_NS);
        if due_ns == 0 {
            return Poll::Ready(Duration::ZERO);
        }
        self.paying = Paying::begin(due_ns, cx.waker());
        if self.paying.is_none() {
            return Poll::Ready(Duration::ZERO);
        }
        rec.set_owed(owed - due_ns);
        Poll::Pending
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs `f` as a section that holds what other tenants wait for: nothing in it is held back for
/// `memory.high`. What is owed meanwhile is paid later.
///
/// Without it a tenant above its `high` would sleep with a lock in its hands (in a charge that may
/// wait, or a [`safe_point`](super::safe_point)), and all others would wait for its delay.
///
/// ```
/// use std::sync::Mutex;
///
/// static INDEX: Mutex<Vec<u64>> = Mutex::new(Vec::new());
///
/// let added = memcg::unthrottled(|| {
///     let mut index = INDEX.lock().unwrap();
///     index.push(7);
///     index.len()
/// });
/// assert_eq!(added, 1);
/// memcg::safe_point(); // here it harms nobody
/// ```
///
/// A section of a future that waits within it is a guard: see [`Unthrottled`].
pub fn unthrottled<R>(f: impl FnOnce() -> R) -> R {
    let _section = Unthrottled::enter();
    f()
}

/// A section that holds what other tenants wait for, until it is dropped: as [`unthrottled`],
/// across the `.await`s of a future.
///
/// Within it the future in a group that made it ([`Memcg::scope`](super::Memcg::scope),
/// [`in_group`](super::in_group)) is not held back. It is dropped in a poll of the same future.
/// Dropped elsewhere, it ends a section there, if there is one, and the future's goes on for ever:
/// safe, but the future is never held back.
///
/// ```
/// # struct AsyncMutex(std::sync::Mutex<Vec<u64>>);
/// # impl AsyncMutex {
/// #     async fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u64>> { self.0.lock().unwrap() }
/// # }
/// async fn add(index: &AsyncMutex, row: u64) {
///     // Before the lock: dropped after it.
///     let _section = memcg::Unthrottled::enter();
///     let mut index = index.lock().await;
///     index.push(row);
/// }
/// # let index = AsyncMutex(Default::default());
/// # let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// # assert!(std::future::Future::poll(std::pin::pin!(add(&index, 1)), &mut cx).is_ready());
/// ```
#[derive(Debug)]
#[must_use = "the section ends when this is dropped"]
pub struct Unthrottled {
    _made_by_enter: PhantomData<()>,
}

impl Unthrottled {
    /// Enters such a section. Cost: a plain store.
    pub fn enter() -> Self {
        with_rec(|_, rec| rec.enter_section());
        Self {
            _made_by_enter: PhantomData,
        }
    }
}

impl Drop for Unthrottled {
    fn drop(&mut self) {
        if let Some(rec) = known_rec() {
            rec.leave_section();
        }
    }
}
