//! The process's engine, and how a thread finds its record in it.
//!
//! A thread is unknown at first, then has a record, and has departed once its exit passed our
//! pthread key; a departed thread (a TLS destructor that runs after ours, say) borrows a record for
//! each operation. The key's destructor is the only one: thread-local storage itself is plain
//! memory. Threads of the program that have a record are counted, so that the last of them to leave
//! is told: the engine's own must be gone before it.

use super::{Engine, fork_word};
use crate::group::Tag;
use crate::os::sigmask;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::hook::Hook;
use crate::thread::ThreadRec;
use crate::thread::tls::{self, DEPARTED};
use core::sync::atomic::AtomicUsize;

/// The one static. Zero bytes, so it costs `.bss` only and is usable before anything has run.
// SAFETY: Engine is Zeroed: zero bytes are a valid engine, as yet without a root.
static ENGINE: Engine = unsafe { core::mem::MaybeUninit::zeroed().assume_init() };
/// [`UNBORN`], [`READY`], [`NO_MEMORY`], or the address of the block of the thread that starts it.
static STATE: AtomicUsize = AtomicUsize::new(UNBORN);
static KEY: AtomicU32 = AtomicU32::new(0);
static THREAD_HOOK: Hook<fn(&'static Engine, &'static ThreadRec)> = Hook::none();
/// Threads of the program that have a record.
static NR_THREADS: AtomicU32 = AtomicU32::new(0);

const UNBORN: usize = 0;
const READY: usize = 1;
const NO_MEMORY: usize = 2;
const _: () = assert!(align_of::<tls::Block>() > NO_MEMORY);

/// The process's engine, made at first use. It may be used from the first malloc of the process on.
///
/// # Panics
/// When the kernel has no pages even for the first few tables; [`try_engine`] says so instead.
pub fn engine() -> &'static Engine {
    try_engine().expect("no memory for memcg's first tables")
}

/// As [`engine`]; `None` without memory, and in a signal handler that came while its thread was
/// making the engine. (That is one for a fault in the engine: others are held off meanwhile.)
#[inline]
pub fn try_engine() -> Option<&'static Engine> {
    // Acquire pairs with the Release of `start`.
    if STATE.load(Ordering::Acquire) == READY {
        Some(&ENGINE)
    } else {
        start()
    }
}

/// Whether nobody has begun to make the process's engine.
#[cfg(test)]
pub(crate) fn is_unborn() -> bool {
    STATE.load(Ordering::Relaxed) == UNBORN
}

/// Whether it is the process's.
pub(super) fn is_ours(engine: &Engine) -> bool {
    core::ptr::eq(engine, &ENGINE)
}

#[cold]
fn start() -> Option<&'static Engine> {
    let me = tls::block() as usize;
    // First, so that no handler of this thread waits for it.
    let signals = sigmask::block_all();
    // Acquire pairs with the Release below: who finds it made sees it made.
    match STATE.compare_exchange(UNBORN, me, Ordering::Acquire, Ordering::Acquire) {
        Ok(_) => {
            let made = ENGINE.init().is_some();
            if made {
                super::at_start();
            }
            // Release pairs with the Acquire loads above and below.
            STATE.store(if made { READY } else { NO_MEMORY }, Ordering::Release);
        }
        Err(state) if state == me => return None,
        Err(_) => {
            drop(signals);
            // Acquire as above.
            while STATE.load(Ordering::Acquire) > NO_MEMORY {
                core::hint::spin_loop();
            }
        }
    }
    // Acquire as above.
    (STATE.load(Ordering::Acquire) == READY).then_some(&ENGINE)
}

/// The key by which threads' exits are seen, by `thread_end`, which made it.
pub(super) fn set_exit_key(key: libc::pthread_key_t) {
    KEY.store(key + 1, Ordering::Relaxed);
}

/// The calling thread's record, if it has one: the two instructions of a hit.
#[inline(always)]
pub fn known_rec() -> Option<&'static ThreadRec> {
    let at = tls::rec();
    if at <= DEPARTED {
        return None;
    }
    // SAFETY: set by `join` to a record of an arena, which never moves; it is this thread's until
    // it departs.
    Some(unsafe { &*(at as *const ThreadRec) })
}

