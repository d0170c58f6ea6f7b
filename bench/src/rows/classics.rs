//! Kinds of work that allocators are traditionally compared by, each written anew: what they ask of
//! an allocator is kept (sizes, lifetimes, who frees), not what they compute.

use super::{Held, give, take};
use crate::Peer;
use crate::measure::{Run, measure, pin, table, threads};
use crate::random::{Random, Step, steps};
use std::hint::black_box;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// A number of some 32-bit digits in an object of its own, the lowest first.
struct Big {
    at: *mut u32,
    digits: usize,
}

impl Big {
    fn new(digits: usize) -> Self {
        let at = take(digits * 4).cast::<u32>();
        // SAFETY: that many digits.
        unsafe { at.write_bytes(0, digits) };
        Self { at, digits }
    }

    fn digits(&self) -> &[u32] {
        // SAFETY: written when made.
        unsafe { std::slice::from_raw_parts(self.at, self.digits) }
    }

    fn digits_mut(&mut self) -> &mut [u32] {
        // SAFETY: as above, and the only one.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.digits) }
    }

    /// `self * by + plus`.
    fn times(&self, by: u32, plus: &Big) -> Big {
        let mut made = Big::new(self.digits.max(plus.digits) + 1);
        let mut carry = 0u64;
        for (i, place) in made.digits_mut().iter_mut().enumerate() {
            let digit = |of: &Big| of.digits().get(i).map_or(0, |&d| u64::from(d));
            let sum = digit(self) * u64::from(by) + digit(plus) + carry;
            *place = sum as u32;
            carry = sum >> 32;
        }
        made
    }

    /// Its digits without those from `most` on, each added to the lowest: stands for a reduction.
    fn folded(&self, most: usize) -> Big {
        let mut made = Big::new(most.min(self.digits));
        let (low, high) = self.digits().split_at(made.digits);
        let extra = high.iter().fold(0u32, |sum, d| sum.wrapping_add(*d));
        made.digits_mut().copy_from_slice(low);
        made.digits_mut()[0] = made.digits()[0].wrapping_add(extra);
        made
    }
}

impl Drop for Big {
    fn drop(&mut self) {
        give(self.at.cast(), self.digits * 4);
    }
}

/// As a factoring by continued fractions: every step makes and drops some numbers of a few digits;
/// few are kept.
pub fn cfrac(ops: u64) -> Run {
    let mut random = Random::new(11);
    let mut kept: Vec<Option<Big>> = (0..2048).map(|_| None).collect();
    let mut go = |steps: u64| {
        let (mut before, mut now) = (Big::new(1), Big::new(4));
        now.digits_mut()[0] = 7;
        for i in 0..steps {
            let drawn = random.draw();
            let next = now.times(drawn as u32 & 0xff | 1, &before).folded(4);
            let square = next.times(drawn as u32 >> 8 | 1, &now);
            let rest = square.folded(3);
            if rest.digits()[0] & 31 == 0 {
                kept[i as usize & 2047] = Some(rest);
            }
            before = std::mem::replace(&mut now, next);
        }
        black_box(now.digits()[0]);
    };
    // Four numbers a step.
    go(ops / 80);
    measure(ops, || go(ops / 4))
}

/// Cubes of a cover: pointers in an array that grows by doubling.
struct Cover {
    cubes: Vec<*mut u64>,
    words: usize,
}

impl Cover {
    fn add(&mut self, cube: impl Fn(usize) -> u64) {
        let at = take(self.words * 8).cast::<u64>();
        for i in 0..self.words {
            // SAFETY: an object of that many words.
            unsafe { at.add(i).write(cube(i)) };
        }
        self.cubes.push(at);
    }
}

impl Drop for Cover {
    fn drop(&mut self) {
        for cube in &self.cubes {
            give(cube.cast(), self.words * 8);
        }
    }
}

