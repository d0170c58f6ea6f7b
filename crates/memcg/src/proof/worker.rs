//! The worker thread of a process: it does what is put off, not in the child of a fork, and not
//! where none is wanted.

use super::own_process;
use crate::api::{in_group, root};
use crate::engine::process_engine::{self, engine, known_rec, with_rec};
use crate::engine::worker::{self, worker_thread};
use crate::engine::{By, Work};
use core::future::{Future, pending};
use core::task::{Context, Waker};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;

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

const HOLD: u32 = 1_000_000;
/// 0; 1: the worker is held; 2: it may go on.
static HELD: AtomicU32 = AtomicU32::new(0);

fn hold(id: u32) {
    if id == HOLD {
        // Release and Acquire: as a lock, with those of `hold_a_worker` and of its callers.
        HELD.store(1, Ordering::Release);
        while HELD.load(Ordering::Acquire) != 2 {
            std::thread::yield_now();
        }
    }
    note(id);
}

/// Starts the worker and holds it until HELD is 2.
fn hold_a_worker() {
    worker::set_waker(hold);
    with_rec(|_, _| ()).unwrap();
    worker_thread::want();
    assert!(engine().defer(Work::Wake { id: HOLD }));
    while HELD.load(Ordering::Acquire) != 1 {
        std::thread::yield_now();
    }
}

/// What is for futures is left to the worker: it has times to look at before it sleeps.
fn while_it_is_busy() {
    hold_a_worker();
    for work in [Work::Alarm, Work::Look, Work::Wake { id: 5 }, Work::WakeAll] {
        assert!(engine().defer(work));
        assert_eq!(crate::api::run_deferred(), 0, "{work:?}");
    }
    help(By::All);
    assert_eq!(WOKEN.load(Ordering::Relaxed), 0);
    assert!(engine().defer(Work::Ends));
    assert_eq!(crate::api::run_deferred(), 1, "this is for anybody");
    HELD.store(2, Ordering::Release);
    await_woken(HOLD + 5);
}

/// Somebody comes and wants a worker while the one that there is leaves.
fn while_it_leaves() {
    hold_a_worker();
    worker_thread::dismiss();
    worker_thread::want();
    assert!(!worker_thread::serves(engine()), "it leaves");
    assert!(engine().defer(Work::Wake { id: 5 }));
    // SAFETY: no handler is set: the signal ends a process in which nobody does that work.
    unsafe { libc::alarm(100) };
    HELD.store(2, Ordering::Release);
    await_woken(HOLD + 5);
}

/// What the first record of a thread saw: 1 + whether there was a worker.
static SEEN: AtomicU32 = AtomicU32::new(0);

/// Nobody counts on a worker before its thread is there: it may never be.
fn while_it_starts() {
    engine();
    process_engine::set_thread_hook(|engine, _| {
        SEEN.store(
            1 + u32::from(worker_thread::serves(engine)),
            Ordering::Relaxed,
        );
    });
    // The first thing that this thread asks for: it gets its record in the middle of the start.
    std::thread::spawn(|| {
        worker_thread::want();
        assert!(worker_thread::serves(engine()));
    })
    .join()
    .unwrap();
    assert_eq!(SEEN.load(Ordering::Relaxed), 1);
}

/// Whoever asks while another thread starts it has it when he is answered.
fn while_another_starts_it() {
    // This thread is one that a worker is for, also when the other has ended.
    with_rec(|_, _| ()).unwrap();
    process_engine::set_thread_hook(|_, _| {
        if HELD.swap(1, Ordering::AcqRel) == 0 {
            // In the middle of the start.
            while HELD.load(Ordering::Acquire) != 2 {
                std::thread::yield_now();
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    });
    let starts = std::thread::spawn(worker_thread::want);
    // Release and Acquire: as a lock, with those of the hook.
    while HELD.load(Ordering::Acquire) != 1 {
        std::thread::yield_now();
    }
    HELD.store(2, Ordering::Release);
    worker_thread::want();
    assert!(worker_thread::serves(engine()));
    starts.join().unwrap();
}

/// Counts in tens how often it was woken, and in ones how often the thread was pinned then.
#[derive(Default)]
struct Pinned(AtomicU32);

impl Wake for Pinned {
    fn wake(self: Arc<Self>) {
        let is_pinned = known_rec().is_some_and(|rec| rec.pin.load(Ordering::Relaxed) != 0);
        self.0
            .fetch_add(10 + u32::from(is_pinned), Ordering::Relaxed);
    }
}

/// Code of the program does not hold up the reuse of records.
fn who_kills_is_not_pinned() {
    engine().options.set_no_thread(true);
    let group = root().create("pinned").unwrap();
    let kills: [fn(&crate::api::Memcg); 2] = [
        |group| group.kill(),
        |group| group.write("cgroup.kill", "1").unwrap(),
    ];
    for kill in kills {
        let woken = Arc::new(Pinned::default());
        let waker = Waker::from(woken.clone());
        let mut future = core::pin::pin!(in_group(&group, "f", pending::<()>()));
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        kill(&group);
        assert_eq!(woken.0.load(Ordering::Relaxed), 10);
    }
}

#[test]
fn what_is_put_off_is_done_by_the_worker_or_where_one_may_wait() {
    const NAME: &str = "proof::worker::what_is_put_off_is_done_by_the_worker_or_where_one_may_wait";
    match own_process::argument().as_deref() {
        None => {
            for which in [
                "with", "without", "busy", "starts", "beside", "leaves", "pinned",
            ] {
                own_process::passes_again(NAME, which);
            }
        }
        Some(which) => {
            worker::set_waker(note);
            match which {
                "with" => with_a_worker(),
                "busy" => while_it_is_busy(),
                "starts" => while_it_starts(),
                "beside" => while_another_starts_it(),
                "leaves" => while_it_leaves(),
                "pinned" => who_kills_is_not_pinned(),
                _ => without_one(),
            }
        }
    }
}
