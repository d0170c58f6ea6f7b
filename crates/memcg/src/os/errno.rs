//! Error numbers: those of the C library by name and number, and `errno` of this thread, kept
//! across what malloc and free do inside.
//!
//! Invariants: one table pairs each name with its number; two numbers of one name or two names of
//! one number do not exist in it.
//! Depends on: the C library.
//! Never: an error number is told from another by its text.

use core::ffi::c_int;
use core::fmt;

/// An error number of the C library. Its `Debug` and `Display` write the symbolic name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(c_int);

macro_rules! errnos {
    ($($name:ident)*) => {
        #[allow(missing_docs, reason = "the names are the C library's")]
        impl Errno {
            $(pub const $name: Self = Self(libc::$name);)*

            /// All there are, with their symbolic names, in the order of names.
            pub const TABLE: &'static [(&'static str, Self)] = &[
                $((stringify!($name), Self::$name),)*
            ];
        }
    };
}

errnos! {
    EACCES EAGAIN EBADF EBUSY ECANCELED EDEADLK EDQUOT EEXIST EFAULT EFBIG EINTR EINVAL EIO EISDIR ELOOP EMFILE ENAMETOOLONG
    ENFILE ENODEV ENOENT ENOMEM ENOSPC ENOSYS ENOTDIR ENOTEMPTY ENXIO EOPNOTSUPP EOVERFLOW EPERM EPROTO
    ERANGE EROFS ESPIPE ESRCH ESTALE ETIMEDOUT ETXTBSY
}

impl Errno {
    /// The error of a symbolic name, if it is one of the table. O(names).
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let row = Self::TABLE.iter().find(|(known, _)| *known == name);
        row.map(|(_, errno)| *errno)
    }

    /// What the last failed call of this thread said; `EIO` for what the table does not have.
    pub(crate) fn last() -> Self {
        // SAFETY: `__errno_location` answers the address of this thread's own errno, valid while it
        // runs.
        Self::of_number(unsafe { *libc::__errno_location() })
    }

    /// The error of a number; `EIO` for what the table does not have. O(names).
    pub(crate) fn of_number(number: c_int) -> Self {
        let row = Self::TABLE.iter().find(|(_, errno)| errno.0 == number);
        row.map_or(Self::EIO, |(_, errno)| *errno)
    }

    /// The number, as `errno` has it.
    #[must_use]
    pub fn number(self) -> c_int {
        self.0
    }

    /// The symbolic name, as `ENOMEM`. O(names).
    #[must_use]
    pub fn name(self) -> &'static str {
        let row = Self::TABLE.iter().find(|(_, errno)| *errno == self);
        // Every value is one of the constants, and each of those has its row.
        row.map_or("EIO", |(name, _)| name)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Puts errno back as it was when dropped.
#[must_use]
pub struct Kept(libc::c_int);

/// Keeps errno until the answer is dropped.
pub fn keep() -> Kept {
    // SAFETY: `__errno_location` answers the address of this thread's own errno, valid while it
    // runs.
    Kept(unsafe { *libc::__errno_location() })
}

impl Drop for Kept {
    fn drop(&mut self) {
        set(self.0);
    }
}

/// Sets errno.
pub fn set(value: libc::c_int) {
    // SAFETY: `__errno_location` answers the address of this thread's own errno, valid while it
    // runs.
    unsafe { *libc::__errno_location() = value };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_the_c_library_s_number_and_no_number_two_names() {
        assert_eq!(Errno::ENOMEM.number(), 12);
        assert_eq!(Errno::of_name("ENOTHING"), None);
        assert_eq!(Errno::EOPNOTSUPP.number(), libc::ENOTSUP);
        for (i, (name, errno)) in Errno::TABLE.iter().enumerate() {
            assert_eq!((errno.name(), errno.to_string().as_str()), (*name, *name));
            assert_eq!(Errno::of_name(name), Some(*errno));
            let later = &Errno::TABLE[i + 1..];
            assert!(
                later
                    .iter()
                    .all(|(next, other)| other != errno && next > name)
            );
        }
    }
}
