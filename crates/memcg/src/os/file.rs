//! Files, by descriptor: one system call a function.
//!
//! Invariants: a call that a signal interrupts is made again. What a call could do in part it
//! answers in bytes; who called goes on or gives up.
//! Depends on: `errno`; `fault` for calls that tests have fail.
//! Never: an allocation; a descriptor that a program started by this one inherits.

use super::errno::Errno;
use core::ffi::{CStr, c_int};
use core::mem::MaybeUninit;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// To read.
    Read,
    /// To read and write.
    ReadWrite,
    /// To read and write; made if it is not there, readable by its owner alone.
    Create,
    /// To read and write; a block device only where nothing else uses it (`EBUSY`: it is mounted,
    /// say).
    Alone,
}

/// Whether what is read and written passes the kernel's cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cached {
    /// Through the kernel's cache.
    Yes,
    /// Past it (`O_DIRECT`): addresses, offsets and lengths are aligned as [`Stat::direct`] says.
    No,
}

/// What direct I/O asks of addresses and of offsets and lengths, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alignment {
    /// Of addresses.
    pub memory: u32,
    /// Of offsets in the file, and of lengths.
    pub offset: u32,
}

/// What kind of thing a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// A file with content.
    Regular,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// What the kernel says of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// The device it is on.
    pub dev: u64,
    /// Its number there.
    pub ino: u64,
    /// When it was made, ns since 1970; 0: the file system does not know.
    pub born_ns: u64,
    /// When it was last written, ns since 1970.
    pub written_ns: u64,
    /// Bytes; 0 for a block device, see [`end`].
    pub size: u64,
    /// Bytes that have a place on the device.
    pub allocated: u64,
    /// Names it has; 0: it has been deleted.
    pub nr_names: u32,
    /// What it is.
    pub what: Type,
    /// What direct I/O asks for; `None`: the kernel says of none that it works.
    pub direct: Option<Alignment>,
}

/// Makes `call` again while a signal interrupts it.
fn retried(mut call: impl FnMut() -> isize) -> Result<usize, Errno> {
    loop {
        let got = call();
        if let Ok(got) = usize::try_from(got) {
            return Ok(got);
        }
        match Errno::last() {
            Errno::EINTR => {}
            errno => return Err(errno),
        }
    }
}

/// Opens a file. Of a pipe the other end is not waited for, of another process's lease neither.
///
/// # Errors
/// The kernel's; EAGAIN: another process has a lease on the file.
pub fn open(path: &CStr, access: Access, cached: Cached) -> Result<OwnedFd, Errno> {
    let access = match access {
        Access::Read => libc::O_RDONLY,
        Access::ReadWrite => libc::O_RDWR,
        Access::Create => libc::O_RDWR | libc::O_CREAT,
        // Without O_CREAT, O_EXCL means this, and to a regular file nothing.
        Access::Alone => libc::O_RDWR | libc::O_EXCL,
    };
    let direct = match cached {
        Cached::Yes => 0,
        Cached::No => libc::O_DIRECT,
    };
    let flags = access | direct | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
    // SAFETY: the path is a string that ends with NUL and lives over the call.
    let fd = retried(|| unsafe { libc::open(path.as_ptr(), flags, 0o600) } as isize)?;
    // SAFETY: the kernel has just given this descriptor to us and to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// What the kernel says of an open file.
///
/// # Errors
/// The kernel's.
pub fn stat(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    // With an empty path the kernel looks at the descriptor.
    statx(fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH)
}

/// What the kernel says of what a path leads to; links are followed. Nothing is opened.
///
/// # Errors
/// The kernel's.
pub fn stat_path(path: &CStr) -> Result<Stat, Errno> {
    statx(libc::AT_FDCWD, path, 0)
}

fn statx(at: c_int, path: &CStr, flags: c_int) -> Result<Stat, Errno> {
    /// `STATX_DIOALIGN`, of kernel 6.1.
    const DIRECT: u32 = 0x2000;
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME | DIRECT;
    let mut got = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is a string that ends with NUL and lives over the call; `got` is room for
    // what the kernel writes.
    retried(|| unsafe { libc::statx(at, path.as_ptr(), flags, mask, got.as_mut_ptr()) } as isize)?;
    // SAFETY: it was zeroed, which is a value of a struct of integers, and written by the kernel.
    let got = unsafe { got.assume_init() };
    let ns = |time: libc::statx_timestamp| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds * 1_000_000_000 + u64::from(time.tv_nsec)
    };
    let has_birth = got.stx_mask & libc::STATX_BTIME != 0;
    let says_direct =
        got.stx_mask & DIRECT != 0 && got.stx_dio_mem_align != 0 && got.stx_dio_offset_align != 0;
    Ok(Stat {
        dev: u64::from(got.stx_dev_major) << 32 | u64::from(got.stx_dev_minor),
        ino: got.stx_ino,
        born_ns: if has_birth { ns(got.stx_btime) } else { 0 },
        written_ns: ns(got.stx_mtime),
        size: got.stx_size,
        allocated: got.stx_blocks * 512,
        nr_names: got.stx_nlink,
        what: match u32::from(got.stx_mode) & libc::S_IFMT {
            libc::S_IFREG => Type::Regular,
            libc::S_IFBLK => Type::Block,
            libc::S_IFDIR => Type::Directory,
            _ => Type::Other,
        },
        direct: says_direct.then_some(Alignment {
            memory: got.stx_dio_mem_align,
            offset: got.stx_dio_offset_align,
        }),
    })
}

