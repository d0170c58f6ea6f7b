//! A signal handler between any two instructions of what the owner of a record does.
//!
//! The processor's single-step flag brings a SIGTRAP after every instruction; its handler charges,
//! frees, enters and leaves, for more owners than there are slots.

use crate::attach::move_task;
use crate::group::objcg::State;
use crate::group::{Hierarchy, ROOT, Tag};
use crate::offline;
use crate::sync::atomic::Ordering;
use crate::testing::common::*;
use crate::thread::ThreadRec;

use crate::thread::SLOTS;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64};

const OWNERS: usize = SLOTS + 3;
const BYTES: u64 = 16;

struct Handled {
    tree: Tree,
    rec: &'static ThreadRec,
    tags: [Tag; OWNERS],
    /// Whether the handler holds `BYTES` of that owner.
    holds: [AtomicBool; OWNERS],
    traps: AtomicU64,
    /// Acts at one trap in so many. At each: for one owner. Rarely: for all, so that no slot stays
    /// whose it was.
    one_in: AtomicU64,
}

static HANDLED: AtomicPtr<Handled> = AtomicPtr::new(core::ptr::null_mut());

extern "C" fn on_trap(_: libc::c_int) {
    // SAFETY: null, or what `run` leaked.
    let Some(this) = (unsafe { HANDLED.load(Ordering::Relaxed).as_ref() }) else {
        return;
    };
    let trap = this.traps.fetch_add(1, Ordering::Relaxed);
    let random = trap.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let one_in = this.one_in.load(Ordering::Relaxed);
    if one_in == 1 {
        this.work_for(random as usize % OWNERS);
    } else if random.is_multiple_of(one_in) {
        (0..OWNERS).for_each(|at| this.work_for(at));
    }
}

impl Handled {
    fn work_for(&self, at: usize) {
        let (tree, rec, tag) = (self.tree, self.rec, self.tags[at]);
        let before = rec.current();
        let named = before.is_none_or(|tag| tree.objcgs.get(tag).state() != State::Free);
        assert!(named, "the thread charges an owner that was let go");
        let scope = tree.enter_scope(rec, Some(tag));
        if self.holds[at].swap(false, Ordering::Relaxed) {
            tree.uncharge(rec, tag, BYTES);
        } else if charge_current(tree, rec, BYTES) == Ok(tag) {
            self.holds[at].store(true, Ordering::Relaxed);
        }
        tree.leave_scope(rec, scope);
        assert_eq!(rec.current(), before);
    }
}

/// The gaps after that one of four ended.
fn gaps(end: usize) -> u32 {
    [1, 1, 2, 0][end]
}

