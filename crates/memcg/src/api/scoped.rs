//! Futures in groups without a record of their own.
//!
//! Invariants: a future is polled and dropped in its group, on whatever thread.
//! Depends on: `in_place`.
//! Never: makes a record; takes a lock, or allocates, but for those that can be killed and wait.

use super::in_place::{InPlace, Owner};
use super::kill_wakers::want_worker;
use super::killed::OomKilled;
use super::memcg::Memcg;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

impl Memcg {
    /// Runs `future` in the group: what it allocates is charged there on whatever thread it is
    /// polled. It resolves to the future's own output.
    ///
    /// This is what most futures need. The group itself is charged: there is no record of the
    /// future, so it can neither be moved nor killed alone ([`in_group`](super::in_group) is for
    /// that). [`Scoped::killable`] lets it end when the whole group is killed. If the group is
    /// removed, the nearest group above is charged.
    ///
    /// The future is polled, and dropped, in the group, also when the answer is dropped early.
    /// Futures in groups nest: the innermost says who is charged.
    ///
    /// Cost: a handle's clone; at each poll a scope and some plain stores. No lock, no allocation.
    ///
    /// ```
    /// # use std::future::Future;
    /// #[global_allocator]
    /// static ALLOCATOR: memcg::Alloc = memcg::Alloc;
    /// # fn block_on<F: Future>(f: F) -> F::Output {
    /// #     let mut f = std::pin::pin!(f);
    /// #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    /// #     loop { if let std::task::Poll::Ready(out) = f.as_mut().poll(&mut cx) { return out } }
    /// # }
    ///
    /// let tenant = memcg::root().create("tenant").unwrap();
    /// let text: String = block_on(tenant.scope(async { "x".repeat(5_000) }));
    /// assert!(tenant.current() >= 5_000);
    /// drop(text);
    /// assert_eq!(tenant.current(), 0);
    /// ```
    #[inline]
    pub fn scope<F: Future>(&self, future: F) -> Scoped<F> {
        Scoped(InPlace::new(Owner::Group(self.clone()), future))
    }
}

/// A future that runs in a group: what [`Memcg::scope`] answers.
///
/// Where its polls charge while a group is above `memory.high`, it owes the delay of the throttle
/// curve: for what it charged itself, not for what ran on the thread before. If it owes more than
/// 10 ms, its next poll is pending until the engine's worker wakes it, for 100 ms at most; then it
/// is polled once, and held back again if it still owes. Other futures on the thread go on. What it
/// owes when it ends is forgiven; [`pause`](super::pause()) pays it before. Where the engine has no
/// thread (the child of a fork, `MEMCG_NO_THREAD`) it is not held back. A section that holds what
/// others wait for is marked by [`unthrottled`](super::unthrottled).
///
/// # Panics
/// Polling it after it was ready panics, as with other futures.
#[must_use = "futures do nothing unless polled"]
pub struct Scoped<F>(InPlace<F>);

impl<F> Scoped<F> {
    /// Lets the future end when its group, or one above, is killed as a whole: by `cgroup.kill`,
    /// [`Memcg::kill`](super::Memcg::kill), or for want of memory where `memory.oom.group` says so.
    ///
    /// If that happens after the scope was made, the future is dropped in place, in the group, at
    /// its next poll, and the answer is [`OomKilled`]; an idle one is woken. One that is ready in
    /// the very poll in which the kill comes delivers its output. A scope made after the kill goes
    /// on. Code that does not yield asks [`checkpoint`](super::checkpoint), which needs no
    /// `killable`.
    ///
    /// Cost: at each poll two loads; and when it waits for the first time a place among those that
    /// can be woken, behind a lock that few share.
    ///
    /// ```
    /// # use std::future::Future;
    /// # use std::task::{Context, Poll, Waker};
    /// use memcg::OomKilled;
    ///
    /// let tenant = memcg::root().create("killable").unwrap();
    /// let waits = std::future::pending::<()>();
    /// let mut waits = std::pin::pin!(tenant.scope(waits).killable());
    /// let mut cx = Context::from_waker(Waker::noop());
    /// assert_eq!(waits.as_mut().poll(&mut cx), Poll::Pending);
    /// tenant.kill();
    /// assert_eq!(waits.as_mut().poll(&mut cx), Poll::Ready(Err(OomKilled)));
    /// ```
    pub fn killable(self) -> Killable<F> {
        want_worker();
        Killable(self.0)
    }
}

impl<F> fmt::Debug for Scoped<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show("Scoped", f)
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the one field is pinned with us: nothing moves it once we are pinned, and we have
        // no `Drop`.
        unsafe { self.map_unchecked_mut(|this| &mut this.0) }.poll("Scoped", cx)
    }
}

/// A future that runs in a group and ends when that is killed: what [`Scoped::killable`] answers.
///
/// # Panics
/// Polling it after it was ready panics, as with other futures.
#[must_use = "futures do nothing unless polled"]
pub struct Killable<F>(InPlace<F>);

impl<F> fmt::Debug for Killable<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show("Killable", f)
    }
}

impl<F: Future> Future for Killable<F> {
    type Output = Result<F::Output, OomKilled>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: as for `Scoped`.
        unsafe { self.map_unchecked_mut(|this| &mut this.0) }.poll_killable("Killable", cx)
    }
}
