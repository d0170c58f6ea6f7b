//! Files: a region caches each, by the page.
//!
//! Invariants: two handles on one file are on one region.
//! Depends on: `engine::pages::file_region`.
//! Never: touches a page.

#![forbid(unsafe_code)]

use super::current_group::current_or_root;
use super::mapping::Mapping;
use super::memcg::Memcg;
use super::page_error::PageError;
use super::region::{Region, at};
use super::task::Task;
use crate::engine::process_engine::{engine, with_rec};
use crate::engine::worker::worker_thread;
use crate::os::clock;
use crate::os::errno::Errno;
use crate::page::file::{self, ErrorCursor};
use core::fmt;
use core::ops::Range;
use core::time::Duration;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A file as a region: its pages are read when they are touched, are charged to the group that
/// touches them first, stay while there is room, and are written back when they are dirty.
///
/// A file has one region in a process, whatever path leads to it: hard links, symbolic links,
/// relative paths. It is used through mappings ([`Self::map`]). Without handles and mappings the
/// region stays while it has pages, as in the kernel's page cache, and the next [`Self::open`]
/// finds them. A file that was deleted is dropped then, with what was not written.
///
/// **What is written when.** A page that was pinned to write, or written, is dirty until it is
/// written to the file: by [`Self::sync`], or in the background by the engine's worker once it has
/// been dirty for 30 s ([`set_dirty_expire`]), also when nobody uses the file any more. Without the
/// worker (`MEMCG_NO_THREAD`) only `sync` writes. Nothing is promised of what is dirty when the
/// process ends: sync before.
///
/// **Others.** What other processes, or other descriptors of this one, do to the file is not seen
/// at once. Its size and the time of its last write are looked at when it is opened and when it is
/// synced: if it has changed, pages that are clean and not pinned are dropped, so that they are
/// read again. Pages that are dirty stay, and are written: the last writer wins, a page at a time.
/// [`Self::invalidate`] drops clean pages at any time. A file that others make shorter gives
/// [`PageError::Io`] with EIO where it was cut off, and no signal; what was dirty there is lost,
/// and each user is told.
///
/// What lies behind the end of the file in its last page can be written through
/// [`Mapping::pin_mut`], and is never written to the file; it reads as zeros once the file is made
/// longer.
///
/// Pages pass the kernel's cache where the file system has direct I/O; else the kernel is told to
/// drop what it keeps, and one line on standard error says so once.
///
/// The file's descriptor is open while there is a mapping or a dirty page, and for the last 1,024
/// of other files. As with any descriptor that is closed, the kernel then drops the POSIX record
/// locks (`F_SETLK`) that this process has on the file.
///
/// Source of the idea: the kernel's page cache, its errors of write-back included.
///
/// ```
/// use memcg::PageCache;
///
/// # let path = std::env::temp_dir().join(format!("memcg-doc-{}", std::process::id()));
/// std::fs::write(&path, "one, two").unwrap();
/// let tenant = memcg::root().create("reader").unwrap();
/// let file = PageCache::open(&path).unwrap();
/// let table = file.map(&tenant).unwrap();
/// let mut word = [0; 3];
/// table.read_at(5, &mut word).unwrap();
/// assert_eq!(&word, b"two");
/// assert_eq!((tenant.usage().file, tenant.current()), (4096, 4096));
///
/// table.write_at(5, b"2.0").unwrap();
/// table.sync().unwrap();
/// assert_eq!(std::fs::read(&path).unwrap(), b"one, 2.0");
/// # std::fs::remove_file(&path).unwrap();
/// ```
pub struct PageCache {
    region: Region,
    /// As this user was last told of errors of write-back.
    errors: ErrorCursor,
}

impl fmt::Debug for PageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageCache")
            .field("region", &self.region)
            .field("is_writable", &self.is_writable())
            .finish_non_exhaustive()
    }
}

