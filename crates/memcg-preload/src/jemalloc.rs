//! jemalloc's extensions to malloc, for programs written against them: the allocating ones are
//! served, the control ones refused.
//!
//! A program linked with libjemalloc.so finds malloc and free here; its `mallocx` must come from
//! the same place. What `mallctl` is asked is about arenas and caches that do not exist here:
//! ENOENT, and one line the first time.
//!
//! Invariants: what is allocated here is freed by `free`, and the other way round.
//! Depends on: `malloc`, `malloc_info`, `step_aside`.
//! Never: says more than once what it does not have.

use crate::malloc::{ask, free, no_memory};
use crate::malloc_info::{self, Text};
use crate::step_aside::is_aside;
use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicBool, Ordering};
use memcg::internal::malloc as heap;
use memcg::internal::os;

/// The low six bits of jemalloc's flags: log2 of the alignment.
const LG_ALIGN: c_int = 63;
const ZERO: c_int = 0x40;

fn align_of(flags: c_int) -> usize {
    (1usize << (flags & LG_ALIGN)).max(heap::ALIGN)
}

/// With the library aside malloc is somebody else's, and so is what these names would need.
fn refuse_aside() -> bool {
    is_aside() && {
        tell("jemalloc's functions are not served while memcg is off");
        true
    }
}

fn tell(what: &str) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        os::line(&[b"memcg: ", what.as_bytes()]);
    }
}

/// # Safety
/// As jemalloc's mallocx.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mallocx(bytes: usize, flags: c_int) -> *mut c_void {
    if refuse_aside() {
        return no_memory();
    }
    // SAFETY: `align_of` answers powers of two.
    ask(0, |asks| unsafe {
        if flags & ZERO != 0 {
            heap::alloc_zeroed(bytes, align_of(flags), asks)
        } else {
            heap::alloc_aligned(bytes, align_of(flags), asks)
        }
    })
}

/// # Safety
/// As jemalloc's rallocx.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rallocx(p: *mut c_void, bytes: usize, flags: c_int) -> *mut c_void {
    if refuse_aside() {
        return no_memory();
    }
    // SAFETY: the caller's: a live object.
    unsafe {
        let old = heap::usable(p.cast());
        let new = ask(0, |asks| {
            heap::resize(p.cast(), bytes, align_of(flags), asks)
        });
        if !new.is_null() && flags & ZERO != 0 && bytes > old {
            new.cast::<u8>().add(old).write_bytes(0, bytes - old);
        }
        new
    }
}

/// Never resizes in place what is not of that size already: answers the size it has.
///
/// # Safety
/// As jemalloc's xallocx.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xallocx(
    p: *mut c_void,
    _bytes: usize,
    _extra: usize,
    flags: c_int,
) -> usize {
    // SAFETY: the caller's.
    unsafe { sallocx(p, flags) }
}

/// # Safety
/// As jemalloc's sallocx.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sallocx(p: *const c_void, _flags: c_int) -> usize {
    if refuse_aside() {
        return 0;
    }
    // SAFETY: the caller's: a live object.
    unsafe { heap::usable(p.cast_mut().cast()) }
}

/// # Safety
/// As jemalloc's dallocx.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dallocx(p: *mut c_void, _flags: c_int) {
    // SAFETY: the caller's.
    unsafe { free(p) }
}

/// # Safety
/// As jemalloc's sdallocx.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sdallocx(p: *mut c_void, _bytes: usize, _flags: c_int) {
    // SAFETY: the caller's.
    unsafe { free(p) }
}

/// The size an object of `bytes` would have.
#[unsafe(no_mangle)]
pub extern "C" fn nallocx(bytes: usize, flags: c_int) -> usize {
    heap::size_of_object(bytes, align_of(flags)).unwrap_or(0)
}

/// # Safety
/// As jemalloc's mallctl.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mallctl(
    _name: *const c_char,
    _old: *mut c_void,
    _old_len: *mut usize,
    _new: *mut c_void,
    _new_len: usize,
) -> c_int {
    tell("the program asks jemalloc's mallctl, which memcg's allocator does not have (ENOENT)");
    libc::ENOENT
}

/// # Safety
/// As jemalloc's mallctlnametomib.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mallctlnametomib(
    _name: *const c_char,
    _mib: *mut usize,
    _len: *mut usize,
) -> c_int {
    libc::ENOENT
}

/// # Safety
/// As jemalloc's mallctlbymib.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mallctlbymib(
    _mib: *const usize,
    _len: usize,
    _old: *mut c_void,
    _old_len: *mut usize,
    _new: *mut c_void,
    _new_len: usize,
) -> c_int {
    libc::ENOENT
}

type WriteText = unsafe extern "C" fn(*mut c_void, *const c_char);

/// # Safety
/// As jemalloc's malloc_stats_print: the function may be called with the argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_stats_print(
    write: Option<WriteText>,
    arg: *mut c_void,
    _options: *const c_char,
) {
    let mut text = Text::default();
    malloc_info::summary(&mut text);
    match write {
        // SAFETY: the caller's function; the text ends with a zero.
        Some(write) => unsafe { write(arg, text.as_ptr()) },
        None => os::line(&[text.as_bytes()]),
    }
}
