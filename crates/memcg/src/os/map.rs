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

/// Maps `bytes` as [`map`] does, at `at` and nowhere else.
///
/// # Errors
/// `true`: something is there already; `false`: the kernel refuses.
pub fn map_at(at: usize, bytes: usize) -> Result<NonNull<u8>, bool> {
    // SAFETY: NOREPLACE: an existing mapping is never touched.
    let p = unsafe {
        libc::mmap(
            at as *mut libc::c_void,
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE
                | libc::MAP_ANONYMOUS
                | libc::MAP_NORESERVE
                | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    if p == libc::MAP_FAILED {
        // SAFETY: the C library's own place for this thread.
        return Err(unsafe { *libc::__errno_location() } == libc::EEXIST);
    }
    if p as usize != at {
        // A kernel before 4.17 takes the address for a wish.
        // SAFETY: just mapped, seen by nobody.
        unsafe { libc::munmap(p, bytes) };
        return Err(true);
    }
    NonNull::new(p.cast()).ok_or(true)
}

/// Maps `bytes` at a multiple of `align`, a power of two of whole pages.
#[must_use]
pub fn map_aligned(bytes: usize, align: usize) -> Option<NonNull<u8>> {
    let all = map(bytes.checked_add(align)?)?;
    let start = all.as_ptr() as usize;
    let at = start.next_multiple_of(align);
    // SAFETY: the two ends are parts of the mapping just made that nobody has seen.
    unsafe {
        if at > start {
            libc::munmap(start as *mut libc::c_void, at - start);
        }
        libc::munmap((at + bytes) as *mut libc::c_void, align - (at - start));
    }
    NonNull::new(at as *mut u8)
}

/// Gives the pages of a range back; it stays mapped and reads as zeros. `false` when the kernel does not (locked memory).
///
/// # Safety
/// The range is whole pages of a mapping of this module, and nobody needs what is in it.
pub unsafe fn discard(at: usize, bytes: usize) -> bool {
    // SAFETY: the caller's.
    unsafe { libc::madvise(at as *mut libc::c_void, bytes, libc::MADV_DONTNEED) == 0 }
}

/// Moves a mapping to `to`, where nothing is or what is may go, and makes it `new_bytes` long. No byte is copied.
///
/// # Safety
/// `at` and `bytes` are a whole mapping of this module; the target range is the caller's.
pub unsafe fn remap(at: usize, bytes: usize, to: usize, new_bytes: usize) -> bool {
    // SAFETY: the caller's.
    let p = unsafe {
        libc::mremap(
            at as *mut libc::c_void,
            bytes,
            new_bytes,
            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
            to as *mut libc::c_void,
        )
    };
    p != libc::MAP_FAILED
}

/// Makes a mapping longer or shorter where it is.
///
/// # Safety
/// `at` and `bytes` are a whole mapping of this module; of what is cut off nothing is needed.
pub unsafe fn resize(at: usize, bytes: usize, new_bytes: usize) -> bool {
    // SAFETY: the caller's; without MAYMOVE it stays where it is.
    unsafe { libc::mremap(at as *mut libc::c_void, bytes, new_bytes, 0) != libc::MAP_FAILED }
}
