//! Waiting where something goes wrong: wakers that panic or call back, a full set of deferred work,
//! requests out of all bounds. Without a worker, so that each step is made when the test says so.

// Under loom there is no engine to test.
#![cfg(not(loom))]

#[path = "common/bell.rs"]
#[expect(dead_code, reason = "nobody rings while the test waits")]
mod bell;

use bell::Bell;
use memcg::testing::engine::process_engine::with_rec;
use memcg::testing::engine::{Work, engine};
use memcg::testing::group::ROOT;
use memcg::testing::group::objcg::State;
use memcg::{Limit, Memcg, OomKilled, WaitError, in_group, root, run_deferred};
use std::future::{Future, pending};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

const MIB: u64 = 1 << 20;
/// What hangs is ended after so many seconds.
const ALARM_S: u32 = 100;

/// One test at a time: what one defers another would do.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    engine().options.set_no_thread(true);
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn limited(name: &str) -> Memcg {
    let group = root().create(name).unwrap();
    group.set_max(Limit::bytes(MIB)).unwrap();
    group
}

fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_with(future, Waker::noop())
}

/// So many drops of [`bad`] wakers panic from now on.
static PANICS: AtomicU32 = AtomicU32::new(0);

fn panic_if_told(_: *const ()) {
    let one_less = |n: u32| n.checked_sub(1);
    if PANICS
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
        .is_ok()
    {
        panic!("on purpose: a waker is dropped");
    }
}

static BAD: RawWakerVTable =
    RawWakerVTable::new(|at| RawWaker::new(at, &BAD), |_| (), |_| (), panic_if_told);

/// A waker that does nothing when it is woken, and panics when it is dropped as often as [`PANICS`]
/// says.
fn bad() -> ManuallyDrop<Waker> {
    // SAFETY: the four functions use no data, so any pointer will do, on any thread.
    ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &BAD)) })
}

#[test]
fn a_watch_that_comes_or_goes_loses_no_wakeup_of_another() {
    let _alone = alone();
    let group = root().create("watched").unwrap();
    let bell = Arc::new(Bell::default());
    let mut watch = group.watch(Limit::bytes(8 * MIB));
    let mut other = None;
    for is_to_come in [true, false] {
        let polled = bell.poll(pin!(watch.crossed()));
        assert_eq!(polled, Poll::Pending);
        let held = group.try_reserve(12 * MIB).unwrap();
        // Whoever looks at the levels now finds that this one is crossed.
        other = is_to_come.then(|| group.watch(Limit::bytes(16 * MIB)));
        run_deferred();
        assert_eq!(bell.rung(), if is_to_come { 1 } else { 2 });
        assert_eq!(bell.poll(pin!(watch.crossed())), Poll::Ready(true));
        drop(held);
        assert_eq!(bell.poll(pin!(watch.crossed())), Poll::Pending);
    }
    drop(other);
}

#[test]
fn a_waker_may_use_the_engine_wherever_it_is_woken_and_dropped() {
    struct Uses(Memcg);
    impl Wake for Uses {
        fn wake(self: Arc<Self>) {
            drop(self.0.watch(Limit::bytes(MIB)));
        }
    }
    impl Drop for Uses {
        fn drop(&mut self) {
            drop(self.0.watch(Limit::bytes(MIB)));
        }
    }
    let _alone = alone();
    // A lock that it waits for for ever ends the test.
    // SAFETY: no handler is set: the signal ends the process.
    unsafe { libc::alarm(ALARM_S) };
    let group = root().create("uses").unwrap();
    let mut watch = group.watch(Limit::bytes(8 * MIB));
    let waker = Waker::from(Arc::new(Uses(group.clone())));
    let polled = pin!(watch.crossed()).poll(&mut Context::from_waker(&waker));
    assert_eq!(polled, Poll::Pending);
    // The engine has the last one.
    drop(waker);
    let held = group.try_reserve(12 * MIB).unwrap();
    drop(group.watch(Limit::bytes(16 * MIB)));
    assert_eq!(poll(&mut pin!(watch.crossed())), Poll::Ready(true));
    drop(held);
    // SAFETY: ends what the call above began.
    unsafe { libc::alarm(0) };
}

#[test]
fn a_waker_that_panics_when_it_is_dropped_loses_no_bytes() {
    let _alone = alone();
    let group = limited("drops");
    let held = group.try_reserve(MIB).unwrap();
    let mut waiting = group.reserve(MIB, None);
    assert!(poll(&mut waiting).is_pending());
    drop(held);
    run_deferred();
    assert_eq!(group.current(), MIB, "it is granted");
    PANICS.store(1, Ordering::Relaxed);
    let polled = catch_unwind(AssertUnwindSafe(|| poll_with(&mut waiting, &bad())));
    let Ok(Poll::Ready(Ok(charge))) = polled else {
        panic!("{polled:?}");
    };
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    drop(charge);
    drop(waiting);
    assert_eq!(group.current(), 0);
}

