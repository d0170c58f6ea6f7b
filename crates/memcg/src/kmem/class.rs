//! Size classes: 16 bytes apart up to 128, then four to a doubling, up to 64 KiB.
//!
//! Invariants: every size is a multiple of 16, and slabs begin at multiples of 64 KiB. So an object
//! is aligned to the largest power of two that divides its size.
//! Depends on: nothing.
//! Never: a look at memory. These are pure functions of numbers.

#![forbid(unsafe_code)]

/// Number of classes.
pub const NR_CLASSES: usize = 44;

/// The largest object of a class; what is larger is an extent.
pub const MAX_CLASS_BYTES: usize = 64 << 10;

/// Up to here a class is found in a table.
const TABLE_BYTES: usize = 1024;

/// Objects up to this size lie in slabs of one unit.
const ONE_UNIT_BYTES: usize = 8 << 10;
/// Units of the slab of a larger class.
const MANY_UNITS: usize = 8;

const SIZES: [u32; NR_CLASSES] = {
    let mut sizes = [0; NR_CLASSES];
    let mut class = 0;
    while class < NR_CLASSES {
        sizes[class] = if class < 8 {
            (class as u32 + 1) * 16
        } else {
            let (doubling, quarter) = ((class as u32 - 8) / 4, (class as u32 - 8) % 4);
            (128 << doubling) + (quarter + 1) * (32 << doubling)
        };
        class += 1;
    }
    sizes
};

const TABLE: [u8; TABLE_BYTES / 16 + 1] = {
    let mut table = [0; TABLE_BYTES / 16 + 1];
    let mut at = 1;
    while at < table.len() {
        table[at] = by_formula(at * 16) as u8;
        at += 1;
    }
    table
};

#[inline(always)]
const fn by_formula(bytes: usize) -> usize {
    if bytes <= 128 {
        return bytes.saturating_sub(1) / 16;
    }
    let last = bytes - 1;
    let doubling = last.ilog2() as usize;
    8 + (doubling - 7) * 4 + ((last >> (doubling - 2)) & 3)
}

/// The class for objects of `bytes`, at most [`MAX_CLASS_BYTES`].
#[inline(always)]
#[must_use]
pub const fn class_of(bytes: usize) -> usize {
    debug_assert!(bytes <= MAX_CLASS_BYTES);
    if bytes <= TABLE_BYTES {
        TABLE[bytes.div_ceil(16)] as usize
    } else {
        by_formula(bytes)
    }
}

/// As [`class_of`]; `None` for more than a class has. What is small is asked first.
#[inline(always)]
#[must_use]
pub const fn class_if_any(bytes: usize) -> Option<usize> {
    if bytes <= TABLE_BYTES {
        Some(TABLE[bytes.div_ceil(16)] as usize)
    } else if bytes <= MAX_CLASS_BYTES {
        Some(by_formula(bytes))
    } else {
        None
    }
}

/// The class for objects of `bytes` at multiples of `align`, a power of two; `None` when that takes
/// an extent.
#[inline]
#[must_use]
pub const fn class_of_aligned(bytes: usize, align: usize) -> Option<usize> {
    if bytes > MAX_CLASS_BYTES || align > MAX_CLASS_BYTES {
        return None;
    }
    let mut class = class_of(if bytes < align { align } else { bytes });
    while class < NR_CLASSES {
        if (SIZES[class] as usize).is_multiple_of(align) {
            return Some(class);
        }
        class += 1;
    }
    None
}

/// Bytes of an object of the class: what it is charged, and what may be used of it.
#[inline(always)]
#[must_use]
pub const fn bytes_of(class: usize) -> usize {
    SIZES[class] as usize
}

/// Units of a slab of the class.
#[must_use]
pub const fn units_of(class: usize) -> usize {
    if SIZES[class] as usize <= ONE_UNIT_BYTES {
        1
    } else {
        MANY_UNITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_the_smallest_that_holds_the_size() {
        for bytes in 1..=MAX_CLASS_BYTES {
            let class = class_of(bytes);
            assert!(bytes_of(class) >= bytes, "{bytes}");
            assert!(class == 0 || bytes_of(class - 1) < bytes, "{bytes}");
        }
        assert_eq!(class_of(0), 0);
        assert_eq!(bytes_of(NR_CLASSES - 1), MAX_CLASS_BYTES);
    }

    #[test]
    fn sizes_waste_at_most_a_fifth_above_128() {
        for class in 8..NR_CLASSES {
            let (below, own) = (bytes_of(class - 1), bytes_of(class));
            assert!(own.is_multiple_of(16) && (own - below) * 4 <= below);
        }
    }

    #[test]
    fn an_aligned_class_is_a_multiple_of_the_alignment() {
        for shift in 0..=16 {
            let align = 1 << shift;
            for bytes in [0, 1, 15, 17, 100, 129, 1000, 4097, 10_000, 40_000, 65_536] {
                let class = class_of_aligned(bytes, align).unwrap();
                assert!(bytes_of(class) >= bytes && bytes_of(class).is_multiple_of(align));
            }
        }
        assert_eq!(class_of_aligned(1, 128 << 10), None);
        assert_eq!(class_of_aligned(MAX_CLASS_BYTES + 1, 16), None);
    }
}
