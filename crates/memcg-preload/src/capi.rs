//! The functions of include/memcg.h, which says what each does.
//!
//! Invariants: a handle is a box of the value of the Rust API, allocated on nobody's account; errno
//! is touched on failure only.
//! Depends on: the header's contract: handles and scopes are those we gave out. A scope is a value
//! written into the caller's place, so entering allocates nothing.
//! Never: does anything under `MEMCG=off`: then all answer as if the library were not there.

use crate::step_aside::is_off;
use core::ffi::{CStr, c_char, c_int};
use memcg::internal::files::{self, FileError};
use memcg::internal::os::errno;
use memcg::internal::process;
use memcg::{Entered, Memcg, no_account};

mod reserve;

/// `struct memcg_scope`: room for what a scope has to remember.
#[repr(C)]
pub struct Scope {
    opaque: [u64; 4],
}

const _: () = assert!(size_of::<Option<Entered>>() <= size_of::<Scope>());
const _: () = assert!(align_of::<Option<Entered>>() <= align_of::<Scope>());

/// # Safety
/// A terminated string.
unsafe fn bytes<'a>(text: *const c_char) -> &'a [u8] {
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// Runs `f` without touching errno; then sets what it says.
fn with_errno<R>(failed: R, f: impl FnOnce() -> Result<R, c_int>) -> R {
    let answer = {
        let _errno = errno::keep();
        f()
    };
    answer.unwrap_or_else(|error| {
        errno::set(error);
        failed
    })
}

/// A value of the Rust API as a handle; null where there is none.
fn handle<T>(value: Option<T>) -> *mut T {
    let _free = no_account();
    value.map_or(core::ptr::null_mut(), |value| {
        Box::into_raw(Box::new(value))
    })
}

/// # Safety
/// Null or one of [`handle`], given up here.
unsafe fn close<T>(handle: *mut T) {
    if !handle.is_null() && !is_off() {
        let _errno = errno::keep();
        // SAFETY: the caller's.
        drop(unsafe { Box::from_raw(handle) });
    }
}

fn file_call<R>(answer: Result<R, FileError>) -> Result<R, c_int> {
    answer.map_err(|why| why.errno.number())
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn memcg_v1_version() -> u32 {
    let part = |text: &str| text.parse::<u32>().unwrap_or(0);
    part(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | part(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | part(env!("CARGO_PKG_VERSION_PATCH"))
}

#[unsafe(no_mangle)]
pub extern "C" fn memcg_v1_is_installed() -> c_int {
    let on = !is_off() && process::is_serving();
    c_int::from(on)
}

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_create(path: *const c_char) -> *mut Memcg {
    if is_off() {
        return core::ptr::null_mut();
    }
    with_errno(core::ptr::null_mut(), || {
        // SAFETY: the caller's.
        let path = unsafe { bytes(path) };
        file_call(files::mkdir(path))?;
        let made = memcg::root().lookup(path);
        // Removed again meanwhile.
        if made.is_some() {
            Ok(handle(made))
        } else {
            Err(libc::ENOENT)
        }
    })
}

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_open(path: *const c_char) -> *mut Memcg {
    if is_off() {
        return core::ptr::null_mut();
    }
    with_errno(core::ptr::null_mut(), || {
        // SAFETY: the caller's.
        let found = memcg::root().lookup(unsafe { bytes(path) });
        if found.is_some() {
            Ok(handle(found))
        } else {
            Err(libc::ENOENT)
        }
    })
}

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_close(group: *mut Memcg) {
    // SAFETY: the caller's.
    unsafe { close(group) }
}

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_remove(path: *const c_char) -> c_int {
    if is_off() {
        return 0;
    }
    // SAFETY: the caller's.
    let path = unsafe { bytes(path) };
    with_errno(-1, || file_call(files::rmdir(path)).map(|()| 0))
}

/// # Safety
/// A place for a scope.
unsafe fn begin(place: *mut Scope, entered: Option<Entered>) {
    // SAFETY: large enough and aligned, by the assertions above; what was there is nobody's.
    unsafe { place.cast::<Option<Entered>>().write(entered) };
}

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_enter(scope: *mut Scope, group: *const Memcg) {
    let _errno = errno::keep();
    // SAFETY: null or a live handle, by the caller.
    let group = unsafe { group.as_ref() }.filter(|_| !is_off());
    // SAFETY: the caller's.
    unsafe { begin(scope, group.map(Memcg::enter)) };
}

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_no_account(scope: *mut Scope) {
    let _errno = errno::keep();
    // SAFETY: the caller's.
    unsafe { begin(scope, (!is_off()).then(no_account)) };
}

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_leave(scope: *mut Scope) {
    let _errno = errno::keep();
    // SAFETY: written by `begin`, left once.
    drop(unsafe { scope.cast::<Option<Entered>>().replace(None) });
}

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_read(path: *const c_char, text: *mut c_char, size: usize) -> i64 {
    // SAFETY: the caller's.
    let (group, file) = split(unsafe { bytes(path) });
    with_errno(-1, || {
        let _free = no_account();
        let body = if is_off() {
            String::new()
        } else {
            file_call(files::read(group, file))?
        };
        if size > 0 {
            let n = body.len().min(size - 1);
            // SAFETY: `size` bytes are the caller's, `n` and one more fit.
            unsafe {
                core::ptr::copy_nonoverlapping(body.as_ptr(), text.cast(), n);
                text.add(n).write(0);
            }
        }
        Ok(body.len() as i64)
    })
}

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_write(path: *const c_char, text: *const c_char) -> c_int {
    if is_off() {
        return 0;
    }
    // SAFETY: the caller's.
    let (path, text) = unsafe { (bytes(path), bytes(text)) };
    let (group, file) = split(path);
    with_errno(-1, || {
        file_call(files::write(group, file, text)).map(|()| 0)
    })
}

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_current(group: *const Memcg) -> u64 {
    let _errno = errno::keep();
    // SAFETY: null or a live handle, by the caller.
    unsafe { group.as_ref() }
        .filter(|_| !is_off())
        .map_or(0, Memcg::current)
}

/// # Safety
/// As in memcg.h.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcg_v1_move_thread(tid: c_int, path: *const c_char) -> c_int {
    if is_off() {
        return 0;
    }
    // SAFETY: the caller's.
    let path = unsafe { bytes(path) };
    with_errno(-1, || {
        file_call(files::move_task(tid as u32, path)).map(|()| 0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn memcg_v1_safe_point() -> u64 {
    if is_off() {
        return 0;
    }
    let _errno = errno::keep();
    memcg::safe_point().as_nanos() as u64
}
