//! Where pages go that leave memory: swap devices, and compressed memory.
//!
//! Invariants: what is said to be on is used from the next eviction on.
//! Depends on: `page::swap`, `page::zswap`.
//! Never: swaps anything.

#![forbid(unsafe_code)]

use crate::engine::process_engine::engine;
use crate::os::errno::Errno;
use crate::page::swap::{Checksums, SwapOnError as Why};
use core::fmt;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A swap device was not taken into use; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SwapOnError {
    /// There are as many as there can be, 8.
    TooMany,
    /// The path leads to neither a regular file nor a block device.
    NotAFile,
    /// It is in use: here, in another process, or by the kernel.
    Busy,
    /// Less than a page, more than the block device has, or more than can be numbered (1 TiB in
    /// all).
    Size,
    /// There is no memory for its tables.
    NoMemory,
    /// This process is a fork's child: swap is its parent's.
    ParentProcess,
    /// The path holds a NUL.
    Path,
    /// The kernel's: opening it, growing it, writing to it.
    Io(Errno),
}

impl SwapOnError {
    /// The error's number in C.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::TooMany | Self::Size | Self::NotAFile | Self::Path => Errno::EINVAL,
            Self::Busy => Errno::EBUSY,
            Self::NoMemory => Errno::ENOMEM,
            Self::ParentProcess => Errno::ESTALE,
            Self::Io(errno) => *errno,
        }
    }
}

impl fmt::Display for SwapOnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::TooMany => "there are 8 swap devices, which is the most",
            Self::NotAFile => "neither a regular file nor a block device",
            Self::Busy => "in use already",
            Self::Size => "at least 4096 bytes, and no more than the device has: 1 TiB in all",
            Self::NoMemory => "no memory for its tables",
            Self::ParentProcess => "swap is the parent process's",
            Self::Path => "the path holds a NUL",
            Self::Io(errno) => return write!(f, "the kernel refused: {errno}"),
        };
        f.write_str(text)
    }
}

impl core::error::Error for SwapOnError {}

/// Takes a file, or a block device, into use as swap: `bytes` of it, 0 for as much as it has. A
/// file that is not there is made; what is in it is lost. Pages that no file backs are written
/// there when memory is short.
///
/// The whole of it is written once, so that later writes are quick: about 2 s a GiB. What was
/// written there is of no use after the process has ended.
///
/// # Errors
/// See [`SwapOnError`].
pub fn swap_on(path: impl AsRef<Path>, bytes: u64) -> Result<(), SwapOnError> {
    let _free = super::no_account();
    let path = CString::new(path.as_ref().as_os_str().as_bytes()).map_err(|_| SwapOnError::Path)?;
    let made = engine().pages.swap.on(&path, bytes, Checksums::Debug);
    made.map(|_| ()).map_err(|why| match why {
        Why::TooMany => SwapOnError::TooMany,
        Why::NotAFile => SwapOnError::NotAFile,
        Why::Busy => SwapOnError::Busy,
        Why::Size => SwapOnError::Size,
        Why::NoMemory => SwapOnError::NoMemory,
        Why::Child => SwapOnError::ParentProcess,
        Why::Io(errno) => SwapOnError::Io(errno),
    })
}

/// Has pages that no file backs compressed when memory is short, before they go to a swap device:
/// up to `bytes` of compressed memory; 0: no more are. A compressed page stays charged to its
/// owner, with what it takes.
///
/// # Errors
/// ENOMEM without memory for the tables.
pub fn zswap_on(bytes: u64) -> Result<(), Errno> {
    engine().pages.zswap.on(bytes)
}
