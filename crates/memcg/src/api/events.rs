//! `Memcg::events`: what happens to a group, waited for.
//!
//! Invariants: every event that is counted is in exactly one answer, unless the group is removed
//! before it was asked for.
//! Depends on: `bells`; the event counts of `group`.
//! Never: keeps the group.

#![forbid(unsafe_code)]

use super::bells::{Bell, What};
use super::memcg::Memcg;
use super::news;
use crate::group::events::{ALL, EVENTS};
use crate::group::{self, Event};
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll};

/// What happened to a group and those below it since the last answer: by [`Events::next`].
#[derive(Clone, PartialEq, Eq)]
pub struct EventChanges {
    total: [u64; EVENTS],
    since: [u64; EVENTS],
}

impl EventChanges {
    /// How often `event` has happened since the last answer.
    #[must_use]
    pub fn since(&self, event: Event) -> u64 {
        self.since[event as usize]
    }

    /// How often `event` has ever happened, as [`Memcg::nr_events`] tells it.
    #[must_use]
    pub fn total(&self, event: Event) -> u64 {
        self.total[event as usize]
    }

    /// The events that have happened since the last answer, and how often each.
    pub fn iter(&self) -> impl Iterator<Item = (Event, u64)> + '_ {
        let all = ALL.iter().map(|&(event, _)| (event, self.since(event)));
        all.filter(|&(_, n)| n > 0)
    }
}

impl fmt::Debug for EventChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Tells what happens to a group and those below it: what [`Memcg::events`] answers.
#[must_use = "it tells nothing unless it is asked"]
pub struct Events {
    group: Memcg,
    /// What was told.
    seen: [u64; EVENTS],
    /// `None`: the group had been removed.
    bell: Option<Bell>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

fn counts(group: &group::Memcg) -> [u64; EVENTS] {
    ALL.map(|(event, _)| group.nr_events(event, false))
}

impl Memcg {
    /// Begins to tell what happens to the group and those below it: the lines of `memory.events`,
    /// from now on.
    ///
    /// Cost: an entry in a table and a fence on all threads. While somebody waits, an event also
    /// wakes the engine's worker, which wakes who waits; many events in a row are one answer.
    /// Without the worker nobody wakes: poll from time to time.
    ///
    /// ```
    /// # use std::future::Future;
    /// # use std::task::{Context, Poll, Waker};
    /// let group = memcg::root().create("watched").unwrap();
    /// group.set_max(memcg::Limit::bytes(1 << 20)).unwrap();
    /// let mut events = group.events();
    /// assert!(group.try_reserve(2 << 20).is_err());
    ///
    /// let mut next = std::pin::pin!(events.next());
    /// let mut cx = Context::from_waker(Waker::noop());
    /// let Poll::Ready(Some(news)) = next.as_mut().poll(&mut cx) else { panic!("told") };
    /// assert_eq!(news.since(memcg::Event::Max), 1);
    /// ```
    pub fn events(&self) -> Events {
        news::begin();
        let bell = Bell::new(self, What::Events);
        let seen = self.with(|_, _, group| counts(group));
        Events {
            group: self.clone(),
            seen: seen.unwrap_or_default(),
            bell,
        }
    }
}

impl Events {
    /// Resolves when something has happened since the last answer, or since [`Memcg::events`] was
    /// called; to `None` once the group has been removed. Dropped early, it has told nothing, and
    /// the next answer has it.
    pub async fn next(&mut self) -> Option<EventChanges> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Events::next`], for those who write futures and streams by hand.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<EventChanges>> {
        if let Some(changes) = self.changes() {
            return Poll::Ready(Some(changes));
        }
        let is_set = self.bell.as_mut().is_some_and(|bell| bell.set(cx.waker()));
        // After the bell is set: what happens from here on rings it.
        match self.changes() {
            Some(changes) => Poll::Ready(Some(changes)),
            None if is_set => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn changes(&mut self) -> Option<EventChanges> {
        let total = self.group.with(|_, _, group| counts(group))?;
        if total == self.seen {
            return None;
        }
        let mut since = total;
        for (now, before) in since.iter_mut().zip(self.seen) {
            *now -= before;
        }
        self.seen = total;
        Some(EventChanges { total, since })
    }
}
