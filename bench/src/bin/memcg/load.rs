//! Threads that allocate all the while, and what something else costs them.
//!
//! The threads share all CPUs but the last, on which the caller is: what the caller does is not
//! waited for by itself. CPU is counted by thread, so what a worker lost is its CPU time less what
//! as many operations took it when nothing went on.

use memcg_bench::measure::{cpu_of, own_clock, pin, wall_ns};
use memcg_bench::rows::layout;
use std::alloc::{alloc, dealloc};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed};

/// A worker's books; a line of its own.
#[repr(align(128))]
#[derive(Default)]
pub struct Worker {
    done: AtomicU64,
    clock: AtomicI32,
}

/// Operations done and CPU used.
#[derive(Clone, Copy, Default)]
pub struct Work {
    done: f64,
    cpu_ns: f64,
}

impl Work {
    /// CPU ns for an operation.
    pub fn each(self) -> f64 {
        self.cpu_ns / self.done.max(1.0)
    }

    /// CPU ns beyond what as many operations take at `usual` each.
    pub fn lost(self, usual: f64) -> f64 {
        self.cpu_ns - self.done * usual
    }
}

/// The workers of one [`under`].
pub struct Load<'a>(&'a [Worker]);

impl Load<'_> {
    /// What worker `index` did until now.
    pub fn of(&self, index: usize) -> Work {
        let worker = &self.0[index];
        Work {
            done: worker.done.load(Relaxed) as f64,
            cpu_ns: cpu_of(worker.clock.load(Relaxed)) as f64,
        }
    }

    /// What all workers did until now.
    pub fn all(&self) -> Work {
        (0..self.0.len()).fold(Work::default(), |sum, i| {
            let one = self.of(i);
            Work {
                done: sum.done + one.done,
                cpu_ns: sum.cpu_ns + one.cpu_ns,
            }
        })
    }
}

/// The difference of two readings.
pub fn since(before: Work, now: Work) -> Work {
    Work {
        done: now.done - before.done,
        cpu_ns: now.cpu_ns - before.cpu_ns,
    }
}

/// Waits on the CPU: what runs beside the workers is then the same as in the timed part.
pub fn idle(ns: u64) {
    let end = wall_ns() + ns;
    while wall_ns() < end {
        std::hint::spin_loop();
    }
}

/// Runs `work` while as many threads as `count` allocate and free 100 bytes, in what `enter` enters
/// for each 64 of them.
pub fn under<G, R>(
    count: usize,
    enter: impl Fn(usize) -> G + Sync,
    work: impl FnOnce(&Load) -> R,
) -> R {
    // SAFETY: of that layout, at once freed.
    let pair = || unsafe { dealloc(black_box(alloc(layout(100))), layout(100)) };
    beside(count, enter, |_| pair, work)
}

/// Runs `work` while as many threads as `count` do each what `make` made for it, 64 times in what
/// `enter` enters.
pub fn beside<G, F: FnMut(), R>(
    count: usize,
    enter: impl Fn(usize) -> G + Sync,
    make: impl Fn(usize) -> F + Sync,
    work: impl FnOnce(&Load) -> R,
) -> R {
    let over = AtomicBool::new(false);
    let workers: Vec<Worker> = (0..count).map(|_| Worker::default()).collect();
    // SAFETY: a question to the C library.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }.max(1) as usize;
    std::thread::scope(|scope| {
        for (index, worker) in workers.iter().enumerate() {
            let (enter, make, over) = (&enter, &make, &over);
            scope.spawn(move || {
                pin(index % (cpus - 1).max(1));
                worker.clock.store(own_clock(), Relaxed);
                let mut operation = make(index);
                while !over.load(Relaxed) {
                    let _entered = enter(index);
                    (0..64).for_each(|_| operation());
                    worker.done.store(worker.done.load(Relaxed) + 64, Relaxed);
                }
            });
        }
        pin(cpus - 1);
        while workers.iter().any(|w| w.done.load(Relaxed) == 0) {
            std::thread::yield_now();
        }
        let result = work(&Load(&workers));
        over.store(true, Relaxed);
        result
    })
}
