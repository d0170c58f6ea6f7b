//! Checks of a cache's objects: red zones behind them, poison in what is free.
//!
//! A red zone says whether its object is out. A free one without a constructor is filled with
//! poison, and must be so still when it is taken again. What is wrong ends the process with a line
//! that names the cache and the object.

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

/// # Safety
/// The bytes are an object's, or its red zone's, and nobody else uses them.
unsafe fn bytes<'a>(at: usize, n: usize) -> &'a mut [u8] {
    // SAFETY: the caller's.
    unsafe { core::slice::from_raw_parts_mut(at as *mut u8, n) }
}

fn is_poisoned(cache: &Cache) -> bool {
    !cache.ways().has(Ways::CONSTRUCTED)
}

/// An object that was just taken, before its user sees it.
///
/// # Safety
/// Of this cache, which is [`Ways::CHECKED`], and the caller's.
#[cold]
pub unsafe fn on_alloc(cache: &Cache, found: Found) {
    let size = cache.shape().bytes;
    // SAFETY: the red zone is the object's, as the cache's shape has it.
    let zone = unsafe { bytes(found.at + size, RED_ZONE) };
    if !found.raw {
        // SAFETY: the caller's.
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
    // That of a fresh object was filled when the object was linked.
    if zone.iter().any(|&b| b != ZONE_FREE) {
        report(cache, found.at, Fault::AfterFree);
    }
    zone.fill(IN_USE);
}

/// An object that is about to be freed. `false`: it is not to be, since it is free.
///
/// # Safety
/// As [`on_alloc`].
#[cold]
pub unsafe fn on_free(cache: &Cache, at: usize) -> bool {
    let size = cache.shape().bytes;
    // SAFETY: as above.
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
        // SAFETY: the caller's.
        let object = unsafe { bytes(at, size) };
        object.fill(POISON);
        if let Some(last) = object.last_mut() {
            *last = POISON_END;
        }
    }
    true
}
