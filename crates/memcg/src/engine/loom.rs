//! Deferred work under every schedule that a few preemptions make: the real queue, its bell, and a
//! worker that sleeps.
//!
//! Invariants: what is pushed is done, and done after what led to it. A sleeper that nobody wakes
//! is a deadlock, which loom finds.
//! Depends on: `worker::queue`, which has two places under loom, so it is soon full.
//! Never: built outside loom.

#![cfg(loom)]
#![forbid(unsafe_code)]

use super::queue::{PLACES, Queue};
use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};
use loom::thread;
use std::sync::Arc;

#[derive(Default)]
struct World {
    queue: Queue,
    /// What led to each item of work: a number each, written before it is deferred.
    cause: [AtomicU32; 3],
    /// The cause as it was when the item was done last.
    seen: [AtomicU32; 3],
    is_over: AtomicU32,
}

impl World {
    /// As `Engine::defer`.
    fn defer(&self, item: usize) -> bool {
        let taken = self.queue.push(item as u64 + 1);
        self.queue.ring();
        taken
    }

    /// As `Engine::defer`, of an item that must not be lost.
    fn defer_kill(&self, item: usize) {
        if !self.queue.push(item as u64 + 1) {
            self.queue.mark_overflow();
        }
        self.queue.ring();
    }

    /// As `Engine::run_deferred`. All items are of one kind: a mark stands for any.
    fn run(&self) -> usize {
        let mut done = 0;
        if self.queue.take_overflow() {
            for (seen, cause) in self.seen.iter().zip(&self.cause) {
                seen.store(cause.load(Relaxed), Relaxed);
            }
            done += 1;
        }
        for place in 0..PLACES {
            if let Some(word) = self.queue.remove(place, |_| true) {
                let item = word as usize - 1;
                self.seen[item].store(self.cause[item].load(Relaxed), Relaxed);
                done += 1;
            }
        }
        done
    }

    /// As the worker's thread.
    fn work(&self) {
        let is_over = || self.is_over.load(Relaxed) != 0;
        while !is_over() {
            if self.run() == 0 {
                self.queue.sleep(0, is_over);
                crate::sync::relax();
            }
        }
    }

    /// As `dismiss`.
    fn dismiss(&self) {
        self.is_over.store(1, Relaxed);
        self.queue.ring();
    }
}

fn model(preemptions: usize, f: impl Fn(Arc<World>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || f(Arc::new(World::default())));
}

/// Catches: the bell looked at before the work is there, or the work before it is said that the
/// worker sleeps, and either without its fence; a bell that is set without a wake-up.
#[test]
fn loom_work_put_off_while_the_worker_goes_to_sleep_is_done() {
    model(4, |w| {
        let worker = {
            let w = w.clone();
            thread::spawn(move || {
                // Until it has done the one item.
                while w.run() == 0 {
                    w.queue.sleep(0, || false);
                    crate::sync::relax();
                }
            })
        };
        w.cause[0].store(7, Relaxed);
        assert!(w.defer(0));
        worker.join().unwrap();
        assert_eq!(w.seen[0].load(Relaxed), 7);
        assert!(w.queue.is_empty());
    });
}

/// Catches: a flag that is not looked at between saying that one sleeps and sleeping.
#[test]
fn loom_a_worker_that_is_told_to_leave_leaves() {
    model(4, |w| {
        let worker = {
            let w = w.clone();
            thread::spawn(move || w.work())
        };
        w.dismiss();
        worker.join().unwrap();
    });
}

/// Catches: one that waits found to be the same by a load alone, so that whoever does it has not
/// seen what led to it the second time.
#[test]
fn loom_what_is_put_off_again_while_it_is_done_is_done_after_what_led_to_it() {
    model(4, |w| {
        assert!(w.defer(0));
        let other = {
            let w = w.clone();
            thread::spawn(move || {
                w.run();
            })
        };
        w.cause[0].store(7, Relaxed);
        assert!(w.defer(0));
        other.join().unwrap();
        w.run();
        assert_eq!(w.seen[0].load(Relaxed), 7);
        assert!(w.queue.is_empty());
    });
}

/// Catches: a place filled twice, a count that is not taken back where no place is free.
#[test]
fn loom_of_three_items_put_off_by_two_each_is_done_or_refused() {
    model(3, |w| {
        let other = {
            let w = w.clone();
            thread::spawn(move || [w.defer(0), w.defer(1)])
        };
        let third = w.defer(2);
        let mut done = w.run();
        let [first, second] = other.join().unwrap();
        done += w.run();
        let taken = [first, second, third].into_iter().filter(|&taken| taken);
        assert_eq!(done, taken.count());
        assert!(w.queue.is_empty());
    });
}

/// Catches: a mark that is not counted among what waits; one that is set after the bell is rung, or
/// taken without its Acquire.
#[test]
fn loom_what_finds_no_place_and_must_not_be_lost_is_done_after_what_led_to_it() {
    model(3, |w| {
        assert!(w.defer(0) && w.defer(1));
        let worker = {
            let w = w.clone();
            thread::spawn(move || {
                while w.seen[2].load(Relaxed) != 7 {
                    if w.run() == 0 {
                        w.queue.sleep(0, || false);
                        crate::sync::relax();
                    }
                }
            })
        };
        w.cause[2].store(7, Relaxed);
        w.defer_kill(2);
        worker.join().unwrap();
        w.run();
        assert!(w.queue.is_empty());
    });
}
