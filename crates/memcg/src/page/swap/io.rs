//! I/O of slots: a cluster at a time by one call, or a slot.
//!
//! What the kernel does in part is gone on with from the last whole page. Where the file passes
//! through the kernel's cache, a write is over when the device has it (`fdatasync`): a write-back
//! that fails later would lose pages that nobody has any more.
//!
//! Invariants: a page is said to be safe only when all of it was written. What is read as a page
//! was read whole and, where there are checksums, is what was written there last.
//! Depends on: `os::file`; `staging` for memory.
//! Never: an allocation; a file that the descriptor was not opened for.

#![forbid(unsafe_code)]

use super::device::Use;
use super::slots::CLUSTER;
use super::{Run, Swap, checksum};
use crate::os::errno::Errno;
use crate::os::file::{self, Advice};
use crate::page::{PAGE, SlotId};
use crate::sync::atomic::Ordering;
use std::os::fd::BorrowedFd;

/// Bytes through the kernel's cache after which it is told to let go of them.
const CACHED_MOST: u64 = 1 << 20;

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// A bit for each page, from the lowest: it can be read back.
    pub safe: u64,
    /// Why others are not.
    pub error: Option<Errno>,
}

impl Written {
    /// Whether the page at place `at` can be read back.
    #[must_use]
    pub fn is_safe(self, at: u32) -> bool {
        at < CLUSTER && self.safe >> at & 1 != 0
    }

    fn none(error: Errno) -> Self {
        Self {
            safe: 0,
            error: Some(error),
        }
    }
}

/// Makes calls until `len` bytes are done, each for what is left from a place on; answers how many
/// bytes are, whole pages, and why no more.
fn whole_pages(
    len: usize,
    mut call: impl FnMut(usize) -> Result<usize, Errno>,
) -> (usize, Option<Errno>) {
    let (mut done, mut was_short) = (0, false);
    while done < len {
        let got = match call(done) {
            Ok(got) => got.min(len - done),
            Err(errno) => return (done, Some(errno)),
        };
        let whole = got - got % PAGE;
        done += whole;
        // The second call says why the first did less than a page.
        if whole == 0 && core::mem::replace(&mut was_short, true) {
            return (done, Some(Errno::EIO));
        }
        was_short &= whole == 0;
    }
    (done, None)
}

fn read_pages(fd: BorrowedFd<'_>, into: &mut [u8], at: u64) -> (usize, Option<Errno>) {
    whole_pages(into.len(), |done| {
        file::read(fd, &mut into[done..], at + done as u64)
    })
}

fn offset(place: u32) -> u64 {
    u64::from(place) * PAGE as u64
}

/// The pages of some memory.
fn pages(bytes: &[u8]) -> &[[u8; PAGE]] {
    bytes.as_chunks().0
}

impl Use<'_> {
    /// Counts what went through the kernel's cache, and gives it back once in a while.
    fn count_cached(&self, bytes: usize) {
        if self.is_direct() {
            return;
        }
        let device = self.device();
        let now = device.cached.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if now >= CACHED_MOST {
            device.cached.store(0, Ordering::Relaxed);
            // All of it: the kernel gives back what is whole only, and looks at what it has cached
            // alone.
            file::advise(self.fd(), 0, offset(device.nr_slots()), Advice::DontNeed);
        }
    }

    /// Whether a page is what was written to the slot at `place`, as far as is known.
    fn is_sum_right(&self, place: u32, page: &[u8; PAGE]) -> bool {
        self.sums()
            .get(place as usize)
            .is_none_or(|sum| sum.load(Ordering::Relaxed) == checksum::of(self.slot(place), page))
    }

    /// Reads the one slot at `place`.
    fn read_one(&self, place: u32, into: &mut [u8; PAGE]) -> Result<(), Errno> {
        let (done, error) = read_pages(self.fd(), into, offset(place));
        if done < PAGE {
            return Err(error.unwrap_or(Errno::EIO));
        }
        if !self.is_sum_right(place, into) {
            return Err(Errno::EIO);
        }
        Ok(())
    }

    fn is_used(&self, run: Run) -> bool {
        let (slots, nr_slots) = (self.slots(), self.device().nr_slots());
        run.slots().all(|slot| {
            let at = self.place(slot);
            at < nr_slots && slots.is_used(at)
        })
    }
}

