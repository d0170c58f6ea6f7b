//! Anonymous pages from the kernel: mapped zeroed, moved, given back whole.
//!
//! The system calls themselves, not the C library's functions: under the preload library those are
//! interposed, to count what the program maps, and what is mapped here is the engine's own.
//!
//! Invariants: nothing that is mapped is replaced, but by `remap` and `move_pages`, whose target is
//! the caller's to lose. What the kernel refuses is answered by value.
//! Depends on: the kernel; `fault` for calls that a test has fail.
//! Never: keeps account of what is mapped; who asked for it does.

use core::ptr::NonNull;

const FAILED: usize = usize::MAX;
/// The kernel's small pages on the processors there are.
const PAGE: usize = 4096;

/// Whether a test has the call fail that is about to be made. Nothing is left of it in any other
/// build.
#[inline(always)]
fn fails() -> bool {
    #[cfg(all(any(test, feature = "simulator"), not(loom)))]
    return super::fault::fails();
    #[cfg(not(all(any(test, feature = "simulator"), not(loom))))]
    false
}

fn mmap(at: usize, bytes: usize, flags: libc::c_int) -> usize {
    // SAFETY: anonymous, and nothing that is mapped is replaced: every caller's flags leave out
    // MAP_FIXED.
    unsafe {
        libc::syscall(
            libc::SYS_mmap,
            at,
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | flags,
            -1i64,
            0i64,
        ) as usize
    }
}

/// # Safety
/// As [`unmap`].
unsafe fn munmap(at: usize, bytes: usize) {
    if bytes > 0 {
        // SAFETY: the caller has promised that the range is of mappings of this module and in
        // nobody's use.
        unsafe { libc::syscall(libc::SYS_munmap, at, bytes) };
    }
}

/// Maps `bytes` of zeroed, private, anonymous memory.
///
/// `None` when the kernel refuses (ENOMEM, RLIMIT_AS). Page aligned. Cost: one mmap.
#[must_use]
pub fn map(bytes: usize) -> Option<NonNull<u8>> {
    if fails() {
        return None;
    }
    match mmap(0, bytes, 0) {
        FAILED => None,
        at => NonNull::new(at as *mut u8),
    }
}

/// Sets `bytes` of address space aside, which cannot be used until [`commit`] has been asked for a
/// part of it. Page aligned. Counts against RLIMIT_AS, and against nothing else.
#[must_use]
pub fn reserve(bytes: usize) -> Option<NonNull<u8>> {
    if fails() {
        return None;
    }
    // SAFETY: anonymous, inaccessible, and nothing that is mapped is replaced.
    let at = unsafe {
        libc::syscall(
            libc::SYS_mmap,
            0,
            bytes,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1i64,
            0i64,
        )
    } as usize;
    match at {
        FAILED => None,
        at => NonNull::new(at as *mut u8),
    }
}