/// As a minimizer of logic: covers of bit vectors are made out of two others, and take the place of
/// a third.
pub fn espresso(ops: u64) -> Run {
    const COVERS: usize = 48;
    let mut random = Random::new(12);
    let mut made = 0;
    let mut covers: Vec<Cover> = (0..COVERS)
        .map(|i| {
            let mut cover = Cover {
                cubes: Vec::new(),
                words: 1 + i % 12,
            };
            for _ in 0..40 {
                let bits = random.draw();
                cover.add(|word| bits.rotate_left(word as u32 * 7));
            }
            cover
        })
        .collect();
    let mut go = |ops: u64| {
        made = 0;
        while made < ops {
            let drawn = random.draw();
            let pick = |shift: u32| (drawn >> shift) as usize % COVERS;
            let (a, b, place) = (&covers[pick(0)], &covers[pick(16)], pick(32));
            let mut next = Cover {
                cubes: Vec::new(),
                words: 1 + place % 12,
            };
            let take_each = 1 + (drawn >> 48) as usize % 7;
            for (i, &x) in a.cubes.iter().enumerate().step_by(take_each) {
                let Some(&y) = b.cubes.get(i * 7 % b.cubes.len().max(1)) else {
                    break;
                };
                // SAFETY: cubes of their covers' words.
                next.add(|word| unsafe { *x.add(word % a.words) & !*y.add(word % b.words) });
            }
            let short = 40usize.saturating_sub(next.cubes.len());
            for i in 0..short {
                next.add(|word| drawn.rotate_right((word + i) as u32));
            }
            made += next.cubes.len() as u64;
            covers[place] = next;
        }
    };
    go(ops / 20);
    measure(ops, || go(ops))
}

/// Random sizes and lifetimes: few slots are replaced often, many rarely; the object's ends are
/// written.
pub fn alloc_test<P: Peer>(ops: u64, threads: usize) -> Run {
    const SLOTS: usize = 1 << 14;
    let each = ops / threads as u64;
    let of = |thread: usize| -> (&'static mut [Held], &'static mut [Step]) {
        let mut random = Random::new(13 + thread as u64);
        let steps = table::<Step>(1 << 16);
        for step in steps.iter_mut() {
            let x = random.unit();
            *step = Step {
                slot: (x * x * x * SLOTS as f64) as u32,
                size: random.size(8, 1500) as u32,
                tenant: 0,
            };
        }
        (table(SLOTS), steps)
    };
    let go = |slots: &mut [Held], steps: &[Step], ops: u64| {
        for step in steps.iter().cycle().take(ops as usize) {
            let held = &mut slots[step.slot as usize];
            held.replace(step.size as usize);
            // SAFETY: the last byte of the object.
            unsafe { held.at.add(held.size - 1).write_volatile(1) };
        }
    };
    let mut all: Vec<_> = (0..threads).map(of).collect();
    if threads == 1 {
        let (slots, steps) = &mut all[0];
        go(slots, steps, 1 << 16);
        return measure(ops, || go(slots, steps, ops));
    }
    measure(each * threads as u64, || {
        std::thread::scope(|scope| {
            for (thread, (slots, steps)) in all.iter_mut().enumerate() {
                scope.spawn(move || {
                    pin(thread);
                    let _thread = P::thread();
                    go(slots, steps, each);
                    slots.iter_mut().for_each(Held::end);
                });
            }
        });
    })
}

/// One size at a time, more and more blocks, freed in the order they were made, or in the reverse.
pub fn simple(ops: u64) -> Run {
    let blocks = table::<*mut u8>(1600);
    let mut go = |ops: u64| {
        let mut done = 0;
        for turn in 0.. {
            let size = [16, 32, 64, 128, 256, 512, 1024][turn % 7];
            let count = [25, 100, 400, 1600][turn / 7 % 4];
            for place in &mut blocks[..count] {
                *place = take(size);
            }
            if turn & 1 == 0 {
                blocks[..count].iter().for_each(|&p| give(p, size));
            } else {
                blocks[..count].iter().rev().for_each(|&p| give(p, size));
            }
            done += count as u64;
            if done >= ops {
                break;
            }
        }
        done
    };
    go(ops / 10);
    let mut done = 0;
    let run = measure(ops, || done = go(ops));
    Run { ops: done, ..run }
}

/// Threads that replace blocks at random in tables of their own, small ones more often, up to 32
/// KiB.
pub fn threaded<P: Peer>(ops: u64) -> Run {
    const SLOTS: usize = 1024;
    let threads = threads();
    let each = ops / threads as u64;
    let mut random = Random::new(14);
    let steps = table::<Step>(1 << 16);
    for step in steps.iter_mut() {
        // The chance of a size falls with its square.
        let x = random.unit();
        *step = Step {
            slot: random.below(SLOTS as u64) as u32,
            size: (4.0 / (x + 4.0 / 32768.0)) as u32 + 4,
            tenant: 0,
        };
    }
    let steps = &*steps;
    measure(each * threads as u64, || {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    pin(thread);
                    let _thread = P::thread();
                    let slots = table::<Held>(SLOTS);
                    let mine = steps.iter().cycle().skip(thread * 4999);
                    for step in mine.take(each as usize) {
                        slots[step.slot as usize].replace(step.size as usize);
                    }
                    slots.iter_mut().for_each(Held::end);
                });
            }
        });
    })
}

