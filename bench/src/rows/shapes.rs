//! Rows about growth, sizes, lifetimes and what stays resident.

use super::{Held, layout, take};
use crate::measure::{Run, measure, rss, table};
use crate::random::{Random, steps};
use std::alloc::{dealloc, realloc as rust_realloc};
use std::hint::black_box;

const PAGE: usize = 4096;

/// Grows objects from `least` to `most`, writing a byte to each new page.
pub fn realloc(ops: u64, least: usize, most: usize, next: impl Fn(usize) -> usize) -> Run {
    let go = |ops: u64| {
        let mut done = 0;
        while done < ops {
            let (mut p, mut size) = (take(least), least);
            while size < most && done < ops {
                let larger = next(size);
                // SAFETY: an object of that layout; writes stay inside it.
                unsafe {
                    p = rust_realloc(p, layout(size), larger);
                    let mut at = size;
                    while at < larger {
                        p.add(at).write_volatile(1);
                        at += PAGE;
                    }
                }
                size = larger;
                done += 1;
            }
            // SAFETY: as above.
            unsafe { dealloc(black_box(p), layout(size)) };
        }
    };
    go(ops / 20);
    measure(ops, || go(ops))
}

/// Log-uniform sizes; half of the objects live some dozens of steps, half some thousands.
pub fn mixed(ops: u64) -> Run {
    let steps = steps(3, 4096, 2, 16, 64 << 10);
    let (young, old) = (table::<Held>(64), table::<Held>(4096));
    let mut go = |ops: u64| {
        for i in 0..ops as usize {
            let step = steps[i & 0xffff];
            let slot = if step.tenant == 0 {
                &mut young[step.slot as usize & 63]
            } else {
                &mut old[step.slot as usize & 4095]
            };
            slot.replace(step.size as usize);
            // SAFETY: the last byte of the object.
            unsafe { slot.at.add(slot.size - 1).write_volatile(1) };
        }
    };
    go(1 << 16);
    measure(ops, || go(ops))
}

/// Large blocks; the first 16 pages of each are touched.
pub fn large(ops: u64) -> Run {
    let steps = steps(4, 16, 1, 64 << 10, 32 << 20);
    let slots = table::<Held>(16);
    let mut go = |from: usize, ops: u64| {
        for step in steps.iter().skip(from).take(ops as usize) {
            let slot = &mut slots[step.slot as usize & 15];
            slot.replace(step.size as usize);
            for page in 0..16 {
                // SAFETY: the block has at least 16 pages.
                unsafe { slot.at.add(page * PAGE).write_volatile(1) };
            }
        }
    };
    go(0, 300);
    measure(ops, || go(300, ops))
}

const PHASES: usize = 24;
const SURVIVE: usize = 8;
const PHASE_BYTES: usize = 8 << 20;

/// Phases of other sizes; of each, nine tenths go at its end and the rest 8 phases later. `value`:
/// live bytes at most.
pub fn fragment() -> Run {
    let bands = [
        (16, 128),
        (100, 600),
        (16, 2048),
        (1024, 8192),
        (24, 48),
        (200, 20_000),
    ];
    let most = PHASE_BYTES / 16;
    let rings: Vec<&mut [Held]> = (0..SURVIVE).map(|_| table::<Held>(most / 4)).collect();
    let mut rings = rings;
    let now = table::<Held>(most);
    let mut random = Random::new(5);
    let (mut live, mut most_live) = (0usize, 0usize);
    let mut run = measure(1, || {
        for phase in 0..PHASES {
            let ring = &mut rings[phase % SURVIVE];
            for held in ring.iter_mut() {
                live -= held.size;
                held.end();
            }
            let (least, largest) = bands[random.below(bands.len() as u64) as usize];
            let (mut bytes, mut count, mut kept) = (0, 0, 0);
            while bytes < PHASE_BYTES && count < most {
                let size = random.size(least, largest);
                now[count] = Held {
                    at: take(size),
                    size,
                };
                // SAFETY: the object's own bytes.
                unsafe { now[count].at.write_bytes(1, size) };
                bytes += size;
                count += 1;
            }
            most_live = most_live.max(live + bytes);
            for held in &mut now[..count] {
                if random.below(10) == 0 && kept < ring.len() {
                    ring[kept] = *held;
                    live += held.size;
                    held.size = 0;
                    kept += 1;
                } else {
                    held.end();
                }
            }
        }
    });
    run.value = most_live as f64;
    run
}

/// Small objects that stay. `value`: resident bytes for each.
pub fn retain(ops: u64) -> Run {
    let objects = table::<*mut u8>(ops as usize);
    let before = rss();
    let mut run = measure(ops, || {
        for place in objects.iter_mut() {
            *place = take(64);
        }
    });
    run.value = rss().saturating_sub(before) as f64 / ops as f64;
    black_box(objects);
    run
}
