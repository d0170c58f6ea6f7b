//! The paths by which files are opened again, in pieces of 56 bytes.
//!
//! A path, because a descriptor is what is bounded: an `O_PATH` descriptor is one too. It is made
//! absolute when the file is opened; where it leads when it is used again is checked by identity.
//!
//! Invariants: a path is 1 to 4,095 bytes, none of them NUL, and begins with `/`. The pieces of one
//! go together.
//! Depends on: `sync::arena`; the lock of [`super::Files`], which callers hold.
//! Never: a look at the file system, but for where relative paths begin.

use super::error::OpenError;
use crate::os::descriptor;
use crate::os::errno::Errno;
use crate::sync::Zeroed;
use crate::sync::arena::{Arena, Record};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::sync::id::{AtomicId, ids};
use core::ffi::CStr;

ids! {
    /// A piece of a path.
    pub(super) PieceId;
}

/// The longest path with its NUL, as the kernel takes it.
pub const PATH_MAX: usize = 4096;
/// 64 MiB of pieces: a million files with paths of up to 56 bytes.
const NR_PIECES: u32 = 1 << 20;
const WORDS: usize = 7;
const TEXT: usize = WORDS * 8;

/// 56 bytes of a path, those after its end 0.
#[derive(Default)]
pub(super) struct Piece {
    link: AtomicU32,
    more: AtomicId<PieceId>,
    text: [AtomicU64; WORDS],
}

// SAFETY: atomic integers, for which zero bytes are 0 and none, as Default builds them.
unsafe impl Zeroed for Piece {}
// SAFETY: Zeroed, see above. `link` is used by the arena alone.
unsafe impl Record for Piece {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

/// A path on the stack, absolute, with its NUL.
pub(super) struct Path {
    text: [u8; PATH_MAX],
    len: usize,
}

impl Path {
    /// Makes `path` absolute.
    pub fn absolute(path: &[u8]) -> Result<Self, OpenError> {
        if path.is_empty() {
            return Err(OpenError::Refused(Errno::ENOENT));
        }
        if path.contains(&0) {
            return Err(OpenError::Refused(Errno::EINVAL));
        }
        let mut made = Self::empty();
        if path[0] != b'/' {
            let mut text = [0; PATH_MAX];
            let here = match descriptor::working_directory(&mut text) {
                Ok(here) => here,
                Err(Errno::ENAMETOOLONG) => return Err(OpenError::PathTooLong),
                Err(errno) => return Err(OpenError::Refused(errno)),
            };
            made.push(here)?;
            made.push(b"/")?;
        }
        made.push(path)?;
        Ok(made)
    }

    fn empty() -> Self {
        Self {
            text: [0; PATH_MAX],
            len: 0,
        }
    }

    /// One byte always stays 0.
    fn push(&mut self, more: &[u8]) -> Result<(), OpenError> {
        let end = self.len + more.len();
        if end >= PATH_MAX {
            return Err(OpenError::PathTooLong);
        }
        self.text[self.len..end].copy_from_slice(more);
        self.len = end;
        Ok(())
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }

    pub fn as_c_str(&self) -> &CStr {
        // There is a NUL: `push` leaves one.
        CStr::from_bytes_until_nul(&self.text).unwrap_or(c"")
    }
}

/// The table of pieces.
#[derive(Default)]
pub(super) struct Paths(Arena<PieceId, Piece>);

// SAFETY: an arena whose zero bytes are an empty one.
unsafe impl Zeroed for Paths {}

impl Paths {
    /// Keeps a path; `None` without memory.
    pub fn keep(&self, path: &Path) -> Option<PieceId> {
        let mut rest = None;
        // From the end, so that each piece knows the one behind it.
        for part in path.as_bytes().chunks(TEXT).rev() {
            let Some(id) = self.0.alloc(NR_PIECES) else {
                self.free(rest);
                return None;
            };
            let piece = self.0.get(id);
            piece.more.store(rest, Relaxed);
            for (at, word) in piece.text.iter().enumerate() {
                let mut bytes = [0; 8];
                let from = part.get(at * 8..).unwrap_or(&[]);
                let n = from.len().min(8);
                bytes[..n].copy_from_slice(&from[..n]);
                word.store(u64::from_ne_bytes(bytes), Relaxed);
            }
            rest = Some(id);
        }
        rest
    }

    /// Forgets a path.
    pub fn free(&self, first: Option<PieceId>) {
        let mut at = first;
        while let Some(id) = at {
            at = self.0.get(id).more.load(Relaxed);
            self.0.free(id);
        }
    }

    /// The path that begins with a piece.
    pub fn get(&self, first: Option<PieceId>) -> Path {
        let mut path = Path::empty();
        let mut at = first;
        while let Some(id) = at {
            let piece = self.0.get(id);
            for word in &piece.text {
                let bytes = word.load(Relaxed).to_ne_bytes();
                let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(8);
                // It fits: it was a `Path`.
                let _ = path.push(&bytes[..end]);
            }
            at = piece.more.load(Relaxed);
        }
        path
    }

    /// Pieces in use.
    #[cfg(all(test, not(loom)))]
    pub fn nr_pieces(&self) -> u32 {
        self.0.in_use()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_length_comes_back_as_it_was_kept() {
        let paths = Paths::default();
        for len in (1..=200usize).chain([4094, 4095]) {
            let text: Vec<u8> = (0..len)
                .map(|at| if at == 0 { b'/' } else { (at % 255) as u8 + 1 })
                .collect();
            let path = Path::absolute(&text).unwrap();
            let kept = paths.keep(&path).unwrap();
            let back = paths.get(Some(kept));
            assert_eq!(back.as_bytes(), text);
            assert_eq!(back.as_c_str().to_bytes(), text);
            assert_eq!(paths.nr_pieces() as usize, len.div_ceil(TEXT));
            paths.free(Some(kept));
            assert_eq!(paths.nr_pieces(), 0);
        }
    }

    #[test]
    fn a_path_is_made_absolute_and_refused_where_the_kernel_would() {
        let absolute = |path: &[u8]| Path::absolute(path).map(|p| p.as_bytes().to_vec());
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            absolute(b"a/b").unwrap(),
            here.join("a/b").as_os_str().as_encoded_bytes()
        );
        assert_eq!(absolute(&[b'/'; 4096]), Err(OpenError::PathTooLong));
        assert_eq!(absolute(&[b'a'; 4090]), Err(OpenError::PathTooLong));
        assert_eq!(absolute(b""), Err(OpenError::Refused(Errno::ENOENT)));
        assert_eq!(absolute(b"/a\0b"), Err(OpenError::Refused(Errno::EINVAL)));
    }
}
