//! Fork: the child has one thread and all of its parent's memory.
//!
//! Before a fork, `prepare` lets changes to the tree finish and holds new ones off, so the child's
//! tree is whole. Charges are not held off: the child recounts every group from its owners' words,
//! each of which changes in one step. Then the child frees the locks, returns the stock of the
//! threads it does not have, and gives their records back.
//!
//! A thread marks a change in its own record with a plain store, and the thread that forks has
//! every thread pass a heavy fence. So changes of different threads write no shared word. A thread
//! without a record, and one that is leaving, counts its changes in one shared word.
//!
//! `_Fork` and a bare `clone` run no handlers. The kernel empties one page in every child
//! (MADV_WIPEONFORK), and a child finds out by it: its first slow path does what the handler would
//! have done. Only slow paths look, by one load of the word that also announces deferred work. A
//! child of vfork or posix_spawn shares its parent's page, finds the word unchanged, and is left
//! alone. Nothing was held off for a child without handlers. If another thread of the parent was
//! changing the tree at that moment, the child goes on without accounting and says so.
//!
//! Invariants: in a child that was forked with handlers the tree is whole. In every child no lock
//! is held by a thread that it does not have, and usage is what its owners hold.
//! Depends on: `thread` for the page with the word, records, marks and the heavy fence;
//! pthread_atfork.
//! Never: waits for ever. A change and a fork wait for each other for a bounded number of naps
//! (`PATIENCE`), then go on.

use super::Engine;
use super::kmalloc;
use super::process_engine::{self, known_rec, try_engine};
use crate::group::ROOT_TAG;
use crate::os::{barrier, clock, ids, say};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::hook::Hook;
use crate::sync::promise::{HeldOverFork, SoleThread};
use crate::thread::ThreadRec;
use crate::thread::fork_word::{self, DEFERRED, EMPTIED, SETTLED, is_watched, watch, word};
use crate::thread::record::FENCED;

/// What else is to run in the child of a fork. One function, set by whoever owns the process.
static IN_CHILD: Hook<fn()> = Hook::none();

/// Has `f` run in the child of every fork, last: from the fork itself, or where the child is first
/// seen to be one.
pub fn set_in_child(f: fn()) {
    IN_CHILD.set(f);
}

/// How long a fork waits for a change, and a change for a fork, in naps of 10 µs. The wait has an
/// end because a signal handler may fork in the middle of its own thread's change: then neither of
/// the two could go on.
const PATIENCE: u32 = 10_000;

/// One step of a wait.
fn nap() {
    clock::sleep_ns(10_000);
}

// SAFETY: this is the C library's declaration of the function: two arguments, an int and a pointer
// to int, and an int as the answer.
unsafe extern "C" {
    /// The C library's; the libc crate does not have it.
    fn pthread_setcancelstate(state: libc::c_int, before: *mut libc::c_int) -> libc::c_int;
}

/// Runs `f`, which may open and close files, where the thread may not be cancelled: inside malloc.
fn uncancelled(f: impl FnOnce()) {
    const DISABLE: libc::c_int = 1;
    let mut before = 0;
    // SAFETY: `before` is a place of this frame that outlives the call; the second call may be
    // given null instead. The state the thread had is put back, so its cancellation is as it was.
    unsafe {
        pthread_setcancelstate(DISABLE, &mut before);
        f();
        pthread_setcancelstate(before, core::ptr::null_mut());
    }
}

static DEFERRED_WORK: Hook<fn()> = Hook::none();
static DEFERRED_UNTIL: AtomicU64 = AtomicU64::new(0);
/// The process whose work it is: a child of vfork sees all three, and leaves them to its parent.
static DEFERRED_BY: AtomicU32 = AtomicU32::new(0);

/// Registers the three handlers of a fork, and sets up the page that tells a child without
/// handlers.
pub(super) fn install() {
    watch();
    // SAFETY: the three take nothing, never unwind, and are part of this library, which is never
    // unloaded. Each looks for the engine itself, so it may run at any fork.
    unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
}

/// Has `work` run on a slow path of some thread, once, `ns` from now or later; instead of what was
/// deferred before.
///
/// For what most processes end without ever needing: the child of a fork usually becomes another
/// program at once.
pub fn defer(ns: u64, work: fn()) {
    // A child that is not known as one yet becomes it first: one word says both.
    if word().load(Ordering::Relaxed) == EMPTIED {
        inspect();
    }
    DEFERRED_UNTIL.store(clock::monotonic_ns().saturating_add(ns), Ordering::Relaxed);
    DEFERRED_BY.store(ids::pid(), Ordering::Relaxed);
    DEFERRED_WORK.set(work);
    // Release pairs with the Acquire load of `inspect`: who sees DEFERRED sees the work and its
    // time.
    word().store(DEFERRED, Ordering::Release);
}