impl PageCache {
    /// The region of a file. It is opened to read and write, or to read alone where this process
    /// may not write it ([`Self::is_writable`]). Charges nothing but the records of a new region,
    /// to the group that the thread charges.
    ///
    /// Cost: a look at the file; for one that is not known an open and some calls more; if others
    /// have changed it, O(its pages in memory).
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref().as_os_str().as_bytes();
        let opener = current_or_root();
        let id = with_rec(|engine, rec| engine.open_file(rec, path, opener))
            .unwrap_or(Err(file::OpenError::NoRoom))
            .map_err(OpenError::new)?;
        // It writes what is dirty.
        worker_thread::want();
        let errors = ErrorCursor::default();
        let pages = &engine().pages;
        if let Some(file) = pages.region(id).file() {
            pages.files.errors(file).begin(&errors);
        }
        Ok(Self {
            region: Region::of_name(id),
            errors,
        })
    }

    /// Maps the file: `group` uses it through the mapping. Charges nothing. The file's descriptor
    /// is open while there is a mapping.
    ///
    /// # Errors
    /// [`PageError::Io`] if the descriptor was closed meanwhile and the path does not lead to the
    /// file any more (ESTALE), or it cannot be opened. Else as [`Region::map`].
    pub fn map(&self, group: &Memcg) -> Result<Mapping, PageError> {
        self.region.map(group)
    }

    /// As [`Self::map`], for a task.
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn map_for(&self, task: &Task) -> Result<Mapping, PageError> {
        self.region.map_for(task)
    }

    /// A handle on the region.
    #[must_use]
    pub fn region(&self) -> Region {
        self.region.clone()
    }

    /// The file's length in bytes, as it was last looked at or set.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.region.len()
    }

    /// Whether it is 0 bytes long.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the file may be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let pages = &engine().pages;
        let file = pages.region(self.region.id()).file();
        file.is_some_and(|file| pages.files.is_writable(file))
    }

    /// Makes the file and its region `len` bytes long. What is cut off is dropped, and reads as
    /// zeros if the file becomes longer again. Waits for pages that others have pinned, and for
    /// write-back. O(pages).
    ///
    /// # Errors
    /// [`PageError::Busy`] if a page beyond the new end stays pinned: nothing has changed.
    /// [`PageError::OutOfRange`] above 8 TiB. [`PageError::ReadOnly`]. [`PageError::Io`] if the
    /// file system refuses: the length is as before, and what was dropped is as the file has it.
    /// [`PageError::ParentProcess`].
    pub fn set_len(&self, len: u64) -> Result<(), PageError> {
        self.region.resize(len)
    }

    /// Writes what is dirty, whoever has written it, and has the device keep it. Waits for pages
    /// that others have pinned to write, 10 s at most. Looks whether others have changed the file.
    ///
    /// Cost: two calls if nothing was written since the last sync; else the device's, and O(pages
    /// in memory).
    ///
    /// # Errors
    /// [`PageError::Io`]: of this or of an earlier write-back, once to each handle and to each
    /// mapping. What could not be written is dirty still, and is tried again, unless the file was
    /// cut off before it or is gone. After an error of the device the kernel may have dropped what
    /// went through its cache. [`PageError::Busy`], [`PageError::Deadlock`]: a page stays pinned to
    /// write, the others were written. [`PageError::ParentProcess`].
    pub fn sync(&self) -> Result<(), PageError> {
        at(|engine, rec| engine.sync_region(rec, self.region.id(), &self.errors))
    }

    /// Drops pages that have a byte of a range, so that they are read from the file when they are
    /// touched again: those that are clean and that nobody has pinned. Answers how many. O(pages of
    /// the region).
    ///
    /// # Errors
    /// [`PageError::OutOfRange`] if the range is not within the file.
    /// [`PageError::ParentProcess`].
    pub fn invalidate(&self, range: Range<u64>) -> Result<u64, PageError> {
        at(|engine, rec| engine.invalidate(rec, self.region.id(), range))
    }
}

/// How long a page of a file may be dirty before the engine's worker writes it, for all files of
/// the process; 30 s unless it is set. What is dirty already is looked at at once.
pub fn set_dirty_expire(age: Duration) {
    let ms = u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
    engine().pages.expiry.set_age_ms(ms, clock::monotonic_ns());
    worker_thread::want();
    engine().ring_worker();
}

/// A file was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The kernel refuses. EBUSY: others have made the file shorter, and pages beyond its end are
    /// pinned.
    Refused(Errno),
    /// It has no content of its own: a directory (EISDIR), a pipe, a socket, a device (EINVAL).
    NotAFile(Errno),
    /// The path has more than 4,095 bytes, once it is made absolute. ENAMETOOLONG.
    PathTooLong,
    /// There is no memory for a record of the engine. ENOMEM.
    NoMemory,
    /// The path led to another file each time it was looked at. EAGAIN.
    KeepsChanging,
    /// Regions are the parent's: it had some when it forked this process. ESTALE.
    ParentProcess,
}

impl OpenError {
    fn new(error: file::OpenError) -> Self {
        match error {
            file::OpenError::Refused(errno) => Self::Refused(errno),
            file::OpenError::NotAFile(_) => Self::NotAFile(error.errno()),
            file::OpenError::PathTooLong => Self::PathTooLong,
            file::OpenError::NoRoom => Self::NoMemory,
            file::OpenError::KeepsChanging => Self::KeepsChanging,
            file::OpenError::InChild => Self::ParentProcess,
        }
    }

    /// The error's number in C.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Refused(errno) | Self::NotAFile(errno) => *errno,
            Self::PathTooLong => Errno::ENAMETOOLONG,
            Self::NoMemory => Errno::ENOMEM,
            Self::KeepsChanging => Errno::EAGAIN,
            Self::ParentProcess => Errno::ESTALE,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(errno) => write!(f, "the file was not opened: {errno}"),
            Self::NotAFile(_) => f.write_str("it is no file with content of its own"),
            Self::PathTooLong => f.write_str("the path is too long"),
            Self::NoMemory => f.write_str("no memory for the record of a file"),
            Self::KeepsChanging => f.write_str("the path leads to another file each time"),
            Self::ParentProcess => {
                f.write_str("regions are the parent process's, which had some when it forked")
            }
        }
    }
}

impl core::error::Error for OpenError {}

impl From<OpenError> for std::io::Error {
    fn from(error: OpenError) -> Self {
        // With the text, and with the kind that the number has.
        let kind = std::io::Error::from_raw_os_error(error.errno().number()).kind();
        Self::new(kind, error)
    }
}
