//! Compression of one page, in the block format of LZ4; decompression is the crate `lz4_flex`'s.
//!
//! Written from the published description of the format (lz4_Block_format.md). The crate's own
//! compressor is not used: its table of hashes lies on the heap as soon as anything in the program
//! turns on the crate's feature `alloc`. This one works in memory that it is given, and gives up as
//! soon as a page turns out not to be worth it.
//!
//! Format: sequences of a token (length of literals above, of the match below, 15: more bytes
//! follow), literals, and two bytes of how far back the match is. The last five bytes are literals,
//! and no match begins in the last twelve.
//!
//! Invariants: what is compressed decompresses to the same page. No more than [`MOST`] bytes are
//! answered.
//! Depends on: `lz4_flex` to decompress, with checks of bounds.
//! Never: an allocation; a panic on bytes that are not of this compressor.

#![forbid(unsafe_code)]

use crate::page::PAGE;

/// The most that a page may take compressed: three quarters. The kernel's zswap stores what is
/// larger than that as badly; nothing is gained.
pub const MOST: usize = 3072;

/// How much further than it answers the compressor may write: literals are copied by [`WILD`].
const WILD: usize = 16;

const HASH_BITS: u32 = 12;

/// The least that a match is worth.
const LEAST: usize = 4;
/// No match begins behind this place.
const LAST_START: usize = PAGE - 12;
/// No match ends behind this place.
const LAST_END: usize = PAGE - 5;
/// After so many places without a match (a power of two) one more is left out at each step.
const PATIENCE_BITS: u32 = 5;

/// What the compressor works in. Zero bytes are one that has not been used.
///
/// An entry is the place of some four bytes, plus the base of the page it is of. So a table is not
/// emptied for each page: what is below the base is of an earlier one.
#[repr(C, align(64))]
pub struct Workspace {
    places: [u16; 1 << HASH_BITS],
    base: u16,
    out: [u8; MOST + WILD],
}

#[inline(always)]
fn four(page: &[u8; PAGE], at: usize) -> u32 {
    match page.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        Some(_) | None => 0,
    }
}

#[inline(always)]
fn eight(page: &[u8; PAGE], at: usize) -> u64 {
    match page.get(at..at + 8) {
        Some(&[a, b, c, d, e, f, g, h]) => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        Some(_) | None => 0,
    }
}

#[inline(always)]
fn hash(bytes: u32) -> usize {
    // Knuth's multiplier: 2³² divided by the golden ratio.
    (bytes.wrapping_mul(2_654_435_761) >> (32 - HASH_BITS)) as usize
}

/// How many bytes at `from` are those at `at`, which lies behind it; none behind [`LAST_END`].
#[inline(always)]
fn nr_same(page: &[u8; PAGE], from: usize, at: usize) -> usize {
    let mut n = 0;
    while at + n + 8 <= LAST_END {
        let differ = eight(page, from + n) ^ eight(page, at + n);
        if differ != 0 {
            return n + (differ.trailing_zeros() / 8) as usize;
        }
        n += 8;
    }
    while at + n < LAST_END && page[from + n] == page[at + n] {
        n += 1;
    }
    n
}

/// What has been written so far.
struct Out<'a> {
    bytes: &'a mut [u8; MOST + WILD],
    len: usize,
}

impl Out<'_> {
    #[inline(always)]
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    /// What of a length its half of the token does not hold.
    #[inline(always)]
    fn push_rest(&mut self, mut rest: usize) {
        while rest >= 255 {
            self.push(255);
            rest -= 255;
        }
        self.push(rest as u8);
    }

    /// Writes a token and the literals `page[from..to]`; `None` where that and `more` bytes are too
    /// many.
    #[inline(always)]
    fn literals(
        &mut self,
        page: &[u8; PAGE],
        (from, to): (usize, usize),
        of_match: usize,
        more: usize,
    ) -> Option<()> {
        let n = to - from;
        if self.len + 1 + n / 255 + 1 + n + more > MOST {
            return None;
        }
        self.push((n.min(15) as u8) << 4 | of_match.min(15) as u8);
        if n >= 15 {
            self.push_rest(n - 15);
        }
        let room = &mut self.bytes[self.len..];
        if n <= WILD && from + WILD <= PAGE {
            room[..WILD].copy_from_slice(&page[from..from + WILD]);
        } else {
            room[..n].copy_from_slice(&page[from..to]);
        }
        self.len += n;
        Some(())
    }
}

impl Workspace {
    /// The base of the next page; empties the table where there is none.
    fn next_base(&mut self) -> usize {
        self.base = self.base.wrapping_add(PAGE as u16);
        if self.base == 0 {
            self.places.fill(0);
            self.base = PAGE as u16;
        }
        usize::from(self.base)
    }

