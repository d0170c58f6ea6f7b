//! Fork: the child has one thread and all the memory.
//!
//! Before the fork, changes to the tree are let finish and held off, so the child's tree is whole. Charges are not held
//! off: the child recounts every group from its owners' words, which change in one step each. Then it frees the locks,
//! returns the stock of the threads it does not have, and gives their records back.

use super::Engine;
use super::process::{known_rec, try_engine};
use crate::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};

/// What else is to happen in the child (a new helper thread, say). One function, by whoever owns the process.
static IN_CHILD: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Has `f` run in the child of every fork, last.
pub fn set_in_child(f: fn()) {
    IN_CHILD.store(f as *mut (), Ordering::Release);
}

/// Whether the last fork was made by the process's first thread.
static BY_FIRST: AtomicU32 = AtomicU32::new(0);

/// In the child of a fork: whether its thread was the parent's first. If not, the C library ends the child when that
/// thread's function returns, provided it is the last: a helper thread would keep the process alive.
pub fn was_by_first_thread() -> bool {
    BY_FIRST.load(Ordering::Relaxed) != 0
}

pub(super) fn install() {
    // SAFETY: the three are plain functions that may run at any fork.
    unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
}

impl Engine {
    /// Runs a change to the tree; a fork waits for it, and it for a fork.
    pub fn change<R>(&self, f: impl FnOnce() -> R) -> R {
        loop {
            self.changing.fetch_add(1, Ordering::AcqRel);
            // Pairs with the fence of `prepare`: it sees the count, or we see the fork.
            fence(Ordering::SeqCst);
            if self.forking.load(Ordering::Acquire) == 0 {
                break;
            }
            self.changing.fetch_sub(1, Ordering::AcqRel);
            while self.forking.load(Ordering::Acquire) != 0 {
                crate::os::clock::sleep_ns(10_000);
            }
        }
        let answer = f();
        self.changing.fetch_sub(1, Ordering::AcqRel);
        answer
    }
}

extern "C" fn prepare() {
    let Some(engine) = try_engine() else { return };
    BY_FIRST.store(
        u32::from(crate::os::ids::tid() == crate::os::ids::pid()),
        Ordering::Relaxed,
    );
    engine.forking.fetch_add(1, Ordering::AcqRel);
    // Pairs with the fence of `change`.
    fence(Ordering::SeqCst);
    // A fork out of a change of its own thread (a signal handler) would wait for itself: the wait is bounded.
    for _ in 0..10_000 {
        if engine.changing.load(Ordering::Acquire) == 0 {
            return;
        }
        crate::os::clock::sleep_ns(10_000);
    }
}

extern "C" fn parent() {
    if let Some(engine) = try_engine() {
        engine.forking.fetch_sub(1, Ordering::AcqRel);
    }
}

extern "C" fn child() {
    let Some(engine) = try_engine() else { return };
    engine.forking.store(0, Ordering::Release);
    engine.changing.store(0, Ordering::Release);
    engine.tree.threads.init();
    engine.tree.reset_locks_in_child();
    // First, so that what follows takes nothing off a group that a walk of the parent's had not reached yet.
    engine.tree.recount();
    let own = known_rec();
    for (index, rec) in engine.tree.threads.each() {
        rec.forget_owner();
        if own.is_some_and(|own| core::ptr::eq(own, rec)) {
            rec.tid.store(crate::os::ids::tid(), Ordering::Relaxed);
            continue;
        }
        let task = rec.task.swap(0, Ordering::Relaxed);
        if task != 0 {
            // Its thread is the parent's; here nobody runs it.
            engine.tree.end_task(task);
        }
        engine.tree.return_all(rec);
        engine.tree.threads.leave(index);
    }
    let then = IN_CHILD.load(Ordering::Acquire);
    if !then.is_null() {
        // SAFETY: only `set_in_child` stores here, and it stores a `fn()`.
        let then: fn() = unsafe { core::mem::transmute(then) };
        then();
    }
}
