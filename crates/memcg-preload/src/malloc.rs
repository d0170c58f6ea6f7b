//! The functions programs call, under the C library's names, old and new.
//!
//! Null, zero, alignment and overflow are handled as glibc does; the work is the engine's
//! (`memcg::internal::malloc`), or that of the allocator below where the library steps aside. A
//! refusal is null with ENOMEM. C++'s operator new needs no name here: the C++ library makes it of
//! malloc, with the program's new_handler and bad_alloc around it.
//!
//! Where there is no hit, it counts who calls (`callers`): the three functions that the dynamic
//! loader and the C library use for themselves pass on where they are to return to.
//!
//! Invariants: an object is the engine's, or, where the library steps aside, that of the allocator
//! below.
//! Depends on: `callers` for who asks; `next_malloc`, `step_aside`, `rust_runtime`.
//! Never: does more on a hit than the engine does.

use crate::callers::{self, Caller};
use crate::step_aside::is_aside;
use crate::{next_malloc, rust_runtime};
use core::arch::naked_asm;
use core::ffi::{c_int, c_void};
use core::ptr::null_mut;
use memcg::internal::malloc::{self as heap, Asks};
use memcg::internal::os::errno;

const PAGE: usize = 4096;

#[cold]
pub fn no_memory() -> *mut c_void {
    errno::set(libc::ENOMEM);
    null_mut()
}

#[inline]
pub fn checked(p: *mut u8) -> *mut c_void {
    if p.is_null() { no_memory() } else { p.cast() }
}

/// # Safety
/// As malloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(bytes: usize) -> *mut c_void {
    match heap::alloc_hit(bytes) {
        Some(p) => p.cast(),
        // SAFETY: a function of this type. A call in last place is a jump, so that it finds the
        // caller of this function; where the compiler makes none, it finds this library.
        None => unsafe { malloc_slow(bytes) },
    }
}

/// Asks the engine for memory, as whoever calls may be refused. `caller`: where the function that
/// was called returns to; 0 where that is no function of the loader's or the C library's.
pub fn ask(caller: usize, ask: impl Fn(Asks) -> *mut u8) -> *mut c_void {
    let asks = match Caller::of(caller) {
        Caller::Program => Asks::Refusable,
        Caller::Loader => Asks::Forced,
        Caller::Library => {
            // Nobody has been refused yet, as far as others can see.
            let p = ask(Asks::First);
            if !p.is_null() {
                return p.cast();
            }
            if callers::is_own_need() {
                Asks::Forced
            } else {
                Asks::Refusable
            }
        }
    };
    checked(rust_runtime::asked(asks, ask, |p| p.is_null()))
}

/// The function's own arguments, and behind them where it is to return to; then what is named goes
/// on as if it had been called.
macro_rules! with_caller {
    ($second:literal, $third:literal, $on:path) => {{
        #[cfg(target_arch = "x86_64")]
        naked_asm!(concat!("mov ", $third, ", [rsp]"), "jmp {}", sym $on);
        #[cfg(target_arch = "aarch64")]
        naked_asm!(concat!("mov ", $second, ", x30"), "b {}", sym $on);
    }};
}

#[cold]
#[unsafe(naked)]
unsafe extern "C" fn malloc_slow(bytes: usize) -> *mut c_void {
    with_caller!("x1", "rsi", malloc_missed)
}

#[cold]
#[inline(never)]
extern "C" fn malloc_missed(bytes: usize, caller: usize) -> *mut c_void {
    if is_aside() {
        return if next_malloc::ready() {
            // SAFETY: it is ready.
            unsafe { next_malloc::malloc(bytes) }
        } else {
            next_malloc::early(bytes)
        };
    }
    ask(caller, |asks| heap::alloc_missed(bytes, asks))
}

/// # Safety
/// As free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(p: *mut c_void) {
    // SAFETY: the caller's.
    if !unsafe { heap::free_hit(p.cast()) } {
        // SAFETY: the caller's.
        unsafe { free_slow(p) };
    }
}

#[cold]
#[inline(never)]
unsafe extern "C" fn free_slow(p: *mut c_void) {
    if p.is_null() {
        return;
    }
    if !is_aside() {
        // SAFETY: the caller's.
        unsafe { heap::free_missed(p.cast()) };
    } else if next_malloc::early_size(p).is_none() && next_malloc::ready() {
        // SAFETY: an object of the allocator below.
        unsafe { next_malloc::free(p) };
    }
}

/// # Safety
/// As calloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(n: usize, bytes: usize) -> *mut c_void {
    if let Some(all) = n.checked_mul(bytes)
        && all < heap::MAYBE_ZEROED
        && let Some(p) = heap::alloc_hit(all)
    {
        // SAFETY: an object of at least that many bytes, which nobody else knows.
        unsafe { p.write_bytes(0, all) };
        return p.cast();
    }
    // SAFETY: a function of this type; as in `malloc`.
    unsafe { calloc_slow(n, bytes) }
}

#[cold]
#[unsafe(naked)]
unsafe extern "C" fn calloc_slow(n: usize, bytes: usize) -> *mut c_void {
    with_caller!("x2", "rdx", calloc_missed)
}

