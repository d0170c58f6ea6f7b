//! A path, looked up: through the table alone if it can be, else name by name with what is asked of
//! the real directories kept.
//!
//! Invariants: what is answered from the cache was seen in the present era of its directory. A
//! lookup that finds something moved begins at the root again.
//! Depends on: `table` and `cache` for entries; `fresh` for eras; `real` for what is not there.
//! Never: two shards locked at once; a failure for want of room: the file system alone answers
//! then.

use crate::cache::{Inner, Pin, Turn};
use crate::dentry::{Body, Dentry, Kind};
use crate::fresh::clock;
use crate::path::Rest;
use crate::real::{self, MOST_LINKS, Seen};
use crate::table;
use crate::text::LONGEST;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::sync::atomic::Ordering;

/// Times a lookup begins anew because something moved, before it asks the file system alone.
const TURNS: u32 = 8;

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All of it was in the cache.
    Hit,
    /// Something was asked of the file system, and is in the cache now.
    Miss,
    /// The file system alone: there was no room to keep it, or it changed all the time.
    Uncached,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// To what.
    pub kind: Kind,
    /// Its inode; 0 for what is missing.
    pub ino: u64,
    /// The device that is on; 0 for what is missing.
    pub dev: u64,
    /// Where the answer came from.
    pub answer: Answer,
}

impl Found {
    fn new(dentry: &Dentry, answer: Answer) -> Found {
        Found {
            kind: dentry.kind(),
            ino: dentry.ino,
            dev: dentry.dev,
            answer,
        }
    }

    fn real(seen: &Seen) -> Found {
        Found {
            kind: seen.kind,
            ino: seen.node.0,
            dev: seen.node.1,
            answer: Answer::Uncached,
        }
    }
}

/// One step of a lookup through the table.
enum Step {
    Into(u64, u32),
    At(Found),
}

/// Where a walk through the cache ended.
pub struct Walked<'a> {
    pub pin: Pin<'a>,
    pub answer: Answer,
}

impl Inner {
    /// What a path leads to. `follow`: also if that is a symbolic link.
    pub fn lookup(&self, path: &[u8], follow: bool) -> Result<Found, Errno> {
        let now = clock();
        if let Some(found) = self.through_table(path, follow, now) {
            return Ok(found);
        }
        match self.pin(path, follow, now) {
            Ok(walked) => Ok(Found::new(&walked.pin.dentry, walked.answer)),
            Err(Turn::Fails(errno)) => Err(errno),
            Err(Turn::NoRoom | Turn::Again) => {
                self.counts.uncached.fetch_add(1, Ordering::Relaxed);
                let seen = real::resolve(self.root_fd.as_fd(), path, follow)?;
                Ok(Found::real(&seen))
            }
        }
    }

