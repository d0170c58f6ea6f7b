//! The heap as C's functions have it: null, zero, alignment, overflow and errno as in glibc.
//!
//! Invariants: a refusal, a lack of memory and a size beyond PTRDIFF_MAX are null with ENOMEM; a
//! success leaves errno alone. They may be called from the first instruction of the process on,
//! before thread-local storage is complete and in the child of a fork, as all of `kmalloc`.
//! Depends on: `kmalloc`.
//! Never: the name of a C function; the feature `c-malloc` exports them. The preload library has
//! functions of its own, which look at who calls and have an allocator below to step aside for.

use super::{Flags, kmalloc};
use crate::os::errno;
use core::ffi::{c_int, c_void};
use core::ptr::null_mut;

/// What valloc and pvalloc align to.
pub const PAGE: usize = 4096;

/// Null, with ENOMEM.
#[cold]
pub fn no_memory() -> *mut c_void {
    errno::set(libc::ENOMEM);
    null_mut()
}

#[inline]
fn checked(p: *mut u8) -> *mut c_void {
    if p.is_null() { no_memory() } else { p.cast() }
}

/// malloc, after a hit was looked for and there was none.
#[inline]
pub fn malloc_missed(bytes: usize, flags: Flags) -> *mut c_void {
    checked(kmalloc::alloc_missed(bytes, flags))
}

/// calloc.
#[inline]
pub fn calloc(n: usize, bytes: usize, flags: Flags) -> *mut c_void {
    match n.checked_mul(bytes) {
        Some(all) => checked(kmalloc::alloc_zeroed(all, kmalloc::ALIGN, flags)),
        None => no_memory(),
    }
}

/// realloc of an object: `realloc(p, 0)` frees it and answers null, as in glibc.
///
/// # Safety
/// `p` is a live object of `kmalloc`, and not null. Unless the answer is null and `bytes` is not 0,
/// it ends here.
#[inline]
pub unsafe fn realloc(p: *mut c_void, bytes: usize, flags: Flags) -> *mut c_void {
    if bytes == 0 {
        // SAFETY: the caller has promised a live object, and gives it up.
        unsafe { kmalloc::free(p.cast()) };
        return null_mut();
    }
    // SAFETY: as above; every object is at a multiple of `ALIGN`.
    checked(unsafe { kmalloc::resize(p.cast(), bytes, kmalloc::ALIGN, flags) })
}

/// memalign: an alignment that is no power of two is rounded up to one.
#[inline]
pub fn memalign(align: usize, bytes: usize, flags: Flags) -> *mut c_void {
    match align.checked_next_power_of_two() {
        Some(align) => checked(kmalloc::alloc_aligned(bytes, align, flags)),
        None => {
            errno::set(libc::EINVAL);
            null_mut()
        }
    }
}

/// posix_memalign: errno stays as it is.
///
/// # Safety
/// `place` is valid for the write of a pointer.
pub unsafe fn posix_memalign(
    place: *mut *mut c_void,
    align: usize,
    bytes: usize,
    flags: Flags,
) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*mut c_void>()) {
        return libc::EINVAL;
    }
    let _errno = errno::keep();
    let p = kmalloc::alloc_aligned(bytes, align, flags);
    if p.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller has promised a valid place.
    unsafe { place.write(p.cast()) };
    0
}

/// The size that pvalloc asks for: whole pages, one at least. `None`: too many.
#[inline]
pub fn whole_pages(bytes: usize) -> Option<usize> {
    Some(bytes.checked_next_multiple_of(PAGE)?.max(PAGE))
}

/// malloc_usable_size: 0 of null.
///
/// # Safety
/// `p` is null or a live object of `kmalloc`.
#[inline]
pub unsafe fn usable_size(p: *mut c_void) -> usize {
    if p.is_null() {
        return 0;
    }
    // SAFETY: the caller has promised a live object, and it is not null.
    unsafe { kmalloc::usable(p.cast()) }
}
