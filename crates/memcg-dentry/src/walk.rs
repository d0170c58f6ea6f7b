//! A whole tree, walked: each name in it looked at once, and kept where there is room.
//!
//! Invariants: no entry is kept in the cache for what is yet to be walked.
//! Depends on: `lookup` for each name; `cache` for the directories; `real` where there is no room.
//! Never: follows a link below the directory it began with; ends because something in the tree
//! cannot be looked at.

use crate::cache::{Inner, Pin, Turn};
use crate::dentry::Kind;
use crate::fresh::clock;
use crate::lookup::Answer;
use crate::real;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;
use std::sync::atomic::Ordering;

/// What a walk met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tour {
    /// Names, that of the directory it began with not counted.
    pub names: u64,
    /// Of them, directories.
    pub directories: u64,
    /// Names that were in the cache before.
    pub hits: u64,
    /// Names for which there was no room.
    pub uncached: u64,
    /// Names and directories that could not be looked at.
    pub failed: u64,
}

impl Inner {
    /// Walks the tree below a directory, links not followed.
    ///
    /// # Errors
    /// If there is no such directory. What fails below it is counted.
    pub fn walk(&self, path: &[u8]) -> Result<Tour, Errno> {
        let mut tour = Tour::default();
        let begin = self.lookup(path, true)?;
        match begin.kind {
            Kind::Directory => {}
            Kind::Missing => return Err(Errno::NOENT),
            Kind::File | Kind::Symlink | Kind::Other => return Err(Errno::NOTDIR),
        }
        // Paths, not entries: what is yet to come must not keep its entries from going.
        let mut left = vec![path.to_vec()];
        while let Some(path) = left.pop() {
            if let Err(errno) = self.walk_one(&path, &mut left, &mut tour) {
                tour.failed += 1;
                if left.is_empty() && tour.names == 0 {
                    return Err(errno);
                }
            }
        }
        Ok(tour)
    }

    fn walk_one(&self, path: &[u8], left: &mut Vec<Vec<u8>>, tour: &mut Tour) -> Result<(), Errno> {
        let now = clock();
        let pin = match self.walk_to(path, true, now) {
            Ok(walked) => Some(walked.pin),
            Err(Turn::Fails(errno)) => return Err(errno),
            Err(Turn::Again | Turn::NoRoom) => None,
        };
        let (pin, at) = match pin.map(|pin| self.open(&pin, now).map(|fd| (pin, fd))) {
            Some(Ok((pin, fd))) => (Some(pin), fd),
            Some(Err(Turn::Fails(errno))) => return Err(errno),
            _ => (None, real::open_within(self.root_fd.as_fd(), path)?),
        };
        let names = rustix::fs::openat(
            &at,
            c".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut fd = Some(at);
        for entry in Dir::new(names)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            match self.visit(pin.as_ref(), &mut fd, name, tour, now) {
                Ok(Kind::Directory) => {
                    tour.directories += 1;
                    left.push([path, b"/", name].concat());
                }
                Ok(_) => {}
                Err(_) => tour.failed += 1,
            }
        }
        Ok(())
    }

    fn visit(
        &self,
        dir: Option<&Pin<'_>>,
        fd: &mut Option<OwnedFd>,
        name: &[u8],
        tour: &mut Tour,
        now: u64,
    ) -> Result<Kind, Errno> {
        if let Some(dir) = dir {
            let mut answer = Answer::Hit;
            match self.child(dir, fd, name, &mut answer, now) {
                Ok(child) => {
                    self.count(&child.dentry, answer);
                    tour.names += 1;
                    tour.hits += u64::from(answer == Answer::Hit);
                    return Ok(child.dentry.kind());
                }
                Err(Turn::Fails(errno)) => return Err(errno),
                Err(Turn::NoRoom | Turn::Again) => {}
            }
        }
        let Some(fd) = fd else {
            return Err(Errno::NOENT);
        };
        let seen = real::look(fd.as_fd(), name)?;
        self.counts.uncached.fetch_add(1, Ordering::Relaxed);
        tour.names += 1;
        tour.uncached += 1;
        Ok(seen.kind)
    }
}
