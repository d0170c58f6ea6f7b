//! The file behind a region. One that a scenario makes goes with it.
//!
//! Invariants: when this is dropped no page of the file is in memory, unless somebody else uses it.
//! Depends on: `fault`; the engine's page cache.
//! Never: makes a file longer or shorter that was there before.

#![forbid(unsafe_code)]

use super::refused;
use crate::world::fault::Fault;
use memcg::testing::os::errno::Errno;
use memcg::{OpenError, PageCache, Region};
use std::fs::OpenOptions;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file that is cached.
pub struct File {
    cache: PageCache,
    path: PathBuf,
    /// It was not there before: all of it was zeros.
    is_made: bool,
}

impl File {
    /// Opens a file of `len` bytes at least; makes it with zeros, if there is none.
    pub fn open(path: &Path, len: u64) -> Result<File, Fault> {
        let failed = |why: io::Error| {
            let errno = Errno::TABLE
                .iter()
                .find(|(_, errno)| Some(errno.number()) == why.raw_os_error());
            let errno = errno.map_or(Errno::EIO, |(_, errno)| *errno);
            Fault::refused(errno, format!("{}: {why}", path.display()))
        };
        let made = OpenOptions::new().write(true).create_new(true).open(path);
        let is_made = match made {
            Ok(file) => {
                file.set_len(len).map_err(failed)?;
                true
            }
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => false,
            Err(why) => return Err(failed(why)),
        };
        let opened = PageCache::open(path).map_err(|why: OpenError| {
            if is_made {
                // It was of no use to anybody.
                let _ = std::fs::remove_file(path);
            }
            Fault::refused(why.errno(), format!("{}: {why}", path.display()))
        });
        let cache = opened?;
        if cache.len() < len {
            let message = format!("{} has {} bytes", path.display(), cache.len());
            return Err(Fault::refused(Errno::EINVAL, message));
        }
        Ok(File {
            cache,
            path: path.to_owned(),
            is_made,
        })
    }

    /// Its region.
    pub fn region(&self) -> Region {
        self.cache.region()
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was not there before: what nobody has written is zeros.
    pub fn is_made(&self) -> bool {
        self.is_made
    }

    /// Writes what is dirty, and has a range leave memory.
    ///
    /// # Errors
    /// Why it could not be written.
    pub fn drop_from_memory(&self, range: Range<u64>) -> Result<(), Fault> {
        self.cache.sync().map_err(refused)?;
        self.cache.invalidate(range).map_err(refused)?;
        Ok(())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.is_made {
            // Somebody may have removed it.
            let _ = std::fs::remove_file(&self.path);
        } else if self.region().nr_mappings() == 0 {
            // What cannot be written was said at a sync, or is of no interest any more.
            let _ = self.drop_from_memory(0..self.cache.len());
        }
    }
}
