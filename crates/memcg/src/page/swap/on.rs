//! Turning a device on: opened, its size made, every block of it given a place, its tables made.
//!
//! A regular file is prepared by writing it whole, past the kernel's cache: blocks that are only
//! reserved (fallocate), or punched out, are slow at their first write, and one that has no place
//! at all may find none when memory is short, which is the worst time. What has a place already is
//! not written.
//!
//! Invariants: a device that is on is no other process's (among those that ask with `flock`) and
//! not on twice. Where turning on fails nothing is left: no file, no longer file, no memory but
//! that for staging.
//! Depends on: `os::file`, `device`.
//! Never: a lock over I/O, but that of a piece of staging memory.

#![forbid(unsafe_code)]

use super::slots::CLUSTER;
use super::staging::{PIECE, Staging};
use super::{SLOTS_END, Swap};
use crate::os::errno::Errno;
use crate::os::file::{self, Access, Advice, Cached, Stat, Type};
use crate::page::{PAGE, SwapDeviceId};
use crate::sync::atomic::Ordering;
use crate::sync::lock::Rank;
use crate::thread::fork_word;
use core::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

/// Whether a checksum of each slot is kept: 4 bytes of memory a slot, and 300 ns a read and write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksums {
    /// In debug builds.
    Debug,
    /// Always.
    #[cfg_attr(
        not(any(test, feature = "testing")),
        allow(dead_code, reason = "tests alone make it")
    )]
    Always,
}

/// Why a device was not turned on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SwapOnError {
    /// As many devices are on as can be.
    TooMany,
    /// It is neither a regular file nor a block device.
    NotAFile,
    /// It is on already, here or in another process, or in other use.
    Busy,
    /// Less than a page, or more than the block device has, or than can be numbered beside what is
    /// on (1 TiB in all).
    Size,
    /// No memory for the tables.
    NoMemory,
    /// This process is a fork's child, and the table is its parent's.
    Child,
    /// The kernel's: opening, looking at, growing or preparing it.
    Io(Errno),
}

/// Takes a new file away again, unless it is kept.
struct New<'a>(Option<&'a CStr>);

impl Drop for New<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            // It is not there any more, or cannot be taken away: nothing is left to try.
            let _ = file::remove(path);
        }
    }
}

/// Makes a file as short again as it was, unless it is kept.
struct Grown<'a>(Option<(BorrowedFd<'a>, u64)>);

impl Drop for Grown<'_> {
    fn drop(&mut self) {
        if let Some((fd, len)) = self.0 {
            // As above.
            let _ = file::set_len(fd, len);
        }
    }
}

fn is_usable(stat: &Stat) -> bool {
    let fits = |bytes: u32| bytes as usize <= PAGE && bytes.is_power_of_two();
    stat.direct
        .is_some_and(|direct| fits(direct.memory) && fits(direct.offset))
}

/// Writes zeros over a range of whole pages.
fn prepare(staging: &Staging, fd: BorrowedFd<'_>, from: u64, to: u64) -> Result<(), SwapOnError> {
    let mut piece = staging.take().ok_or(SwapOnError::NoMemory)?;
    piece.fill(0);
    let mut at = from;
    while at < to {
        let most = (to - at).min(PIECE as u64) as usize;
        let got = file::write(fd, &piece[..most], at).map_err(SwapOnError::Io)?;
        let whole = got - got % PAGE;
        if whole == 0 {
            return Err(SwapOnError::Io(Errno::ENOSPC));
        }
        at += whole as u64;
    }
    Ok(())
}

/// How many bytes are used of what was asked for: whole pages.
fn wanted(fd: BorrowedFd<'_>, stat: &Stat, asked: u64) -> Result<u64, SwapOnError> {
    let (has, most) = match stat.what {
        Type::Regular => (stat.size, u64::MAX),
        Type::Block => {
            let has = file::end(fd).map_err(SwapOnError::Io)?;
            (has, has)
        }
        Type::Directory | Type::Other => return Err(SwapOnError::NotAFile),
    };
    let bytes = if asked == 0 { has } else { asked };
    let pages = bytes / PAGE as u64;
    let is_size = pages >= 1 && pages <= u64::from(SLOTS_END - 2 * CLUSTER) && bytes <= most;
    is_size
        .then_some(pages * PAGE as u64)
        .ok_or(SwapOnError::Size)
}

