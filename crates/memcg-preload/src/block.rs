//! A block with its tag: the last four bytes of what the allocator below says is usable.
//!
//! The charge is the usable size, down to a multiple of 8. The program is told of all but the tag.

use crate::below;
use crate::start::is_off;
use core::ffi::c_void;
use memcg::api::heap;
use memcg::engine::Flags;
use memcg::group::NO_TAG;

/// Bytes a block has beyond what the program asked for.
pub const TAG: usize = 4;

/// Usable bytes of the block, the tag's included.
///
/// # Safety
/// `p` is a live block of the allocator below.
#[inline(always)]
pub unsafe fn whole(p: *mut c_void) -> usize {
    // SAFETY: the caller's.
    unsafe { below::usable(p) }
}

/// What a block of `whole` bytes is charged.
#[inline(always)]
fn charge_of(whole: usize) -> usize {
    whole & !7
}

/// # Safety
/// A live block of `whole` usable bytes.
#[inline(always)]
unsafe fn tag_at(p: *mut c_void, whole: usize) -> *mut u32 {
    // SAFETY: the last four bytes of the block.
    unsafe { p.cast::<u8>().add(whole - TAG).cast() }
}

/// Charges a block just got from below and tags it; null, the block freed and errno set, when a limit refuses.
///
/// # Safety
/// `p` is null or a block nobody else knows.
#[inline(always)]
pub unsafe fn adopt(p: *mut c_void) -> *mut c_void {
    if p.is_null() {
        return p;
    }
    // SAFETY: a live block of at least TAG bytes: that much more was asked for.
    unsafe {
        let whole = whole(p);
        let owner = if is_off() {
            Some(NO_TAG)
        } else {
            heap::charge(charge_of(whole), Flags::NOWAIT)
        };
        let Some(tag) = owner else {
            below::free(p);
            memcg::os::errno::set(libc::ENOMEM);
            return core::ptr::null_mut();
        };
        tag_at(p, whole).write_unaligned(tag);
        p
    }
}

/// Gives a block back.
///
/// # Safety
/// `p` is a block of [`adopt`] the program is done with.
#[inline(always)]
pub unsafe fn dismiss(p: *mut c_void) {
    // SAFETY: a live, tagged block.
    unsafe {
        let whole = whole(p);
        heap::uncharge(tag_at(p, whole).read_unaligned(), charge_of(whole));
        below::free(p);
    }
}

/// Makes a block hold `bytes`, perhaps elsewhere. Its owner stays. Null, with the block as it was, when that cannot be.
///
/// # Safety
/// `p` is a live block of [`adopt`]; as realloc.
pub unsafe fn resize(p: *mut c_void, bytes: usize) -> *mut c_void {
    let Some(wanted) = bytes.checked_add(TAG) else {
        memcg::os::errno::set(libc::ENOMEM);
        return core::ptr::null_mut();
    };
    // SAFETY: a live, tagged block; after `realloc` succeeded, the new one is.
    unsafe {
        let old = whole(p);
        let tag = tag_at(p, old).read_unaligned();
        // What the block will take is known only afterwards, when it is too late to refuse: charge the request first.
        let ahead = charge_of(wanted.saturating_sub(old).saturating_add(7));
        if !heap::charge_more(tag, ahead, Flags::NOWAIT) {
            memcg::os::errno::set(libc::ENOMEM);
            return core::ptr::null_mut();
        }
        let moved = below::realloc(p, wanted);
        if moved.is_null() {
            heap::uncharge(tag, ahead);
            return moved;
        }
        let new = whole(moved);
        tag_at(moved, new).write_unaligned(tag);
        let (paid, due) = (charge_of(old) + ahead, charge_of(new));
        if due > paid {
            // The rounding of one block.
            heap::charge_more(tag, due - paid, Flags::FORCE);
        } else {
            heap::uncharge(tag, paid - due);
        }
        moved
    }
}