#[cold]
#[inline(never)]
extern "C" fn calloc_missed(n: usize, bytes: usize, caller: usize) -> *mut c_void {
    let Some(all) = n.checked_mul(bytes) else {
        return no_memory();
    };
    if is_aside() {
        return if next_malloc::ready() {
            // SAFETY: it is ready.
            unsafe { next_malloc::calloc(n, bytes) }
        } else {
            next_malloc::early(all)
        };
    }
    // SAFETY: a power of two.
    ask(caller, |asks| unsafe {
        heap::alloc_zeroed(all, heap::ALIGN, asks)
    })
}

/// # Safety
/// As realloc.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn realloc(p: *mut c_void, bytes: usize) -> *mut c_void {
    with_caller!("x2", "rdx", realloc_for)
}

/// # Safety
/// As realloc.
unsafe extern "C" fn realloc_for(p: *mut c_void, bytes: usize, caller: usize) -> *mut c_void {
    if p.is_null() {
        return match heap::alloc_hit(bytes) {
            Some(p) => p.cast(),
            None => malloc_missed(bytes, caller),
        };
    }
    if is_aside() {
        // SAFETY: the caller's.
        return unsafe { realloc_below(p, bytes) };
    }
    if bytes == 0 {
        // SAFETY: as free: glibc's realloc(p, 0) frees and answers null.
        unsafe { free(p) };
        return null_mut();
    }
    // SAFETY: the caller's: an object of this allocator, unless the answer is not null; then it is
    // not asked again.
    ask(caller, |asks| unsafe {
        heap::resize(p.cast(), bytes, heap::ALIGN, asks)
    })
}

/// # Safety
/// As realloc.
unsafe fn realloc_below(p: *mut c_void, bytes: usize) -> *mut c_void {
    let Some(old) = next_malloc::early_size(p) else {
        // SAFETY: an object of the allocator below, which is there.
        return unsafe { next_malloc::realloc(p, bytes) };
    };
    // SAFETY: both are valid for the smaller of the sizes, and do not overlap.
    unsafe {
        let new = malloc(bytes);
        if !new.is_null() {
            core::ptr::copy_nonoverlapping(p.cast::<u8>(), new.cast::<u8>(), old.min(bytes));
        }
        new
    }
}

/// # Safety
/// As reallocarray.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(p: *mut c_void, n: usize, bytes: usize) -> *mut c_void {
    match n.checked_mul(bytes) {
        // SAFETY: as realloc.
        Some(all) => unsafe { realloc_for(p, all, 0) },
        None => no_memory(),
    }
}

/// # Safety
/// `align` is a power of two.
unsafe fn aligned(align: usize, bytes: usize) -> *mut c_void {
    if is_aside() {
        return match next_malloc::ready() {
            // SAFETY: it is ready.
            true => unsafe { next_malloc::memalign(align, bytes) },
            false if align <= heap::ALIGN => next_malloc::early(bytes),
            false => no_memory(),
        };
    }
    // SAFETY: the caller has promised a power of two.
    ask(0, |asks| unsafe { heap::alloc_aligned(bytes, align, asks) })
}

/// # Safety
/// As memalign. An alignment that is no power of two is rounded up to one, as in glibc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memalign(align: usize, bytes: usize) -> *mut c_void {
    match align.checked_next_power_of_two() {
        // SAFETY: just made a power of two.
        Some(align) => unsafe { aligned(align, bytes) },
        None => {
            errno::set(libc::EINVAL);
            null_mut()
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
    // SAFETY: a power of two, by the check above.
    let p = unsafe { aligned(align, bytes) };
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
    // SAFETY: a power of two.
    unsafe { aligned(PAGE, bytes) }
}

/// # Safety
/// As pvalloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvalloc(bytes: usize) -> *mut c_void {
    match bytes.checked_next_multiple_of(PAGE) {
        // SAFETY: a power of two.
        Some(bytes) => unsafe { aligned(PAGE, bytes.max(PAGE)) },
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
    if !is_aside() {
        // SAFETY: the caller's.
        return unsafe { heap::usable(p.cast()) };
    }
    match next_malloc::early_size(p) {
        Some(size) => size,
        // SAFETY: an object of the allocator below.
        None => unsafe { next_malloc::usable(p) },
    }
}

/// C23's free that is told the size.
///
/// # Safety
/// As free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_sized(p: *mut c_void, _bytes: usize) {
    // SAFETY: as free.
    unsafe { free(p) }
}

/// C23's free that is told the alignment and the size.
///
/// # Safety
/// As free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_aligned_sized(p: *mut c_void, _align: usize, _bytes: usize) {
    // SAFETY: as free.
    unsafe { free(p) }
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

/// The C library's own names for its allocator, which some programs call directly: one allocator
/// for both.
macro_rules! also {
    ($($name:ident = $of:ident ($($arg:ident: $type:ty),*) $(-> $ret:ty)?;)*) => {$(
        /// # Safety
        /// As the function it is another name of.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $type),*) $(-> $ret)? {
            // SAFETY: the caller's.
            unsafe { $of($($arg),*) }
        }
    )*};
}

also! {
    __libc_malloc = malloc(bytes: usize) -> *mut c_void;
    __libc_free = free(p: *mut c_void);
    __libc_calloc = calloc(n: usize, bytes: usize) -> *mut c_void;
    __libc_realloc = realloc(p: *mut c_void, bytes: usize) -> *mut c_void;
    __libc_memalign = memalign(align: usize, bytes: usize) -> *mut c_void;
    __libc_valloc = valloc(bytes: usize) -> *mut c_void;
    __libc_pvalloc = pvalloc(bytes: usize) -> *mut c_void;
}
