//! Rows with several threads. Objects pass between them in batches through a queue that sleeps, so
//! that little but the allocator's work is in the CPU time.

use super::{Held, TENANTS};
use crate::Peer;
use crate::measure::{Run, measure, pin, table, threads};
use crate::random::{Random, steps};
use std::sync::{Condvar, Mutex};

const BATCH: usize = 512;

/// A queue of batches, of fixed room: it allocates nothing once made.
struct Queue {
    held: Mutex<Vec<&'static mut [Held]>>,
    came: Condvar,
}

impl Queue {
    fn new(room: usize) -> Self {
        Self {
            held: Mutex::new(Vec::with_capacity(room)),
            came: Condvar::new(),
        }
    }

    fn push(&self, batch: &'static mut [Held]) {
        self.held.lock().unwrap().push(batch);
        self.came.notify_one();
    }

    fn pop(&self) -> &'static mut [Held] {
        let mut held = self.held.lock().unwrap();
        loop {
            if !held.is_empty() {
                return held.remove(0);
            }
            held = self.came.wait(held).unwrap();
        }
    }
}

/// One thread allocates, the other frees.
pub fn handoff<P: Peer>(ops: u64, least: usize, most: usize) -> Run {
    let batches = ops as usize / BATCH;
    let steps = steps(6, 1, TENANTS as u64, least, most);
    let (full, empty) = (Queue::new(8), Queue::new(8));
    for _ in 0..4 {
        empty.push(table(BATCH));
    }
    let go = |batches: usize| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pin(0);
                let _thread = P::thread();
                for _ in 0..batches {
                    let batch = full.pop();
                    batch.iter_mut().for_each(Held::end);
                    empty.push(batch);
                }
            });
            scope.spawn(|| {
                pin(1);
                let _thread = P::thread();
                let mut sizes = steps.iter().cycle().map(|step| step.size as usize);
                for _ in 0..batches {
                    let batch = empty.pop();
                    for held in batch.iter_mut() {
                        held.replace(sizes.next().unwrap_or(16));
                    }
                    full.push(batch);
                }
            });
        });
    };
    go(64);
    measure((batches * BATCH) as u64, || go(batches))
}

const GENERATIONS: u64 = 10;
const CHUNKS: usize = 1000;

/// Larson's server: each thread replaces random chunks, then a new thread goes on with them.
pub fn larson<P: Peer>(ops: u64) -> Run {
    let threads = threads();
    let each = ops / (threads as u64 * GENERATIONS);
    let mut all: Vec<&'static mut [Held]> = (0..threads).map(|_| table(CHUNKS)).collect();
    measure(each * GENERATIONS * threads as u64, || {
        std::thread::scope(|scope| {
            for (seed, slots) in all.iter_mut().enumerate() {
                scope.spawn(move || {
                    pin(seed);
                    generation::<P>(slots, each, GENERATIONS, seed as u64);
                });
            }
        });
    })
}

fn generation<P: Peer>(slots: &mut [Held], each: u64, left: u64, seed: u64) {
    let _thread = P::thread();
    let mut random = Random::new(seed * 1000 + left);
    for _ in 0..each {
        let drawn = random.draw();
        let slot = (drawn as u32 as usize * CHUNKS) >> 32;
        slots[slot].replace(8 + (((drawn >> 32) as usize * 993) >> 32));
    }
    if left > 1 {
        std::thread::scope(|scope| {
            scope.spawn(|| generation::<P>(slots, each, left - 1, seed));
        });
    } else {
        slots.iter_mut().for_each(Held::end);
    }
}

const XBATCH: usize = 120;

/// All threads allocate batches into one queue, and free whatever they take out of it.
pub fn xmalloc<P: Peer>(ops: u64) -> Run {
    let threads = threads();
    let each = ops as usize / threads / XBATCH;
    let steps = steps(7, 1, 1, 16, 512);
    let (full, empty) = (Queue::new(64), Queue::new(64));
    for _ in 0..8 * threads {
        empty.push(table(XBATCH));
    }
    // A start, so that a thread rarely frees what it allocated last.
    for _ in 0..4 * threads {
        full.push(empty.pop());
    }
    let go = |each: usize| {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (full, empty) = (&full, &empty);
                scope.spawn(move || {
                    pin(thread);
                    let _thread = P::thread();
                    let mut sizes = steps.iter().cycle().skip(thread * 7919);
                    for _ in 0..each {
                        let batch = empty.pop();
                        for held in batch.iter_mut() {
                            held.replace(sizes.next().map_or(16, |step| step.size as usize));
                        }
                        full.push(batch);
                        let batch = full.pop();
                        batch.iter_mut().for_each(Held::end);
                        empty.push(batch);
                    }
                });
            }
        });
    };
    go(100);
    measure((each * threads * XBATCH) as u64, || go(each))
}

/// Threads that begin, allocate a little, and end; as many at a time as there are CPUs.
pub fn short_lived<P: Peer>(ops: u64) -> Run {
    let lanes = threads() as u64;
    let steps = steps(8, 1, 1, 16, 1024);
    let lane = |each: u64| {
        let slots = table::<Held>(200);
        for _ in 0..each {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let _thread = P::thread();
                    for (held, step) in slots.iter_mut().zip(steps) {
                        held.replace(step.size as usize);
                    }
                    slots.iter_mut().for_each(Held::end);
                });
            });
        }
    };
    measure(ops / lanes * lanes, || {
        std::thread::scope(|scope| {
            for _ in 0..lanes {
                scope.spawn(|| lane(ops / lanes));
            }
        });
    })
}
