//! What went wrong with a file: the error number cgroup v2 would give, and a line that says what to do.

use core::fmt;

macro_rules! errnos {
    ($($name:ident)*) => {
        /// Error numbers, by their symbolic names.
        #[allow(missing_docs, reason = "the names are the C library's")]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum Errno { $($name,)* }

        impl Errno {
            /// The symbolic name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}
errnos! { EACCES EAGAIN EBUSY EEXIST EINVAL ENODEV ENOENT ENOMEM EOPNOTSUPP ESRCH }

/// See the module.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileError {
    /// The error number.
    pub errno: Errno,
    /// What, where, what to do.
    pub message: String,
}

impl FileError {
    pub(crate) fn new(errno: Errno, message: String) -> Self {
        Self { errno, message }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Errno::EINVAL, message.into())
    }

    /// The same, said of a place.
    pub(super) fn at(self, place: &str) -> Self {
        Self {
            message: format!("{place}: {}", self.message),
            ..self
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.errno.name(), self.message)
    }
}

impl core::error::Error for FileError {}