/// What a test has become of a call: none of it is left in any other build.
#[inline(always)]
fn fault() -> Option<super::Fault> {
    #[cfg(all(any(test, feature = "simulator"), not(loom)))]
    return super::fault::of_io();
    #[cfg(not(all(any(test, feature = "simulator"), not(loom))))]
    None
}

/// Reads at `at`; answers how many bytes, 0 at the end of the file.
///
/// # Errors
/// The kernel's.
pub fn read(fd: BorrowedFd<'_>, into: &mut [u8], at: u64) -> Result<usize, Errno> {
    let most = match fault() {
        Some(super::Fault::Fails(errno)) => return Err(errno),
        Some(super::Fault::Short) => into.len() / 2,
        None => into.len(),
    };
    read_now(fd, &mut into[..most], at)
}

fn read_now(fd: BorrowedFd<'_>, into: &mut [u8], at: u64) -> Result<usize, Errno> {
    let at = i64::try_from(at).map_err(|_| Errno::EFBIG)?;
    let (start, most) = (into.as_mut_ptr(), into.len());
    // SAFETY: `into` is ours alone over the call, and `most` long.
    retried(|| unsafe { libc::pread(fd.as_raw_fd(), start.cast(), most, at) })
}

/// Writes at `at`; answers how many bytes.
///
/// # Errors
/// The kernel's.
pub fn write(fd: BorrowedFd<'_>, from: &[u8], at: u64) -> Result<usize, Errno> {
    let most = match fault() {
        Some(super::Fault::Fails(errno)) => return Err(errno),
        Some(super::Fault::Short) => from.len() / 2,
        None => from.len(),
    };
    write_now(fd, &from[..most], at)
}

fn write_now(fd: BorrowedFd<'_>, from: &[u8], at: u64) -> Result<usize, Errno> {
    let at = i64::try_from(at).map_err(|_| Errno::EFBIG)?;
    // SAFETY: `from` is there over the call.
    retried(|| unsafe { libc::pwrite(fd.as_raw_fd(), from.as_ptr().cast(), from.len(), at) })
}

/// The most pieces of memory that the kernel takes in one call (`IOV_MAX`).
pub const NR_PIECES: usize = 1024;

/// As [`read`], into pieces of memory in turn; of more than [`NR_PIECES`] into the first ones.
///
/// # Errors
/// The kernel's.
pub fn read_vectored(
    fd: BorrowedFd<'_>,
    into: &mut [IoSliceMut<'_>],
    at: u64,
) -> Result<usize, Errno> {
    let mut most = into.len().min(NR_PIECES);
    match fault() {
        Some(super::Fault::Fails(errno)) => return Err(errno),
        Some(super::Fault::Short) => match &mut into[..most] {
            [one] => {
                let len = one.len() / 2;
                return read_now(fd, &mut one[..len], at);
            }
            many => most = many.len() / 2,
        },
        None => {}
    }
    let at = i64::try_from(at).map_err(|_| Errno::EFBIG)?;
    // SAFETY: an IoSliceMut is laid out as the kernel's iovec. The memory of each is the caller's
    // alone over the call, and at least `most` of them are there.
    retried(|| unsafe { libc::preadv(fd.as_raw_fd(), into.as_mut_ptr().cast(), most as c_int, at) })
}

/// As [`write()`], from pieces of memory in turn; of more than [`NR_PIECES`] from the first ones.
///
/// # Errors
/// The kernel's.
pub fn write_vectored(fd: BorrowedFd<'_>, from: &[IoSlice<'_>], at: u64) -> Result<usize, Errno> {
    let mut most = from.len().min(NR_PIECES);
    match fault() {
        Some(super::Fault::Fails(errno)) => return Err(errno),
        Some(super::Fault::Short) => match &from[..most] {
            [one] => return write_now(fd, &one[..one.len() / 2], at),
            many => most = many.len() / 2,
        },
        None => {}
    }
    let at = i64::try_from(at).map_err(|_| Errno::EFBIG)?;
    // SAFETY: an IoSlice is laid out as the kernel's iovec. The memory of each is there over the
    // call, and at least `most` of them are.
    retried(|| unsafe { libc::pwritev(fd.as_raw_fd(), from.as_ptr().cast(), most as c_int, at) })
}

/// Has the device keep what was written (`fdatasync`).
///
/// # Errors
/// The kernel's: what was written since the last call may be lost.
pub fn sync_data(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    if let Some(super::Fault::Fails(errno)) = fault() {
        return Err(errno);
    }
    // SAFETY: no memory is involved.
    retried(|| unsafe { libc::fdatasync(fd.as_raw_fd()) } as isize).map(|_| ())
}

