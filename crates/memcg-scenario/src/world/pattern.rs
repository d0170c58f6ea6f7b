//! What is written into things, so that it is seen whether it was overwritten.
//!
//! Invariants: two things of one scenario have two patterns: the seed is one's own, and each object
//! or page has its number.
//! Depends on: nothing.
//! Never: a word of zeros.

#![forbid(unsafe_code)]

/// The difference between one word and the next. It is odd, so that no two words of an object are
/// equal before 2⁶⁴ words.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What number `i` of a thing holds.
#[derive(Clone, Copy)]
pub struct Pattern(u64);

impl Pattern {
    /// Of object or page `i` of a thing.
    pub fn of(seed: u64, i: u64) -> Pattern {
        Pattern((seed << 32 ^ i).wrapping_mul(STEP) | 1)
    }

    /// Its words, from the first on.
    fn words(self) -> impl Iterator<Item = [u8; 8]> {
        let next = |word: &u64| Some(word.wrapping_add(STEP));
        std::iter::successors(Some(self.0), next).map(u64::to_ne_bytes)
    }

    /// Writes it into all of `bytes`.
    pub fn write(self, bytes: &mut [u8]) {
        for (piece, word) in bytes.chunks_mut(8).zip(self.words()) {
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }

    /// Whether all of `bytes` holds it.
    pub fn is_in(self, bytes: &[u8]) -> bool {
        let mut pieces = bytes.chunks(8).zip(self.words());
        pieces.all(|(piece, word)| piece == &word[..piece.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_seen_in_what_it_was_written_into_and_nowhere_else() {
        let mut bytes = [0; 100];
        Pattern::of(3, 7).write(&mut bytes);
        assert!(Pattern::of(3, 7).is_in(&bytes) && Pattern::of(3, 7).is_in(&bytes[..11]));
        assert!(!Pattern::of(3, 8).is_in(&bytes) && !Pattern::of(4, 7).is_in(&bytes));
        for at in [0, 50, 99] {
            bytes[at] ^= 1;
            assert!(!Pattern::of(3, 7).is_in(&bytes), "{at}");
            bytes[at] ^= 1;
        }
    }
}
