//! Scopes: whom a thread works for, from here to the end of a block.

use crate::engine::By;
use crate::engine::process::with_rec;
use crate::engine::throttle::MOST_NS;
use crate::group::Tag;
use crate::group::stock::Scope;
use core::fmt;
use core::marker::PhantomData;

/// The thread charges a group (or task, or nobody) until this is dropped; then whom it charged before.
///
/// Stays on its thread. Guards end in reverse order of their making, as values of nested blocks do.
#[must_use = "the scope ends when this is dropped"]
pub struct Entered {
    scope: Scope,
    /// Not Send: it is about this thread.
    _thread: PhantomData<*const ()>,
}

impl Entered {
    /// Enters `tag`, which the caller names for the length of this call; `None`: what is taken is not accounted.
    #[inline]
    pub(crate) fn new(tag: Option<Tag>) -> Self {
        let scope =
            with_rec(|engine, rec| engine.tree.enter_scope(rec, tag)).unwrap_or(Scope::NONE);
        Self {
            scope,
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
        let scope = self.scope;
        if !scope.is_none() {
            with_rec(|engine, rec| engine.tree.leave_scope(rec, scope));
        }
    }
}

/// What the thread allocates until the guard is dropped is accounted to nobody.
pub fn no_account() -> Entered {
    Entered::new(None)
}

/// Pays, by sleeping, the delay this thread owes for having charged groups above their `high`; at most 2 s.
///
/// For places where a pause harms nobody: between requests, outside locks. Where the engine has no thread of its own, what
/// it has put off is done here first. Returns the time slept.
pub fn safe_point() -> core::time::Duration {
    let slept = with_rec(|engine, rec| {
        engine.help(rec, By::All);
        engine.safe_point(rec, MOST_NS)
    });
    core::time::Duration::from_nanos(slept.unwrap_or(0))
}

/// Does, on this thread, what the engine has put off; answers how many pieces of work that were.
///
/// A program that has the engine's worker thread never needs it. Without one (`MEMCG_NO_THREAD`, or a process that can have
/// no more threads) this is what keeps it going, and so do [`safe_point`] and charges that may wait. May run shrinkers and
/// wakers of the program.
pub fn run_deferred() -> usize {
    with_rec(|engine, rec| {
        let _helping = rec.begin_helping();
        engine.run_deferred(rec, By::All)
    })
    .unwrap_or(0)
}
