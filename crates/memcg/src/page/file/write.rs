//! Writing pages of a file.
//!
//! A file's last page is seldom whole, and what direct I/O writes is. Its bytes are written through
//! the kernel's cache: for that call the descriptor does without direct I/O, which does no harm to
//! calls beside it.
//!
//! Invariants: no byte is written at or beyond the end that the caller says, or that the file has.
//! What a short write leaves is written. An error is noted as the file's.
//! Depends on: `uses`, `look`, `pieces`, `give_back`.
//! Never: makes a file longer (`set_len` does), but where others cut it off during the call.

#![forbid(unsafe_code)]

use super::error::{FileError, Stopped};
use super::give_back::How;
use super::record::DIRECT;
use super::uses::Use;
use super::{Files, pieces};
use crate::os::descriptor;
use crate::os::errno::Errno;
use crate::os::file::{self, Cached};
use crate::page::id::{FileId, PAGE};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::lock::Rank;
use std::io::IoSlice;

impl Files {
    /// Writes a run of pages at `at` from pieces of memory, in turn; all are whole pages, at
    /// addresses and an offset of whole pages (else EINVAL). Of these, bytes at or beyond `end`,
    /// the region's size, are not written. Cost: two looks and one call, two for a last page that
    /// is not whole; without a use more. Through the kernel's cache every 8 MiB wait for the
    /// device.
    ///
    /// # Errors
    /// How many bytes were written, and [`FileError::Truncated`]: others have cut the file off
    /// within the run; what lies beyond its end was not written. [`FileError::NotWritable`].
    /// [`FileError::Failed`]: ENOSPC, EDQUOT, EIO and others. All these but `NotWritable`, and
    /// EINVAL for what are no pages, are noted for each user. Else as for [`Self::begin_use`].
    pub fn write(
        &self,
        file: FileId,
        at: u64,
        pages: &[IoSlice<'_>],
        end: u64,
    ) -> Result<(), Stopped> {
        let stopped = |why| Stopped { done: 0, why };
        if !pieces::are_pages(pages.iter().map(|piece| &**piece), at) {
            return Err(stopped(FileError::Failed(Errno::EINVAL)));
        }
        let using = match self.hold(file) {
            Ok(using) => using,
            Err(why) => {
                self.note(file, why);
                return Err(stopped(why));
            }
        };
        let mut done = 0;
        let got = using.write_run(at, pages, end, &mut done);
        got.map_err(|why| {
            self.note(file, why);
            Stopped { done, why }
        })
    }

    /// Notes an error of a write for each user of the file.
    fn note(&self, file: FileId, why: FileError) {
        match why {
            FileError::NotWritable | FileError::InChild => {}
            FileError::Failed(_) | FileError::Truncated { .. } | FileError::Vanished => {
                self.records.get(file).errors.record(why.errno());
            }
        }
    }
}

fn lens(pieces: &[IoSlice<'_>]) -> impl Iterator<Item = usize> {
    pieces.iter().map(|piece| piece.len())
}

impl Use<'_> {
    fn write_run(
        &self,
        at: u64,
        pages: &[IoSlice<'_>],
        end: u64,
        done: &mut u64,
    ) -> Result<(), FileError> {
        let wanted = pieces::total(lens(pages)).min(end.saturating_sub(at));
        if wanted == 0 {
            return Ok(());
        }
        let writing = self.write_begins()?;
        let size = writing.size;
        let there = wanted.min(size.saturating_sub(at));
        let record = self.record();
        while *done < there {
            let is_direct = record.has(DIRECT);
            let tail = there % u64::from(record.alignment.load(Relaxed)).max(1);
            // Where direct I/O ends: at the last page that is not whole, if that does not fit.
            let body = match is_direct && tail != 0 {
                true => there - there % PAGE as u64,
                false => there,
            };
            match *done < body {
                true => self.put(at, pages, body, done)?,
                false => self.put_tail(at, pages, there, done)?,
            }
            if !is_direct {
                self.touched(How::Wrote, at, there);
            }
        }
        match there < wanted {
            true => Err(FileError::Truncated { size }),
            false => Ok(()),
        }
    }

    /// Writes until `done` is `wanted`, or direct I/O is given up.
    fn put(
        &self,
        at: u64,
        pages: &[IoSlice<'_>],
        wanted: u64,
        done: &mut u64,
    ) -> Result<(), FileError> {
        while *done < wanted {
            let (piece, offset) = pieces::place(lens(pages), *done);
            let rest = &pages[piece..];
            let left = wanted - *done;
            let whole = match offset {
                0 => pieces::within(lens(rest), left),
                _ => 0,
            };
            let got = if whole > 0 {
                file::write_vectored(self.fd(), &rest[..whole], at + *done)
            } else {
                let most =
                    (rest[0].len() - offset).min(usize::try_from(left).unwrap_or(usize::MAX));
                file::write(self.fd(), &rest[0][offset..offset + most], at + *done)
            };
            match got {
                Ok(n) => {
                    let reached = match *done + n as u64 >= wanted {
                        true => wanted,
                        false => self.whole(*done + n as u64),
                    };
                    if reached <= *done {
                        return Err(FileError::Failed(Errno::EIO));
                    }
                    *done = reached;
                }
                Err(Errno::EINVAL) if self.give_up_direct() => return Ok(()),
                Err(errno) => return Err(FileError::Failed(errno)),
            }
        }
        Ok(())
    }

    /// Writes the rest of a file with direct I/O through the kernel's cache.
    fn put_tail(
        &self,
        at: u64,
        pages: &[IoSlice<'_>],
        wanted: u64,
        done: &mut u64,
    ) -> Result<(), FileError> {
        let record = self.record();
        let before = *done;
        let written = {
            // One at a time: the next one must not find direct I/O on again.
            let _tail = record.tail.lock(Rank::Files);
            descriptor::set_cached(self.fd(), Cached::Yes).map_err(FileError::Failed)?;
            let written = self.put_plain(at, pages, wanted, done);
            if record.has(DIRECT) && descriptor::set_cached(self.fd(), Cached::No).is_err() {
                record.clear(DIRECT);
            }
            written
        };
        self.touched(How::Wrote, at + before, *done - before);
        written
    }

    /// Writes until `done` is `wanted`, at any offset.
    fn put_plain(
        &self,
        at: u64,
        pages: &[IoSlice<'_>],
        wanted: u64,
        done: &mut u64,
    ) -> Result<(), FileError> {
        while *done < wanted {
            let (piece, offset) = pieces::place(lens(pages), *done);
            let left = usize::try_from(wanted - *done).unwrap_or(usize::MAX);
            let most = (pages[piece].len() - offset).min(left);
            match file::write(self.fd(), &pages[piece][offset..offset + most], at + *done) {
                Ok(0) => return Err(FileError::Failed(Errno::EIO)),
                Ok(n) => *done += n as u64,
                Err(errno) => return Err(FileError::Failed(errno)),
            }
        }
        Ok(())
    }
}