/// Has every block of the file's first `bytes` have a place, and the file be as long.
fn make_length(
    staging: &Staging,
    fd: BorrowedFd<'_>,
    stat: &Stat,
    bytes: u64,
) -> Result<(), SwapOnError> {
    let has_all = stat.allocated >= stat.size;
    let from = if has_all { stat.size } else { 0 };
    let from = from - from % PAGE as u64;
    let mut grown = Grown((bytes > stat.size).then_some((fd, stat.size)));
    if from < bytes {
        prepare(staging, fd, from, bytes)?;
    }
    grown.0 = None;
    Ok(())
}

impl Swap {
    /// Turns a device on: `bytes` of the file or block device at `path`, in whole pages. 0: as
    /// large as it is. What was in it is lost.
    ///
    /// A file that is not there is made; one that is shorter is grown. Blocks until every block of
    /// a regular file has a place: as long as it takes to write what has none.
    ///
    /// # Errors
    /// See [`SwapOnError`]; nothing has changed then, but content of a file that was there.
    pub fn on(
        &self,
        path: &CStr,
        bytes: u64,
        checksums: Checksums,
    ) -> Result<SwapDeviceId, SwapOnError> {
        let process = fork_word::process();
        let first = self
            .process
            .compare_exchange(0, process, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_err_and(|whose| whose != process) {
            return Err(SwapOnError::Child);
        }
        let (id, claim) = self
            .ids()
            .find_map(|(id, device)| Some((id, device.claim()?)))
            .ok_or(SwapOnError::TooMany)?;
        let (opened, is_new) = match file::open(path, Access::Alone, Cached::Yes) {
            Err(Errno::ENOENT) => (file::open(path, Access::Create, Cached::Yes), true),
            opened => (opened, false),
        };
        let opened = opened.map_err(|errno| match errno {
            Errno::EBUSY => SwapOnError::Busy,
            errno => SwapOnError::Io(errno),
        })?;
        let mut new = New(is_new.then_some(path));
        let fd = opened.as_fd();
        let stat = file::stat(fd).map_err(SwapOnError::Io)?;
        if file::try_lock(fd) == Err(Errno::EAGAIN) || self.find(&stat).is_some() {
            new.0 = None;
            return Err(SwapOnError::Busy);
        }
        let bytes = wanted(fd, &stat, bytes)?;
        let nr_slots = (bytes / PAGE as u64) as u32;
        let has_sums = match checksums {
            Checksums::Debug => cfg!(debug_assertions),
            Checksums::Always => true,
        };
        claim
            .make_tables(nr_slots, has_sums)
            .ok_or(SwapOnError::NoMemory)?;
        {
            let _held = self.lock.lock(Rank::Swap);
            self.staging.make().ok_or(SwapOnError::NoMemory)?;
            claim.set_base(self.free_range(id, nr_slots).ok_or(SwapOnError::Size)?);
        }
        let is_direct = is_usable(&stat) && file::set_direct(fd).is_ok();
        if stat.what == Type::Regular {
            make_length(&self.staging, fd, &stat, bytes)?;
        }
        if !is_direct {
            file::sync_data(fd).map_err(SwapOnError::Io)?;
            file::advise(fd, 0, bytes, Advice::DontNeed);
            file::advise(fd, 0, bytes, Advice::Random);
        }
        new.0 = None;
        claim.publish(opened, &stat, is_direct);
        Ok(id)
    }

    /// The lowest numbers that no device but `id` has; the lock is held.
    fn free_range(&self, id: SwapDeviceId, nr_slots: u32) -> Option<u32> {
        let len = nr_slots.next_multiple_of(CLUSTER);
        // Number 0 is no slot.
        let mut base = CLUSTER;
        loop {
            let overlaps = self.ids().find_map(|(other, device)| {
                let (first, end) = device.range();
                let is_apart = other == id || first == end || end <= base || first >= base + len;
                (!is_apart).then_some(end)
            });
            base = match overlaps {
                Some(end) => end,
                None => return Some(base),
            };
            if base.checked_add(len)? > SLOTS_END {
                return None;
            }
        }
    }
}