    /// Compresses a page; `None`: it takes more than [`MOST`] bytes.
    pub fn compress(&mut self, page: &[u8; PAGE]) -> Option<&[u8]> {
        let base = self.next_base();
        let places = &mut self.places;
        let mut out = Out {
            bytes: &mut self.out,
            len: 0,
        };
        let mut anchor = 0;
        let mut at = 0;
        let mut tries = 1 << PATIENCE_BITS;
        while at <= LAST_START {
            let bytes = four(page, at);
            let place = &mut places[hash(bytes)];
            let found = usize::from(core::mem::replace(place, (base + at) as u16));
            let from = found.wrapping_sub(base);
            if found < base || four(page, from) != bytes {
                at += tries >> PATIENCE_BITS;
                tries += 1;
                continue;
            }
            let (mut from, mut start) = (from, at);
            while start > anchor && from > 0 && page[start - 1] == page[from - 1] {
                start -= 1;
                from -= 1;
            }
            let end = at + LEAST + nr_same(page, from + (at - start) + LEAST, at + LEAST);
            let beyond = end - start - LEAST;
            out.literals(page, (anchor, start), beyond, 2 + beyond / 255 + 1)?;
            let back = (start - from) as u16;
            out.push(back as u8);
            out.push((back >> 8) as u8);
            if beyond >= 15 {
                out.push_rest(beyond - 15);
            }
            (anchor, at, tries) = (end, end, 1 << PATIENCE_BITS);
            // A place inside the match, so that what repeats it is found.
            if end <= LAST_START {
                places[hash(four(page, end - 2))] = (base + end - 2) as u16;
            }
        }
        out.literals(page, (anchor, PAGE), 0, 0)?;
        let len = out.len;
        Some(&self.out[..len])
    }
}

/// Decompresses a page. `false`: the bytes are none of a page; what `into` holds then is nothing.
pub fn decompress(bytes: &[u8], into: &mut [u8; PAGE]) -> bool {
    lz4_flex::block::decompress_into(bytes, into).is_ok_and(|len| len == PAGE)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn workspace() -> Workspace {
        Workspace {
            places: [0; 1 << HASH_BITS],
            base: 0,
            out: [0; MOST + WILD],
        }
    }

    /// A page of pieces: runs, repeats of what came before, and noise.
    fn page_of(pieces: &[(u8, u16, u16)]) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        let mut at = 0;
        let mut noise = 0x9e37_79b9_u32;
        for &(kind, len, how) in pieces.iter().cycle() {
            for _ in 0..=len % 600 {
                if at == PAGE {
                    return page;
                }
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                page[at] = match kind % 4 {
                    0 => how as u8,
                    3 => (noise >> 24) as u8,
                    _ if at == 0 => 1,
                    _ => page[at - 1 - usize::from(how) % at],
                };
                at += 1;
            }
        }
        page
    }

    fn check(work: &mut Workspace, page: &[u8; PAGE]) {
        let mut back = [0xa5; PAGE];
        if let Some(bytes) = work.compress(page) {
            assert!(bytes.len() <= MOST);
            assert!(decompress(bytes, &mut back));
            assert!(back == *page);
        }
        let mut theirs = [0; lz4_flex::block::get_maximum_output_size(PAGE)];
        let len = lz4_flex::block::compress_into(page, &mut theirs).unwrap();
        back.fill(0xa5);
        assert!(decompress(&theirs[..len], &mut back));
        assert!(back == *page);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
        #[test]
        fn what_is_compressed_comes_back(
            pages in prop::collection::vec(
                prop::collection::vec((any::<u8>(), any::<u16>(), any::<u16>()), 1..12), 1..4)
        ) {
            let mut work = workspace();
            for pieces in &pages {
                check(&mut work, &page_of(pieces));
            }
        }

        #[test]
        fn garbage_is_no_page_and_no_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..400)
        ) {
            let mut into = [0; PAGE];
            let _ = decompress(&bytes, &mut into);
        }
    }

    /// The table is emptied once in 15 pages: entries of other pages never count.
    #[test]
    fn a_table_used_for_many_pages_mixes_none_of_them_up() {
        let mut work = workspace();
        for round in 0..64u16 {
            check(
                &mut work,
                &page_of(&[(2, 37, round), (1, 5, 3), (0, round, round)]),
            );
        }
    }

    /// Every length of literals and of matches around the token's 15 and the bytes' 255, and all
    /// places near the end.
    #[test]
    fn lengths_at_the_edges_of_the_format_come_back() {
        let mut work = workspace();
        for n in (0..40).chain(255..300).chain(510..530).chain(4060..4096) {
            let mut page = page_of(&[(3, 599, 0)]);
            let (head, tail) = page.split_at_mut(n);
            tail.fill(head.first().copied().unwrap_or(7));
            check(&mut work, &page);
            page.reverse();
            check(&mut work, &page);
        }
    }

    #[test]
    fn noise_is_refused_and_what_repeats_is_small() {
        let mut work = workspace();
        assert_eq!(work.compress(&page_of(&[(3, 599, 0)])), None);
        assert!(work.compress(&[7; PAGE]).unwrap().len() < 40);
        let mut three_quarters = page_of(&[(3, 599, 0)]);
        three_quarters[2900..].fill(0);
        assert!(work.compress(&three_quarters).is_some());
        three_quarters = page_of(&[(3, 599, 0)]);
        three_quarters[3072..].fill(0);
        assert_eq!(work.compress(&three_quarters), None);
    }
}
