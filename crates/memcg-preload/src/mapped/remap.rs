//! `mremap` and `mprotect`: a mapping is made longer or shorter, moved, or opened for writing.
//!
//! Invariants: as of `mapped`: charged before the kernel's call, uncharged after it.
//! Depends on: mapped, ranges_lock, mapped_ranges.
//! Never: touches a range that is not in the table.

use super::{no_memory, page, pages, uncharge};
use crate::mapped_ranges::{IDLE, Span};
use crate::ranges_lock::{self, Guard};
use crate::rust_runtime;
use crate::step_aside::is_off;
use core::ffi::{c_int, c_long, c_void};
use memcg::internal::malloc::Asks;
use memcg::internal::mapped::{Charged, Owner};
use memcg::internal::os::errno;
use memcg::internal::thread::with_thread;

/// # Safety
/// As mremap; the C library declares the last with variable arguments, a word.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mremap(
    at: *mut c_void,
    bytes: usize,
    new_bytes: usize,
    flags: c_int,
    to: *mut c_void,
) -> *mut c_void {
    // SAFETY: the caller's.
    let raw = || unsafe {
        libc::syscall(libc::SYS_mremap, at, bytes, new_bytes, flags, to) as *mut c_void
    };
    let (Some((start, end)), Some(new)) = (
        pages(at as usize, bytes),
        new_bytes.checked_next_multiple_of(page()),
    ) else {
        return raw();
    };
    if is_off() || ranges_lock::nr() == 0 || new == 0 {
        return raw();
    }
    // Not under the table's lock: what is asked between two tries may take others.
    let once = |asks| {
        with_thread(|thread| {
            let Some(mut guard) = Guard::enter() else {
                return Some(raw());
            };
            let ranges = guard.ranges();
            if !ranges.have_room() {
                return Some(raw());
            }
            let old = end - start;
            let stays = flags & libc::MREMAP_DONTUNMAP != 0;
            let tail = ranges.find(end - 1).map(|span| span.owner);
            let more = if stays { new } else { new.saturating_sub(old) };
            // Idle space grows idle, what is not ours grows unseen.
            let due = tail
                .filter(|&owner| owner != IDLE && thread.is_accounting())
                .unwrap_or(Owner::NOBODY);
            let charged = if due != Owner::NOBODY {
                // SAFETY: the owner is charged for the span that ends here, and the table is ours
                // meanwhile.
                unsafe { thread.charge_mapped(due, more, 0, asks) }
            } else {
                Charged::Yes
            };
            if matches!(charged, Charged::Refused) {
                return None;
            }
            let p = raw();
            let _errno = errno::keep();
            let counted = matches!(charged, Charged::Yes);
            if p == libc::MAP_FAILED {
                if counted {
                    uncharge(thread, due, more);
                }
                return Some(p);
            }
            let to = p as usize;
            let mut gone = |old: Span| uncharge(thread, old.owner, old.bytes());
            if stays {
                ranges.take(to, to + new, &mut gone);
            } else {
                if new < old {
                    ranges.take(start + new, end, &mut gone);
                }
                if to != start {
                    ranges.shift(start, start + old.min(new), to, &mut gone);
                }
                if new > old {
                    ranges.take(to + old, to + new, &mut gone);
                }
            }
            if let (Some(owner), true, true) = (tail, counted, more > 0) {
                ranges.put(Span {
                    start: to + new - more,
                    end: to + new,
                    owner,
                });
            }
            Some(p)
        })
        .unwrap_or_else(|| Some(raw()))
    };
    rust_runtime::asked(Asks::Refusable, once, Option::is_none).unwrap_or_else(no_memory)
}

/// # Safety
/// As mprotect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mprotect(at: *mut c_void, bytes: usize, prot: c_int) -> c_int {
    // SAFETY: the caller's.
    protect(at, bytes, prot, || unsafe {
        libc::syscall(libc::SYS_mprotect, at, bytes, prot)
    })
}

/// # Safety
/// As pkey_mprotect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pkey_mprotect(
    at: *mut c_void,
    bytes: usize,
    prot: c_int,
    key: c_int,
) -> c_int {
    // SAFETY: the caller's. Without a key it is mprotect, also where the kernel knows no keys.
    protect(at, bytes, prot, || unsafe {
        if key == -1 {
            libc::syscall(libc::SYS_mprotect, at, bytes, prot)
        } else {
            libc::syscall(libc::SYS_pkey_mprotect, at, bytes, prot, key)
        }
    })
}

/// Charges the reserved address space that becomes writable by `raw`.
fn protect(at: *mut c_void, bytes: usize, prot: c_int, raw: impl Fn() -> c_long) -> c_int {
    let opens = prot & libc::PROT_WRITE != 0 && ranges_lock::nr_idle() > 0 && !is_off();
    let (true, Some((start, end))) = (opens, pages(at as usize, bytes)) else {
        return raw() as c_int;
    };
    let once = |asks| {
        with_thread(|thread| {
            let owner = thread.owner();
            let Some(mut guard) = Guard::enter().filter(|_| owner != Owner::NOBODY) else {
                return Some(raw());
            };
            let ranges = guard.ranges();
            let idle = ranges.held(start, end).1;
            if idle == 0 || !ranges.have_room() {
                drop(guard);
                return Some(raw());
            }
            // SAFETY: the thread works for that owner.
            match unsafe { thread.charge_mapped(owner, idle, 0, asks) } {
                Charged::Refused => None,
                Charged::Uncounted => Some(raw()),
                Charged::Yes => {
                    let answer = raw();
                    let _errno = errno::keep();
                    if answer == 0 {
                        ranges.adopt_idle(start, end, owner);
                    } else {
                        uncharge(thread, owner, idle);
                    }
                    Some(answer)
                }
            }
        })
        .unwrap_or_else(|| Some(raw()))
    };
    rust_runtime::asked(Asks::Refusable, once, Option::is_none).unwrap_or_else(|| {
        errno::set(libc::ENOMEM);
        -1
    }) as c_int
}