/// Runs `f` with a trap after every instruction.
fn stepped<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: sets the trap flag, whose signal is handled; the stack is as before.
    unsafe { core::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    let answer = f();
    // SAFETY: clears it again.
    unsafe { core::arch::asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
    answer
}

pub(super) fn run(fenced: bool, rounds: usize) {
    let tree = Hierarchy::leaked();
    if fenced {
        tree.threads.forgo_membarrier();
    }
    let (index, rec) = tree.threads.join().unwrap();
    let (_, other) = tree.threads.join().unwrap();
    let pin = tree.threads.epoch.pin(rec);
    let root = tree.memcgs.get(ROOT);
    let small = tree.memcgs.get(tree.create(root, b"small").unwrap());
    let large = tree.memcgs.get(tree.create(root, b"large").unwrap());
    small.counter.set_max(300 << 10);
    let tags: [Tag; OWNERS] = std::array::from_fn(|at| {
        let group = if at % 2 == 0 { small } else { large };
        tree.new_task(group, b"task", 0).unwrap()
    });
    drop(pin);
    let this: &'static Handled = Box::leak(Box::new(Handled {
        tree,
        rec,
        tags,
        holds: std::array::from_fn(|_| AtomicBool::new(false)),
        traps: AtomicU64::new(0),
        one_in: AtomicU64::new(1),
    }));
    HANDLED.store(core::ptr::from_ref(this).cast_mut(), Ordering::Relaxed);
    // SAFETY: a plain handler for a signal nobody else here uses; zero is an empty mask and no
    // flags.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = on_trap as extern "C" fn(libc::c_int) as usize;
        assert_eq!(
            libc::sigaction(libc::SIGTRAP, &raw const action, core::ptr::null_mut()),
            0
        );
    }
    let mut held: Vec<(Tag, u64)> = Vec::with_capacity(1000);
    for round in 0..rounds {
        let one_in = [2000, 300, 6000, 1, 700][round % 5];
        this.one_in.store(one_in, Ordering::Relaxed);
        let (a, b) = (tags[round % OWNERS], tags[(round * 5 + 1) % OWNERS]);
        let scope = stepped(|| tree.enter_scope(rec, Some(a)));
        for bytes in [8, 3000, 40 << 10] {
            if let Ok(tag) = stepped(|| charge_current(tree, rec, bytes)) {
                held.push((tag, bytes));
            }
        }
        let inner = stepped(|| tree.enter_scope(rec, Some(b)));
        if stepped(|| charge_current(tree, rec, 8)) == Ok(b) {
            held.push((b, 8));
        }
        stepped(|| tree.leave_scope(rec, inner));
        // Out of order: apart, next to each other, and all in one gap.
        let mut inside = [a, b, a, b].map(|tag| Some(tree.enter_scope(rec, Some(tag))));
        for (end, charged) in [(0, b), (2, b), (1, b), (3, a)] {
            let ended = inside[end].take().unwrap();
            stepped(|| tree.leave_scope(rec, ended));
            assert_eq!(
                (rec.current(), tree.gaps.in_use()),
                (Some(charged), gaps(end))
            );
        }
        let target = if round % 2 == 0 { small } else { large };
        let pin = tree.threads.epoch.pin(rec);
        let _ = stepped(|| move_task(tree, rec, a, target));
        if round % 4 == 0 {
            stepped(|| tree.drain(rec, root));
            stepped(|| tree.drain(other, root));
        }
        drop(pin);
        if round % 2 == 1 {
            let (tag, bytes) = held.swap_remove(0);
            stepped(|| tree.uncharge(rec, tag, bytes));
        }
        // A short task and a short group, ended and retired under traps.
        let pin = tree.threads.epoch.pin(rec);
        let group = tree.memcgs.get(tree.create(large, b"short").unwrap());
        let short = tree.new_task(group, b"short", 0).unwrap();
        stepped(|| tree.charge(rec, short, 64)).unwrap();
        stepped(|| tree.end_task(short));
        stepped(|| offline::remove_alone(tree, group)).unwrap();
        drop(pin);
        stepped(|| tree.uncharge(rec, short, 64));
        // An owner that nothing names but the scope.
        let pin = tree.threads.epoch.pin(rec);
        let last = tree.new_task(large, b"last", 0).unwrap();
        drop(pin);
        let inner = stepped(|| tree.enter_scope(rec, Some(last)));
        tree.end_task(last);
        if stepped(|| charge_current(tree, rec, 64)) == Ok(last) {
            stepped(|| tree.uncharge(rec, last, 64));
        }
        stepped(|| tree.leave_scope(rec, inner));
        stepped(|| tree.leave_scope(rec, scope));
        assert_eq!(rec.current(), None);
        tree.audit().unwrap();
        let mut expected: u64 = held.iter().map(|&(_, bytes)| bytes).sum();
        let kept = this.holds.iter().filter(|h| h.load(Ordering::Relaxed));
        expected += kept.count() as u64 * BYTES;
        let _pin = tree.threads.epoch.pin(rec);
        assert_eq!(tree.usage(root).current, expected);
    }
    HANDLED.store(core::ptr::null_mut(), Ordering::Relaxed);
    assert!(this.traps.load(Ordering::Relaxed) > 10_000);
    for (tag, bytes) in held {
        tree.uncharge(rec, tag, bytes);
    }
    for (&tag, holds) in tags.iter().zip(&this.holds) {
        if holds.load(Ordering::Relaxed) {
            tree.uncharge(rec, tag, BYTES);
        }
        let _pin = tree.threads.epoch.pin(rec);
        tree.end_task(tag);
    }
    {
        let _pin = tree.threads.epoch.pin(rec);
        offline::remove_alone(tree, small).unwrap();
        offline::remove_alone(tree, large).unwrap();
    }
    tree.return_all(rec);
    tree.threads.leave(index);
    assert_empty(tree);
}

#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn a_signal_handler_may_charge_and_enter_between_any_two_instructions() {
    // One after the other: the handler's world is one static.
    run(false, 5);
    run(true, 1);
}
