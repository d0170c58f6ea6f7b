//! `Memcg::reserve`: a reservation that waits for room.
//!
//! Invariants: a future that was dropped holds no place in a line and no bytes.
//! Depends on: `line`, where it stands; `news`, by which it is looked at.
//! Never: blocks the thread.

#![forbid(unsafe_code)]

use super::charge::Charge;
use super::error::ReserveError;
use super::line;
use super::line_table::{self, Number};
use super::memcg::Memcg;
use super::news;
use super::pinned::pinned;
use super::wait_error::WaitError;
use crate::group::exact_charge::round_up;
use crate::os::clock;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

/// A wait for room: what [`Memcg::reserve`] answers.
///
/// It can be dropped at any time: it then leaves its line, and gives back what it had got.
///
/// # Panics
/// Polling it after it was ready panics, as with other futures.
#[must_use = "futures do nothing unless polled"]
pub struct Reserve {
    group: Memcg,
    bytes: u64,
    deadline_ns: Option<u64>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// It has not asked yet.
    New,
    InLine(Number),
    Done,
}

impl fmt::Debug for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve")
            .field("group", &self.group)
            .field("bytes", &self.bytes)
            .field("is_in_line", &matches!(self.state, State::InLine(_)))
            .finish_non_exhaustive()
    }
}

impl Memcg {
    /// Charges `bytes`, as [`Memcg::try_reserve`] does, and waits for room if there is none, for
    /// `timeout` from now at most (`None`: as long as there is hope).
    ///
    /// Who waits stands in line at the group that is full: this one or one above it. It is one line
    /// for all who ask for that group or for any below it, in the order in which they came. While
    /// somebody stands there, `try_reserve`, growing reservations and caches below that group are
    /// refused even if they would fit, so that nobody slips past. So is what is given to such a
    /// group: [`Charge::give`] and [`take`](Charge::take), [`Memcg::adopt`], objects of caches that
    /// are recharged. That holds for at most one second in which nobody in line could be served.
    /// Then whatever fits is charged, whoever asks. Global allocators do not stand in line.
    ///
    /// Dropping the future leaves the line and gives back what it got. If the group is removed the
    /// wait goes on in the nearest group above that is left. If a future that waits is killed
    /// ([`in_group`](super::in_group)), the wait ends with it.
    ///
    /// The engine's worker thread wakes those who wait. Without it (`MEMCG_NO_THREAD`, the child of
    /// a fork until it needs one) each poll tries again, and so do
    /// [`run_deferred`](super::run_deferred) and [`safe_point`](super::safe_point), but nobody
    /// wakes: poll from time to time.
    ///
    /// Cost: as of `try_reserve` where there is room. Each wait costs about as much as two refusals
    /// and a wake-up; the first in a line takes back the stock of all threads under the group,
    /// O(threads).
    ///
    /// # Errors
    /// [`WaitError::Refused`], at once, where `bytes` are more than the max of the group or of one
    /// above. [`WaitError::TimedOut`]. [`WaitError::Stuck`] where for 10 s nothing in the full
    /// group or below was freed or told to end.
    ///
    /// Source of the idea: the kernel's waits for reclaim, and the fair memory pools of query
    /// engines.
    ///
    /// ```
    /// # use std::future::Future;
    /// # struct Unpark(std::thread::Thread);
    /// # impl std::task::Wake for Unpark { fn wake(self: std::sync::Arc<Self>) { self.0.unpark() } }
    /// # fn block_on<F: Future>(f: F) -> F::Output {
    /// #     let mut f = std::pin::pin!(f);
    /// #     let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    /// #     let mut cx = std::task::Context::from_waker(&waker);
    /// #     loop {
    /// #         if let std::task::Poll::Ready(out) = f.as_mut().poll(&mut cx) { return out }
    /// #         std::thread::park();
    /// #     }
    /// # }
    /// use std::time::Duration;
    ///
    /// let group = memcg::root().create("sorts").unwrap();
    /// group.set_max(memcg::Limit::bytes(1 << 20)).unwrap();
    /// let first = group.try_reserve(800 << 10).unwrap();
    /// let other = std::thread::spawn(move || {
    ///     std::thread::sleep(Duration::from_millis(10));
    ///     drop(first);
    /// });
    /// let second = block_on(group.reserve(800 << 10, Some(Duration::from_secs(60)))).unwrap();
    /// assert_eq!(second.bytes(), 800 << 10);
    ///
    /// // More than could ever be:
    /// assert!(matches!(
    ///     block_on(group.reserve(2 << 20, None)),
    ///     Err(memcg::WaitError::Refused(_))
    /// ));
    /// # other.join().unwrap();
    /// ```
    pub fn reserve(&self, bytes: u64, timeout: Option<Duration>) -> Reserve {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Reserve {
            group: self.clone(),
            bytes,
            deadline_ns: timeout.map(|time| clock::monotonic_ns().saturating_add(ns(time))),
            state: State::New,
        }
    }
}

impl Reserve {
    /// Asks, and joins the line of the group that refuses.
    fn ask(&mut self, waker: &Waker) -> Poll<Result<Charge, WaitError>> {
        let refused = match Charge::at_door(self.group.tag(), self.bytes) {
            Ok(charge) => return Poll::Ready(Ok(charge)),
            Err(refused) => refused,
        };
        let error = ReserveError::new(&refused);
        // Without a group that is full it is more than any owner can be charged.
        let Some(full) = refused.refusal.group else {
            return Poll::Ready(Err(WaitError::Refused(error)));
        };
        let bytes = round_up(self.bytes);
        if let Some(never) = pinned(|engine, _| engine.tree.never_fits(self.group.tag(), bytes)) {
            let error = line_table::error(self.bytes, never);
            return Poll::Ready(Err(WaitError::Refused(error)));
        }
        if self
            .deadline_ns
            .is_some_and(|at| at <= clock::monotonic_ns())
        {
            return Poll::Ready(Err(WaitError::TimedOut(error)));
        }
        news::begin();
        let (tag, deadline) = (self.group.tag(), self.deadline_ns);
        let number = line::join(tag, self.bytes, deadline, full, waker);
        self.state = State::InLine(number);
        news::look_soon();
        self.look(number, waker)
    }

    /// What has become of it.
    fn look(&mut self, number: Number, waker: &Waker) -> Poll<Result<Charge, WaitError>> {
        match line::poll(number, waker) {
            Some(answer) => answer,
            None => {
                // In the child of a fork: the line is the parent's.
                self.state = State::New;
                self.ask(waker)
            }
        }
    }
}

impl Future for Reserve {
    type Output = Result<Charge, WaitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let answer = match this.state {
            State::New => this.ask(cx.waker()),
            State::InLine(number) => {
                news::look_without_worker();
                this.look(number, cx.waker())
            }
            State::Done => panic!("`Reserve` polled after completion"),
        };
        if answer.is_ready() {
            this.state = State::Done;
        }
        answer
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        if let State::InLine(number) = self.state {
            line::cancel(number);
        }
    }
}