/// On a slow path, by a thread that has its record: notices that this process is a child, and does
/// what was deferred.
#[cold]
pub(super) fn inspect() {
    // Acquire pairs with the Release store of `defer`.
    match word().load(Ordering::Acquire) {
        EMPTIED => uncancelled(|| child()),
        DEFERRED
            if clock::monotonic_ns() >= DEFERRED_UNTIL.load(Ordering::Relaxed)
                && DEFERRED_BY.load(Ordering::Relaxed) == ids::pid() =>
        {
            let won =
                word().compare_exchange(DEFERRED, SETTLED, Ordering::Relaxed, Ordering::Relaxed);
            if won.is_ok()
                && let Some(work) = DEFERRED_WORK.get()
            {
                let _errno = crate::os::errno::keep();
                uncancelled(work);
            }
        }
        _ => {}
    }
}

/// A mark that a change to the tree is under way; its drop ends the mark, also in a panic.
struct Marked<'a> {
    word: &'a AtomicU32,
    /// What the word was before, if it is the thread's own. `None`: it is the shared word, and is
    /// counted down by one.
    before: Option<u32>,
}

impl Drop for Marked<'_> {
    fn drop(&mut self) {
        // Both Releases pair with the Acquire loads of `is_changing`: the thread that forks sees
        // the whole change.
        match self.before {
            Some(before) => self.word.store(before, Ordering::Release),
            None => {
                self.word.fetch_sub(1, Ordering::Release);
            }
        }
    }
}

impl Engine {
    /// Runs `f`, a change to the tree: a fork waits until it is over, and it waits until a fork is
    /// over. Cost: two stores to the thread's own record.
    pub fn change<R>(&self, f: impl FnOnce() -> R) -> R {
        if !process_engine::is_ours(self) {
            // An engine that a test made: the handlers of a fork know only the process's.
            return f();
        }
        for _ in 0..PATIENCE {
            let marked = self.mark();
            // Acquire pairs with the Release of `parent`: after a fork the locks are free again. A
            // change inside a change goes on: the fork waits for both.
            if marked.before.is_some_and(|n| n > 0) || self.forking.load(Ordering::Acquire) == 0 {
                let _marked = marked;
                return f();
            }
            drop(marked);
            nap();
        }
        f()
    }

    /// Marks the calling thread as changing the tree.
    fn mark(&self) -> Marked<'_> {
        match known_rec() {
            Some(rec) => {
                let before = rec.changing.load(Ordering::Relaxed);
                rec.changing.store(before + 1, Ordering::Relaxed);
                // The light fence, and the SeqCst fence that replaces it where the heavy one cannot
                // reach other threads, pair with the heavy fence of `prepare`: it sees the mark, or
                // we see the fork.
                barrier::light();
                if rec.drain.load(Ordering::Relaxed) & FENCED != 0 {
                    fence(Ordering::SeqCst);
                }
                Marked {
                    word: &rec.changing,
                    before: Some(before),
                }
            }
            None => {
                self.changing.fetch_add(1, Ordering::Relaxed);
                // Pairs with the SeqCst fence inside the heavy fence of `prepare`: it sees the
                // count, or we see the fork.
                fence(Ordering::SeqCst);
                Marked {
                    word: &self.changing,
                    before: None,
                }
            }
        }
    }

    /// Whether another thread is changing the tree.
    fn is_changing(&self) -> bool {
        // Both Acquires pair with the Releases of `Marked::drop`, and of `leave_interrupted` in
        // `thread_end`.
        self.changing.load(Ordering::Acquire) != 0
            || self
                .tree
                .threads
                .each()
                .any(|(_, rec)| !is_own(rec) && rec.changing.load(Ordering::Acquire) != 0)
    }
}

fn is_own(rec: &ThreadRec) -> bool {
    known_rec().is_some_and(|own| core::ptr::eq(own, rec))
}

/// Before a fork, in the parent: holds changes off, waits for those under way, takes the
/// allocator's locks.
extern "C" fn prepare() {
    let Some(engine) = try_engine() else { return };
    engine.forking.fetch_add(1, Ordering::Relaxed);
    // Pairs with the light fence and the SeqCst fences of `mark`.
    engine.tree.threads.heavy_fence();
    for _ in 0..PATIENCE {
        if !engine.is_changing() {
            break;
        }
        nap();
    }
    engine.kmem.lock_for_fork();
}

/// After a fork, in the parent: lets go of what `prepare` took.
extern "C" fn parent() {
    if let Some(engine) = try_engine() {
        // SAFETY: pthread_atfork calls `parent` after `prepare`, on the same thread. `prepare` took
        // every lock of `lock_for_fork`, and nothing has let go of them since.
        let held = unsafe { HeldOverFork::new() };
        engine.kmem.unlock_after_fork(held);
        // Release pairs with the Acquire load of `forking` in `change`.
        engine.forking.fetch_sub(1, Ordering::Release);
    }
}

