//! Where an object's bytes come from: its file, or the process's memory.
//!
//! Invariants: what is opened is a regular file, by a path that says which.
//! Depends on: the kernel.
//! Never: waits for what is no file, or calls what ends a cancelled thread (`open`, `read`): malloc
//! does not either.

use core::ffi::{CStr, c_int, c_void};

/// An open file.
pub struct File(c_int);

impl File {
    /// `None` for what is no regular file. A pipe that was put in a file's place is not waited for.
    pub fn open(path: &CStr) -> Option<Self> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        // SAFETY: a terminated string.
        let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
        let file = c_int::try_from(fd).ok().filter(|&fd| fd >= 0).map(Self)?;
        let mut about = core::mem::MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: a place for the answer.
        let told = unsafe { libc::syscall(libc::SYS_fstat, file.0, about.as_mut_ptr()) } == 0;
        // SAFETY: integers, which were zero before the kernel wrote any.
        let mode = unsafe { about.assume_init() }.st_mode;
        (told && mode & libc::S_IFMT == libc::S_IFREG).then_some(file)
    }

    /// Reads from `at`; answers how much, 0 also for an error.
    pub fn read(&self, at: u64, to: &mut [u8]) -> usize {
        // SAFETY: a slice with its length.
        let nr = unsafe { libc::syscall(libc::SYS_pread64, self.0, to.as_mut_ptr(), to.len(), at) };
        nr.try_into().unwrap_or(0)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: opened by `open`, and closed here alone.
        unsafe { libc::syscall(libc::SYS_close, self.0) };
    }
}

/// Reads the process's own memory; answers how much, 0 where it is not mapped or may not be read.
pub fn read_memory(at: usize, to: &mut [u8]) -> usize {
    let into = libc::iovec {
        iov_base: to.as_mut_ptr().cast(),
        iov_len: to.len(),
    };
    let from = libc::iovec {
        iov_base: at as *mut c_void,
        iov_len: to.len(),
    };
    // SAFETY: the first is a slice with its length; the kernel checks the second.
    let nr = unsafe { libc::process_vm_readv(libc::getpid(), &into, 1, &from, 1, 0) };
    nr.try_into().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    fn regular_files_alone_are_opened_and_nothing_is_waited_for() {
        assert!(File::open(c"/proc/self/exe").is_some());
        assert!(File::open(c"/dev/null").is_none() && File::open(c"/").is_none());
        let path = std::env::temp_dir().join(format!("memcg-pipe-{}", std::process::id()));
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: terminated strings.
        unsafe {
            assert_eq!(libc::mkfifo(path.as_ptr(), 0o600), 0);
            assert!(File::open(&path).is_none());
            libc::unlink(path.as_ptr());
        }
    }

    #[test]
    fn memory_that_is_not_there_is_not_read() {
        let bytes = [1u8, 2, 3];
        let mut to = [0; 3];
        assert_eq!(read_memory(bytes.as_ptr() as usize, &mut to), 3);
        assert_eq!(to, bytes);
        assert_eq!(read_memory(16, &mut to), 0);
    }
}
