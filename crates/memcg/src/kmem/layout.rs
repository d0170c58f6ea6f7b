//! Where things lie: chunks of 32 MiB at multiples of 32 MiB, cut into 512 units of 64 KiB.
//!
//! ```text
//! unit 0          512 slab records of 128 bytes; the chunk's own record lies where those of
//!                 units without objects would be
//! units 1–383     objects
//! units 384–511   owners' tags: 16 KiB for each unit, four bytes an object, touched
//!                 only where a slab is mixed
//! ```
//!
//! Slab, object and tag are found from each other by shifts and masks, without a lookup. Chunks are
//! placed in one range of addresses, so one comparison tells a pointer that cannot be an object's.
//!
//! Invariants: the asserts below; the parts of a chunk fill it exactly.
//! Depends on: nothing.
//! Never: a look at memory. These are pure functions of addresses.

#![forbid(unsafe_code)]

/// Bytes of a chunk, and its alignment.
pub const CHUNK: usize = 32 << 20;
/// Bytes of a unit.
pub const UNIT: usize = 64 << 10;
/// Units with objects: `FIRST_UNIT..END_UNIT`.
pub const FIRST_UNIT: usize = 1;
/// One past the last unit with objects.
pub const END_UNIT: usize = 384;
/// Bytes of a slab record.
pub const RECORD: usize = 128;
/// Bytes of tags for a unit.
const TAGS: usize = UNIT / 16 * size_of::<u32>();
/// Where a chunk's own record lies in it.
pub const CHUNK_RECORD: usize = END_UNIT * RECORD;

const _: () = assert!(CHUNK / UNIT * RECORD == UNIT);
const _: () = assert!(END_UNIT * UNIT + CHUNK / UNIT * TAGS == CHUNK);

/// Addresses of chunks have this in bits 43 and up: 8 to 16 TiB. No C library, stack or program
/// text lies there, and valgrind lets a program have it.
pub const AREA: usize = 1;
const AREA_SHIFT: u32 = 43;
/// The first address of the area, and its bytes.
pub const AREA_START: usize = AREA << AREA_SHIFT;
/// Bytes of the area of huge objects, which lies before that of the chunks. It is apart, so that a
/// hit never looks for a record at a pointer to a huge object that was unmapped, or into the middle
/// of one.
pub const HUGE_BYTES: usize = AREA_BYTES / 2;
/// Its first address.
pub const HUGE_START: usize = AREA_START - HUGE_BYTES;
/// Bytes of the area.
pub const AREA_BYTES: usize = 1 << AREA_SHIFT;

/// Bits of a user address.
pub const ADDRESS_BITS: u32 = 48;

/// Whether `at` lies in the area of chunks. Where that area is taken by others, chunks lie
/// elsewhere.
#[must_use]
pub const fn in_area(at: usize) -> bool {
    at >> AREA_SHIFT == AREA
}

/// The chunk of an address.
#[inline(always)]
#[must_use]
pub const fn chunk_of(at: usize) -> usize {
    at & !(CHUNK - 1)
}

/// The unit of an address in its chunk.
#[inline(always)]
#[must_use]
pub const fn unit_of(at: usize) -> usize {
    (at & (CHUNK - 1)) / UNIT
}

/// Where the slab record of the unit of an address lies.
#[inline(always)]
#[must_use]
pub const fn record_of(at: usize) -> usize {
    chunk_of(at) + unit_of(at) * RECORD
}

/// Where the unit of a slab record begins.
#[inline(always)]
#[must_use]
pub const fn start_of(record: usize) -> usize {
    chunk_of(record) + (record & (CHUNK - 1)) / RECORD * UNIT
}

/// Where the tags of the unit of a slab record begin.
#[inline(always)]
#[must_use]
pub const fn tags_of(record: usize) -> usize {
    chunk_of(record) + END_UNIT * UNIT + (record & (CHUNK - 1)) / RECORD * TAGS
}

/// The tags of `units` units from `unit` on: address and bytes.
#[must_use]
pub const fn tag_range(chunk: usize, unit: usize, units: usize) -> (usize, usize) {
    (chunk + END_UNIT * UNIT + unit * TAGS, units * TAGS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_and_its_unit_find_each_other() {
        let chunk = AREA_START + 5 * CHUNK;
        for unit in FIRST_UNIT..END_UNIT {
            let start = chunk + unit * UNIT;
            for at in [start, start + 1, start + UNIT - 1] {
                assert!(in_area(at));
                assert_eq!(start_of(record_of(at)), start);
                let tags = tags_of(record_of(at));
                assert!(tags >= chunk + END_UNIT * UNIT && tags + TAGS <= chunk + CHUNK);
                assert_eq!(tag_range(chunk, unit, 1), (tags, TAGS));
            }
        }
        assert!(!in_area(AREA_START - 1) && !in_area(AREA_START + AREA_BYTES));
    }
}