/// Makes the file `len` bytes long.
///
/// # Errors
/// The kernel's.
pub fn set_len(fd: BorrowedFd<'_>, len: u64) -> Result<(), Errno> {
    let len = i64::try_from(len).map_err(|_| Errno::EFBIG)?;
    // SAFETY: no memory is involved.
    retried(|| unsafe { libc::ftruncate(fd.as_raw_fd(), len) } as isize).map(|_| ())
}

/// Where the file or block device ends, in bytes.
///
/// # Errors
/// The kernel's.
pub fn end(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    // SAFETY: no memory is involved. The position that this changes is used by nobody: all reading
    // and writing here says where.
    let end = retried(|| unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_END) } as isize)?;
    Ok(end as u64)
}

/// From now on what is read and written by this descriptor passes the kernel's cache, as with
/// [`Cached::No`].
///
/// # Errors
/// The kernel's: the file system cannot.
pub fn set_direct(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    let flags = retried(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) } as isize)?;
    let flags = flags as c_int | libc::O_DIRECT;
    // SAFETY: as above.
    retried(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) } as isize).map(|_| ())
}

/// Has the file for itself among those who ask (`flock`), until the descriptor and its copies are
/// closed.
///
/// # Errors
/// `EAGAIN`: another has it. Else the kernel's: the file system knows no such locks.
pub fn try_lock(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let how = libc::LOCK_EX | libc::LOCK_NB;
    // SAFETY: no memory is involved.
    retried(|| unsafe { libc::flock(fd.as_raw_fd(), how) } as isize).map(|_| ())
}

/// Takes a name away; the file goes with its last name and descriptor.
///
/// # Errors
/// The kernel's.
pub fn remove(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the path is a string that ends with NUL and lives over the call.
    retried(|| unsafe { libc::unlink(path.as_ptr()) } as isize).map(|_| ())
}

/// What a program intends with a range of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// It is read here and there: nothing is to be read ahead.
    Random,
    /// The kernel need not keep it in its cache.
    DontNeed,
}

/// Tells the kernel; it may do nothing about it.
pub fn advise(fd: BorrowedFd<'_>, at: u64, len: u64, advice: Advice) {
    let advice = match advice {
        Advice::Random => libc::POSIX_FADV_RANDOM,
        Advice::DontNeed => libc::POSIX_FADV_DONTNEED,
    };
    let (Ok(at), Ok(len)) = (i64::try_from(at), i64::try_from(len)) else {
        return;
    };
    // SAFETY: no memory is involved.
    unsafe { libc::posix_fadvise(fd.as_raw_fd(), at, len, advice) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_written_is_read_and_what_is_beyond_the_end_is_not() {
        let path = std::env::temp_dir().join(format!("memcg-os-file-{}", std::process::id()));
        let c_path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        assert_eq!(
            open(&c_path, Access::Read, Cached::Yes).unwrap_err(),
            Errno::ENOENT
        );
        let file = open(&c_path, Access::Create, Cached::Yes).unwrap();
        let fd = file.as_fd();
        assert_eq!(write(fd, b"twelve bytes", 4096), Ok(12));
        let mut back = [0xff; 16];
        assert_eq!(read(fd, &mut back, 4096), Ok(12));
        assert_eq!(&back[..12], b"twelve bytes");
        assert_eq!(read(fd, &mut back, 5000), Ok(0));
        sync_data(fd).unwrap();
        set_len(fd, 10).unwrap();
        let now = stat(fd).unwrap();
        assert_eq!((now.size, now.nr_names, now.what), (10, 1, Type::Regular));
        assert!(now.written_ns > 1_700_000_000_000_000_000);
        let by_path = stat_path(&c_path).unwrap();
        assert_eq!((by_path.dev, by_path.ino), (now.dev, now.ino));
        assert_eq!(end(fd), Ok(10));
        assert_eq!(try_lock(fd), Ok(()));
        let other = open(&c_path, Access::Alone, Cached::Yes).unwrap();
        assert_eq!(try_lock(other.as_fd()), Err(Errno::EAGAIN));
        remove(&c_path).unwrap();
        assert_eq!(remove(&c_path), Err(Errno::ENOENT));
        assert_eq!(stat(fd).unwrap().nr_names, 0);
        assert_eq!(stat_path(&c_path).unwrap_err(), Errno::ENOENT);
        assert_eq!(stat_path(c"/").unwrap().what, Type::Directory);
    }

    #[test]
    fn pieces_are_filled_and_written_in_turn() {
        let path = std::env::temp_dir().join(format!("memcg-os-pieces-{}", std::process::id()));
        let c_path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let file = open(&c_path, Access::Create, Cached::Yes).unwrap();
        std::fs::remove_file(&path).unwrap();
        let fd = file.as_fd();
        let (one, two) = (IoSlice::new(b"one, "), IoSlice::new(b"two"));
        assert_eq!(write_vectored(fd, &[one, two], 10), Ok(8));
        let (mut first, mut second) = ([0; 3], [0; 9]);
        let mut into = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(read_vectored(fd, &mut into, 10), Ok(8));
        assert_eq!((&first, &second[..5]), (b"one", &b", two"[..]));
    }
}
