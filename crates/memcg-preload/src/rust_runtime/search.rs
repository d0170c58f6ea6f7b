//! What tells Rust's runtime: paths of the standard library's sources among bytes.
//!
//! Invariants: bytes come from a closure, which answers how many there were.
//! Depends on: nothing of this library.
//! Never: takes bytes that did not come for looked at.

use memchr::memmem::find;

/// What two pieces have in common, so that no path is cut: it is longer than what is sought.
const OVERLAP: usize = 32;

/// What a search came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Searched {
    Found,
    /// It was all looked at.
    Nothing,
    /// Not all could be read, and nothing was found in the rest.
    Unread,
}

impl Searched {
    /// Goes on with `next`, unless something was found; what was not read stays so.
    pub fn or_else(self, next: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Found => self,
            Self::Nothing => next(),
            Self::Unread => match next() {
                Self::Found => Self::Found,
                Self::Nothing | Self::Unread => Self::Unread,
            },
        }
    }
}

/// Looks for a path of the standard library's sources in `bytes` bytes, which `read` copies from a
/// place on, as many as it can. `buffer` is for one piece, of more than [`OVERLAP`] bytes.
pub fn search(buffer: &mut [u8], bytes: u64, read: impl Fn(u64, &mut [u8]) -> usize) -> Searched {
    let mut at = 0;
    loop {
        let piece = (buffer.len() as u64).min(bytes - at) as usize;
        let nr = read(at, &mut buffer[..piece]).min(piece);
        if has_path(&buffer[..nr]) {
            return Searched::Found;
        }
        if at + nr as u64 == bytes {
            return Searched::Nothing;
        }
        if nr <= OVERLAP {
            return Searched::Unread;
        }
        at += (nr - OVERLAP) as u64;
    }
}

/// Whether a path of the standard library's sources is in `text`.
fn has_path(mut text: &[u8]) -> bool {
    const FOLDER: &[u8] = b"/library/";
    while let Some(at) = find(text, FOLDER) {
        text = &text[at + FOLDER.len()..];
        if text.starts_with(b"std/src/") || text.starts_with(b"alloc/src/") {
            return true;
        }
    }
    false
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Reads from a slice, `most` bytes at a time.
    pub fn reader(bytes: &[u8], most: usize) -> impl Fn(u64, &mut [u8]) -> usize + Clone + '_ {
        move |at, to| {
            let rest = bytes.get(at as usize..).unwrap_or_default();
            let nr = rest.len().min(to.len()).min(most);
            to[..nr].copy_from_slice(&rest[..nr]);
            nr
        }
    }

    const PATH: &[u8] = b"/rustc/0123/library/alloc/src/";

    #[test]
    fn paths_of_the_standard_library_are_told_from_others() {
        assert!(has_path(b"/rustc/0123/library/std/src/io/mod.rs"));
        assert!(has_path(
            b"x/library/x /usr/src/rustc-1.63/library/alloc/src/raw_vec.rs"
        ));
        assert!(!has_path(b"/usr/lib/library/std/include /library/alloc"));
        assert!(!has_path(b"/library/"));
    }

    #[test]
    fn a_path_is_found_wherever_pieces_meet() {
        let mut buffer = [0; 2 * OVERLAP];
        for before in 0..4 * OVERLAP {
            let mut text = vec![b'.'; before];
            text.extend_from_slice(PATH);
            for after in [0, 1, OVERLAP, 3 * OVERLAP] {
                text.resize(before + PATH.len() + after, b'.');
                for most in [OVERLAP + 1, OVERLAP + 7, usize::MAX] {
                    let found = search(&mut buffer, text.len() as u64, reader(&text, most));
                    assert_eq!(found, Searched::Found, "{before} {after} {most}");
                }
                // Behind what is looked at.
                let bytes = (before + PATH.len() - 1) as u64;
                let found = search(&mut buffer, bytes, reader(&text, usize::MAX));
                assert_eq!(found, Searched::Nothing, "{before} {after}");
            }
        }
    }

    #[test]
    fn what_is_not_there_was_not_read() {
        let mut buffer = [0; 2 * OVERLAP];
        let text = [b'.'; 100];
        assert_eq!(
            search(&mut buffer, 100, reader(&text, usize::MAX)),
            Searched::Nothing
        );
        assert_eq!(
            search(&mut buffer, 101, reader(&text, usize::MAX)),
            Searched::Unread
        );
        assert_eq!(search(&mut buffer, 100, |_, _| 0), Searched::Unread);
        assert_eq!(search(&mut buffer, 0, |_, _| 0), Searched::Nothing);
    }

    #[test]
    fn what_was_not_read_is_not_forgotten() {
        use Searched::{Found, Nothing, Unread};
        for (first, second, both) in [
            (Nothing, Nothing, Nothing),
            (Nothing, Unread, Unread),
            (Unread, Nothing, Unread),
            (Unread, Found, Found),
            (Found, Unread, Found),
        ] {
            assert_eq!(first.or_else(|| second), both);
        }
    }
}
