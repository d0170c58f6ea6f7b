//! `Memcg::watch`: usage that rises above a level, waited for.
//!
//! Invariants: usage that rises above the level after it was seen at or below it is told, once,
//! however short it stays above. A fall to the level is seen when the worker has looked.
//! Depends on: `bells`.
//! Never: adds to a charge from stock; a charge past it compares itself with one number a group,
//! however many watches there are.

#![forbid(unsafe_code)]

use super::bells::{Bell, What};
use super::memcg::Memcg;
use super::news;
use crate::units::Limit;
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll};

/// Tells when a group's usage rises above a level: what [`Memcg::watch`] answers.
#[must_use = "it tells nothing unless it is asked"]
pub struct Watch {
    group: Memcg,
    level: Limit,
    /// `None`: the group had been removed.
    bell: Option<Bell>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("group", &self.group)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

impl Memcg {
    /// Begins to watch whether the usage of the group and those below rises above `level`.
    ///
    /// Usage is what is charged, stock of threads included, as the limits see it: it may be above
    /// [`Memcg::current`] by 4 MiB, or a sixteenth of max.
    ///
    /// Cost: an entry in a table and a fence on all threads. Without the engine's worker nobody
    /// wakes who waits: poll from time to time.
    ///
    /// ```
    /// # use std::future::Future;
    /// # use std::task::{Context, Poll, Waker};
    /// let group = memcg::root().create("growing").unwrap();
    /// let mut watch = group.watch(memcg::Limit::bytes(64 << 20));
    /// # let mut cx = Context::from_waker(Waker::noop());
    /// # assert!(std::pin::pin!(watch.crossed()).poll(&mut cx).is_pending());
    /// let rows = group.try_reserve(100 << 20).unwrap();
    /// drop(rows);
    /// let mut crossed = std::pin::pin!(watch.crossed());
    /// let mut cx = Context::from_waker(Waker::noop());
    /// assert_eq!(crossed.as_mut().poll(&mut cx), Poll::Ready(true));
    /// ```
    pub fn watch(&self, level: Limit) -> Watch {
        news::begin();
        let what = What::Crossing(level.get());
        Watch {
            group: self.clone(),
            level,
            bell: Bell::new(self, what),
        }
    }
}

impl Watch {
    /// The level.
    #[must_use]
    pub fn level(&self) -> Limit {
        self.level
    }

    /// Resolves to `true` when usage has risen above the level since the last answer, or since
    /// [`Memcg::watch`] was called; to `false` once the group has been removed. Usage that is above
    /// already has to fall to the level first, for as long as the engine's worker takes to see
    /// that. Dropped early, it has told nothing, and the next answer has it.
    pub async fn crossed(&mut self) -> bool {
        poll_fn(|cx| self.poll_crossed(cx)).await
    }

    /// As [`Watch::crossed`], for those who write futures and streams by hand.
    pub fn poll_crossed(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(bell) = &mut self.bell else {
            return Poll::Ready(false);
        };
        let is_set = bell.set(cx.waker());
        // After the bell is set: what crosses the level from here on rings it.
        if bell.take_crossing() {
            return Poll::Ready(true);
        }
        if is_set {
            Poll::Pending
        } else {
            Poll::Ready(false)
        }
    }
}
