//! The loaded objects, one by one: each that was not read before, as a copy that does not need the
//! loader's lock.
//!
//! Invariants: an object is noted once it was read. The loader's count is kept only after a walk
//! that came to the end of its list.
//! Depends on: `loaded`, `looking`.
//! Never: opens or reads anything while the loader's lock is held, or allocates.

use super::looking::Looking;
use crate::loaded::{self, Object};
use core::ffi::CStr;
use core::ops::ControlFlow;

/// How many objects are remembered. Where there are more, nobody looks any more.
const MOST_SEEN: usize = 4096;
/// How many are copied in one look, noted or not.
const MOST_COPIED: usize = 2 * MOST_SEEN;
/// How many program headers of an object are copied. The C library's linker makes some twelve.
const MOST_HEADERS: usize = 64;
/// How long a path may be, with its end.
const MOST_PATH: usize = libc::PATH_MAX as usize;

/// What is remembered of the objects of this process, and one of them.
pub struct Objects {
    /// The loader's count at the end of the last whole walk.
    nr_added: u64,
    nr_seen: usize,
    seen: [u64; MOST_SEEN],
    copy: Copied,
}

/// An object as the loader had it.
pub struct Copied {
    base: usize,
    /// Terminated; a path that is too long is none.
    path: [u8; MOST_PATH],
    headers: [libc::Elf64_Phdr; MOST_HEADERS],
    nr_headers: usize,
    /// There are more headers than those.
    are_cut: bool,
    key: u64,
}

/// How a look goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// There is a copy of an object that was not read before.
    Object,
    /// Every object was.
    NoMore,
    /// There are more than can be remembered: what is new is not looked at.
    Full,
    /// Others load and unload too fast.
    NotInTime,
}

/// How far a look has come in the loader's list.
pub struct Walk {
    counts: (u64, u64),
    nr_passed: usize,
    nr_copied: usize,
}

impl Walk {
    pub const fn new() -> Self {
        Self {
            counts: (0, 0),
            nr_passed: 0,
            nr_copied: 0,
        }
    }
}

impl Objects {
    pub const fn new() -> Self {
        Self {
            nr_added: 0,
            nr_seen: 0,
            seen: [0; MOST_SEEN],
            copy: Copied::NONE,
        }
    }

    /// The object that [`Self::next`] has copied.
    pub fn copied(&self) -> &Copied {
        &self.copy
    }

    /// Copies the next object that was not read before, except the one that `own` is an address of.
    pub fn next(&mut self, looking: &mut Looking, walk: &mut Walk, own: usize) -> Next {
        if self.nr_seen == MOST_SEEN {
            return Next::Full;
        }
        if walk.nr_copied == MOST_COPIED {
            return Next::NotInTime;
        }
        let mut next = Next::NoMore;
        let mut nr = 0;
        looking.ask_loader(|| {
            loaded::each(|object| {
                if nr == 0 {
                    if object.nr_added() == self.nr_added {
                        return ControlFlow::Break(());
                    }
                    if object.counts() != walk.counts {
                        walk.counts = object.counts();
                        walk.nr_passed = 0;
                    }
                }
                nr += 1;
                if nr <= walk.nr_passed {
                    return ControlFlow::Continue(());
                }
                walk.nr_passed = nr;
                if object.contains(own) || self.is_seen(key_of(object)) {
                    return ControlFlow::Continue(());
                }
                self.copy.copy(object);
                next = Next::Object;
                ControlFlow::Break(())
            });
        });
        match next {
            Next::Object => walk.nr_copied += 1,
            // As it was, where the first look at it ended the walk.
            Next::NoMore if walk.counts.0 != 0 => self.nr_added = walk.counts.0,
            Next::NoMore | Next::Full | Next::NotInTime => {}
        }
        next
    }

    /// The object that was copied was read, and need not be again.
    pub fn note(&mut self) {
        if let Some(place) = self.seen.get_mut(self.nr_seen) {
            *place = self.copy.key;
            self.nr_seen += 1;
        }
    }

    fn is_seen(&self, key: u64) -> bool {
        self.seen[..self.nr_seen].contains(&key)
    }
}

impl Copied {
    const NONE: Self = Self {
        base: 0,
        path: [0; MOST_PATH],
        headers: [const {
            // SAFETY: integers, of which zero bytes make zeros.
            unsafe { core::mem::zeroed() }
        }; MOST_HEADERS],
        nr_headers: 0,
        are_cut: false,
        key: 0,
    };

