//! C's allocator for the whole program: the feature `c-malloc`.
//!
//! The program's own definitions come before the C library's, so that all of the program, and the C
//! library itself, allocate here. What C allocates is charged as the rest of the program is: it is
//! not refused where Rust's own allocation would not be.
//!
//! Invariants: every function of the C library that gives a block to be freed by `free` is here, or
//! a block would be freed by another allocator than it is of.
//! Depends on: `engine::c_heap`.
//! Never: another allocator below. There is none to step aside for.

use crate::engine::{Flags, c_heap, kmalloc};
use core::ffi::{c_int, c_void};

/// As Rust's global allocator.
const FLAGS: Flags = Flags::INFALLIBLE;

/// # Safety
/// As malloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(bytes: usize) -> *mut c_void {
    match kmalloc::alloc_hit(bytes) {
        Some(p) => p.cast(),
        None => c_heap::malloc_missed(bytes, FLAGS),
    }
}

/// # Safety
/// As free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(p: *mut c_void) {
    // SAFETY: null or a block of this allocator, which is the program's only one.
    unsafe { kmalloc::free(p.cast()) };
}

/// # Safety
/// As calloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(n: usize, bytes: usize) -> *mut c_void {
    c_heap::calloc(n, bytes, FLAGS)
}

/// # Safety
/// As realloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(p: *mut c_void, bytes: usize) -> *mut c_void {
    if p.is_null() {
        // SAFETY: any size may be asked for.
        return unsafe { malloc(bytes) };
    }
    // SAFETY: a block of this allocator, as in `free`.
    unsafe { c_heap::realloc(p, bytes, FLAGS) }
}

/// # Safety
/// As reallocarray.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(p: *mut c_void, n: usize, bytes: usize) -> *mut c_void {
    match n.checked_mul(bytes) {
        // SAFETY: as realloc.
        Some(all) => unsafe { realloc(p, all) },
        None => c_heap::no_memory(),
    }
}

/// # Safety
/// As posix_memalign: `place` is valid for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(
    place: *mut *mut c_void,
    align: usize,
    bytes: usize,
) -> c_int {
    // SAFETY: C asks of its caller that `place` is valid.
    unsafe { c_heap::posix_memalign(place, align, bytes, FLAGS) }
}

/// # Safety
/// As malloc_usable_size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(p: *mut c_void) -> usize {
    // SAFETY: null or a block of this allocator, as in `free`.
    unsafe { c_heap::usable_size(p) }
}

/// # Safety
/// As pvalloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvalloc(bytes: usize) -> *mut c_void {
    match c_heap::whole_pages(bytes) {
        Some(bytes) => c_heap::memalign(c_heap::PAGE, bytes, FLAGS),
        None => c_heap::no_memory(),
    }
}

/// The rest of the family, and the C library's own names for it, which some programs call.
macro_rules! family {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)? = $body:expr;)*) => {$(
        /// # Safety
        /// As the C function of that name.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $type),*) $(-> $ret)? {
            // SAFETY: null or a block of this allocator where one is given, as in `free`.
            #[allow(unused_unsafe, reason = "some of them take no block")]
            unsafe { $body }
        }
    )*};
}

family! {
    aligned_alloc(align: usize, bytes: usize) -> *mut c_void = c_heap::memalign(align, bytes, FLAGS);
    memalign(align: usize, bytes: usize) -> *mut c_void = c_heap::memalign(align, bytes, FLAGS);
    valloc(bytes: usize) -> *mut c_void = c_heap::memalign(c_heap::PAGE, bytes, FLAGS);
    free_sized(p: *mut c_void, _bytes: usize) = free(p);
    free_aligned_sized(p: *mut c_void, _align: usize, _bytes: usize) = free(p);
    cfree(p: *mut c_void) = free(p);
    __libc_malloc(bytes: usize) -> *mut c_void = malloc(bytes);
    __libc_free(p: *mut c_void) = free(p);
    __libc_calloc(n: usize, bytes: usize) -> *mut c_void = calloc(n, bytes);
    __libc_realloc(p: *mut c_void, bytes: usize) -> *mut c_void = realloc(p, bytes);
    __libc_memalign(align: usize, bytes: usize) -> *mut c_void = memalign(align, bytes);
    __libc_valloc(bytes: usize) -> *mut c_void = valloc(bytes);
    __libc_pvalloc(bytes: usize) -> *mut c_void = pvalloc(bytes);
}
