//! How the objects of a cache lie in its slabs.
//!
//! Invariants: object, red zone and link lie inside the stride and do not overlap; the link is at a
//! multiple of 4.
//! Depends on: nothing but the size of a unit.
//! Never: a look at memory. These are pure functions of numbers.
//!
//! ```text
//! plain          [ object, the link of the free list in its first bytes         ]
//! with the link  [ object ][ link ]                          constructor, or checks
//! with checks    [ object ][ red zone, 16 bytes or more ][ link ]
//! ```

#![forbid(unsafe_code)]

use crate::kmem::layout::UNIT;

/// The largest object of a cache, its red zone and link included. What is larger is whole pages,
/// and needs no cache.
pub const MOST_BYTES: usize = 64 << 10;
/// The smallest distance of two objects: a unit has so many tags.
const LEAST: usize = 16;
/// The largest alignment.
pub const MOST_ALIGN: usize = 4096;
/// Units of a slab of objects to 8 KiB, and of larger ones.
const UNITS: (usize, usize) = (1, 8);
const LINK: usize = 4;
/// Bytes of a red zone.
pub const RED_ZONE: usize = 16;
/// What a red zone holds while its object is free.
pub const ZONE_FREE: u8 = 0xbb;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Bytes of an object that its user may use, and that are charged: a multiple of 16.
    pub bytes: usize,
    /// From one object to the next.
    pub stride: usize,
    /// Where in an object the link lies while it is free.
    pub link_at: usize,
    /// Units of a slab.
    pub units: usize,
}

impl Shape {
    /// For objects of `bytes` at multiples of `align`, a power of two. `None`: too large, or no
    /// alignment.
    #[must_use]
    pub fn new(bytes: usize, align: usize, checked: bool, constructed: bool) -> Option<Shape> {
        if !align.is_power_of_two() || align > MOST_ALIGN || bytes > MOST_BYTES {
            return None;
        }
        let align = align.max(8);
        let charged = bytes.max(1).next_multiple_of(align.max(LEAST));
        let zone = if checked { RED_ZONE } else { 0 };
        let beside = checked || constructed;
        let link_at = if beside { charged + zone } else { 0 };
        let end = if beside { link_at + LINK } else { charged };
        let stride = end.next_multiple_of(align.max(LEAST));
        if stride > MOST_BYTES {
            return None;
        }
        let units = if stride <= 8 << 10 { UNITS.0 } else { UNITS.1 };
        Some(Shape {
            bytes: charged,
            stride,
            link_at,
            units,
        })
    }

    /// Objects of a slab.
    #[must_use]
    pub fn per_slab(&self) -> usize {
        self.units * UNIT / self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_every_size_lie_apart_aligned_and_whole() {
        for bytes in (0..2000).chain([8191, 8192, 8193, 60_000, 65_000]) {
            for align in [1, 8, 16, 64, 4096] {
                for (checked, constructed) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    let shape = Shape::new(bytes, align, checked, constructed);
                    let Some(shape) = shape else {
                        assert!(bytes > 60_000, "{bytes} {align}");
                        continue;
                    };
                    assert!(shape.bytes >= bytes && shape.bytes.is_multiple_of(8));
                    assert!(shape.stride.is_multiple_of(align) && shape.stride >= shape.bytes);
                    let beside = checked || constructed;
                    assert_eq!(shape.link_at >= shape.bytes, beside);
                    assert!(shape.link_at + LINK <= shape.stride);
                    assert!(shape.per_slab() >= 8 && shape.per_slab() <= 4096);
                }
            }
        }
        assert_eq!(Shape::new(8, 3, false, false), None);
        assert_eq!(Shape::new(8, 8192, false, false), None);
        assert_eq!(Shape::new(MOST_BYTES + 1, 8, false, false), None);
    }
}
