//! Tests of deferred work: the set of words that wait, and which thread takes which of them out.
//!
//! Invariants: none of its own.
//! Depends on: `queue`, `work`; an engine of its own for each test.
//! Never: looks at the process's worker.

use super::queue::{PLACES, Queue};
use super::{By, Work};
use crate::engine::Engine;
use crate::group::GroupId;
use crate::group::id::KmemId;
use crate::sync::promise::SoleThread;
use core::sync::atomic::{AtomicU64, Ordering};

#[test]
fn what_waits_twice_is_done_once_and_what_does_not_fit_is_told() {
    let queue = Queue::default();
    for word in 1..=PLACES as u64 {
        assert!(queue.push(word));
    }
    assert!(queue.push(7), "it waits already");
    assert!(!queue.push(1000));
    let all = |queue: &Queue| {
        (0..PLACES)
            .filter_map(|place| queue.remove(place, |_| true))
            .sum::<u64>()
    };
    assert_eq!(all(&queue), (1..=PLACES as u64).sum());
    assert!(queue.is_empty());
    assert!(queue.push(1000));
}

#[test]
fn an_item_is_itself_again_when_it_is_taken() {
    let all = [1, u32::MAX].into_iter().flat_map(|n| {
        [
            Work::Wake { id: n },
            Work::Reclaim {
                group: GroupId::new(n),
                room: n >> 8,
            },
            Work::Sort { id: KmemId::new(n) },
            Work::WakeAll,
            Work::Alarm,
            Work::Look,
        ]
    });
    for work in all {
        assert_ne!(work.to_word(), 0);
        assert_eq!(Work::of_word(work.to_word()), Some(work));
    }
    assert_eq!(Work::of_word(0), None);
}

#[test]
fn a_mark_of_overflow_waits_once_and_is_taken_once() {
    let queue = Queue::default();
    assert!(queue.is_empty() && !queue.take_overflow());
    queue.mark_overflow();
    queue.mark_overflow();
    assert!(!queue.is_empty(), "the worker does not sleep");
    assert!(queue.take_overflow() && !queue.take_overflow());
    assert!(queue.is_empty());
}

#[test]
fn a_child_counts_what_waits_anew() {
    let queue = Queue::default();
    assert!(queue.push(7));
    queue.mark_overflow();
    // As if a thread of the parent were about to fill a place.
    queue.begin_push();
    assert!(queue.remove(0, |_| true).is_some() && queue.take_overflow());
    assert!(!queue.is_empty());
    // SAFETY: the queue is this test's, and so is the thread.
    queue.reset_in_child(unsafe { SoleThread::new() });
    assert!(queue.is_empty(), "or the child's worker would never sleep");
    assert!(queue.push(8) && !queue.is_empty());
}

#[test]
fn what_a_handler_forked_in_the_middle_of_is_counted_when_it_is_done() {
    let queue = Queue::default();
    // SAFETY: the queue is this test's, and so is the thread.
    let fork = || queue.reset_in_child(unsafe { SoleThread::new() });
    queue.push_with(7, fork);
    assert!(!queue.is_empty(), "or nobody would look at it");
    assert!(queue.remove(0, |_| true).is_some());
    assert!(queue.is_empty(), "or the worker would never sleep");
}

#[test]
fn items_pushed_by_several_threads_are_each_taken() {
    static QUEUE: std::sync::LazyLock<Queue> = std::sync::LazyLock::new(Queue::default);
    let sum = AtomicU64::new(0);
    let left = AtomicU64::new(4);
    std::thread::scope(|s| {
        for thread in 0..4u64 {
            let left = &left;
            s.spawn(move || {
                for n in 1..=10_000 {
                    while !QUEUE.push(thread * 10_000 + n) {
                        std::thread::yield_now();
                    }
                }
                // Release pairs with the Acquire load of `left` below: who sees 0 sees all pushes.
                left.fetch_sub(1, Ordering::Release);
            });
        }
        for _ in 0..2 {
            s.spawn(|| {
                // Acquire pairs with the Releases of the pushing threads above.
                while left.load(Ordering::Acquire) > 0 || !QUEUE.is_empty() {
                    for place in 0..PLACES {
                        if let Some(word) = QUEUE.remove(place, |_| true) {
                            sum.fetch_add(word, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    assert_eq!(sum.into_inner(), (1..=40_000).sum());
}

#[test]
fn code_of_the_program_runs_only_where_it_may() {
    static WOKEN: AtomicU64 = AtomicU64::new(0);
    super::set_waker(|tag| {
        WOKEN.fetch_add(tag.into(), Ordering::Relaxed);
    });
    let engine = Engine::leaked();
    let (_, rec) = engine.tree.threads.join().unwrap();
    assert!(engine.defer(Work::Wake { id: 4_000_000_000 }));
    assert_eq!(engine.run_deferred(rec, By::Engine), 0);
    engine.help(rec, By::Engine);
    assert_eq!(WOKEN.load(Ordering::Relaxed), 0);
    engine.help(rec, By::All);
    assert_eq!(WOKEN.load(Ordering::Relaxed), 4_000_000_000);
    assert_eq!(engine.run_deferred(rec, By::All), 0);
}