/// Makes whole pages of what [`reserve`] gave memory that reads as zeros. `false`: the kernel
/// refuses.
///
/// # Safety
/// The range is whole pages of one reservation.
pub unsafe fn commit(at: usize, bytes: usize) -> bool {
    if fails() {
        return false;
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the caller has promised pages of a reservation, in which nobody else has anything.
    unsafe { libc::syscall(libc::SYS_mprotect, at, bytes, access) == 0 }
}

/// Gives back a mapping of this module, or some whole pages of one.
///
/// # Safety
/// The range is of mappings of this module, and nobody uses the memory any more.
pub unsafe fn unmap(p: NonNull<u8>, bytes: usize) {
    if fails() {
        return;
    }
    // SAFETY: the caller has promised that the range is of mappings of this module and in nobody's
    // use.
    unsafe { munmap(p.as_ptr() as usize, bytes) };
}

/// Maps `bytes` as [`map`] does, at `at` and nowhere else.
///
/// # Errors
/// `true`: something is there already; `false`: the kernel refuses.
pub fn map_at(at: usize, bytes: usize) -> Result<NonNull<u8>, bool> {
    if fails() {
        return Err(false);
    }
    let got = mmap(at, bytes, libc::MAP_FIXED_NOREPLACE);
    if got == FAILED {
        // SAFETY: `__errno_location` answers the address of this thread's own errno, valid while it
        // runs.
        return Err(unsafe { *libc::__errno_location() } == libc::EEXIST);
    }
    if got != at {
        // A kernel before 4.17 takes the address for a wish.
        // SAFETY: the mapping was made by the call above and its address was given to nobody.
        unsafe { munmap(got, bytes) };
        return Err(true);
    }
    NonNull::new(got as *mut u8).ok_or(true)
}

/// Maps `bytes` at a multiple of `align`, a power of two of whole pages.
#[must_use]
pub fn map_aligned(bytes: usize, align: usize) -> Option<NonNull<u8>> {
    let all = map(bytes.checked_add(align)?)?;
    let start = all.as_ptr() as usize;
    let at = start.next_multiple_of(align);
    // SAFETY: the two ends are parts of the mapping just made that nobody has seen.
    unsafe {
        munmap(start, at - start);
        munmap(at + bytes, align - (at - start));
    }
    NonNull::new(at as *mut u8)
}

/// Gives the pages of a range back; it stays mapped and reads as zeros. `false` when the kernel
/// does not (locked memory).
///
/// # Safety
/// The range is whole pages of a mapping of this module, and nobody needs what is in it.
pub unsafe fn discard(at: usize, bytes: usize) -> bool {
    if fails() {
        return false;
    }
    // SAFETY: the caller has promised whole pages of a mapping of this module, whose content nobody
    // needs: that they read as zeros afterwards changes nothing for anybody.
    unsafe { libc::syscall(libc::SYS_madvise, at, bytes, libc::MADV_DONTNEED) == 0 }
}

/// Lets the kernel put large pages under a range, where it is asked for (`madvise` in
/// transparent_hugepage/enabled).
///
/// # Safety
/// The range is whole pages of a mapping of this module.
pub unsafe fn prefer_huge(at: usize, bytes: usize) {
    // SAFETY: the caller has promised whole pages of a mapping of this module; the advice changes
    // no content. It is only a wish: a refusal is ignored.
    unsafe { libc::syscall(libc::SYS_madvise, at, bytes, libc::MADV_HUGEPAGE) };
}

/// Notes of each page of a range, as many as `pages` is long, whether it is there: bit 0. `false`:
/// the kernel does not tell.
///
/// # Safety
/// The range is of a mapping of this module.
pub unsafe fn are_there(at: usize, pages: &mut [u8]) -> bool {
    if fails() {
        return false;
    }
    // SAFETY: the caller has promised that the range is of a mapping of this module. The kernel
    // reads no content of it, and writes one byte for each page into `pages`, which is as long.
    unsafe {
        libc::syscall(
            libc::SYS_mincore,
            at,
            pages.len() * PAGE,
            pages.as_mut_ptr(),
        ) == 0
    }
}

/// Moves a mapping to `to`, over what is mapped there, and makes it `new_bytes` long. No byte is
/// copied.
///
/// # Safety
/// `at` and `bytes` are a whole mapping of this module; the target range is the caller's.
pub unsafe fn remap(at: usize, bytes: usize, to: usize, new_bytes: usize) -> bool {
    if fails() {
        return false;
    }
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the caller has promised that the source is a whole mapping of this module, and that
    // what the target range replaces is the caller's own to lose.
    unsafe { libc::syscall(libc::SYS_mremap, at, bytes, new_bytes, flags, to) as usize != FAILED }
}

/// Moves the pages of a range to `to`, in place of what is there; the range itself stays mapped and
/// reads as zeros. `false`: the kernel does not (before 5.7, or too many mappings); nothing has
/// changed.
///
/// # Safety
/// Both ranges are whole pages of mappings of this module, and the caller's.
pub unsafe fn move_pages(at: usize, bytes: usize, to: usize) -> bool {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    // SAFETY: the caller has promised that both ranges are whole pages of mappings of this module
    // and the caller's own: nobody else reads the source, or needs what the target held.
    unsafe { libc::syscall(libc::SYS_mremap, at, bytes, bytes, flags, to) as usize != FAILED }
}

/// Makes a mapping longer or shorter where it is.
///
/// # Safety
/// `at` and `bytes` are a whole mapping of this module; of what is cut off nothing is needed.
pub unsafe fn resize(at: usize, bytes: usize, new_bytes: usize) -> bool {
    if fails() {
        return false;
    }
    // SAFETY: the caller has promised a whole mapping of this module, and that nothing is needed of
    // what is cut off. Without MREMAP_MAYMOVE it stays where it is.
    unsafe { libc::syscall(libc::SYS_mremap, at, bytes, new_bytes, 0, 0) as usize != FAILED }
}
