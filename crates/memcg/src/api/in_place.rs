//! A future that runs in a group or as a task, in place: what the futures of the face share.
//!
//! Invariants: the future is polled and dropped in its group, on whatever thread. What its polls
//! charged above `high` it owes itself, and nothing else.
//! Depends on: `group::poll` for what a poll is, `paying` to be held back, `kill_wakers` to be
//! woken when it is killed.
//! Never: takes a lock, or allocates, for a future that owes nothing and cannot be killed.

use super::kill_wakers::{Place, Who};
use super::killed::OomKilled;
use super::memcg::Memcg;
use super::paying::Paying;
use super::scope::Entered;
use super::task::Task;
use crate::counter::throttle_curve::WAIVED_DELAY_NS;
use crate::engine::process_engine::{engine, known_rec, with_rec};
use crate::group::Tag;
use crate::group::kill_generation::KillGeneration;
use crate::group::poll::{Debt, poll};
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

/// The longest that a future is held back before one poll: 100 ms. What it owes beyond is left for
/// the next.
const LONGEST_NS: u64 = 100_000_000;

/// For whom a future works.
#[derive(Debug)]
pub(super) enum Owner {
    /// A task of its own.
    Task(Task),
    /// A group.
    Group(Memcg),
}

impl Owner {
    #[inline]
    fn enter(&self) -> Entered {
        match self {
            Owner::Task(task) => task.enter(),
            Owner::Group(group) => group.enter(),
        }
    }

    /// The owner's tag, which is named as long as this lives.
    #[inline]
    fn tag(&self) -> Tag {
        match self {
            Owner::Task(task) => task.tag(),
            Owner::Group(group) => group.tag(),
        }
    }
}

/// See the module.
pub(super) struct InPlace<F> {
    /// First: it leaves its place before it lets go of its owner.
    place: Option<Place>,
    /// It is held back until it has paid.
    held: Option<Paying>,
    /// Pinned while `Some`; dropped in place.
    future: Option<F>,
    debt: Debt,
    seen: KillGeneration,
    owner: Owner,
}

impl<F> InPlace<F> {
    #[inline]
    pub(super) fn new(owner: Owner, future: F) -> Self {
        let seen = engine().tree.objcgs.get(owner.tag()).kill_generation();
        Self {
            place: None,
            held: None,
            future: Some(future),
            debt: Debt::default(),
            seen,
            owner,
        }
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// What it shows of itself, as `name`.
    pub(super) fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("owner", &self.owner)
            .field("is_done", &self.future.is_none())
            .finish_non_exhaustive()
    }

    /// Runs `f` on the future's place as a poll of it: in its group, by its debt.
    #[inline]
    fn within<R>(&mut self, f: impl FnOnce(&mut Option<F>) -> R) -> R {
        let _entered = self.owner.enter();
        let (tag, seen) = (self.owner.tag(), self.seen);
        let (debt, future) = (&mut self.debt, &mut self.future);
        match known_rec() {
            Some(rec) => poll(rec, tag, seen, debt, || f(future)),
            // Without memory for a record, or past the thread's end: nobody owes anything.
            None => f(future),
        }
    }

    /// Drops the future in place, as soon as it is done with.
    fn end(&mut self) {
        self.within(|future| *future = None);
        self.place = None;
    }

    #[inline]
    fn is_to_die(&self) -> bool {
        let (tag, seen) = (self.owner.tag(), self.seen);
        match known_rec() {
            Some(rec) => engine().tree.is_to_die(rec, tag, seen),
            None => with_rec(|engine, rec| engine.tree.is_to_die(rec, tag, seen)) == Some(true),
        }
    }

    /// Whether the next poll is to wait.
    #[inline]
    fn is_held_back(&mut self, cx: &Context<'_>) -> bool {
        let owes = self.debt.owed_ns > WAIVED_DELAY_NS;
        (owes || self.held.is_some()) && self.hold_back(cx)
    }

    #[cold]
    fn hold_back(&mut self, cx: &Context<'_>) -> bool {
        if let Some(held) = &self.held {
            if held.poll(cx.waker()).is_pending() {
                return true;
            }
            // Whatever is owed beyond: this poll is made.
            self.let_go();
            return false;
        }
        if self.debt.sections == 0 {
            let pays_ns = self.debt.owed_ns.min(LONGEST_NS);
            self.held = Paying::begin(pays_ns, cx.waker());
        }
        self.held.is_some()
    }

    /// It is not held back any more, and has paid by the time that it was.
    #[cold]
    fn let_go(&mut self) {
        let Some(held) = self.held.take() else { return };
        let paid = held.end().paid_ns;
        self.debt.owed_ns = self.debt.owed_ns.saturating_sub(paid);
        with_rec(|engine, rec| engine.count_held_back(rec, self.owner.tag(), paid));
    }

    /// It is woken when it is killed, too.
    #[inline]
    fn wait_in_place(&mut self, cx: &Context<'_>) {
        if self
            .place
            .as_ref()
            .is_some_and(|place| place.is_for(cx.waker()))
        {
            return;
        }
        self.place = None;
        let id = match &self.owner {
            Owner::Task(task) => task.id(),
            Owner::Group(_) => 0,
        };
        let who = Who {
            tag: self.owner.tag(),
            id,
            seen: self.seen,
        };
        self.place = Some(Place::new(who, cx.waker()));
    }
}

impl<F: Future> InPlace<F> {
    /// Polls it, unless it is held back. `name` is the type's that the program knows.
    #[inline]
    pub(super) fn poll(self: Pin<&mut Self>, name: &str, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `future` is pinned with us: nothing here moves it out of its place, it is only
        // polled there or dropped there. The other fields are not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        this.check_not_done(name);
        if this.is_held_back(cx) {
            return Poll::Pending;
        }
        this.run(cx)
    }

    /// As [`Self::poll`], of a future that can be killed: it is asked first whether it was.
    #[inline]
    pub(super) fn poll_killable(
        self: Pin<&mut Self>,
        name: &str,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, OomKilled>> {
        // SAFETY: as in `poll`.
        let this = unsafe { self.get_unchecked_mut() };
        this.check_not_done(name);
        if !this.is_to_die() {
            if !this.is_held_back(cx)
                && let Poll::Ready(output) = this.run(cx)
            {
                this.place = None;
                return Poll::Ready(Ok(output));
            }
            this.wait_in_place(cx);
            // Once more, now that who kills it finds it: a kill before would else wake nobody.
            if !this.is_to_die() {
                return Poll::Pending;
            }
        }
        this.end();
        Poll::Ready(Err(OomKilled))
    }

    #[inline]
    fn check_not_done(&self, name: &str) {
        assert!(self.future.is_some(), "`{name}` polled after completion");
    }

    #[inline]
    fn run(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.within(|place| {
            let Some(future) = place else {
                return Poll::Pending;
            };
            // SAFETY: the callers have us pinned, and the future with us: `place` is where it was
            // put before that, and it is dropped there.
            let polled = unsafe { Pin::new_unchecked(future) }.poll(cx);
            if polled.is_ready() {
                *place = None;
            }
            polled
        })
    }
}

impl<F> Drop for InPlace<F> {
    #[inline]
    fn drop(&mut self) {
        if self.held.is_some() {
            self.let_go();
        }
        if self.future.is_some() {
            self.end();
        }
    }
}