    fn copy(&mut self, object: &Object<'_>) {
        self.key = key_of(object);
        self.base = object.base();
        let path = object.path().to_bytes_with_nul();
        let path = if path.len() <= MOST_PATH {
            path
        } else {
            b"?\0"
        };
        self.path[..path.len()].copy_from_slice(path);
        let headers = object.headers();
        self.nr_headers = headers.len().min(MOST_HEADERS);
        self.headers[..self.nr_headers].copy_from_slice(&headers[..self.nr_headers]);
        self.are_cut = self.nr_headers < headers.len();
    }

    /// The path it was loaded from; empty for the program itself.
    pub fn path(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.path).unwrap_or(c"?")
    }

    /// Where its file may be found, whatever the process's folder is by now.
    pub fn file(&self) -> Option<&CStr> {
        let path = self.path();
        match path.to_bytes() {
            [] => Some(c"/proc/self/exe"),
            [b'/', ..] => Some(path),
            [..] => None,
        }
    }

    /// Its program headers, as far as they were copied.
    pub fn headers(&self) -> &[libc::Elf64_Phdr] {
        &self.headers[..self.nr_headers]
    }

    /// Whether [`Self::headers`] are all it has.
    pub fn are_all_headers(&self) -> bool {
        !self.are_cut
    }

    /// Where the beginning of one of its parts is in memory.
    pub fn address(&self, header: &libc::Elf64_Phdr) -> usize {
        self.base.wrapping_add(header.p_vaddr as usize)
    }
}

/// A number for what an object is: the same when it is loaded again, wherever.
fn key_of(object: &Object<'_>) -> u64 {
    let mut key = Hash::new();
    key.add(object.path().to_bytes());
    for header in object.headers() {
        key.add(&header.p_offset.to_ne_bytes());
        key.add(&header.p_vaddr.to_ne_bytes());
        key.add(&header.p_filesz.to_ne_bytes());
    }
    key.0
}

/// FNV-1a.
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rust_runtime::looking::tests::alone;

    /// The paths of all objects that a look comes to; `note`: each counts as read.
    fn look(objects: &mut Objects, note: bool) -> (Vec<Vec<u8>>, Next) {
        let mut looking = Looking::begin().unwrap();
        let mut walk = Walk::new();
        let mut paths = Vec::new();
        loop {
            match objects.next(&mut looking, &mut walk, key_of as *const () as usize) {
                Next::Object => {
                    paths.push(objects.copied().path().to_bytes().to_vec());
                    if note {
                        objects.note();
                    }
                }
                end @ (Next::NoMore | Next::Full | Next::NotInTime) => return (paths, end),
            }
        }
    }

    fn has(paths: &[Vec<u8>], name: &[u8]) -> bool {
        paths.iter().any(|path| path.ends_with(name))
    }

    #[test]
    fn each_object_but_our_own_comes_once() {
        let _alone = alone();
        let mut objects = Box::new(Objects::new());
        let (paths, end) = look(&mut objects, true);
        assert!(has(&paths, b"/libc.so.6") && end == Next::NoMore);
        // The program is the test itself.
        assert!(!paths.iter().any(Vec::is_empty));
        let mut once = paths.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), paths.len());
        assert_eq!(look(&mut objects, true), (vec![], Next::NoMore));
        // Were one added, those that were read would not come again.
        objects.nr_added -= 1;
        assert_eq!(look(&mut objects, true), (vec![], Next::NoMore));
    }

    #[test]
    fn what_could_not_be_read_comes_again_after_the_next_load() {
        let _alone = alone();
        let mut objects = Box::new(Objects::new());
        let (paths, _) = look(&mut objects, false);
        assert_eq!(look(&mut objects, false).0, Vec::<Vec<u8>>::new());
        objects.nr_added -= 1;
        assert_eq!(look(&mut objects, false).0, paths);
    }

    #[test]
    fn a_look_that_stops_midway_is_not_a_whole_one() {
        let _alone = alone();
        let mut objects = Box::new(Objects::new());
        let mut looking = Looking::begin().unwrap();
        assert_eq!(
            objects.next(&mut looking, &mut Walk::new(), 0),
            Next::Object
        );
        assert_eq!(objects.nr_added, 0);
    }

    #[test]
    fn a_full_table_ends_the_looking() {
        let _alone = alone();
        let mut objects = Box::new(Objects::new());
        objects.nr_seen = MOST_SEEN - 1;
        assert_eq!(look(&mut objects, true).1, Next::Full);
        assert_eq!(look(&mut objects, true), (vec![], Next::Full));
    }

    #[test]
    fn only_the_program_and_absolute_paths_are_opened() {
        let mut copy = Copied::NONE;
        assert_eq!(copy.file(), Some(c"/proc/self/exe"));
        copy.path[..5].copy_from_slice(b"./x\0y");
        assert_eq!((copy.path(), copy.file()), (c"./x", None));
        copy.path[..5].copy_from_slice(b"/x.so");
        assert_eq!(copy.file(), Some(c"/x.so"));
    }
}
