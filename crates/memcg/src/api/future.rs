//! Futures in groups: a future is a task, charged wherever it is polled, and can be told to stop.
//!
//! Invariants: a future is polled and dropped in its group, on whatever thread. One that is told to
//! stop is woken, also when it is idle.
//! Depends on: `task`; `engine::worker`, which wakes.
//! Never: calls a waker under a lock.

use super::error::TaskError;
use super::memcg::Memcg;
use super::scope::{Entered, no_account};
use super::task::Task;
use crate::engine::worker;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// The future was told to stop, by `cgroup.kill` or because its group was out of memory. It has
/// been dropped in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OomKilled;

impl fmt::Display for OomKilled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("killed for memory")
    }
}

impl core::error::Error for OomKilled {}

/// The bells of the futures that live, by the id of their task, which a move does not change.
static WAKERS: Mutex<Option<HashMap<u32, Arc<Bell>>>> = Mutex::new(None);

/// Where a future's poll puts the waker that a kill takes out.
#[derive(Default)]
struct Bell(Mutex<Option<Waker>>);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is in it is valid between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the future of a task that was marked to die; nothing if the task is no future.
pub fn wake_killed(id: u32) {
    let bell = lock(&WAKERS).as_ref().and_then(|all| all.get(&id).cloned());
    // No lock of ours is held while the program's waker runs. If it panics, that ends its call
    // alone: the thread may be the engine's own.
    let waker = bell.and_then(|bell| lock(&bell.0).take());
    if let Some(waker) = waker {
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}

/// Runs `future` as a task of `group`: charged there on whatever thread it is polled, and movable
/// with what it holds ([`InGroup::task`]).
///
/// It resolves to the future's output; or to [`OomKilled`] after `cgroup.kill`, or when it was
/// chosen in a group whose `memory.oom.policy` is `kill`. The future is then dropped in place, even
/// if it was idle. Dropping the answer early drops the future, in the group. If the group has been
/// removed, the nearest group above is charged.
///
/// Cost: a task's record and an entry in a table, accounted to nobody; at each poll a scope, and a
/// lock that nobody else holds for long.
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
/// let text = block_on(memcg::in_group(&group, async { "x".repeat(5_000) })).unwrap();
/// assert!(group.current() >= 5_000);
/// drop(text);
/// ```
pub fn in_group<F: Future>(group: &Memcg, future: F) -> InGroup<F> {
    let owner = match group.task("future") {
        Ok(task) => Owner::Task(task),
        Err(TaskError::Gone | TaskError::NoMemory) => Owner::Group(group.clone()),
    };
    let bell = {
        let _free = no_account();
        let bell = Arc::<Bell>::default();
        if let Owner::Task(task) = &owner {
            worker::set_waker(wake_killed);
            worker::worker_thread::want();
            lock(&WAKERS)
                .get_or_insert_default()
                .insert(task.id(), bell.clone());
        }
        bell
    };
    InGroup {
        future: Some(future),
        owner,
        bell,
    }
}

#[derive(Debug)]
enum Owner {
    Task(Task),
    Group(Memcg),
}

impl Owner {
    fn enter(&self) -> Entered {
        match self {
            Owner::Task(task) => task.enter(),
            Owner::Group(group) => group.enter(),
        }
    }
}

/// A future that runs as a task of a group: what [`in_group`] answers.
///
/// # Panics
/// Polling it after it was ready panics, as with other futures.
#[must_use = "futures do nothing unless polled"]
pub struct InGroup<F> {
    /// Pinned while `Some`; dropped in place.
    future: Option<F>,
    owner: Owner,
    bell: Arc<Bell>,
}

impl<F> fmt::Debug for InGroup<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InGroup")
            .field("owner", &self.owner)
            .field("is_done", &self.future.is_none())
            .finish_non_exhaustive()
    }
}

impl<F> InGroup<F> {
    /// The future's task, to be moved; `None` if the group had been removed when the future was
    /// made.
    pub fn task(&self) -> Option<&Task> {
        match &self.owner {
            Owner::Task(task) => Some(task),
            Owner::Group(_) => None,
        }
    }
}

impl<F: Future> Future for InGroup<F> {
    type Output = Result<F::Output, OomKilled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `this` is not used to move `future`: it stays in its place, and is only polled
        // there and dropped there, by setting it to `None`. The other fields are not pinned:
        // nothing makes a pinned reference to them.
        let this = unsafe { self.get_unchecked_mut() };
        assert!(this.future.is_some(), "`InGroup` polled after completion");
        {
            let _free = no_account();
            let mut waker = lock(&this.bell.0);
            if !waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                *waker = Some(cx.waker().clone());
            }
        }
        let _entered = this.owner.enter();
        // After the waker is in place: a kill between the two would else wake nobody.
        if matches!(&this.owner, Owner::Task(task) if task.is_killed()) {
            this.future = None;
            return Poll::Ready(Err(OomKilled));
        }
        // SAFETY: `self` is pinned, so `future`, a field of it, does not move either. It stays in
        // its place until it is dropped there.
        let future = this
            .future
            .as_mut()
            .map(|future| unsafe { Pin::new_unchecked(future) });
        let Some(Poll::Ready(output)) = future.map(|future| future.poll(cx)) else {
            return Poll::Pending;
        };
        this.future = None;
        Poll::Ready(Ok(output))
    }
}

impl<F> Drop for InGroup<F> {
    fn drop(&mut self) {
        if let Owner::Task(task) = &self.owner {
            let _free = no_account();
            let bell = lock(&WAKERS)
                .as_mut()
                .and_then(|all| all.remove(&task.id()));
            drop(bell);
        }
        let _entered = self.owner.enter();
        self.future = None;
    }
}
