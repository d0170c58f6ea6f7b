//! The real directories: what a name leads to, asked of the kernel.
//!
//! Every name is asked for relative to the directory it is in, and no symbolic link below the root
//! is followed by the kernel: where they lead is for us to follow, within the root.
//!
//! Invariants: that a name does not exist is an answer, and no error. A directory's times come with
//! a clock that was read before them.
//! Depends on: the kernel, by rustix; `path` for the walk without a cache.
//! Never: a look into the cache; a lock.

use crate::dentry::Kind;
use crate::fresh::{Times, file_clock};
use crate::path::Rest;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, Result};

/// Symbolic links on one path, as the kernel has it.
pub const MOST_LINKS: u32 = 40;

const DIRECTORY: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What a name leads to.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What.
    pub kind: Kind,
    /// Inode and device; 0 for what is missing.
    pub node: (u64, u64),
    /// A directory's.
    pub times: Times,
    /// Where a symbolic link leads.
    pub target: Vec<u8>,
}

impl Seen {
    #[expect(clippy::wildcard_enum_match_arm, reason = "rustix's enum is open")]
    fn of(stat: &Stat, at: i64) -> Seen {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Other,
        };
        Seen {
            kind,
            node: (stat.st_ino, stat.st_dev),
            times: Times::new(stat, at),
            target: Vec::new(),
        }
    }

    fn missing() -> Seen {
        Seen {
            kind: Kind::Missing,
            node: (0, 0),
            times: Times::NONE,
            target: Vec::new(),
        }
    }
}

/// An open directory.
pub fn look_at(dir: BorrowedFd<'_>) -> Result<Seen> {
    let at = file_clock();
    Ok(Seen::of(&rustix::fs::fstat(dir)?, at))
}

/// A path that has no symbolic links, below `dir`.
pub fn look_below(dir: BorrowedFd<'_>, path: &[u8]) -> Result<Seen> {
    if path.is_empty() {
        return look_at(dir);
    }
    let at = file_clock();
    let stat = rustix::fs::statat(dir, path, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(Seen::of(&stat, at))
}

/// A name in an open directory.
///
/// # Errors
/// The kernel's, but for ENOENT, which is an answer.
pub fn look(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Seen> {
    let at = file_clock();
    let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Seen::missing()),
        stat => stat?,
    };
    let mut seen = Seen::of(&stat, at);
    if seen.kind == Kind::Symlink {
        seen.target = target(dir, name)?;
    }
    Ok(seen)
}

/// Where a symbolic link leads.
pub fn target(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes())
}

/// Opens a directory by a path below `root` that has no symbolic links.
pub fn open_below(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let whole = if path.is_empty() { b"." } else { path };
    match rustix::fs::openat2(root, whole, DIRECTORY, Mode::empty(), resolve) {
        // An old kernel, a path too long for one call, or a rename at the same time.
        Err(Errno::NOSYS | Errno::NAMETOOLONG | Errno::AGAIN | Errno::PERM) => {}
        opened => return opened,
    }
    let mut at = open(root, b".")?;
    for name in path.split(|byte| *byte == b'/') {
        at = open(at.as_fd(), name)?;
    }
    Ok(at)
}

fn open(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    rustix::fs::openat(dir, name, DIRECTORY, Mode::empty())
}

/// Walks a path without any cache, within `root`.
///
/// # Errors
/// The kernel's, but for ENOENT, which is an answer.
pub fn resolve(root: BorrowedFd<'_>, path: &[u8], follow: bool) -> Result<Seen> {
    match walk_to(root, path, follow)? {
        (_, Some(seen)) => Ok(seen),
        (dirs, None) => look_at(dirs.last().map_or(root, AsFd::as_fd)),
    }
}

/// The directories on the way, and what is at the end if that is none.
fn walk_to(
    root: BorrowedFd<'_>,
    path: &[u8],
    follow: bool,
) -> Result<(Vec<OwnedFd>, Option<Seen>)> {
    let mut dirs: Vec<OwnedFd> = Vec::new();
    let mut rest = Rest::new(path);
    let mut links = 0;
    while let Some(name) = rest.next() {
        let dir = dirs.last().map_or(root, AsFd::as_fd);
        if *name == *b".." {
            dirs.pop();
            continue;
        }
        let seen = look(dir, &name)?;
        match seen.kind {
            Kind::Missing => return Ok((dirs, Some(seen))),
            Kind::Symlink if follow || !rest.is_over() => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP);
                }
                if seen.target.starts_with(b"/") {
                    dirs.clear();
                }
                rest.lead_to(&seen.target);
            }
            Kind::Directory => {
                let next = open(dir, &name)?;
                dirs.push(next);
            }
            _ if rest.is_over() => return Ok((dirs, Some(seen))),
            Kind::File | Kind::Symlink | Kind::Other => return Err(Errno::NOTDIR),
        }
    }
    Ok((dirs, None))
}

/// Opens a directory by any path within `root`.
pub fn open_within(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    match walk_to(root, path, true)? {
        (dirs, None) => match dirs.into_iter().last() {
            Some(dir) => Ok(dir),
            None => open(root, b"."),
        },
        (_, Some(seen)) if seen.kind == Kind::Missing => Err(Errno::NOENT),
        _ => Err(Errno::NOTDIR),
    }
}

/// Opens the directory that is to be the root, links followed, and looks at it.
pub fn open_root(path: &[u8]) -> Result<(OwnedFd, Seen)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let seen = look_at(fd.as_fd())?;
    Ok((fd, seen))
}
