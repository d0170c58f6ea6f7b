//! Opening what a path leads to, and whether it passes the kernel's cache.
//!
//! Invariants: direct I/O is on where `statx` says an alignment that pages have, and off elsewhere,
//! whatever `open` says: there are file systems that take the flag and go through the cache.
//! Depends on: `os`; the kept files, which are closed when there are no descriptors left.
//! Never: the table.

#![forbid(unsafe_code)]

use super::Files;
use crate::os::descriptor;
use crate::os::errno::Errno;
use crate::os::file::{self, Access, Advice, Cached, Stat};
use crate::page::id::PAGE;
use core::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

/// What a file is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// To read.
    Read,
    /// To read, and to write if this process may (see [`Files::is_writable`]). It may not where
    /// permissions, a read-only file system or a running program refuse it (EACCES, EPERM, EROFS,
    /// ETXTBSY).
    Write,
}

/// A descriptor that is not in the table yet.
pub(super) struct Got {
    pub fd: OwnedFd,
    pub stat: Stat,
    pub is_writable: bool,
    /// Of offsets, where direct I/O is on.
    pub direct: Option<u32>,
}

/// Has what was opened go through the kernel's cache.
pub(super) fn without_direct(got: &Got) -> Result<(), Errno> {
    let fd = got.fd.as_fd();
    descriptor::set_cached(fd, Cached::Yes)?;
    file::advise(fd, 0, 0, Advice::Random);
    Ok(())
}

impl Files {
    /// Opens what a path leads to. While there are no descriptors left, kept files are closed.
    pub(super) fn open_path(&self, path: &CStr, mode: Mode) -> Result<Got, Errno> {
        let open = |access| loop {
            match file::open(path, access, Cached::Yes) {
                Err(Errno::EMFILE | Errno::ENFILE) if self.close_oldest() => {}
                other => return other,
            }
        };
        let (fd, is_writable) = match mode {
            Mode::Read => (open(Access::Read)?, false),
            Mode::Write => match open(Access::ReadWrite) {
                Err(Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ETXTBSY) => {
                    (open(Access::Read)?, false)
                }
                other => (other?, true),
            },
        };
        let stat = file::stat(fd.as_fd())?;
        let page = PAGE as u32;
        let fits = |alignment: &file::Alignment| {
            page.is_multiple_of(alignment.memory) && page.is_multiple_of(alignment.offset)
        };
        let direct = stat
            .direct
            .filter(fits)
            .filter(|_| descriptor::set_cached(fd.as_fd(), Cached::No).is_ok())
            .map(|alignment| alignment.offset);
        let got = Got {
            fd,
            stat,
            is_writable,
            direct,
        };
        if direct.is_none() {
            without_direct(&got)?;
        }
        Ok(got)
    }
}
