//! Futures as tasks: charged wherever they are polled, moved and told to stop one by one.
//!
//! Invariants: a future is polled and dropped in its group, on whatever thread. One that is told to
//! stop is woken, also when it is idle.
//! Depends on: `in_place`; `task`.
//! Never: takes a lock for a future that does not wait.

use super::error::TaskError;
use super::in_place::{InPlace, Owner};
use super::kill_wakers::want_worker;
use super::killed::OomKilled;
use super::memcg::Memcg;
use super::task::Task;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

/// Runs `future` as a task of `group`: charged there on whatever thread it is polled, movable with
/// what it holds ([`InGroup::task`]), and killed alone. The name is for people, as
/// [`Task::new`]'s: `memory.owners` shows it.
///
/// It resolves to the future's output; or to [`OomKilled`] after `cgroup.kill`, or when it was
/// chosen in a group whose `memory.oom.policy` is `kill`. The mark is looked at in every poll. The
/// future is then dropped in place, even if it was idle. One that is ready in the very poll in
/// which it was marked delivers its output. Code that does not yield asks
/// [`checkpoint`](super::checkpoint). Dropping the answer early drops the future, in the group. If
/// the group has been removed, the nearest group above is charged.
///
/// Above `memory.high` it is held back as a [`Scoped`](super::Scoped) future is.
///
/// Which to use: [`Memcg::scope`] needs no record and is what most futures need. This is for those
/// that move between groups, or are killed alone.
///
/// Cost: a task's record, accounted to nobody; at each poll a scope. A future that waits for the
/// first time takes a place among those that can be woken: a lock that it shares with one in 64.
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
/// let group = memcg::root().create("request").unwrap();
/// let text = async { "x".repeat(5_000) };
/// let text = block_on(memcg::in_group(&group, "GET /text", text)).unwrap();
/// assert!(group.current() >= 5_000);
/// drop(text);
/// ```
pub fn in_group<F: Future>(group: &Memcg, name: impl AsRef<[u8]>, future: F) -> InGroup<F> {
    let owner = match group.task(name) {
        Ok(task) => Owner::Task(task),
        Err(TaskError::Gone | TaskError::NoMemory) => Owner::Group(group.clone()),
    };
    want_worker();
    InGroup(InPlace::new(owner, future))
}

/// A future that runs as a task of a group: what [`in_group`] answers.
///
/// # Panics
/// Polling it after it was ready panics, as with other futures.
#[must_use = "futures do nothing unless polled"]
pub struct InGroup<F>(InPlace<F>);

impl<F> fmt::Debug for InGroup<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show("InGroup", f)
    }
}

impl<F> InGroup<F> {
    /// The future's task, to be moved; `None` if the group had been removed when the future was
    /// made.
    pub fn task(&self) -> Option<&Task> {
        match self.0.owner() {
            Owner::Task(task) => Some(task),
            Owner::Group(_) => None,
        }
    }
}

impl<F: Future> Future for InGroup<F> {
    type Output = Result<F::Output, OomKilled>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the one field is pinned with us: nothing moves it, and we have no `Drop`.
        unsafe { self.map_unchecked_mut(|this| &mut this.0) }.poll_killable("InGroup", cx)
    }
}
