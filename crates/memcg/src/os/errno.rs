//! The C library's error number of this thread, kept across what malloc and free do inside.

/// Puts errno back as it was when dropped.
#[must_use]
pub struct Kept(libc::c_int);

/// Keeps errno until the answer is dropped.
pub fn keep() -> Kept {
    // SAFETY: the C library's own place for this thread.
    Kept(unsafe { *libc::__errno_location() })
}

impl Drop for Kept {
    fn drop(&mut self) {
        set(self.0);
    }
}

/// Sets errno.
pub fn set(value: libc::c_int) {
    // SAFETY: as in `keep`.
    unsafe { *libc::__errno_location() = value };
}
