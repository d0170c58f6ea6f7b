//! Anonymous memory the program maps itself, counted as the kind `mapped`.
//!
//! What counts: private, anonymous mappings that can be written, for their whole length, from the
//! call that makes them writable (`mmap`, or `mprotect` of address space that was only reserved)
//! until they are unmapped, replaced or cut off. That is the kernel's own rule for what it commits
//! itself to, with two differences: what is mapped writable and MAP_NORESERVE never counts, and
//! reserved address space counts when `mprotect` opens it, NORESERVE or not. Taking the right to
//! write away, or `madvise`, changes nothing. The owner is whom the thread works for; of what
//! `mremap` adds, it is the owner of what was there.
//!
//! What does not: what the C library maps inside itself (thread stacks, its own malloc's areas: it
//! does not come by these names), shared and file mappings, MAP_HUGETLB, system calls without the C
//! library, memory of this library.
//!
//! Invariants: what the table has is charged to the owner it names, unless it is idle. Charged
//! first, mapped then: a refusal leaves everything as it was, and the call fails with ENOMEM.
//! Uncharged after the kernel took it, under the table's lock, so that whoever maps the same
//! addresses next finds the table without them.
//! Depends on: `mapped_ranges` for the table, `ranges_lock` for its lock; the engine for charges.
//! Never: refuses a call because it cannot be noted (no memory for the table, a fork handler): that
//! one works and goes uncounted.

mod remap;

use crate::mapped_ranges::{IDLE, Span};
use crate::ranges_lock::{self, Guard};
use crate::rust_runtime;
use crate::step_aside::is_off;
use core::ffi::{c_int, c_void};
use memcg::internal::malloc::Asks;
use memcg::internal::mapped::{Charged, Owner};
use memcg::internal::os::errno;
use memcg::internal::thread::{Thread, with_thread};

/// Has the table survive forks. Once.
pub fn install() {
    // SAFETY: plain functions that may run at any fork. The child's is run by the engine's own.
    unsafe {
        libc::pthread_atfork(
            Some(ranges_lock::before_fork),
            Some(ranges_lock::after_fork_in_parent),
            None,
        )
    };
}

fn page() -> usize {
    // SAFETY: no preconditions; a look into the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_PAGESZ) as usize }.max(4096)
}

/// `start..end` of whole pages; `None` for what the kernel will refuse or what is nothing.
fn pages(start: usize, bytes: usize) -> Option<(usize, usize)> {
    let page = page();
    let end = start.checked_add(bytes.checked_next_multiple_of(page)?)?;
    (start.is_multiple_of(page) && end > start).then_some((start, end))
}

/// Takes `bytes` off `owner`: bytes that the caller has charged, or that a span it took out of the
/// table was charged.
fn uncharge(thread: &Thread<'_>, owner: Owner, bytes: usize) {
    // SAFETY: charged, as said above, and not uncharged since: a charge is given back once, a span
    // is taken out once.
    unsafe { thread.uncharge_mapped(owner, bytes) };
}

fn no_memory() -> *mut c_void {
    errno::set(libc::ENOMEM);
    libc::MAP_FAILED
}

/// # Safety
/// As mmap.
unsafe fn raw_map(
    at: *mut c_void,
    bytes: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the caller's.
    unsafe { libc::syscall(libc::SYS_mmap, at, bytes, prot, flags, fd, offset) as *mut c_void }
}

/// Whether a mapping is of the kind we keep, and whether it counts from the start.
fn is_kept(prot: c_int, flags: c_int) -> bool {
    const TYPE: c_int = 0xf;
    let writable = prot & libc::PROT_WRITE != 0;
    flags & libc::MAP_ANONYMOUS != 0
        && flags & TYPE == libc::MAP_PRIVATE
        && flags & libc::MAP_HUGETLB == 0
        && !(writable && flags & libc::MAP_NORESERVE != 0)
}

/// # Safety
/// As mmap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    at: *mut c_void,
    bytes: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    let kept = is_kept(prot, flags);
    let replaces = flags & libc::MAP_FIXED != 0 && ranges_lock::nr() > 0;
    if !(kept || replaces) || is_off() {
        // SAFETY: the caller's.
        return unsafe { raw_map(at, bytes, prot, flags, fd, offset) };
    }
    with_thread(|thread| {
        let owner = if kept { thread.owner() } else { Owner::NOBODY };
        let due = owner != Owner::NOBODY && prot & libc::PROT_WRITE != 0;
        // What it replaces makes room for it, but later.
        let forced = match pages(at as usize, bytes) {
            Some((start, end)) if replaces && due => {
                Guard::enter().map_or(0, |mut guard| guard.ranges().held(start, end).0)
            }
            _ => 0,
        };
        // An amount the kernel will refuse is not charged before.
        let whole = bytes.checked_next_multiple_of(page()).unwrap_or(0);
        let charged = if due {
            // SAFETY: the thread works for that owner; a part of the place is at most the whole.
            let charge = |asks| unsafe { thread.charge_mapped(owner, whole, forced, asks) };
            rust_runtime::asked(Asks::Refusable, charge, |charged| {
                matches!(charged, Charged::Refused)
            })
        } else {
            Charged::Yes
        };
        if matches!(charged, Charged::Refused) {
            return no_memory();
        }
        let counted = owner != Owner::NOBODY && matches!(charged, Charged::Yes);
        // SAFETY: the caller's.
        let p = unsafe { raw_map(at, bytes, prot, flags, fd, offset) };
        let _errno = errno::keep();
        let noted = p != libc::MAP_FAILED
            && pages(p as usize, bytes).is_some_and(|(start, end)| {
                note(
                    thread,
                    counted.then_some(Span {
                        start,
                        end,
                        owner: if due { owner } else { IDLE },
                    }),
                    start,
                    end,
                )
            });
        if counted && due && !noted {
            uncharge(thread, owner, whole);
        }
        thread.pay_in_malloc();
        p
    })
    // Without memory even for a record of the thread.
    // SAFETY: the caller's.
    .unwrap_or_else(|| unsafe { raw_map(at, bytes, prot, flags, fd, offset) })
}

/// Puts a new span in the place of what was at `start..end`; `false` when that could not be noted.
fn note(thread: &Thread<'_>, span: Option<Span>, start: usize, end: usize) -> bool {
    let Some(mut guard) = Guard::enter() else {
        return false;
    };
    let ranges = guard.ranges();
    if !ranges.have_room() {
        return false;
    }
    ranges.take(start, end, |old| uncharge(thread, old.owner, old.bytes()));
    if let Some(span) = span {
        ranges.put(span);
    }
    true
}

/// # Safety
/// As mmap64.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    at: *mut c_void,
    bytes: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the caller's.
    unsafe { mmap(at, bytes, prot, flags, fd, offset) }
}

/// # Safety
/// As munmap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn munmap(at: *mut c_void, bytes: usize) -> c_int {
    // SAFETY: the caller's.
    let raw = || unsafe { libc::syscall(libc::SYS_munmap, at, bytes) as c_int };
    let (false, true, Some((start, end))) =
        (is_off(), ranges_lock::nr() > 0, pages(at as usize, bytes))
    else {
        return raw();
    };
    with_thread(|thread| {
        let Some(mut guard) = Guard::enter() else {
            return raw();
        };
        let answer = raw();
        let _errno = errno::keep();
        if answer == 0 && guard.ranges().have_room() {
            guard
                .ranges()
                .take(start, end, |old| uncharge(thread, old.owner, old.bytes()));
        }
        answer
    })
    .unwrap_or_else(raw)
}