#[test]
fn a_waker_that_panics_when_its_future_goes_leaves_the_line_to_the_next() {
    let _alone = alone();
    let group = limited("leaves");
    let held = group.try_reserve(MIB / 2).unwrap();
    let bell = Arc::new(Bell::default());
    let mut first = group.reserve(MIB, None);
    let mut second = group.reserve(MIB / 2, None);
    assert!(poll_with(&mut first, &bad()).is_pending());
    assert!(bell.poll(Pin::new(&mut second)).is_pending());
    PANICS.store(1, Ordering::Relaxed);
    catch_unwind(AssertUnwindSafe(|| drop(first))).expect("the panic stays with the waker");
    assert_eq!((PANICS.load(Ordering::Relaxed), bell.rung()), (0, 1));
    let Poll::Ready(Ok(second)) = poll(&mut second) else {
        panic!("it is the first now");
    };
    drop((held, second));
    assert_eq!(group.current(), 0);
}

#[test]
fn what_a_waker_panics_with_may_panic_in_turn() {
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            panic!("on purpose: what was thrown is dropped");
        }
    }
    struct Throws;
    impl Wake for Throws {
        fn wake(self: Arc<Self>) {
            panic_any(Again);
        }
    }
    let _alone = alone();
    let waker = Waker::from(Arc::new(Throws));
    let group = limited("throws");
    let mut killed = pin!(in_group(&group, "killed", pending::<()>()));
    assert!(
        killed
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    catch_unwind(|| group.kill()).expect("the panic stays with the waker");
    assert_eq!(poll(&mut killed), Poll::Ready(Err(OomKilled)));

    let held = group.try_reserve(MIB).unwrap();
    let mut waiting = group.reserve(MIB, None);
    assert!(poll_with(&mut waiting, &waker).is_pending());
    drop(held);
    catch_unwind(run_deferred).expect("the panic stays with the waker");
    assert!(matches!(poll(&mut waiting), Poll::Ready(Ok(_))));
}

#[test]
fn requests_out_of_all_bounds_are_refused_at_once() {
    let _alone = alone();
    let group = limited("bounds");
    for bytes in [u64::MAX, u64::MAX - 7, 1 << 62, 1 << 40] {
        let refused = poll(&mut group.reserve(bytes, None));
        let Poll::Ready(Err(WaitError::Refused(refusal))) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(refusal.bytes, bytes);
    }
    assert_eq!(group.current(), 0);
}

/// Leaves no place for deferred work.
fn fill() {
    let more = |&room: &u32| engine().defer(Work::Reclaim { group: ROOT, room });
    assert!((0..1000).take_while(more).count() < 1000);
}

#[test]
fn where_work_finds_no_place_who_is_killed_is_woken_all_the_same() {
    let _alone = alone();
    let group = root().create("full").unwrap();
    let bells: [Arc<Bell>; 2] = Default::default();
    let mut scope = pin!(group.scope(pending::<()>()).killable());
    let mut task = pin!(in_group(&group, "task", pending::<()>()));
    assert_eq!(bells[0].poll(scope.as_mut()), Poll::Pending);
    assert_eq!(bells[1].poll(task.as_mut()), Poll::Pending);

    let id = with_rec(|engine, rec| {
        let _pin = engine.tree.threads.epoch.pin(rec);
        let index = engine.tree.lookup(b"/full").unwrap();
        while run_deferred() > 0 {}
        fill();
        engine.raise_kill_generation(engine.tree.memcgs.get(index));
        let mut owners = engine.tree.objcgs.each();
        let (_, owner) = owners
            .find(|(_, owner)| owner.state() == State::Task)
            .unwrap();
        owner.id()
    })
    .unwrap();
    run_deferred();
    assert_eq!(bells.each_ref().map(|bell| bell.rung()), [1, 0]);
    assert_eq!(bells[0].poll(scope.as_mut()), Poll::Ready(Err(OomKilled)));

    with_rec(|engine, rec| {
        let _pin = engine.tree.threads.epoch.pin(rec);
        while run_deferred() > 0 {}
        fill();
        let tag = engine.tree.task_by_id(id).unwrap();
        assert!(engine.tree.objcgs.get(tag).kill());
        engine.defer(Work::Wake { id });
    });
    run_deferred();
    assert_eq!(bells[1].rung(), 1);
    assert_eq!(bells[1].poll(task.as_mut()), Poll::Ready(Err(OomKilled)));
    assert_eq!(run_deferred(), 0, "nothing is left");
}

#[test]
fn what_was_told_in_the_parent_is_not_told_for_ever_in_a_child() {
    let _alone = alone();
    let group = limited("told");
    let events = group.events();
    assert!(group.try_reserve(2 * MIB).is_err());
    // Nobody has looked at that yet.
    // SAFETY: the child does nothing but what this library is made to do in a child, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: no handler is set: the signal ends a child that hangs.
        unsafe { libc::alarm(ALARM_S) };
        let mut again = group.events();
        let is_refused = group.try_reserve(2 * MIB).is_err();
        run_deferred();
        let is_told = poll(&mut pin!(again.next())).is_ready();
        // SAFETY: ends the child.
        unsafe { libc::_exit(if is_refused && is_told { 0 } else { 101 }) };
    }
    let mut status = 1;
    // SAFETY: waits for our child; a valid place.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0);
    drop(events);
}
