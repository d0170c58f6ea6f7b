//! `Memcg::emptied`: the end of a group's last task, waited for.
//!
//! Invariants: it is ready only when the group was seen without live tasks, or removed.
//! Depends on: `bells`.
//! Never: keeps the group, or a task in it.

#![forbid(unsafe_code)]

use super::bells::{Bell, What};
use super::memcg::Memcg;
use super::news;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

/// A wait for the end of a group's last task: what [`Memcg::emptied`] answers.
#[must_use = "futures do nothing unless polled"]
pub struct Emptied {
    group: Memcg,
    bell: Option<Bell>,
}

impl fmt::Debug for Emptied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emptied")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Memcg {
    /// Resolves when no live task is in the group or below it (`populated 0` in `cgroup.events`),
    /// or the group has been removed. At once if that is so already.
    ///
    /// Tasks are what [`in_group`](super::in_group) and [`Memcg::task`] make. A scope is no task. A
    /// task may come after this has resolved.
    ///
    /// Without the engine's worker thread nobody wakes who waits: poll from time to time. Cost of a
    /// wait: an entry in a table, a fence on all threads, a wake-up.
    ///
    /// ```
    /// # use std::future::Future;
    /// # use std::task::{Context, Poll, Waker};
    /// let group = memcg::root().create("leaving").unwrap();
    /// let task = group.task("query").unwrap();
    /// let mut emptied = std::pin::pin!(group.emptied());
    /// let mut cx = Context::from_waker(Waker::noop());
    /// assert_eq!(emptied.as_mut().poll(&mut cx), Poll::Pending);
    /// drop(task);
    /// assert_eq!(emptied.as_mut().poll(&mut cx), Poll::Ready(()));
    /// group.remove().unwrap();
    /// ```
    pub fn emptied(&self) -> Emptied {
        Emptied {
            group: self.clone(),
            bell: None,
        }
    }
}

impl Future for Emptied {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let is_empty = |group: &Memcg| !group.with(|_, _, g| g.has_tasks()).unwrap_or(false);
        if is_empty(&this.group) {
            this.bell = None;
            return Poll::Ready(());
        }
        if this.bell.is_none() {
            news::begin();
            this.bell = Bell::new(&this.group, What::Emptied);
        }
        let is_set = this.bell.as_mut().is_some_and(|bell| bell.set(cx.waker()));
        // After the bell is set: what ends from here on rings it.
        if !is_set || is_empty(&this.group) {
            this.bell = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