/// An object that other threads may take: its first word is its size.
struct Transfer([AtomicPtr<u8>; 1000]);

impl Transfer {
    /// Puts an object (or none) in a place and frees what was there.
    fn pass(&self, place: usize, p: *mut u8) {
        let old = self.0[place].swap(p, Ordering::AcqRel);
        if !old.is_null() {
            // SAFETY: ours alone now; `sized` wrote the size.
            unsafe { give(old, old.cast::<usize>().read()) };
        }
    }
}

fn sized(size: usize) -> *mut u8 {
    let p = take(size);
    // SAFETY: sizes here are 16 at least, aligned to 8.
    unsafe { p.cast::<usize>().write(size) };
    p
}

/// As mimalloc's stress test: generations of threads that work on short-lived objects, retain some
/// to their end, and hand some to each other and to later generations.
pub fn mstress<P: Peer>(ops: u64) -> Run {
    const GENERATIONS: u64 = 8;
    let threads = threads();
    let each = ops / GENERATIONS / threads as u64;
    let steps = steps(15, 1000, 100, 16, 256);
    let transfer = Transfer([const { AtomicPtr::new(std::ptr::null_mut()) }; 1000]);
    let generation = |thread: usize, generation: u64| {
        let _thread = P::thread();
        let (retained, young) = (table::<*mut u8>(each as usize), table::<*mut u8>(64));
        let mut nr_retained = 0;
        let from = (thread as u64 * GENERATIONS + generation) * 7907;
        for i in 0..each {
            let step = steps[(from + i) as usize & 0xffff];
            let size = match step.tenant {
                0 => step.size as usize * 64,
                1..5 => step.size as usize * 8,
                _ => step.size as usize,
            };
            let p = sized(size);
            match step.tenant {
                90.. => transfer.pass(step.slot as usize, p),
                70..90 => {
                    retained[nr_retained] = p;
                    nr_retained += 1;
                }
                _ => {
                    let old = std::mem::replace(&mut young[i as usize & 63], p);
                    if !old.is_null() {
                        // SAFETY: this thread's; `sized` wrote the size.
                        unsafe { give(old, old.cast::<usize>().read()) };
                    }
                }
            }
        }
        for &p in retained[..nr_retained].iter().chain(young.iter()) {
            if !p.is_null() {
                // SAFETY: as above.
                unsafe { give(p, p.cast::<usize>().read()) };
            }
        }
    };
    let run = measure(each * threads as u64 * GENERATIONS, || {
        for nr in 0..GENERATIONS {
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let generation = &generation;
                    scope.spawn(move || {
                        pin(thread);
                        generation(thread, nr);
                    });
                }
            });
        }
    });
    (0..1000).for_each(|place| transfer.pass(place, std::ptr::null_mut()));
    run
}

/// Whether small objects of threads share a cache line: each thread allocates one, writes it many
/// times, and frees it. With `scratch` its first object is one the main thread allocated beside the
/// others'.
pub fn cache<P: Peer>(ops: u64, scratch: bool) -> Run {
    const WRITES: usize = 200;
    const SIZE: usize = 8;
    let threads = threads();
    let each = ops / threads as u64;
    let first: Vec<AtomicUsize> = (0..threads)
        .map(|_| AtomicUsize::new(if scratch { take(SIZE) as usize } else { 0 }))
        .collect();
    measure(each * threads as u64, || {
        std::thread::scope(|scope| {
            for (thread, first) in first.iter().enumerate() {
                scope.spawn(move || {
                    pin(thread);
                    let _thread = P::thread();
                    let given = first.swap(0, Ordering::Relaxed) as *mut u8;
                    if !given.is_null() {
                        give(given, SIZE);
                    }
                    for _ in 0..each {
                        let p = take(SIZE);
                        for i in 0..WRITES {
                            // SAFETY: inside the object.
                            unsafe { p.add(i % SIZE).write_volatile(i as u8) };
                        }
                        give(p, SIZE);
                    }
                });
            }
        });
    })
}
