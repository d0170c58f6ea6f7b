//! Descriptors of open files, beside what is read and written by them: how they are used, what
//! they lead to, how many there may be; and where relative paths begin.
//!
//! Invariants: a call that a signal interrupts is made again.
//! Depends on: `errno`, `file` for its words.
//! Never: an allocation.

use super::errno::Errno;
use super::file::Cached;
use std::os::fd::{AsRawFd, BorrowedFd};

fn done(answer: libc::c_int) -> Result<(), Errno> {
    match answer {
        -1 => Err(Errno::last()),
        _ => Ok(()),
    }
}

/// Has what is read and written by an open file pass the kernel's cache from now on, or go through
/// it. Calls under way go on as they began.
///
/// # Errors
/// The kernel's; EINVAL: the file system has no direct I/O.
pub fn set_cached(fd: BorrowedFd<'_>, cached: Cached) -> Result<(), Errno> {
    let flags = match cached {
        Cached::Yes => 0,
        Cached::No => libc::O_DIRECT,
    };
    // SAFETY: no memory is involved.
    done(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) })
}

/// Has a descriptor lead to what another leads to, in one step: who uses the number meanwhile uses
/// the one or the other.
///
/// # Errors
/// The kernel's.
pub fn replace(fd: BorrowedFd<'_>, with: BorrowedFd<'_>) -> Result<(), Errno> {
    loop {
        // SAFETY: no memory is involved. The number stays a descriptor, whose owner the caller is.
        let got = unsafe { libc::dup3(with.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) };
        match done(got) {
            // EBUSY: another thread is opening something that gets this number.
            Err(Errno::EINTR | Errno::EBUSY) => {}
            other => return other,
        }
    }
}

/// Has the kernel write what its cache holds of a range, and waits for it (`sync_file_range`). The
/// device may keep it in a cache of its own, and how long the file is may be forgotten.
///
/// # Errors
/// The kernel's: what was written may be lost.
pub fn write_out(fd: BorrowedFd<'_>, at: u64, len: u64) -> Result<(), Errno> {
    let (Ok(at), Ok(len)) = (i64::try_from(at), i64::try_from(len)) else {
        return Err(Errno::EFBIG);
    };
    let how = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    loop {
        // SAFETY: no memory is involved.
        match done(unsafe { libc::sync_file_range(fd.as_raw_fd(), at, len, how) }) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// How many descriptors this process may have now (`RLIMIT_NOFILE`).
#[must_use]
pub fn most() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is room for what the kernel writes.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => limit.rlim_cur,
        _ => 0,
    }
}

/// Where relative paths begin: an absolute path, without its NUL.
///
/// # Errors
/// ENAMETOOLONG: `text` is too short. ENOENT: the directory has been deleted, or no path leads
/// there from this process's root.
pub fn working_directory(text: &mut [u8]) -> Result<&[u8], Errno> {
    // SAFETY: `text` is ours alone over the call, and as long as is said. The call itself: the C
    // library's walks directories where the kernel gives no path.
    let got = unsafe { libc::syscall(libc::SYS_getcwd, text.as_mut_ptr(), text.len()) };
    let len = match usize::try_from(got) {
        Ok(len) => len.saturating_sub(1),
        Err(_) => {
            return Err(match Errno::last() {
                Errno::ERANGE => Errno::ENAMETOOLONG,
                errno => errno,
            });
        }
    };
    let path = text.get(..len).unwrap_or(&[]);
    // What is not reachable begins with a word in brackets.
    path.first()
        .filter(|&&first| first == b'/')
        .map(|_| path)
        .ok_or(Errno::ENOENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_descriptor_that_is_replaced_leads_to_the_other_file() {
        let folder = std::env::temp_dir();
        let (a, b) = ["a", "b"]
            .map(|name| folder.join(format!("memcg-os-descriptor-{}-{name}", std::process::id())))
            .into();
        let (mut first, second) = [&a, &b]
            .map(|path| std::fs::File::create(path).unwrap())
            .into();
        replace(first.as_fd(), second.as_fd()).unwrap();
        std::io::Write::write_all(&mut first, b"here").unwrap();
        write_out(first.as_fd(), 0, 4096).unwrap();
        assert_eq!(
            (std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap()),
            (vec![], b"here".into())
        );
        for path in [a, b] {
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn the_working_directory_is_an_absolute_path_or_too_long() {
        let mut text = [0; 4096];
        let now = std::env::current_dir().unwrap();
        assert_eq!(
            working_directory(&mut text).unwrap(),
            now.as_os_str().as_encoded_bytes()
        );
        assert_eq!(
            working_directory(&mut text[..3]).unwrap_err(),
            Errno::ENAMETOOLONG
        );
    }
}
