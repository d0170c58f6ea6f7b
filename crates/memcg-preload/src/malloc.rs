//! The functions programs call, under the C library's names.
//!
//! Null, alignment and overflow are handled as glibc does; the work is [`crate::block`]'s.

use crate::below;
use crate::block::{self, TAG};
use core::ffi::{c_int, c_void};
use memcg::os::errno;

const PAGE: usize = 4096;

fn no_memory() -> *mut c_void {
    errno::set(libc::ENOMEM);
    core::ptr::null_mut()
}

/// # Safety
/// As malloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(bytes: usize) -> *mut c_void {
    if !below::ready() {
        return below::early(bytes);
    }
    match bytes.checked_add(TAG) {
        // SAFETY: the allocator below is there, and the block is new.
        Some(bytes) => unsafe { block::adopt(below::malloc(bytes)) },
        None => no_memory(),
    }
}

/// # Safety
/// As free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(p: *mut c_void) {
    if p.is_null() || below::early_size(p).is_some() || !below::ready() {
        return;
    }
    // SAFETY: a pointer the program got from us, by its contract.
    unsafe { block::dismiss(p) }
}

/// # Safety
/// As calloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(n: usize, bytes: usize) -> *mut c_void {
    let Some(all) = n.checked_mul(bytes).and_then(|all| all.checked_add(TAG)) else {
        return no_memory();
    };
    if !below::ready() {
        return below::early(all);
    }
    // SAFETY: as in `malloc`.
    unsafe { block::adopt(below::calloc(1, all)) }
}

/// # Safety
/// As realloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(p: *mut c_void, bytes: usize) -> *mut c_void {
    if p.is_null() {
        // SAFETY: as malloc.
        return unsafe { malloc(bytes) };
    }
    if let Some(old) = below::early_size(p) {
        // SAFETY: both are valid for the smaller of the sizes, and do not overlap.
        unsafe {
            let new = malloc(bytes);
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(p.cast::<u8>(), new.cast::<u8>(), old.min(bytes));
            }
            return new;
        }
    }
    if bytes == 0 {
        // SAFETY: as free: glibc's realloc(p, 0) frees and answers null.
        unsafe { free(p) };
        return core::ptr::null_mut();
    }
    // SAFETY: a live block of ours.
    unsafe { block::resize(p, bytes) }
}

/// # Safety
/// As reallocarray.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(p: *mut c_void, n: usize, bytes: usize) -> *mut c_void {
    match n.checked_mul(bytes) {
        // SAFETY: as realloc.
        Some(all) => unsafe { realloc(p, all) },
        None => no_memory(),
    }
}

fn aligned(align: usize, bytes: usize) -> *mut c_void {
    let Some(bytes) = bytes.checked_add(TAG) else {
        return no_memory();
    };
    if !below::ready() {
        return if align <= 16 {
            below::early(bytes)
        } else {
            no_memory()
        };
    }
    // SAFETY: as in `malloc`.
    unsafe { block::adopt(below::memalign(align, bytes)) }
}

/// # Safety
/// As memalign. An alignment that is no power of two is rounded up to one, as in glibc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memalign(align: usize, bytes: usize) -> *mut c_void {
    match align.checked_next_power_of_two() {
        Some(align) => aligned(align, bytes),
        None => {
            errno::set(libc::EINVAL);
            core::ptr::null_mut()
        }
    }
}

/// # Safety
/// As aligned_alloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aligned_alloc(align: usize, bytes: usize) -> *mut c_void {
    // SAFETY: as memalign.
    unsafe { memalign(align, bytes) }
}

/// # Safety
/// As posix_memalign: `place` is valid for a pointer. errno stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(
    place: *mut *mut c_void,
    align: usize,
    bytes: usize,
) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*mut c_void>()) {
        return libc::EINVAL;
    }
    let _errno = errno::keep();
    let p = aligned(align, bytes);
    if p.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller's.
    unsafe { place.write(p) };
    0
}

/// # Safety
/// As valloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn valloc(bytes: usize) -> *mut c_void {
    aligned(PAGE, bytes)
}

/// # Safety
/// As pvalloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvalloc(bytes: usize) -> *mut c_void {
    match bytes.checked_next_multiple_of(PAGE) {
        Some(bytes) => aligned(PAGE, bytes.max(PAGE)),
        None => no_memory(),
    }
}

/// # Safety
/// As malloc_usable_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(p: *mut c_void) -> usize {
    if p.is_null() {
        return 0;
    }
    match below::early_size(p) {
        Some(size) => size,
        // SAFETY: a live block of ours.
        None => unsafe { block::whole(p) - TAG },
    }
}

/// The old name of free.
///
/// # Safety
/// As free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cfree(p: *mut c_void) {
    // SAFETY: as free.
    unsafe { free(p) }
}