/// Runs `f` with the engine and a record: the thread's own, a new one, or a borrowed one. `None`
/// without memory.
#[inline]
pub fn with_rec<R>(f: impl FnOnce(&'static Engine, &'static ThreadRec) -> R) -> Option<R> {
    if let Some(rec) = known_rec() {
        if fork_word::is_unsettled() {
            super::settle_fork();
        }
        return Some(f(&ENGINE, rec));
    }
    with_rec_slow(f)
}

#[cold]
fn with_rec_slow<R>(f: impl FnOnce(&'static Engine, &'static ThreadRec) -> R) -> Option<R> {
    let engine = try_engine()?;
    let (index, rec) = engine.tree.threads.join()?;
    // SAFETY: the block is this thread's.
    let block = unsafe { &*tls::block() };
    if block.rec.get() == DEPARTED {
        engine.tree.enter_for_good(rec, crate::group::ROOT_TAG);
        let answer = f(engine, rec);
        engine.kmem.leave_caches(rec);
        engine.tree.return_all(rec);
        engine.tree.threads.leave(index);
        return Some(answer);
    }
    // SAFETY: this thread's, and alive; the other party is a signal handler of the same thread.
    let place = unsafe { AtomicUsize::from_ptr(block.rec.as_ptr()) };
    let at = core::ptr::from_ref(rec) as usize;
    if place
        .compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed)
        .is_err()
    {
        // A handler came first, and has made the thread known.
        engine.tree.threads.leave(index);
        return Some(f(engine, known_rec()?));
    }
    block.index.set(Some(index));
    let own = block.own.get() != 0;
    if !own {
        NR_THREADS.fetch_add(1, Ordering::Relaxed);
        // Until it enters a group, a thread charges the root.
        engine.tree.enter_for_good(rec, crate::group::ROOT_TAG);
    }
    let key = KEY.load(Ordering::Relaxed);
    if key != 0 {
        // May allocate for a high key: the record is in place, so that is a malloc like any other.
        // SAFETY: the key was made by `make_exit_key`; the value is only compared with null.
        unsafe { libc::pthread_setspecific(key - 1, core::ptr::from_ref(rec).cast()) };
    }
    if !own && let Some(hook) = THREAD_HOOK.get() {
        hook(engine, rec);
    }
    if fork_word::is_unsettled() {
        super::settle_fork();
    }
    Some(f(engine, rec))
}

/// Has `hook` run on every thread from now on, when it first needs a record: to give it a task,
/// say.
pub fn set_thread_hook(hook: fn(&'static Engine, &'static ThreadRec)) {
    THREAD_HOOK.set(hook);
}

/// How many threads of the program have a record.
#[must_use]
pub fn nr_threads() -> u32 {
    NR_THREADS.load(Ordering::Relaxed)
}

/// One thread of the program fewer has a record; whether it was the last.
pub(super) fn count_thread_out() -> bool {
    NR_THREADS.fetch_sub(1, Ordering::Relaxed) == 1
}

/// In the child of a fork.
pub(super) fn has_one_thread() {
    NR_THREADS.store(known_rec().is_some().into(), Ordering::Relaxed);
}

/// Gives the calling thread a task of its own, which its charges go to from now on and which ends
/// with it.
pub fn set_thread_task(rec: &ThreadRec, tag: Tag) {
    ENGINE.tree.enter_for_good(rec, tag);
    rec.task.store(Some(tag), Ordering::Relaxed);
}

/// Makes the calling thread one of the engine's own: no task, accounted to nobody. Before it
/// allocates anything.
pub fn become_own_thread() {
    // SAFETY: the block is this thread's.
    unsafe { (*tls::block()).own.set(1) };
}

/// The live task of another thread, by the kernel's id of that. O(owners). The caller is pinned.
pub fn task_of_thread(tid: u32) -> Option<Tag> {
    ENGINE.tree.task_by_id(tid)
}

/// The calling thread's task, if it has one.
pub fn thread_task(rec: &ThreadRec) -> Option<Tag> {
    rec.task.load(Ordering::Relaxed)
}
