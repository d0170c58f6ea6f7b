//! The worker thread of a process: it does what is put off, not in the child of a fork, and not
//! where none is wanted.

use super::own_process;
use crate::engine::process_engine::{engine, with_rec};
use crate::engine::worker::{self, worker_thread};
use crate::engine::{By, Work};
use std::sync::atomic::{AtomicU32, Ordering};

static WOKEN: AtomicU32 = AtomicU32::new(0);

fn note(id: u32) {
    WOKEN.fetch_add(id, Ordering::Relaxed);
}

fn await_woken(sum: u32) {
    while WOKEN.load(Ordering::Relaxed) != sum {
        std::thread::yield_now();
    }
}

fn help(by: By) {
    with_rec(|engine, rec| engine.help(rec, by)).unwrap();
}

fn with_a_worker() {
    with_rec(|_, _| ()).unwrap();
    worker_thread::want();
    for n in 1..=100 {
        assert!(engine().defer(Work::Wake { id: n }));
        await_woken((1..=n).sum());
    }
    let before = WOKEN.load(Ordering::Relaxed);
    // SAFETY: the child does nothing but what this library is made to do in a child, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        assert!(!worker_thread::serves(engine()));
        engine().defer(Work::Wake { id: 7 });
        // Starts its own.
        help(By::Engine);
        await_woken(before + 7);
        assert!(worker_thread::serves(engine()));
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    let mut status = 1;
    // SAFETY: waits for our child; a valid place.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0);
}

fn without_one() {
    engine().options.set_no_thread(true);
    with_rec(|_, _| ()).unwrap();
    worker_thread::want();
    assert!(!worker_thread::serves(engine()));
    engine().defer(Work::Wake { id: 3 });
    help(By::Engine);
    assert_eq!(WOKEN.load(Ordering::Relaxed), 0);
    assert_eq!(crate::api::run_deferred(), 1);
    assert_eq!(WOKEN.load(Ordering::Relaxed), 3);
}

#[test]
fn what_is_put_off_is_done_by_the_worker_or_where_one_may_wait() {
    const NAME: &str = "proof::worker::what_is_put_off_is_done_by_the_worker_or_where_one_may_wait";
    match own_process::argument().as_deref() {
        None => {
            own_process::passes_again(NAME, "with");
            own_process::passes_again(NAME, "without");
        }
        Some(which) => {
            worker::set_waker(note);
            if which == "with" {
                with_a_worker();
            } else {
                without_one();
            }
        }
    }
}
