//! A thread's end, and a jump out of a signal handler: what the engine gives up with the thread.
//!
//! Invariants: a departed thread has no task, no stock and no record.
//! Depends on: `kmalloc`, `kmem` and `worker_thread`, which learn of the end before the record
//! goes; `process_engine` for the pthread key.
//! Never: called from the files it uses. The C library calls it, by the key's destructor.

use super::kmalloc;
use super::process_engine::{self, known_rec, try_engine};
use super::worker::worker_thread;
use crate::sync::atomic::Ordering;
use crate::sync::hook::Hook;
use crate::thread::record::IN_HEAP;
use crate::thread::tls;

static LAST_HOOK: Hook<fn()> = Hook::none();

/// Has each thread's exit seen from now on: a pthread key whose destructor ends the thread's part.
pub(super) fn make_exit_key() {
    let mut key: libc::pthread_key_t = 0;
    // SAFETY: `key` is a place of this frame for one key. `on_thread_exit` has the signature of a
    // destructor, ignores its argument, and is part of this library, which is never unloaded.
    if unsafe { libc::pthread_key_create(&mut key, Some(on_thread_exit)) } == 0 {
        process_engine::set_exit_key(key);
    }
}

/// Has `hook` run by a thread of the program that leaves as the last that has a record, while it
/// still has it.
pub fn set_last_thread_hook(hook: fn()) {
    LAST_HOOK.set(hook);
}

/// The key's destructor: runs at a thread's exit, after C++ and Rust thread-locals are gone.
///
/// # Safety
/// Nothing is asked of the caller: the value is not looked at. It is `unsafe` because the C
/// library's type of a destructor is.
unsafe extern "C" fn on_thread_exit(_value: *mut libc::c_void) {
    depart();
}

/// Ends the calling thread's part in the engine: its task, its stock, its record.
pub fn depart() {
    let (Some(rec), Some(engine)) = (known_rec(), try_engine()) else {
        return;
    };
    // SAFETY: `tls::block` is the calling thread's block: it lives as long as the thread, and only
    // this thread uses its cells.
    let block = unsafe { &*tls::block() };
    if block.own.get() == 0 && process_engine::count_thread_out() {
        worker_thread::dismiss();
        if let Some(hook) = LAST_HOOK.get() {
            hook();
        }
    }
    let task = rec.task.swap(None, Ordering::Relaxed);
    kmalloc::leave(&engine.kmem, rec);
    rec.end_busy();
    engine.kmem.leave_caches(rec);
    engine.pages.pins.forget(rec);
    if let Some(task) = task {
        let _pin = engine.tree.threads.epoch.pin(rec);
        engine.change(|| engine.tree.end_task(task));
    }
    engine.tree.return_all(rec);
    if let Some(index) = block.index.get() {
        engine.tree.threads.leave(index);
    }
}

/// For a thread that jumps out of a signal handler: what it was doing in the engine when the signal
/// came is not gone on with. Nothing when it was doing nothing: only a handler can find its thread
/// inside.
pub fn leave_interrupted() {
    let (Some(rec), Some(engine)) = (known_rec(), try_engine()) else {
        return;
    };
    let busy = rec.busy.load(Ordering::Relaxed);
    if busy == 0 && rec.pin.load(Ordering::Relaxed) == 0 {
        return;
    }
    if busy == IN_HEAP {
        // The few instructions of a hit can be cut off anywhere; a change of the heap cannot, so it
        // gets another.
        kmalloc::abandon(&engine.kmem, rec, true);
        // SAFETY: `tls::block` is the calling thread's block: it lives as long as the thread, and
        // only this thread uses its cells.
        unsafe { (*tls::block()).heap.set(0) };
    }
    // A transit that was cut off is over, or readers would wait for it. Release pairs with the
    // Acquire load of `Hierarchy::transits`: who sees it over sees what it did.
    rec.seq.fetch_and(!0xff, Ordering::Release);
    // Release pairs with the Acquire load of `Epoch::is_at`: we have looked for the last time.
    rec.pin.store(0, Ordering::Release);
    // Release pairs with the Acquire loads of `Engine::is_changing` in `fork`.
    rec.changing.store(0, Ordering::Release);
    // Release pairs with the Acquire load of `ThreadRec::await_idle`: a drainer sees the slots as
    // we leave them.
    rec.busy.store(0, Ordering::Release);
}
