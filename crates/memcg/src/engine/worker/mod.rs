//! Work for later: what a charge, or the end of something, wants done where there is time and no
//! lock held.
//!
//! Kept: what was taken in is done, once or more often, by the worker thread if the process has one
//! (`worker_thread`), else by whoever comes to a place where it may: a charge that may wait, a safe
//! point, [`Engine::run_deferred`]. It begins after [`Engine::defer`] of it returned, so it sees
//! what led to it. Two items that are the same and both waiting are one. Relied on: nothing but the
//! word of an item. Usable in a signal handler, in malloc, under any lock. Never done: code of the
//! program under a lock of ours, or on a thread that did not say it may run here; a promise of
//! order. An item names things by index: whoever does it looks whether they are still what they
//! were.

pub mod queue;
mod work;
pub mod worker_thread;

pub use work::{ROOM, Work};

use super::{Engine, process_engine};
use crate::sync::hook::Hook;
use crate::thread::ThreadRec;

/// Wakes the future of a task that was marked to die; by `api`, which knows futures.
static WAKER: Hook<fn(u32)> = Hook::none();

/// Has `wake` called for every task that [`Work::Wake`] names.
pub fn set_waker(wake: fn(u32)) {
    WAKER.set(wake);
}

fn wake(id: u32) {
    if let Some(wake) = WAKER.get() {
        wake(id);
    }
}

/// Who does what waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The engine's own thread, or a thread that said code of the program may run here: everything.
    All,
    /// A thread that may only wait: what runs no code of the program.
    Engine,
}

impl Engine {
    /// Has `work` done later. `false`: too much waits already, and it will not be done.
    ///
    /// Cost: a look at up to [`queue::PLACES`] words, one CAS; a system call if the worker sleeps.
    pub fn defer(&self, work: Work) -> bool {
        let taken = self.deferred.push(work.to_word());
        self.deferred.ring();
        taken
    }

    /// Wakes the worker if it sleeps: an option it goes by has changed.
    pub fn ring_worker(&self) {
        self.deferred.ring();
    }

    /// Does what waits, here and now; answers how many items. Unpinned, without a lock.
    pub fn run_deferred(&self, rec: &ThreadRec, by: By) -> usize {
        let mut done = 0;
        // What is deferred by what runs is left to the next round: this one ends.
        for place in 0..queue::PLACES {
            let may = |word| Work::of_word(word).is_some_and(|work| by.may(work));
            if let Some(work) = self.deferred.remove(place, may).and_then(Work::of_word) {
                self.perform(rec, work);
                done += 1;
            }
        }
        done
    }

    /// At a place that may wait: what waits is done, where there is no thread for it. A load where
    /// nothing waits.
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

    /// What an item means.
    fn perform(&self, rec: &ThreadRec, work: Work) {
        match work {
            Work::Wake { id } => wake(id),
            Work::Split { cache, group } => self.split_cache(rec, cache, group),
            Work::Ends => {
                self.finish_lingering(rec);
            }
            Work::Reclaim { group, room } => {
                self.reclaim_behind(rec, group, u64::from(room) * ROOM)
            }
            Work::Sort { id } => self.with_lists(rec, |cx| self.kmem.lists.sort(cx, id)),
        }
    }
}

impl By {
    fn may(self, work: Work) -> bool {
        self == By::All || !work.runs_code_of_the_program()
    }
}

#[cfg(test)]
mod tests;
