//! The process's engine, and how a thread finds its record in it.
//!
//! A thread is unknown at first, then has a record, and has departed once its exit has passed our
//! pthread key. A departed thread (one in a TLS destructor that runs after ours, say) borrows a
//! record for each operation. The key's destructor is the only one: thread-local storage itself is
//! plain memory.
//!
//! Invariants: there is one engine, made at most once. A thread's block names its own record or
//! none. Threads of the program that have a record are counted, so the last of them to leave is
//! told so: the engine's own thread must be gone before it.
//! Depends on: `group` for records and owners; `thread::tls` for the block, `thread::fork_word`.
//! Never: allocates from a heap before the thread's record is in place.

use super::Engine;
use crate::group::Tag;
use crate::os::sigmask;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::hook::Hook;
use crate::thread::ThreadRec;
use crate::thread::fork_word;
use crate::thread::tls::{self, DEPARTED};
use core::sync::atomic::AtomicUsize;

/// The one static. Zero bytes, so it costs `.bss` only and is usable before anything has run.
// SAFETY: `Engine` is `Zeroed`: zero bytes are a valid engine, as yet without a root.
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
    // Acquire pairs with the Release store of STATE in `start`: who sees READY sees the engine
    // made.
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

/// Whether `engine` is the process's.
pub(super) fn is_ours(engine: &Engine) -> bool {
    core::ptr::eq(engine, &ENGINE)
}

/// Makes the engine, or waits for the thread that does.
#[cold]
fn start() -> Option<&'static Engine> {
    let me = tls::block() as usize;
    // First, so that no handler of this thread waits for it.
    let signals = sigmask::block_all();
    // Both Acquires pair with the Release store below: who finds READY sees the engine made.
    match STATE.compare_exchange(UNBORN, me, Ordering::Acquire, Ordering::Acquire) {
        Ok(_) => {
            let made = ENGINE.init().is_some();
            if made {
                super::at_start();
            }
            // Release pairs with the Acquire loads of STATE in `try_engine` and here, above and
            // below.
            STATE.store(if made { READY } else { NO_MEMORY }, Ordering::Release);
        }
        Err(state) if state == me => return None,
        Err(_) => {
            drop(signals);
            // Acquire pairs with the Release store of the thread that makes the engine, above.
            while STATE.load(Ordering::Acquire) > NO_MEMORY {
                core::hint::spin_loop();
            }
        }
    }
    // Acquire pairs with the Release store above, by whichever thread made the engine.
    (STATE.load(Ordering::Acquire) == READY).then_some(&ENGINE)
}

/// Keeps the pthread key by which threads' exits are seen; `thread_end` has made it.
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
    // SAFETY: `with_rec_slow` put the address of a record there, which `join` had given to this
    // thread. Records lie in an arena, which never moves or unmaps them, and this one is the
    // thread's until it departs; then the block says DEPARTED.
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

/// As [`with_rec`], for a thread that has no record.
#[cold]
fn with_rec_slow<R>(f: impl FnOnce(&'static Engine, &'static ThreadRec) -> R) -> Option<R> {
    let engine = try_engine()?;
    let (index, rec) = engine.tree.threads.join()?;
    // SAFETY: `tls::block` is the calling thread's block: it lives as long as the thread, and only
    // this thread uses its cells.
    let block = unsafe { &*tls::block() };
    if block.rec.get() == DEPARTED {
        engine.tree.enter_for_good(rec, crate::group::ROOT_TAG);
        let answer = f(engine, rec);
        engine.kmem.leave_caches(rec);
        engine.tree.return_all(rec);
        engine.tree.threads.leave(index);
        return Some(answer);
    }
    // SAFETY: the cell is a word of the calling thread's block, aligned, and alive as long as the
    // thread. The only other code that writes it is a signal handler of the same thread, which
    // cannot run in the middle of this one instruction.
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
        // SAFETY: `make_exit_key` made the key before it stored it in KEY, and nobody deletes it.
        // The value is only compared with null.
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

/// In the child of a fork, which has the thread that forked only: counts anew.
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
    // SAFETY: `tls::block` is the calling thread's block: it lives as long as the thread, and only
    // this thread uses its cells.
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
