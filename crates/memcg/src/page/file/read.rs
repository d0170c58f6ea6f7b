//! Reading pages of a file.
//!
//! With direct I/O the last page is read whole as all others: the kernel stops at the file's end.
//! What lies beyond is made zeros here.
//!
//! Invariants: bytes beyond the size that was told last are zeros. What a short read leaves is read
//! again from the last offset that direct I/O takes.
//! Depends on: `uses`, `pieces`, `give_back`.
//! Never: a byte of another file given for one of this; a wait for anything but the device.

#![forbid(unsafe_code)]

use super::error::{FileError, Stopped};
use super::give_back::How;
use super::record::{CHANGED, DIRECT};
use super::uses::Use;
use super::{Files, pieces};
use crate::os::descriptor;
use crate::os::errno::Errno;
use crate::os::file::{self, Advice, Cached};
use crate::page::id::FileId;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::lock::Rank;
use std::io::IoSliceMut;

impl Files {
    /// Reads a run of pages at `at` into pieces of memory, in turn; all are whole pages, at
    /// addresses and an offset of whole pages (else EINVAL). Bytes beyond [`Self::size`] become
    /// zeros. Cost: one call if nothing is short; without a use two more, or an open.
    ///
    /// # Errors
    /// How many bytes are good, and [`FileError::Truncated`]: others have cut the file off within
    /// the run; the rest is zeros. [`FileError::Failed`]: the rest is undefined. Else as for
    /// [`Self::begin_use`].
    pub fn read(&self, file: FileId, at: u64, into: &mut [IoSliceMut<'_>]) -> Result<(), Stopped> {
        let stopped = |why| Stopped { done: 0, why };
        if !pieces::are_pages(into.iter().map(|piece| &**piece), at) {
            return Err(stopped(FileError::Failed(Errno::EINVAL)));
        }
        let using = self.hold(file).map_err(stopped)?;
        let size = using.record().size.load(Relaxed);
        let wanted = pieces::total(lens(into)).min(size.saturating_sub(at));
        let mut done = 0;
        let got = using.fill(at, into, wanted, &mut done);
        if !using.record().has(DIRECT) {
            using.touched(How::Read, at, done);
        }
        match got {
            Ok(()) => clear_from(into, wanted),
            Err(FileError::Truncated { .. }) => clear_from(into, done),
            Err(
                FileError::Failed(_)
                | FileError::Vanished
                | FileError::NotWritable
                | FileError::InChild,
            ) => {}
        }
        got.map_err(|why| Stopped { done, why })
    }
}

fn lens(pieces: &[IoSliceMut<'_>]) -> impl Iterator<Item = usize> {
    pieces.iter().map(|piece| piece.len())
}

/// Makes all bytes of a run from one on zeros.
fn clear_from(into: &mut [IoSliceMut<'_>], from: u64) {
    let (first, mut offset) = pieces::place(lens(into), from);
    for piece in &mut into[first..] {
        piece[offset..].fill(0);
        offset = 0;
    }
}

impl Use<'_> {
    /// Reads until `done` is `wanted`.
    fn fill(
        &self,
        at: u64,
        into: &mut [IoSliceMut<'_>],
        wanted: u64,
        done: &mut u64,
    ) -> Result<(), FileError> {
        while *done < wanted {
            let (piece, offset) = pieces::place(lens(into), *done);
            let from = at + *done;
            let got = if offset == 0 {
                // All that hold a byte that is wanted, the last one whole.
                let rest = &mut into[piece..];
                let whole = pieces::within(lens(rest), wanted - *done);
                let most = rest.len().min(whole + 1);
                file::read_vectored(self.fd(), &mut rest[..most], from)
            } else {
                file::read(self.fd(), &mut into[piece][offset..], from)
            };
            match got {
                Ok(n) => {
                    let reached = match *done + n as u64 >= wanted {
                        true => wanted,
                        false => self.whole(*done + n as u64),
                    };
                    if reached <= *done {
                        return Err(self.why_nothing(at + wanted));
                    }
                    *done = reached;
                }
                Err(Errno::EINVAL) if self.give_up_direct() => {}
                Err(errno) => return Err(FileError::Failed(errno)),
            }
        }
        Ok(())
    }

    /// Of so many bytes done, those up to the last offset at which direct I/O can go on.
    pub(super) fn whole(&self, done: u64) -> u64 {
        let record = self.record();
        match record.has(DIRECT) {
            true => done - done % u64::from(record.alignment.load(Relaxed)).max(1),
            false => done,
        }
    }

    /// Why a read has brought nothing where there should be bytes up to `end`.
    fn why_nothing(&self, end: u64) -> FileError {
        match self.stat() {
            Ok(stat) if stat.size < end => {
                self.record().set(CHANGED);
                FileError::Truncated { size: stat.size }
            }
            Ok(_) => FileError::Failed(Errno::EIO),
            Err(why) => why,
        }
    }

    /// Has the file go through the kernel's cache from now on: its file system says that it takes
    /// direct I/O, and does not. `false`: it does so already.
    pub(super) fn give_up_direct(&self) -> bool {
        let record = self.record();
        let _tail = record.tail.lock(Rank::Files);
        if !record.clear(DIRECT) {
            return false;
        }
        if descriptor::set_cached(self.fd(), Cached::Yes).is_err() {
            record.set(DIRECT);
            return false;
        }
        file::advise(self.fd(), 0, 0, Advice::Random);
        true
    }
}
