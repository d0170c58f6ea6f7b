//! Whether the library serves this process or steps aside: asked at the first allocation, answered
//! once.
//!
//! It steps aside for `MEMCG=off`, under valgrind, and in a program built with a sanitizer: those
//! bring an allocator of their own that has to see every allocation. And where there is no address
//! space for its tables and the first chunk (`ulimit -v`), since the C library's allocator gets
//! along with less. Then every function hands its call to the next library in the search order
//! ([`crate::next_malloc`]).
//!
//! Invariants: the answer never changes once it was given; a library that is off stays off.
//! Depends on: nothing of this library.
//! Never: allocates.

use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use memcg::internal::{malloc, os};

const UNKNOWN: u8 = 0;
const SERVES: u8 = 1;
const ASIDE: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
static OFF: AtomicBool = AtomicBool::new(false);

/// Whether the library's hooks do nothing in this process. Set by its constructor, when it steps
/// aside; before the constructor has run the hooks work.
#[inline(always)]
pub fn is_off() -> bool {
    OFF.load(Ordering::Relaxed)
}

/// Switches the library's hooks off, for good.
pub fn switch_off() {
    OFF.store(true, Ordering::Relaxed);
}

/// Whether calls go to the allocator below.
#[inline]
pub fn is_aside() -> bool {
    match STATE.load(Ordering::Relaxed) {
        UNKNOWN => decide(),
        state => state == ASIDE,
    }
}

#[cold]
fn decide() -> bool {
    let wanted = variable(b"MEMCG=").is_some_and(|value| value == b"off")
        || variable(b"LD_PRELOAD=").is_some_and(|value| contains(value, b"vgpreload_"))
        || has_sanitizer();
    let state = match wanted || !malloc::is_able() {
        true => ASIDE,
        false => SERVES,
    };
    // Of threads that decide at once the first is right, also where memory came or went in between.
    let first = STATE.compare_exchange(UNKNOWN, state, Ordering::Relaxed, Ordering::Relaxed);
    if first.is_ok() && state == ASIDE && !wanted {
        os::line(&[b"memcg: no memory for the first tables: the program runs without accounting"]);
    }
    first.map_or_else(|now| now, |_| state) == ASIDE
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// The value of an environment variable, given with its `=`, without the heap.
fn variable(name: &[u8]) -> Option<&'static [u8]> {
    // SAFETY: the C library's table: set before any code of a library runs, ended by null; null
    // itself if there is none.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            let text = CStr::from_ptr(*at).to_bytes();
            if let Some(value) = text.strip_prefix(name) {
                return Some(value);
            }
            at = at.add(1);
        }
    }
    None
}

core::arch::global_asm!(
    ".weak __asan_init",
    ".weak __tsan_init",
    ".weak __msan_init",
    ".weak __hwasan_init",
);

/// Whether a sanitizer's run time is linked in: then one of its entry points is there.
fn has_sanitizer() -> bool {
    unsafe extern "C" {
        safe fn __asan_init();
        safe fn __tsan_init();
        safe fn __msan_init();
        safe fn __hwasan_init();
    }
    // A weak symbol that nobody defines is null. Kept from the compiler, which knows that functions
    // are not.
    [
        __asan_init as *const () as usize,
        __tsan_init as *const () as usize,
        __msan_init as *const () as usize,
        __hwasan_init as *const () as usize,
    ]
    .into_iter()
    .any(|at| core::hint::black_box(at) != 0)
}
