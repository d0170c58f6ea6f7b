//! Size classes of compressed pages: steps of 64 bytes, where those of which as many fit in a span
//! are one class.
//!
//! Source of the idea: the kernel's zsmalloc.
//!
//! Invariants: an object of a class is as large as its span lets it be, in steps of 16 bytes; it is
//! not smaller than what it is for.
//! Depends on: nothing.
//! Never: a look at memory.

#![forbid(unsafe_code)]

use super::lz4::MOST;

/// Bytes of a span.
pub const SPAN: usize = 64 << 10;

const STEP: usize = 64;
const STEPS: usize = MOST / STEP;

/// Objects of a span of the class for `steps` times 64 bytes.
const fn objects_of(steps: usize) -> usize {
    SPAN / (steps * STEP)
}

const fn count() -> usize {
    let (mut nr, mut steps) = (0, 1);
    while steps <= STEPS {
        nr += (steps == STEPS || objects_of(steps) != objects_of(steps + 1)) as usize;
        steps += 1;
    }
    nr
}

/// How many classes there are.
pub const CLASSES: usize = count();

/// The most objects that a span has.
pub const MOST_OBJECTS: usize = objects_of(1);

/// The class of each number of steps; objects of a span of each class.
const TABLES: ([u8; STEPS + 1], [u16; CLASSES]) = {
    let mut tables = ([0; STEPS + 1], [0; CLASSES]);
    let (mut class, mut steps) = (0, 1);
    while steps <= STEPS {
        tables.0[steps] = class as u8;
        tables.1[class] = objects_of(steps) as u16;
        if steps < STEPS && objects_of(steps) != objects_of(steps + 1) {
            class += 1;
        }
        steps += 1;
    }
    tables
};

/// The class for `len` bytes, 1 to [`MOST`].
pub fn class_of(len: usize) -> usize {
    usize::from(TABLES.0[len.div_ceil(STEP)])
}

/// Objects of a span of a class.
pub fn nr_objects(class: usize) -> usize {
    usize::from(TABLES.1[class])
}

/// Bytes of an object of a class.
pub fn size_of_object(class: usize) -> usize {
    SPAN / nr_objects(class) / 16 * 16
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_length_fits_its_class_with_little_left_over() {
        let mut waste = 0;
        for len in 1..=MOST {
            let class = class_of(len);
            let size = size_of_object(class);
            assert!(class < CLASSES && size >= len && size * nr_objects(class) <= SPAN);
            assert!(class == 0 || size_of_object(class - 1) < len.next_multiple_of(STEP));
            waste += size - len;
        }
        assert_eq!(class_of(MOST), CLASSES - 1);
        assert!(waste / MOST <= 56, "on average {}", waste / MOST);
    }
}
