//! Checks of a cache's objects: red zones behind them, poison in free ones.
//!
//! Invariants: a red zone says whether its object is handed out. A free object without a
//! constructor is filled with poison, and is still so when it is taken again. What is wrong ends
//! the process with a line that names the cache and the object.
//! Depends on: `shape` for where the red zone lies.
//! Never: a check of an object that another thread may use.

use super::objects::Found;
use super::shape::{RED_ZONE, ZONE_FREE};
use super::{Cache, Ways};
use crate::os::say;

const IN_USE: u8 = 0xcc;
const POISON: u8 = 0x6b;
const POISON_END: u8 = 0xa5;

/// What was found wrong with an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Something wrote behind its end.
    PastEnd,
    /// Something wrote to it after it was freed.
    AfterFree,
    /// It was freed twice.
    DoubleFree,
}

#[cold]
fn report(cache: &Cache, at: usize, fault: Fault) {
    let name = cache.name();
    let name = &name[..name.iter().position(|&b| b == 0).unwrap_or(name.len())];
    let what: &[u8] = match fault {
        Fault::PastEnd => b"something wrote behind its end",
        Fault::AfterFree => b"something wrote to it after it was freed",
        Fault::DoubleFree => b"it was freed before",
    };
    say::line(&[
        b"memcg: cache ",
        name,
        b": object ",
        say::Hex::new(at as u64).as_bytes(),
        b": ",
        what,
    ]);
    say::abort()
}

/// The `n` bytes at `at`.
///
/// # Safety
/// The bytes belong to one object of a cache, or to its red zone, and while the answer is used no
/// other code reads or writes them.
unsafe fn bytes<'a>(at: usize, n: usize) -> &'a mut [u8] {
    // SAFETY: the bytes lie in a slab, so they are mapped and initialised, and the caller promised
    // that no other code uses them meanwhile.
    unsafe { core::slice::from_raw_parts_mut(at as *mut u8, n) }
}

fn is_poisoned(cache: &Cache) -> bool {
    !cache.ways().has(Ways::CONSTRUCTED)
}

/// Checks an object that was just taken, before its user sees it, and marks its red zone.
///
/// # Safety
/// The object was just taken from this cache, which has [`Ways::CHECKED`], and nobody but the
/// caller has its address.
#[cold]
pub unsafe fn on_alloc(cache: &Cache, found: Found) {
    let size = cache.shape().bytes;
    // SAFETY: in a checked cache the red zone's bytes follow the object's, before the link
    // (`Shape::new`); the object was just taken, so nobody else uses them.
    let zone = unsafe { bytes(found.at + size, RED_ZONE) };
    if !found.raw {
        // SAFETY: `size` bytes from its address on are the object, which was just taken, so nobody
        // else uses them; `zone` does not overlap them.
        let object = unsafe { bytes(found.at, size) };
        let whole = |object: &[u8]| {
            object
                .split_last()
                .is_none_or(|(last, rest)| *last == POISON_END && rest.iter().all(|&b| b == POISON))
        };
        if is_poisoned(cache) && !whole(object) {
            report(cache, found.at, Fault::AfterFree);
        }
    }
    // The red zone of a fresh object was filled when the object was linked.
    if zone.iter().any(|&b| b != ZONE_FREE) {
        report(cache, found.at, Fault::AfterFree);
    }
    zone.fill(IN_USE);
}

/// Checks an object that is about to be freed, and fills it with poison. `false`: it is free
/// already, and is not to be freed.
///
/// # Safety
/// `at` is an object of this cache, which has [`Ways::CHECKED`]. It is live and nobody but the
/// caller uses it, or it was freed before and the answer is `false`.
#[cold]
pub unsafe fn on_free(cache: &Cache, at: usize) -> bool {
    let size = cache.shape().bytes;
    // SAFETY: in a checked cache the red zone's bytes follow the object's; the caller alone uses
    // the object. Of an object freed twice they are only read.
    let zone = unsafe { bytes(at + size, RED_ZONE) };
    if zone.iter().all(|&b| b == ZONE_FREE) {
        report(cache, at, Fault::DoubleFree);
        return false;
    }
    if zone.iter().any(|&b| b != IN_USE) {
        report(cache, at, Fault::PastEnd);
    }
    zone.fill(ZONE_FREE);
    if is_poisoned(cache) {
        // SAFETY: the red zone says that the object is handed out, so only the caller uses it, who
        // gives it up; `zone` does not overlap it.
        let object = unsafe { bytes(at, size) };
        object.fill(POISON);
        if let Some(last) = object.last_mut() {
            *last = POISON_END;
        }
    }
    true
}
