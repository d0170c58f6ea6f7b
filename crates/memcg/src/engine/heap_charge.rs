//! Charging heap objects: what the allocators share.
//!
//! Invariants: an object carries its owner's tag, 4 bytes that its allocator keeps. All sizes here
//! are multiples of 8. A charge from stock makes no call and no atomic instruction.
//! Depends on: the loop around a charge, and the thread's record.
//! Never: waits, or runs code of the program, unless the flags of the charge allow it. With the
//! option `pay_in_malloc` a charge sleeps 10 ms at most.

#![forbid(unsafe_code)]

use super::process_engine::{known_rec, with_rec};
use super::{Accounting, Flags, Request};
use crate::group::stock::Charged;
use crate::group::{Kind, Tag};

/// Charges an object of `bytes` to the owner that the thread works for. `None`: a limit refuses.
///
/// Cost of a hit: no call, no atomic instruction.
#[inline(always)]
pub fn charge(bytes: usize, flags: Flags) -> Option<Charged> {
    if let Some(rec) = known_rec()
        && let Some(charged) = rec.charge_hit(bytes as u64)
    {
        return Some(charged);
    }
    charge_slow(bytes, flags)
}

/// As [`charge`], for who asks at the door: past all stock that was forced above a limit.
#[cold]
pub fn charge_at_door(bytes: usize) -> Option<Charged> {
    charge_slow(bytes, Flags::NOWAIT)
}

#[cold]
fn charge_slow(bytes: usize, flags: Flags) -> Option<Charged> {
    let _errno = crate::os::errno::keep();
    // Without memory even for a thread's record the object goes uncounted: it is an error of the
    // books, not of the program.
    with_rec(|engine, rec| {
        engine.set_installed();
        if rec.current().is_none() || engine.accounting() != Accounting::On {
            return Some(Charged::NOBODY);
        }
        let answer = engine.with_owner(rec, |owner| match owner {
            Some(tag) => engine
                .charge(rec, Request::heap(tag, bytes as u64, flags))
                .ok()
                .map(|_| Charged { owner }),
            None => Some(Charged::NOBODY),
        });
        if engine.options.pay_in_malloc() {
            engine.safe_point(rec, super::throttle::MALLOC_NS);
        }
        answer
    })
    .unwrap_or(Some(Charged::NOBODY))
}

/// Charges `bytes` more to the owner of an object that grows. `false`: a limit refuses.
#[inline]
pub fn charge_more(tag: Option<Tag>, bytes: usize, flags: Flags) -> bool {
    let Some(tag) = tag.filter(|_| bytes != 0) else {
        return true;
    };
    with_rec(|engine, rec| {
        if engine.accounting() != Accounting::On || !engine.is_tag(tag) {
            return true;
        }
        engine
            .charge(rec, Request::heap(tag, bytes as u64, flags))
            .is_ok()
    })
    .unwrap_or(true)
}

/// Uncharges `bytes` of an object's owner. Called before the object is free for others.
#[inline(always)]
pub fn uncharge(tag: Option<Tag>, bytes: usize) {
    if let Some(rec) = known_rec()
        && rec.uncharge_hit(tag, bytes as u64)
    {
        return;
    }
    uncharge_slow(tag, bytes);
}

#[cold]
fn uncharge_slow(tag: Option<Tag>, bytes: usize) {
    let Some(tag) = tag.filter(|_| bytes != 0) else {
        return;
    };
    let _errno = crate::os::errno::keep();
    with_rec(|engine, rec| {
        if engine.is_tag(tag) {
            engine.uncharge(rec, tag, bytes as u64, Kind::Heap);
        } else if engine.accounting() == Accounting::On {
            engine.tree.report_broken();
            engine.on_broken();
        }
    });
}
