//! Threads are tasks: made when a thread first allocates or maps memory, in the group its name asks
//! for, moved when it is renamed, by itself or by another thread.
//!
//! A thread that never does either has no task, and holds nothing that one could show:
//! `pthread_create` is left alone, for a trampoline around every thread's start costs an allocation
//! each and stands in every stack and cancellation. A name written to /proc/self/task/TID/comm is
//! not seen; the next rename of that thread by a call is.
//!
//! Invariants: a thread has one task at most. It is in the group that the name asks for, unless
//! that had no room when the thread was renamed.
//! Depends on: `group_rules` for the name of the group; `next_malloc` for the C library's rename.
//! Never: allocates for a thread's first task, but records of the engine.

use crate::{group_rules, next_malloc};
use core::ffi::{CStr, c_char, c_int, c_ulong};
use memcg::internal::os::hook::{Hook, function_at};
use memcg::internal::thread::{Group, Thread, Tree, with_thread};

/// Gives a thread its task. Runs inside its first malloc: allocates nothing but records.
pub fn on_new_thread(thread: &Thread<'_>) {
    let name = own_name();
    let name = trim(&name);
    // A group may be removed between being found and being entered: then it is made anew.
    for _ in 0..8 {
        if thread.with_tree(|tree| tree.begin_task(group_of(tree, name), name)) {
            return;
        }
    }
}

/// A thread's name as the kernel keeps it: up to 15 bytes, then zeros.
type Name = [u8; 16];

fn own_name() -> Name {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes.
    unsafe {
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_GET_NAME,
            name.as_mut_ptr(),
            0,
            0,
            0,
        )
    };
    name
}

fn trim(name: &Name) -> &[u8] {
    name.split(|&b| b == 0).next().unwrap_or_default()
}

/// The group for threads of that name, made if need be; the nearest that could be made, without
/// memory.
fn group_of<'t>(tree: &Tree<'t>, name: &[u8]) -> Group<'t> {
    let mut at = tree.root();
    group_rules::each_component(name, |part| at = tree.child(at, part));
    at
}

/// Moves the calling thread's task to where its name belongs now. If it does not fit there it
/// stays.
fn on_renamed() {
    with_thread(|thread| {
        thread.with_tree(|tree| {
            if let Some(task) = tree.own_task() {
                let name = own_name();
                tree.move_task(task, group_of(tree, trim(&name)));
            }
        });
    });
}

/// The same for another thread. One that has no task yet gets it by its new name.
fn on_other_renamed(thread: libc::pthread_t, name: &[u8]) {
    let Some(tid) = tid_of(thread) else { return };
    with_thread(|thread| {
        thread.with_tree(|tree| {
            // The task is not another's by the time it moves; one that has ended is refused.
            if let Some(task) = tree.task_of(tid) {
                tree.move_task(task, group_of(tree, name));
            }
        });
    });
}

/// The kernel's id of a thread. The C library tells it to nobody; but it tells the clock of the
/// thread's CPU time, whose number is, by the kernel's interface, the id's complement above three
/// bits of which clock.
fn tid_of(thread: libc::pthread_t) -> Option<u32> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the caller's thread is one, it has just been renamed; `clock` is a valid place.
    let error = unsafe { libc::pthread_getcpuclockid(thread, &mut clock) };
    (error == 0 && clock < 0).then_some(!(clock >> 3) as u32)
}

static SETNAME: Hook<SetName> = Hook::none();
type SetName = unsafe extern "C" fn(libc::pthread_t, *const c_char) -> c_int;

/// # Safety
/// As pthread_setname_np.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_setname_np(thread: libc::pthread_t, name: *const c_char) -> c_int {
    let f = SETNAME.get().unwrap_or_else(|| {
        let at = next_malloc::next(c"pthread_setname_np").cast();
        // SAFETY: the name is that of a function of this type.
        unsafe {
            SETNAME.set_address(at);
            function_at(at)
        }
    });
    // SAFETY: the caller's.
    let answer = unsafe { f(thread, name) };
    if answer == 0 && !crate::step_aside::is_off() {
        // SAFETY: no preconditions.
        if thread == unsafe { libc::pthread_self() } {
            on_renamed();
        } else {
            // SAFETY: a terminated string, which the C library has just read.
            on_other_renamed(thread, unsafe { CStr::from_ptr(name) }.to_bytes());
        }
    }
    answer
}

/// # Safety
/// As prctl, which the C library declares with variable arguments, all of them words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn prctl(
    what: c_int,
    a: c_ulong,
    b: c_ulong,
    c: c_ulong,
    d: c_ulong,
) -> c_int {
    // SAFETY: the caller's.
    let answer = unsafe { libc::syscall(libc::SYS_prctl, what, a, b, c, d) } as c_int;
    if what == libc::PR_SET_NAME && answer == 0 && !crate::step_aside::is_off() {
        on_renamed();
    }
    answer
}