impl Swap {
    /// The device of slots that are in use, when it can be read and written.
    fn enter_run(&self, run: Run) -> Result<Use<'_>, Errno> {
        if !self.is_mine() {
            return Err(Errno::EIO);
        }
        let used = self.enter(run.first).ok_or(Errno::EINVAL)?;
        if !used.is_used(run) {
            return Err(Errno::EINVAL);
        }
        if !used.is_the_file() {
            return Err(Errno::ESTALE);
        }
        Ok(used)
    }

    /// Writes the pages of a run by one call, where the kernel does it in one.
    ///
    /// `copy` is called for each slot, with its place in the run, and copies its page to where it
    /// is told; a page may change meanwhile, and is then written as it was copied. It takes no lock
    /// and calls nothing of swap.
    ///
    /// A page that is not safe afterwards is as if it had not been written; its slot is still the
    /// caller's to free. Errors: the kernel's; `EIO` for what it did not do without a reason, and
    /// in the child of a fork; `EINVAL`: the slots are not in use; `ESTALE`: something in the
    /// program has closed the descriptor.
    pub fn write(&self, run: Run, mut copy: impl FnMut(u32, &mut [u8; PAGE])) -> Written {
        let used = match self.enter_run(run) {
            Ok(used) => used,
            Err(errno) => return Written::none(errno),
        };
        let Some(mut piece) = self.staging.take() else {
            return Written::none(Errno::EIO);
        };
        let piece = &mut piece[..run.len as usize * PAGE];
        for (at, page) in (0..).zip(piece.as_chunks_mut().0) {
            copy(at, page);
        }
        let place = used.place(run.first);
        let (mut done, mut error) = whole_pages(piece.len(), |done| {
            file::write(used.fd(), &piece[done..], offset(place) + done as u64)
        });
        if !used.is_direct()
            && let Err(errno) = file::sync_data(used.fd())
        {
            (done, error) = (0, Some(errno));
        }
        used.count_cached(done);
        let nr_safe = (done / PAGE) as u32;
        for (place, page) in (place..).zip(&pages(piece)[..nr_safe as usize]) {
            if let Some(sum) = used.sums().get(place as usize) {
                sum.store(checksum::of(used.slot(place), page), Ordering::Relaxed);
            }
        }
        let safe = u64::MAX.checked_shr(CLUSTER - nr_safe).unwrap_or(0);
        Written { safe, error }
    }

    /// Reads a slot. After an error `into` holds nothing of worth.
    ///
    /// # Errors
    /// As of [`Self::write`]; `EIO` also for what is not what was written.
    pub fn read(&self, slot: SlotId, into: &mut [u8; PAGE]) -> Result<(), Errno> {
        let run = Run::new(slot, 1);
        let used = self.enter_run(run)?;
        let place = used.place(slot);
        let is_aligned = (into.as_ptr() as usize).is_multiple_of(PAGE);
        let got = if !used.is_direct() || is_aligned {
            used.read_one(place, into)
        } else {
            let mut piece = self.staging.take().ok_or(Errno::EIO)?;
            let (page, _) = piece.split_first_chunk_mut().ok_or(Errno::EIO)?;
            used.read_one(place, page).map(|()| *into = *page)
        };
        used.count_cached(PAGE);
        got
    }

    /// Reads a run, by one call where the kernel does it in one; `got` is told each page, with its
    /// place in the run, or why it cannot be read. Where a call for many fails, each page is read
    /// alone: one bad place loses one page.
    ///
    /// # Errors
    /// As of [`Self::read`]: nothing was read, and `got` was not called.
    #[cfg(any(test, feature = "testing"))]
    pub fn read_run(
        &self,
        run: Run,
        mut got: impl FnMut(u32, Result<&[u8; PAGE], Errno>),
    ) -> Result<(), Errno> {
        let used = self.enter_run(run)?;
        let place = used.place(run.first);
        let mut piece = self.staging.take().ok_or(Errno::EIO)?;
        let piece = &mut piece[..run.len as usize * PAGE];
        let (done, _) = read_pages(used.fd(), piece, offset(place));
        let nr_read = (done / PAGE) as u32;
        for (at, page) in (0..).zip(piece.as_chunks_mut().0) {
            let read = if at >= nr_read {
                used.read_one(place + at, page)
            } else if used.is_sum_right(place + at, page) {
                Ok(())
            } else {
                Err(Errno::EIO)
            };
            got(at, read.map(|()| &*page));
        }
        used.count_cached(piece.len());
        Ok(())
    }
}
