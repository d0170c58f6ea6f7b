//! Deferred work: what a charge, or the end of something, wants done where there is time and no
//! lock is held.
//!
//! The worker thread does it if the process has one (`worker_thread`). Else it is done by a thread
//! that comes to a place where it may: a charge that may wait, a safe point,
//! [`Engine::run_deferred`].
//!
//! Invariants: work that was taken in is done, once or more often. Who is to die is told so,
//! however much waits. What is for futures is done by the worker, where there is one. Work begins
//! after [`Engine::defer`] took it in, so it sees what led to it. Two equal items that both wait
//! are one. Items can be deferred in a signal handler, in malloc and under any lock. An item names
//! things by index: whoever does the work checks whether they are still what they were.
//! Depends on: `queue`, which holds an item as one word; `worker_thread`.
//! Never: runs code of the program under a lock of ours, or on a thread that has not said it may
//! run here; promises an order.

pub mod queue;
mod work;
pub mod worker_thread;

pub use work::{ROOM, Work};

use super::{Engine, process_engine};
use crate::sync::hook::Hook;
use crate::thread::ThreadRec;

/// Wakes the future of a task that was marked to die. Set by `api`, which knows futures.
static WAKER: Hook<fn(u32)> = Hook::none();
/// Wakes all futures that are to die; by the same.
static WAKE_ALL: Hook<fn()> = Hook::none();
/// Wakes the futures whose time has come; answers the ms until the next one's, 0 if there is none.
static ALARMS: Hook<fn() -> u32> = Hook::none();
/// Gives back, in the child of a fork, what is held for those who wait in the parent.
static IN_CHILD: Hook<fn()> = Hook::none();

/// Has `wake` called for every task that [`Work::Wake`] names.
pub fn set_waker(wake: fn(u32)) {
    WAKER.set(wake);
}

/// Has `wake_all` called for [`Work::WakeAll`].
pub fn set_wake_all(wake_all: fn()) {
    WAKE_ALL.set(wake_all);
}

/// Has `alarms` called by the worker before it sleeps, and when the time is over that it answered.
pub fn set_alarms(alarms: fn() -> u32) {
    ALARMS.set(alarms);
}

/// Has `in_child` called in the child of a fork whose tree is whole, once the engine is the child's
/// own. It neither allocates nor waits.
pub fn set_in_child(in_child: fn()) {
    IN_CHILD.set(in_child);
}

/// In the child of a fork, as [`set_in_child`] says.
pub(super) fn in_child() {
    if let Some(in_child) = IN_CHILD.get() {
        in_child();
    }
}

/// Looks at the groups that were told of, and at who waits for a time; answers the ms until the
/// next one's, 0 if there is none. Set by `api`, which knows who waits.
static LOOK: Hook<fn() -> u32> = Hook::none();

/// Has `look` called for [`Work::Look`], by the worker before it sleeps, and when the time is over
/// that it answered.
pub fn set_look(look: fn() -> u32) {
    LOOK.set(look);
}

fn look() -> u32 {
    LOOK.get().map_or(0, |look| look())
}

/// Wakes the futures that wait for pages that were let go. Set by `api`, which knows them.
static PAGES: Hook<fn()> = Hook::none();

/// Has `wake_pages` called for [`Work::Pages`], and by the worker before it sleeps.
pub fn set_wake_pages(wake_pages: fn()) {
    PAGES.set(wake_pages);
}

fn wake_pages() {
    if let Some(wake_pages) = PAGES.get() {
        wake_pages();
    }
}

fn wake(id: u32) {
    if let Some(wake) = WAKER.get() {
        wake(id);
    }
}

fn wake_all() {
    if let Some(wake_all) = WAKE_ALL.get() {
        wake_all();
    }
}

fn alarms() -> u32 {
    ALARMS.get().map_or(0, |alarms| alarms())
}

/// Which deferred work a thread may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// All of it: for the engine's own thread.
    Worker,
    /// All of it, but what is for futures where the worker does that: for a thread that said that
    /// code of the program may run here.
    All,
    /// Work that runs no code of the program: for a thread that may only wait.
    Engine,
}

impl Engine {
    /// Has `work` done later. `false`: too much waits already, and it will not be done. Who is to
    /// die is told so all the same: all are, then.
    ///
    /// Cost: a look at up to [`queue::PLACES`] words, one CAS; a system call if the worker sleeps.
    pub fn defer(&self, work: Work) -> bool {
        let mut taken = self.deferred.push(work.to_word());
        if !taken && work.is_a_kill() {
            self.deferred.mark_overflow();
            taken = true;
        }
        self.deferred.ring();
        taken
    }

    /// Wakes the worker if it sleeps, after an option that it goes by has changed.
    pub fn ring_worker(&self) {
        self.deferred.ring();
    }

    /// Does the work that waits, as far as `by` allows, on this thread; answers how many items. The
    /// caller is not pinned and holds no lock.
    pub fn run_deferred(&self, rec: &ThreadRec, by: By) -> usize {
        let mut done = 0;
        let may = |work| by.may(self, work);
        if may(Work::WakeAll) && self.deferred.take_overflow() {
            self.perform(rec, Work::WakeAll);
            done += 1;
        }
        // Each place is looked at once, so what the work itself defers is mostly left to the next
        // round, and this one ends.
        for place in 0..queue::PLACES {
            let may = |word| Work::of_word(word).is_some_and(may);
            if let Some(work) = self.deferred.remove(place, may).and_then(Work::of_word) {
                self.perform(rec, work);
                done += 1;
            }
        }
        done
    }

    /// At a place where the thread may wait: does the work that waits, if there is no worker thread
    /// for it. Cost: a load where nothing waits.
    #[inline]
    pub fn help(&self, rec: &ThreadRec, by: By) {
        if !self.deferred.is_empty() && !rec.is_helping() {
            self.help_slow(rec, by);
        }
    }

    #[cold]
    fn help_slow(&self, rec: &ThreadRec, by: By) {
        if process_engine::is_ours(self) {
            worker_thread::restart();
        }
        if !worker_thread::serves(self) {
            let _helping = rec.begin_helping();
            self.run_deferred(rec, by);
        }
    }

    /// Does one item.
    fn perform(&self, rec: &ThreadRec, work: Work) {
        match work {
            Work::Wake { id } => wake(id),
            Work::WakeAll => wake_all(),
            // Whoever does this looks at the alarms, too.
            Work::Alarm => drop(alarms()),
            // Whoever does this looks at those who wait for a time, too.
            Work::Look => drop(look()),
            Work::Pages => wake_pages(),
            Work::Split { cache, group } => self.split_cache(rec, cache, group),
            Work::Ends => {
                self.finish_lingering(rec);
            }
            Work::Reclaim { group, room } => {
                self.reclaim_behind(rec, group, u64::from(room) * ROOM)
            }
            Work::Budget => self.keep_budget(rec),
            Work::Sort { id } => self.with_lists(rec, |cx| self.kmem.lists.sort(cx, id)),
        }
    }
}

impl By {
    fn may(self, engine: &Engine, work: Work) -> bool {
        match self {
            By::Worker => true,
            By::All => !work.is_for_futures() || !worker_thread::serves(engine),
            By::Engine => !work.runs_code_of_the_program(),
        }
    }
}

#[cfg(test)]
mod tests;
