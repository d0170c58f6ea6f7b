//! Scopes: which owner a thread charges, from the making of a guard to its drop.
//!
//! Invariants: after the drop of any guard, the thread charges for the latest of its guards that
//! lives. After the last drop it charges the owner that it charged before the first.
//! Depends on: `engine`, and `group::thread_scopes` for what a scope is.
//! Never: lets a guard leave its thread.

#![forbid(unsafe_code)]

use crate::counter::throttle_curve::MAX_DELAY_NS;
use crate::engine::By;
use crate::engine::process_engine::with_rec;
use crate::group::Tag;
use crate::group::thread_scopes::Scope;
use core::fmt;
use core::marker::PhantomData;

/// A scope: the thread charges a group (or a task, or nobody) until this guard is dropped.
///
/// Made by [`Memcg::enter`](super::Memcg::enter), [`Task::enter`](super::Task::enter) and
/// [`no_account`]. It stays on its thread: it is not `Send`.
///
/// Guards nest. While several live on a thread, the latest one decides what the thread charges.
/// After the last has been dropped, the thread charges what it charged before the first. Guards are
/// meant to be dropped in reverse order, as the values of a block are. Another order is safe, but
/// it is a sign of a mistake: such drops are counted as `scope_order` in the root's `memory.stat`.
/// A guard that is leaked (`mem::forget`) lives until its thread ends.
///
/// A guard does not belong across an `.await`. The thread goes on with other futures while this one
/// waits, and they would be charged to the guard's group. [`Memcg::scope`](super::Memcg::scope)
/// is what a future needs: it enters the group for the length of each poll.
///
/// Cost of making and dropping one: some thirty instructions, no lock, no atomic instruction.
#[must_use = "the scope ends when this is dropped"]
pub struct Entered {
    /// `None`: there was no memory for the thread's record.
    scope: Option<Scope>,
    /// Not Send: it is about this thread.
    _thread: PhantomData<*const ()>,
}

impl Entered {
    /// Enters the owner `tag`, to which the caller has a reference during this call. `None`: what
    /// the thread takes is not accounted.
    #[inline]
    pub(crate) fn new(tag: Option<Tag>) -> Self {
        Self {
            scope: with_rec(|engine, rec| engine.tree.enter_scope(rec, tag)),
            _thread: PhantomData,
        }
    }
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        if let Some(scope) = self.scope {
            with_rec(|engine, rec| engine.tree.leave_scope(rec, scope));
        }
    }
}

/// Until the guard is dropped, what this thread allocates is charged to nobody.
pub fn no_account() -> Entered {
    Entered::new(None)
}

/// Blocks the thread: pays, by sleeping, the delay that it owes for having charged groups above
/// their `high`; while it polls a future in a group, what that owes. Sleeps 2 s at most; what is
/// owed up to 10 ms stays owed. Answers the time slept.
///
/// For places where a pause harms nobody: between requests, outside locks. In a future all others
/// of the thread wait meanwhile: use [`pause`](super::pause()) there. Where the engine has no
/// thread of its own, work that it has put off is done here first.
pub fn safe_point() -> core::time::Duration {
    let slept = with_rec(|engine, rec| {
        engine.help(rec, By::All);
        engine.safe_point(rec, MAX_DELAY_NS)
    });
    core::time::Duration::from_nanos(slept.unwrap_or(0))
}

/// Does, on this thread, the work that the engine has put off; answers how many pieces of work that
/// were.
///
/// A program that has the engine's worker thread never needs this. Without one (`MEMCG_NO_THREAD`,
/// or a process that can have no more threads) this keeps the engine going, and so do
/// [`safe_point`] and charges that may wait. It may run shrinkers and wakers of the program.
pub fn run_deferred() -> usize {
    with_rec(|engine, rec| {
        let _helping = rec.begin_helping();
        engine.run_deferred(rec, By::All)
    })
    .unwrap_or(0)
}
