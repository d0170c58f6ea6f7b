//! Polls: a thread polls a future that is in a group, from a poll's beginning to its end.
//!
//! Polls nest as scopes do, but only in reverse order: a poll is a call. Each is told on the stack
//! of the thread that makes it, and the thread's record has the address of the innermost. What the
//! future owes for `memory.high` is the thread's debt as long as the poll lasts, and the future's
//! afterwards: so it owes what its own polls' charges added, and not what ran on the thread before.
//! Sections that must not be held up are counted in the same way.
//!
//! Invariants: after a poll, by a panic too, the thread owes what it owed before. A poll whose
//! address a record has is not over.
//! Depends on: `kill_generation`; `thread` for the record.
//! Never: uses a locked instruction, takes a lock, allocates.

use super::kill_generation::KillGeneration;
use super::{Hierarchy, Tag};
use crate::sync::atomic::Ordering::Relaxed;
use crate::thread::ThreadRec;

/// What a future owes between its polls.
#[derive(Debug, Default)]
pub struct Debt {
    /// Of delay for `memory.high`, in ns.
    pub owed_ns: u64,
    /// The sections it stands in across its polls.
    pub sections: u32,
}

/// One poll that is under way.
struct Poll {
    /// The address of the one around it; 0: none.
    around: usize,
    owner: Tag,
    seen: KillGeneration,
}

/// A poll whose address the record has: until this is dropped.
struct Standing<'a> {
    rec: &'a ThreadRec,
    poll: Poll,
    /// What the thread owed and where it stood before.
    before: Debt,
    debt: &'a mut Debt,
}

impl Drop for Standing<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let rec = self.rec;
        rec.poll.store(self.poll.around, Relaxed);
        self.debt.owed_ns = rec.owed_ns.load(Relaxed);
        self.debt.sections = rec.sections.load(Relaxed);
        rec.owed_ns.store(self.before.owed_ns, Relaxed);
        rec.sections.store(self.before.sections, Relaxed);
    }
}

/// Runs `f` as a poll on the thread of `rec`, which is the caller's: of a future that works for
/// `owner`, which the caller names, was made at the generation `seen`, and has `debt`. Cost: some
/// plain loads and stores.
#[inline(always)]
pub fn poll<R>(
    rec: &ThreadRec,
    owner: Tag,
    seen: KillGeneration,
    debt: &mut Debt,
    f: impl FnOnce() -> R,
) -> R {
    let standing = Standing {
        rec,
        poll: Poll {
            around: rec.poll.load(Relaxed),
            owner,
            seen,
        },
        before: Debt {
            owed_ns: rec.owed_ns.load(Relaxed),
            sections: rec.sections.load(Relaxed),
        },
        debt,
    };
    rec.owed_ns.store(standing.debt.owed_ns, Relaxed);
    rec.sections.store(standing.debt.sections, Relaxed);
    // `standing` is not moved any more: it is dropped where it is.
    rec.poll.store(
        core::ptr::from_ref(&standing.poll).expose_provenance(),
        Relaxed,
    );
    f()
}

impl Hierarchy {
    /// Whether the thread of `rec`, which is the caller's, is polling a future that is to die: the
    /// innermost or one around it. O(polls it stands in).
    #[inline]
    pub fn is_polling_what_is_to_die(&self, rec: &ThreadRec) -> bool {
        let mut at = rec.poll.load(Relaxed);
        while at != 0 {
            // SAFETY: `poll` stored the address, on this thread, of a value on its stack that is
            // taken off the record before it goes; those around it go later.
            let poll = unsafe { &*core::ptr::with_exposed_provenance::<Poll>(at) };
            if self.is_to_die(rec, poll.owner, poll.seen) {
                return true;
            }
            at = poll.around;
        }
        false
    }
}
