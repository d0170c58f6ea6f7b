//! Waiting in the child of a fork: who waited in the parent asks anew there, no lock and no waker
//! of the parent's threads is in the way, and the books balance.

// Under loom there is no engine to test.
#![cfg(not(loom))]

#[path = "common/bell.rs"]
mod bell;

use bell::Bell;
use memcg::{Event, Limit, Memcg, OomKilled, in_group, root, run_deferred};
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

const MIB: u64 = 1 << 20;
/// What hangs is ended after so many seconds.
const ALARM_S: u32 = 100;

/// Runs `f` in a child. One that hangs is ended by a signal.
fn in_child(f: impl FnOnce()) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the child does nothing but what this library is made to do in a child, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: no handler is set: the signal ends the child, as `_exit` does.
        unsafe {
            libc::alarm(ALARM_S);
            let is_over = catch_unwind(AssertUnwindSafe(f)).is_ok();
            libc::_exit(if is_over { 0 } else { 101 });
        }
    }
    let mut status = 1;
    // SAFETY: waits for our child; a valid place.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0);
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn limited(name: &str) -> Memcg {
    let group = root().create(name).unwrap();
    group.set_max(Limit::bytes(MIB)).unwrap();
    group
}

#[test]
fn what_was_granted_in_the_parent_and_not_taken_is_given_back() {
    let group = limited("granted");
    let held = group.try_reserve(MIB).unwrap();
    let bell = Arc::new(Bell::default());
    let mut granted = group.reserve(MIB, None);
    let mut waiting = group.reserve(MIB / 2, None);
    assert!(bell.poll(Pin::new(&mut granted)).is_pending());
    assert!(poll(&mut waiting).is_pending());
    drop(held);
    bell.wait();
    assert_eq!(group.current(), MIB);
    in_child(|| {
        let rung = bell.rung();
        assert_eq!(group.current(), 0, "nobody has it here");
        // Each asks anew.
        let Poll::Ready(Ok(second)) = poll(&mut waiting) else {
            panic!("there is room");
        };
        assert!(bell.poll(Pin::new(&mut granted)).is_pending());
        drop(second);
        // The child has started a worker of its own, which wakes.
        while bell.rung() == rung {
            std::thread::yield_now();
        }
        let Poll::Ready(Ok(first)) = bell.poll(Pin::new(&mut granted)) else {
            panic!("it is granted");
        };
        assert_eq!(group.current(), MIB);
        drop((first, granted, waiting));
        assert_eq!(group.current(), 0);
        drop(group.try_reserve(MIB).unwrap());
        group.remove().unwrap();
    });
}

#[test]
fn who_is_dropped_in_a_child_gives_back_nothing_twice() {
    let group = limited("dropped");
    let held = group.try_reserve(MIB).unwrap();
    let bell = Arc::new(Bell::default());
    let mut granted = group.reserve(MIB / 2, None);
    let mut waiting = group.reserve(MIB, None);
    assert!(bell.poll(Pin::new(&mut granted)).is_pending());
    assert!(poll(&mut waiting).is_pending());
    drop(held);
    bell.wait();
    in_child(|| {
        drop((waiting, granted));
        assert_eq!(group.current(), 0);
        let (half, more) = (group.try_reserve(MIB / 2), group.try_reserve(MIB / 2));
        assert!(half.is_ok() && more.is_ok(), "no door is closed");
    });
}

#[test]
fn bells_ring_in_a_child_once_they_are_polled_there() {
    let group = limited("bells");
    let task = group.task("t").unwrap();
    let (emptied_bell, bell) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
    let (mut emptied, mut events) = (group.emptied(), group.events());
    let mut watch = group.watch(Limit::bytes(MIB / 2));
    assert!(emptied_bell.poll(Pin::new(&mut emptied)).is_pending());
    assert!(bell.poll(pin!(events.next())).is_pending());
    assert!(bell.poll(pin!(watch.crossed())).is_pending());
    in_child(|| {
        assert!(emptied_bell.poll(Pin::new(&mut emptied)).is_pending());
        assert!(bell.poll(pin!(events.next())).is_pending());
        assert!(bell.poll(pin!(watch.crossed())).is_pending());
        drop(task);
        emptied_bell.wait();
        assert_eq!(poll(&mut emptied), Poll::Ready(()));
        let rung = bell.rung();
        let held = group.try_reserve(MIB).unwrap();
        while bell.rung() == rung {
            std::thread::yield_now();
        }
        assert_eq!(bell.poll(pin!(watch.crossed())), Poll::Ready(true));
        assert!(group.try_reserve(MIB).is_err());
        let Poll::Ready(Some(news)) = bell.poll(pin!(events.next())) else {
            panic!("it was refused");
        };
        assert_eq!(news.since(Event::Max), 1);
        drop((held, events, watch));
        run_deferred();
        group.remove().unwrap();
    });
}

#[test]
fn who_waits_can_be_killed_in_a_child_once_he_is_polled_there() {
    let group = limited("killed");
    let bell = Arc::new(Bell::default());
    let mut future = Box::pin(in_group(&group, "f", pending::<()>()));
    let unpolled = Box::pin(in_group(&group, "g", pending::<()>()));
    let mut unpolled = unpolled;
    for future in [&mut future, &mut unpolled] {
        assert!(bell.poll(future.as_mut()).is_pending());
    }
    in_child(|| {
        assert!(bell.poll(future.as_mut()).is_pending());
        group.kill();
        assert_eq!(bell.rung(), 1, "the other's waker is the parent's");
        for future in [&mut future, &mut unpolled] {
            assert_eq!(bell.poll(future.as_mut()), Poll::Ready(Err(OomKilled)));
        }
    });
    assert!(bell.poll(future.as_mut()).is_pending(), "not killed here");
}