/// After a fork, in the child: makes the engine the child's own. Runs once in a child, whether a
/// handler or `inspect` comes first.
extern "C" fn child() {
    let Some(engine) = try_engine() else { return };
    if is_watched() && word().swap(SETTLED, Ordering::Relaxed) != EMPTIED {
        // Another library's handler, run before, has been on a slow path.
        return;
    }
    fork_word::count_fork();
    let held_off = engine.forking.swap(0, Ordering::Relaxed) != 0;
    // SAFETY: a child of fork or clone has one thread, the one that forked. This process is a
    // child: the kernel has emptied its word (`EMPTIED`), or, without such a page, pthread_atfork
    // has called this handler.
    let sole = unsafe { SoleThread::new() };
    if held_off {
        // SAFETY: `forking` was not 0, so `prepare` had run in the parent and had taken every lock
        // of `lock_for_fork`. The thread that took them is the one of which this is the copy, and
        // it has let go of none.
        let held = unsafe { HeldOverFork::new() };
        engine.kmem.unlock_after_fork(held);
    } else {
        engine.kmem.reset_locks_in_child(sole);
    }
    let whole = held_off || !engine.is_changing();
    process_engine::has_one_thread();
    super::worker::worker_thread::forget_in_child();
    engine.begin_in_child(sole, known_rec(), whole);
    if whole {
        super::worker::in_child();
    }
    in_child();
}

impl Engine {
    /// Makes the child's copy of its parent's engine the child's own: frees locks, gives back the
    /// records of threads it does not have, recounts. `own` is the record of the child's one
    /// thread. `whole` says that no change to the tree was under way at the fork.
    pub fn begin_in_child(&self, sole: SoleThread, own: Option<&ThreadRec>, whole: bool) {
        self.kmem.reset_tables_in_child(sole);
        self.changing.store(0, Ordering::Relaxed);
        self.tree.threads.init();
        self.tree.reset_locks_in_child(sole);
        self.pages.in_child(sole);
        // Nobody wants to be told of the groups that are on it, and each may be put there anew.
        self.told.pop_all();
        self.deferred.reset_in_child(sole);
        self.kmem.lists.reset_locks_in_child(sole);
        self.reset_locks_in_child(sole);
        let is_own = |rec: &ThreadRec| own.is_some_and(|own| core::ptr::eq(own, rec));
        // The heaps of the threads the child does not have are parked; one that was cut off in the
        // middle of a change is lost.
        for (_, rec) in self.tree.threads.each().filter(|(_, rec)| !is_own(rec)) {
            kmalloc::abandon(&self.kmem, rec, rec.is_busy());
            self.kmem.abandon_caches(sole, rec);
        }
        if whole {
            recount(self, sole, is_own);
        } else {
            self.switch_off();
            forget_drains(self, sole, is_own);
            say::line(&[
                b"memcg: this process was cloned in the middle of a change to the groups: no accounting in pid ",
                say::Decimal::new(ids::pid().into()).as_bytes(),
            ]);
        }
    }
}

/// Clears the marks by which threads and drainers wait for each other at the slots of a thread:
/// those that set them are not in the child.
fn forget_drains(engine: &Engine, sole: SoleThread, is_own: impl Fn(&ThreadRec) -> bool) {
    for (_, rec) in engine.tree.threads.each() {
        if is_own(rec) {
            rec.forget_drainer(sole);
        } else {
            rec.forget_owner(sole);
        }
    }
}

/// Recounts the groups, ends the tasks of the threads that the child does not have, and gives their
/// stock and records back.
fn recount(engine: &Engine, sole: SoleThread, is_own: impl Fn(&ThreadRec) -> bool) {
    // First, so that what follows takes nothing off a group that a walk of the parent's had not
    // reached yet.
    engine.tree.recount();
    for (index, rec) in engine.tree.threads.each() {
        if is_own(rec) {
            rec.forget_drainer(sole);
            rec.tid.store(ids::tid(), Ordering::Relaxed);
            leave_parents_task(engine, rec);
            continue;
        }
        rec.forget_owner(sole);
        if let Some(task) = rec.task.swap(None, Ordering::Relaxed) {
            // Its thread is the parent's. Nobody runs the task in this process.
            engine.tree.end_task(task);
        }
        engine.tree.return_all(rec);
        engine.tree.threads.leave(index);
    }
}

/// The thread that forked works for a task with the id of the parent's thread. That task ends: what
/// it held is a line of the ledger, and the thread gets one of its own. A thread that stands in a
/// scope keeps it, for the scope leads back to it.
fn leave_parents_task(engine: &Engine, rec: &ThreadRec) {
    let Some(task) = rec.task.load(Ordering::Relaxed) else {
        return;
    };
    if rec.current() != Some(task) || rec.is_in_scope() {
        return;
    }
    rec.task.store(None, Ordering::Relaxed);
    if let Some(slot) = rec.slot_of(Some(task)) {
        // The scope of `enter_for_good`.
        let scopes = rec.slots[slot].scopes.load(Ordering::Relaxed);
        rec.slots[slot]
            .scopes
            .store(scopes.saturating_sub(1), Ordering::Relaxed);
    }
    engine.tree.enter_for_good(rec, ROOT_TAG);
    engine.tree.end_task(task);
}

fn in_child() {
    if let Some(then) = IN_CHILD.get() {
        then();
    }
}
