//! Anonymous pages from the kernel: mapped zeroed, given back whole.

use core::ptr::NonNull;

/// Maps `bytes` of zeroed, private, anonymous memory.
///
/// `None` when the kernel refuses (ENOMEM, RLIMIT_AS). Page aligned. Cost: one mmap.
#[must_use]
pub fn map(bytes: usize) -> Option<NonNull<u8>> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
    let p = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if p == libc::MAP_FAILED {
        return None;
    }
    NonNull::new(p.cast())
}

/// Gives back a mapping of [`map`].
///
/// # Safety
/// `p` and `bytes` are those of one earlier [`map`], and nobody uses the memory any more.
pub unsafe fn unmap(p: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller hands over a whole mapping nobody refers to.
    unsafe { libc::munmap(p.as_ptr().cast(), bytes) };
}
