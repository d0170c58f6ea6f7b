//! A run of pages in pieces of memory that do not lie together: where its bytes are.
//!
//! Invariants: pieces are whole pages at addresses of whole pages.
//! Depends on: nothing.
//! Never: a byte of what is in them.

#![forbid(unsafe_code)]

use crate::page::id::PAGE;

/// Whether a run may be read or written as pages, at `at` of the file.
pub(super) fn are_pages<'a>(mut pieces: impl Iterator<Item = &'a [u8]>, at: u64) -> bool {
    let is_whole = |n: usize| n.is_multiple_of(PAGE);
    at.is_multiple_of(PAGE as u64)
        && pieces.all(|piece| is_whole(piece.as_ptr().addr()) && is_whole(piece.len()))
}

/// How many bytes they are.
pub(super) fn total(lens: impl Iterator<Item = usize>) -> u64 {
    lens.map(|len| len as u64).sum()
}

/// The piece that byte `at` of the run is in, and where in it.
pub(super) fn place(lens: impl Iterator<Item = usize>, at: u64) -> (usize, usize) {
    let mut left = at;
    let mut piece = 0;
    for len in lens {
        if left < len as u64 {
            break;
        }
        left -= len as u64;
        piece += 1;
    }
    (piece, left as usize)
}

/// How many pieces from the first on lie within `bytes`.
pub(super) fn within(lens: impl Iterator<Item = usize>, bytes: u64) -> usize {
    let mut left = bytes;
    let fits = |len: &usize| {
        let fits = *len as u64 <= left;
        left = left.saturating_sub(*len as u64);
        fits
    };
    lens.take_while(fits).count()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_in_the_piece_where_it_is() {
        let lens = [4096, 8192, 4096];
        for (at, expected) in [
            (0, (0, 0)),
            (4095, (0, 4095)),
            (4096, (1, 0)),
            (12287, (1, 8191)),
            (12288, (2, 0)),
            (16384, (3, 0)),
        ] {
            assert_eq!(place(lens.into_iter(), at), expected);
        }
        for (bytes, expected) in [
            (0, 0),
            (4095, 0),
            (4096, 1),
            (12287, 1),
            (12288, 2),
            (1 << 40, 3),
        ] {
            assert_eq!(within(lens.into_iter(), bytes), expected);
        }
        assert_eq!(total(lens.into_iter()), 16384);
    }
}
