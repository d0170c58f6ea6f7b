//! Files behind regions, on real file systems: one with direct I/O where the tests are built on
//! one, and one in memory, which has none.
//!
//! Invariants: content is checked in every test that moves any.
//! Depends on: a writable temporary directory, and one beside the test's program.
//! Never: built outside tests.

mod calls_that_fail;
mod descriptors;
mod names;
mod others;
mod pages;

use super::*;
use crate::os::errno::Errno;
use crate::os::fault::{IoPlan, Plan, follow_io};
use crate::os::{Fault, file::Type};
use std::io::{IoSlice, IoSliceMut};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path as StdPath, PathBuf};

pub(super) const PAGE: usize = crate::page::id::PAGE;

/// Memory as frames are: whole pages at addresses of whole pages.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Frame([u8; PAGE]);

fn frames(nr: usize) -> Vec<Frame> {
    vec![Frame([0xee; PAGE]); nr]
}

/// What page `nr` of file `of` holds.
fn content(of: u32, nr: u64) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    for (at, word) in page.chunks_exact_mut(8).enumerate() {
        let value =
            (u64::from(of) << 48 | nr << 16 | at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word.copy_from_slice(&value.to_le_bytes());
    }
    page
}

fn filled(of: u32, pages: std::ops::Range<u64>) -> Vec<Frame> {
    pages.map(|nr| Frame(content(of, nr))).collect()
}

/// A folder of one test, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file of `len` bytes of [`content`].
    fn file(&self, name: &str, of: u32, len: usize) -> PathBuf {
        let mut bytes = Vec::new();
        for nr in 0..len.div_ceil(PAGE) as u64 {
            bytes.extend(content(of, nr));
        }
        bytes.truncate(len);
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a test in a folder beside the test's program, and in one in memory.
fn in_both(name: &str, test: impl Fn(&Folder)) {
    let beside = std::env::current_exe().unwrap();
    for parent in [beside.parent().unwrap(), StdPath::new("/dev/shm")] {
        if parent.is_dir() {
            test(&folder_in(parent, name));
        }
    }
}

fn folder_in(parent: &StdPath, name: &str) -> Folder {
    let path = parent.join(format!("memcg-file-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    Folder(path)
}

fn folder(name: &str) -> Folder {
    folder_in(std::env::current_exe().unwrap().parent().unwrap(), name)
}

fn table() -> Box<Files> {
    Box::default()
}

fn open(files: &Files, path: &StdPath, mode: Mode) -> Result<Opened, OpenError> {
    files.open(path.as_os_str().as_bytes(), mode)
}

fn open_used(files: &Files, path: &StdPath) -> FileId {
    let file = open(files, path, Mode::Write).unwrap().file;
    files.begin_use(file).unwrap();
    file
}

fn read(files: &Files, file: FileId, page: u64, into: &mut [Frame]) -> Result<(), Stopped> {
    let mut pieces: Vec<_> = into
        .iter_mut()
        .map(|frame| IoSliceMut::new(&mut frame.0))
        .collect();
    files.read(file, page * PAGE as u64, &mut pieces)
}

fn write(files: &Files, file: FileId, page: u64, from: &[Frame], end: u64) -> Result<(), Stopped> {
    let pieces: Vec<_> = from.iter().map(|frame| IoSlice::new(&frame.0)).collect();
    files.write(file, page * PAGE as u64, &pieces, end)
}

/// Reads pages of [`content`], of a file that has `len` bytes of it.
fn check(files: &Files, file: FileId, of: u32, pages: std::ops::Range<u64>, len: u64) {
    let mut got = frames((pages.end - pages.start) as usize);
    read(files, file, pages.start, &mut got).unwrap();
    for (nr, frame) in pages.zip(&got) {
        let left = len.saturating_sub(nr * PAGE as u64).min(PAGE as u64) as usize;
        assert!(frame.0[..left] == content(of, nr)[..left], "page {nr}");
        assert!(frame.0[left..].iter().all(|&byte| byte == 0), "page {nr}");
    }
}

/// Has the calling thread's I/O go wrong while it is there.
struct Going;

fn wrong(first: u64, last: u64, how: Fault) -> (&'static Plan, Going) {
    let which: &'static Plan = Box::leak(Box::new(Plan::new(first, last)));
    follow_io(Some(IoPlan { which, how }));
    (which, Going)
}

impl Drop for Going {
    fn drop(&mut self) {
        follow_io(None);
    }
}

/// Has a file go through the kernel's cache, whatever its file system can do.
fn make_cached(files: &Files, file: FileId) {
    files.hold(file).unwrap().give_up_direct();
    assert!(!files.is_direct(file));
}

fn fd_of(files: &Files, file: FileId) -> i32 {
    files.records.get(file).fd.load(Relaxed) as i32 - 1
}

/// Long enough for the file system's clock to go on.
fn tick() {
    std::thread::sleep(std::time::Duration::from_millis(15));
}
