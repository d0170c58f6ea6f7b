//! The end of a process whose heap cannot be trusted: one line that names the pointer, then
//! SIGABRT.
//!
//! Invariants: no function here returns.
//! Depends on: `os::say`.
//! Never: memory taken; a lock.

#![forbid(unsafe_code)]

use crate::os::say;

/// What is wrong with a pointer given to free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum BadFree {
    /// It was freed before.
    Double,
    /// It does not point to the beginning of an object.
    Inside,
    /// It was not allocated here.
    Foreign,
    /// It is an object of a kmem cache, and only that cache frees it.
    Cached,
}

/// Ends the process for a bad free. It has the C ABI, which does not unwind, so a hit that calls it
/// needs no landing pad.
#[cold]
pub extern "C" fn bad_free(at: usize, why: BadFree) -> ! {
    bad_pointer(b"free", at, why)
}

/// Ends the process for a bad pointer given to `what`.
#[cold]
pub fn bad_pointer(what: &[u8], at: usize, why: BadFree) -> ! {
    let why: &[u8] = match why {
        BadFree::Double => b"it was freed before",
        BadFree::Inside => b"no allocated object begins there",
        BadFree::Cached => b"it is an object of a kmem cache, which alone frees it",
        BadFree::Foreign => b"it was not allocated by this allocator, or is long gone",
    };
    say::line(&[
        b"memcg: ",
        what,
        b"(",
        say::Hex::new(at as u64).as_bytes(),
        b"): ",
        why,
    ]);
    say::abort()
}

/// Ends the process for a free list that leads outside its slab.
#[cold]
pub fn corrupt(slab: usize) -> ! {
    say::line(&[
        b"memcg: the free list of the slab at ",
        say::Hex::new(slab as u64).as_bytes(),
        b" is overwritten: something wrote to freed memory or beyond its own, or freed twice",
    ]);
    say::abort()
}
