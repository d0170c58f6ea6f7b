//! Questions about files that need more than `std::fs`.

use std::ffi::{CString, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// May this process execute `path`? Asked with its effective ids, as `execve` will.
pub fn executable(path: &Path) -> bool {
    let Ok(path) = c_path(path) else { return false };
    // SAFETY: `path` is a terminated string that lives through the call.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
}

/// Is `path` on a file system nothing may be executed (or mapped as code) from?
pub fn no_exec(path: &Path) -> bool {
    let Ok(path) = c_path(path) else { return false };
    let mut answer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a terminated string, `answer` has room for one `statvfs`.
    if unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call succeeded, so it filled `answer`.
    let answer = unsafe { answer.assume_init() };
    answer.f_flag & libc::ST_NOEXEC != 0
}

/// Does the file carry capabilities of its own?
pub fn has_capabilities(path: &Path) -> bool {
    let Ok(path) = c_path(path) else { return false };
    // SAFETY: both strings are terminated; size 0 asks for the length only, so no buffer is
    // written.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            std::ptr::null_mut(),
            0,
        )
    };
    length > 0
}

/// Makes a new directory with a unique name in `parent`, mode 0700.
pub fn make_private_directory(parent: &Path) -> io::Result<PathBuf> {
    let template = c_path(&parent.join("memcg-XXXXXX"))?;
    let mut template = template.into_bytes_with_nul();
    // SAFETY: `template` is a writable, terminated string ending in XXXXXX; the call rewrites those
    // six bytes only.
    let made = unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) };
    if made.is_null() {
        return Err(io::Error::last_os_error());
    }
    template.pop();
    Ok(PathBuf::from(OsString::from_vec(template)))
}
