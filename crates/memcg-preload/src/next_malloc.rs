//! The next `malloc` family in the program's search order: the C library's, or that of an allocator
//! that is preloaded too. Calls go there where this library steps aside.
//!
//! Invariants: the functions are looked up once, at the first allocation. What the look-up itself
//! allocates comes from a small static area, is never freed, and has its size in a header.
//! Depends on: nothing of this library.
//! Never: returns a null function; a missing one ends the process.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_void};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use memcg::internal::os::hook::Hook;

type Malloc = unsafe extern "C" fn(usize) -> *mut c_void;
type Calloc = unsafe extern "C" fn(usize, usize) -> *mut c_void;
type Realloc = unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void;
type Memalign = unsafe extern "C" fn(usize, usize) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);
type Usable = unsafe extern "C" fn(*mut c_void) -> usize;

const NEW: u32 = 0;
const LOOKING: u32 = 1;
const FOUND: u32 = 2;
static STATE: AtomicU32 = AtomicU32::new(NEW);
static LOOKER: AtomicU32 = AtomicU32::new(0);

static MALLOC: Hook<Malloc> = Hook::none();
static CALLOC: Hook<Calloc> = Hook::none();
static REALLOC: Hook<Realloc> = Hook::none();
static MEMALIGN: Hook<Memalign> = Hook::none();
static FREE: Hook<Free> = Hook::none();
static USABLE: Hook<Usable> = Hook::none();

/// Whether the functions below may be called; looks them up. `false` inside the look-up.
#[inline(always)]
pub fn ready() -> bool {
    // Acquire pairs with the Release of `look_up`.
    STATE.load(Ordering::Acquire) == FOUND || look_up()
}

#[cold]
fn look_up() -> bool {
    let me = memcg::internal::os::tid();
    if STATE
        .compare_exchange(NEW, LOOKING, Ordering::Acquire, Ordering::Acquire)
        .is_err()
    {
        if LOOKER.load(Ordering::Relaxed) == me {
            return false;
        }
        while STATE.load(Ordering::Acquire) != FOUND {
            core::hint::spin_loop();
        }
        return true;
    }
    LOOKER.store(me, Ordering::Relaxed);
    // SAFETY: each name is that of a function of the type beside it, by the C library's headers.
    unsafe {
        MALLOC.set_address(next(c"malloc").cast());
        CALLOC.set_address(next(c"calloc").cast());
        REALLOC.set_address(next(c"realloc").cast());
        MEMALIGN.set_address(next(c"memalign").cast());
        FREE.set_address(next(c"free").cast());
        USABLE.set_address(next(c"malloc_usable_size").cast());
    }
    LOOKER.store(0, Ordering::Relaxed);
    // Release pairs with the Acquire of `ready`.
    STATE.store(FOUND, Ordering::Release);
    true
}

/// The next function of that name after this library; ends the process if there is none.
pub fn next(name: &CStr) -> *mut c_void {
    // SAFETY: a look-up by a valid name.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if found.is_null() {
        memcg::internal::os::line(&[
            b"memcg: no ",
            name.to_bytes(),
            b" below the preload library: cannot go on",
        ]);
        memcg::internal::os::abort();
    }
    found
}

macro_rules! below {
    ($($(#[$doc:meta])* $name:ident = $place:ident ($($arg:ident: $argtype:ty),*) $(-> $ret:ty)?;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// [`ready`] has said yes; otherwise as the C function.
        #[inline(always)]
        pub unsafe fn $name($($arg: $argtype),*) $(-> $ret)? {
            match $place.get() {
                // SAFETY: the caller keeps to the contract of the C function, which this is.
                Some(f) => unsafe { f($($arg),*) },
                // Set before `ready` said yes.
                None => memcg::internal::os::abort(),
            }
        }
    )*};
}

below! {
    /// malloc.
    malloc = MALLOC(bytes: usize) -> *mut c_void;
    /// calloc.
    calloc = CALLOC(n: usize, bytes: usize) -> *mut c_void;
    /// realloc.
    realloc = REALLOC(p: *mut c_void, bytes: usize) -> *mut c_void;
    /// memalign.
    memalign = MEMALIGN(align: usize, bytes: usize) -> *mut c_void;
    /// free.
    free = FREE(p: *mut c_void);
    /// malloc_usable_size.
    usable = USABLE(p: *mut c_void) -> usize;
}

const AREA: usize = 64 << 10;
const HEADER: usize = 16;

#[repr(align(16))]
struct Area(UnsafeCell<[u8; AREA]>);
// SAFETY: pieces are handed out once each, by an atomic counter.
unsafe impl Sync for Area {}
static EARLY: Area = Area(UnsafeCell::new([0; AREA]));
static EARLY_USED: AtomicUsize = AtomicUsize::new(0);

/// Zeroed memory for the look-up itself; null when the area is used up.
pub fn early(bytes: usize) -> *mut c_void {
    let Some(all) = bytes.checked_add(HEADER + 15).map(|n| n & !15) else {
        return core::ptr::null_mut();
    };
    let at = EARLY_USED.fetch_add(all.min(AREA), Ordering::Relaxed);
    if at + all > AREA {
        return core::ptr::null_mut();
    }
    let base: *mut u8 = EARLY.0.get().cast();
    // SAFETY: `at + all` is within the area, and the piece is this call's alone.
    unsafe {
        base.add(at).cast::<usize>().write(all - HEADER);
        base.add(at + HEADER).cast()
    }
}

/// The size of a piece of [`early`]; `None` for any other pointer.
pub fn early_size(p: *mut c_void) -> Option<usize> {
    let base = EARLY.0.get() as usize;
    if !(base..base + AREA).contains(&(p as usize)) {
        return None;
    }
    // SAFETY: pieces have their size in front.
    Some(unsafe { p.cast::<u8>().sub(HEADER).cast::<usize>().read() })
}