    /// The path's entry, in use, if it can be had; counted as a lookup.
    pub fn pin(&self, path: &[u8], follow: bool, now: u64) -> Result<Walked<'_>, Turn> {
        let walked = self.walk_to(path, follow, now)?;
        self.count(&walked.pin.dentry, walked.answer);
        Ok(walked)
    }

    /// The path's entry, in use, if it can be had.
    pub fn walk_to(&self, path: &[u8], follow: bool, now: u64) -> Result<Walked<'_>, Turn> {
        for _ in 0..TURNS {
            match self.by_names(path, follow, now) {
                Err(Turn::Again) => {}
                other => return other,
            }
        }
        Err(Turn::Again)
    }

    /// Counts an answer that is in the cache.
    pub fn count(&self, dentry: &Dentry, answer: Answer) {
        let lane = self.lane(dentry.hash);
        if answer != Answer::Hit {
            self.counts.misses.fetch_add(1, Ordering::Relaxed);
            return;
        }
        lane.hits.fetch_add(1, Ordering::Relaxed);
        if dentry.kind() == Kind::Missing {
            lane.negative.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The answer, if all of it is in the cache, fresh, and without links to follow: one short lock
    /// a name, nothing allocated, nothing asked.
    fn through_table(&self, path: &[u8], follow: bool, now: u64) -> Option<Found> {
        let ends_in_slash = path.ends_with(b"/");
        let mut names = path
            .split(|byte| *byte == b'/')
            .filter(|name| !matches!(*name, b"" | b"."))
            .peekable();
        let root = self.root();
        let (mut serial, mut era) = self.fresh_era(root, now)?;
        let mut found = Found::new(root, Answer::Hit);
        let mut hash = 0;
        while let Some(name) = names.next() {
            if name == b".." {
                return None;
            }
            let key = self.table.key(serial, name);
            hash = key.hash;
            let entries = self.table.shard(key.hash);
            let dentry = entries.find(key.hash, |item| key.is_of(item))?;
            if !dentry.is_seen_in(era) {
                return None;
            }
            table::found(dentry);
            let is_last = names.peek().is_none() && !ends_in_slash;
            let step = match &dentry.body {
                Body::Directory { .. } if is_last => Step::At(Found::new(dentry, Answer::Hit)),
                Body::Directory { .. } => {
                    found = Found::new(dentry, Answer::Hit);
                    let (serial, era) = self.fresh_era(dentry, now)?;
                    Step::Into(serial, era)
                }
                Body::Missing => Step::At(Found::new(dentry, Answer::Hit)),
                Body::Symlink(_) if follow || !is_last => return None,
                _ if is_last => Step::At(Found::new(dentry, Answer::Hit)),
                Body::File | Body::Symlink(_) | Body::Other => return None,
            };
            match step {
                Step::Into(into, of) => (serial, era) = (into, of),
                Step::At(at) => {
                    found = at;
                    break;
                }
            }
        }
        let lane = self.lane(hash);
        lane.hits.fetch_add(1, Ordering::Relaxed);
        if found.kind == Kind::Missing {
            lane.negative.fetch_add(1, Ordering::Relaxed);
        }
        Some(found)
    }

    /// A directory's number and era, unless it is to be asked first.
    fn fresh_era(&self, dentry: &Dentry, now: u64) -> Option<(u64, u32)> {
        let listing = dentry.listing()?;
        listing
            .is_fresh(self.freshness, now)
            .then(|| (dentry.serial(), listing.era()))
    }

    fn by_names(&self, path: &[u8], follow: bool, now: u64) -> Result<Walked<'_>, Turn> {
        let mut answer = Answer::Hit;
        let mut at = self.pin_root();
        let mut fd: Option<OwnedFd> = None;
        let mut rest = Rest::new(path);
        let mut links = 0;
        while let Some(name) = rest.next() {
            if *name == *b".." {
                (at, fd) = (self.pin_parent(&at.dentry)?, None);
                continue;
            }
            self.refresh(&at, fd.as_ref(), now)?;
            let child = self.child(&at, &mut fd, &name, &mut answer, now)?;
            match &child.dentry.body {
                Body::Missing => return Ok(Walked { pin: child, answer }),
                Body::Symlink(target) if follow || !rest.is_over() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let asked;
                    let target = match target {
                        Some(target) => target.as_bytes(),
                        None => {
                            asked = real::target(self.opened(&at, &mut fd, now)?.as_fd(), &name)?;
                            &asked
                        }
                    };
                    if target.starts_with(b"/") {
                        (at, fd) = (self.pin_root(), None);
                    }
                    rest.lead_to(target);
                }
                Body::Directory { .. } => (at, fd) = (child, None),
                _ if rest.is_over() => return Ok(Walked { pin: child, answer }),
                Body::File | Body::Symlink(_) | Body::Other => return Err(Errno::NOTDIR.into()),
            }
        }
        Ok(Walked { pin: at, answer })
    }

    /// A name in a directory: from the cache, or asked for and kept.
    pub fn child(
        &self,
        dir: &Pin<'_>,
        fd: &mut Option<OwnedFd>,
        name: &[u8],
        answer: &mut Answer,
        now: u64,
    ) -> Result<Pin<'_>, Turn> {
        if name.len() > LONGEST {
            return Err(Errno::NAMETOOLONG.into());
        }
        let Some((serial, listing)) = dir.directory() else {
            return Err(Errno::NOTDIR.into());
        };
        let key = self.table.key(serial, name);
        if let Some(child) = self.find(key, listing.era()) {
            return Ok(child);
        }
        *answer = Answer::Miss;
        let fd = self.opened(dir, fd, now)?;
        // The era first: what changes after it begins another.
        let era = listing.era();
        self.counts.asked.fetch_add(1, Ordering::Relaxed);
        let seen = real::look(fd.as_fd(), name)?;
        self.keep(dir, key, era, &seen)
    }

    fn opened<'f>(
        &self,
        dir: &Pin<'_>,
        fd: &'f mut Option<OwnedFd>,
        now: u64,
    ) -> Result<&'f OwnedFd, Turn> {
        let opened = match fd.take() {
            Some(opened) => opened,
            None => self.open(dir, now)?,
        };
        Ok(fd.insert(opened))
    }
}
