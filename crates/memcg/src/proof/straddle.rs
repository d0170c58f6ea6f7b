//! A fork by a signal handler in the middle of the thread's own charge: the child counts its groups
//! anew, and then goes on with what the handler interrupted.
//!
//! The processor's single-step flag brings a SIGTRAP after every instruction; at one of them the
//! handler recounts, as the child would. Whatever instruction that is, the books add up once the
//! interrupted call has returned.

use super::own_process;

use crate::group::exact_charge::Mode;
use crate::group::{Hierarchy, Kind, ROOT};
use crate::offline::remove_alone;
use crate::testing::common::*;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};

const TEST: &str = "proof::straddle::books_add_up_after_a_recount_between_any_two_instructions";

/// Between two instructions that are tried; prime, so that it keeps step with no loop. What a round
/// costs grows with its number: each instruction before is a signal.
const STRIDE: usize = 401;
/// The same for a group's beginning and end, which have many more instructions.
const GROUP_STRIDE: usize = 1999;

static TREE: AtomicPtr<Hierarchy> = AtomicPtr::new(core::ptr::null_mut());
static LEFT: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_trap(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let left = LEFT.load(Relaxed);
    LEFT.store(left.saturating_sub(1), Relaxed);
    if left != 1 {
        return;
    }
    // SAFETY: null, or leaked.
    if let Some(tree) = unsafe { TREE.load(Relaxed).as_ref() } {
        tree.recount();
    }
    // SAFETY: the kernel's own. Without the flag the rest runs on.
    unsafe {
        (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_EFL as usize] &= !0x100;
    }
}

/// Runs `f` with a recount after so many instructions. `false`: it has fewer.
fn recounted_after(instructions: usize, f: impl FnOnce()) -> bool {
    LEFT.store(instructions as u64, Relaxed);
    // SAFETY: sets the trap flag, whose signal is handled; the stack is as before.
    unsafe { core::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    f();
    // SAFETY: clears it again.
    unsafe { core::arch::asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
    LEFT.swap(0, Relaxed) == 0
}

/// Recounts after the first instruction of each step, and every `stride` further, up to the end of
/// the longest.
fn try_each(tree: &Hierarchy, steps: &[(&str, &dyn Fn())], stride: usize) {
    let mut tried = 0;
    for at in (1..).step_by(stride) {
        let mut any = false;
        for (what, step) in steps {
            any |= recounted_after(at, step);
            if let Err(wrong) = tree.audit() {
                panic!("{what}, recounted after {at} instructions: {wrong}");
            }
        }
        if !any {
            break;
        }
        tried += 1;
    }
    assert!(tried > 10, "{tried}");
}

fn run() {
    let (tree, rec) = alone();
    TREE.store(core::ptr::from_ref(tree).cast_mut(), Relaxed);
    // SAFETY: a handler for a signal nobody else here uses; zero is an empty mask.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO;
        action.sa_sigaction = on_trap as extern "C" fn(_, _, _) as usize;
        let none = core::ptr::null_mut();
        assert_eq!(libc::sigaction(libc::SIGTRAP, &raw const action, none), 0);
    }
    let _pin = tree.threads.epoch.pin(rec);
    let root = tree.memcgs.get(ROOT);
    let above = tree.memcgs.get(tree.create(root, b"above").unwrap());
    let group = tree.memcgs.get(tree.create(above, b"group").unwrap());
    let tag = tree.new_task(group, b"task", 0).unwrap();
    // Each is undone by the next, so that every round begins alike.
    let charges: [(&str, &dyn Fn()); 8] = [
        ("a refill", &|| tree.charge(rec, tag, 8).unwrap()),
        ("a free", &|| tree.uncharge(rec, tag, 8)),
        ("a drain", &|| {
            tree.drain(rec, root);
        }),
        ("a charge", &|| {
            tree.charge_exact(tag, 40 << 10, Mode::Within).unwrap();
        }),
        ("a kind", &|| tree.add_side(tag, 40 << 10, Kind::Mapped)),
        ("a kind taken off", &|| {
            tree.sub_side(tag, 40 << 10, Kind::Mapped)
        }),
        ("an uncharge", &|| tree.uncharge_exact(tag, 40 << 10)),
        ("a reservation", &|| {
            reserve(tree, rec, tag, 64).unwrap();
            free(tree, rec, tag, 64, Kind::Reserved);
            tree.drain(rec, root);
        }),
    ];
    let groups: [(&str, &dyn Fn()); 2] = [
        ("a group's beginning", &|| {
            tree.create(above, b"short").unwrap();
        }),
        ("a group's end", &|| {
            let short = tree.lookup(b"/above/short").unwrap();
            remove_alone(tree, tree.memcgs.get(short)).unwrap();
        }),
    ];
    try_each(tree, &charges, STRIDE);
    try_each(tree, &groups, GROUP_STRIDE);
    tree.end_task(tag);
    tree.return_all(rec);
    assert_eq!(root.counter.usage(), 0);
}

#[test]
fn books_add_up_after_a_recount_between_any_two_instructions() {
    if own_process::argument().is_some() {
        run();
    } else {
        own_process::passes_again(TEST, "straddle");
    }
}
