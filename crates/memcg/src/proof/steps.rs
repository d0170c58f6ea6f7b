//! A signal handler between any two instructions of malloc, free and realloc, and of a thread's
//! exit.
//!
//! As in `signals`, the processor's single-step flag brings a SIGTRAP after every instruction. The
//! handler allocates, frees and resizes objects of its own, of every kind, and frees what the
//! thread it came upon hands it. It keeps still only where signals are held off, which the mask
//! that it interrupted tells. In the end every object has what was written to it, and every owner
//! is charged what its objects hold.

use super::ledger::{self, Object};
use super::own_process;
use crate::api::{Task, root};
use crate::engine::{Flags, engine, kmalloc, thread_end};
use crate::testing::common::Random;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

const TEST: &str =
    "proof::steps::a_handler_may_allocate_between_any_two_instructions_of_malloc_and_free";

const MINE: usize = 24;

/// The handler's world: one thread is stepped at a time.
#[derive(Default)]
struct Handled {
    on: AtomicBool,
    /// Acts at one trap in so many, so often at most for what is stepped: a loop that takes what
    /// changed meanwhile for a reason to start again would never end otherwise.
    one_in: AtomicU64,
    left: AtomicU64,
    traps: AtomicU64,
    acted: AtomicU64,
    held_off: AtomicU64,
    /// Its objects: each has its size in its first eight bytes.
    mine: [AtomicUsize; MINE],
    /// Objects of the thread's that it is to free.
    handed: [AtomicUsize; 4],
    task: AtomicPtr<Task>,
}

static HANDLED: std::sync::LazyLock<Handled> = std::sync::LazyLock::new(Handled::default);

extern "C" fn on_trap(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let this = &*HANDLED;
    if !this.on.load(Relaxed) {
        return;
    }
    let trap = this.traps.fetch_add(1, Relaxed);
    // SAFETY: the kernel's own; the set is one word of it.
    let mask = unsafe {
        (&raw const (*context.cast::<libc::ucontext_t>()).uc_sigmask)
            .cast::<u64>()
            .read()
    };
    if mask >> (libc::SIGUSR1 - 1) & 1 != 0 {
        this.held_off.fetch_add(1, Relaxed);
        return;
    }
    let mut random = Random(trap.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    random.next(2);
    let left = this.left.load(Relaxed);
    if left == 0 || random.next(this.one_in.load(Relaxed)) != 0 {
        return;
    }
    this.left.store(left - 1, Relaxed);
    this.acted.fetch_add(1, Relaxed);
    let errno = crate::os::errno::keep();
    this.act(&mut random);
    drop(errno);
}

fn bytes(random: &mut Random) -> usize {
    let most = match random.next(40) {
        0..28 => 400,
        28..36 => 9 << 10,
        36..39 => 100 << 10,
        _ => 17 << 20,
    };
    16 + random.next(most) as usize
}

impl Handled {
    fn act(&self, random: &mut Random) {
        // SAFETY: leaked; null while there is none.
        let task = unsafe { self.task.load(Relaxed).as_ref() };
        let _scope = task.filter(|_| random.next(2) == 0).map(Task::enter);
        let handed = self.handed[random.next(4) as usize].swap(0, Relaxed);
        if handed != 0 {
            // SAFETY: handed to us live.
            unsafe { kmalloc::free(handed as *mut u8) };
        }
        for _ in 0..1 + random.next(3) {
            let place = &self.mine[random.next(MINE as u64) as usize];
            let old = place.swap(0, Relaxed);
            let new = match (old, random.next(3)) {
                (0, _) => {
                    let bytes = bytes(random);
                    let p = match random.next(4) {
                        0 if bytes < 100_000 => kmalloc::alloc_zeroed(bytes, 16, Flags::NOWAIT),
                        1 => kmalloc::alloc_aligned(bytes, 1 << random.next(14), Flags::NOWAIT),
                        _ => kmalloc::alloc(bytes, Flags::NOWAIT),
                    };
                    mark(p, bytes);
                    p as usize
                }
                (old, 0) => {
                    let bytes = bytes(random);
                    check(old);
                    // SAFETY: live, ours.
                    let p = unsafe { kmalloc::resize(old as *mut u8, bytes, 16, Flags::NOWAIT) };
                    mark(p, bytes);
                    p as usize
                }
                (old, _) => {
                    check(old);
                    // SAFETY: live, ours, not used again.
                    unsafe { kmalloc::free(old as *mut u8) };
                    0
                }
            };
            place.store(new, Relaxed);
        }
    }

    fn free_all(&self) {
        for place in self.mine.iter().chain(&self.handed) {
            let old = place.swap(0, Relaxed);
            if old != 0 {
                // SAFETY: live, ours, not used again.
                unsafe { kmalloc::free(old as *mut u8) };
            }
        }
    }
}

/// Notes an object's size at its beginning, and the size and its address at its end.
fn mark(p: *mut u8, bytes: usize) {
    assert!(!p.is_null());
    // SAFETY: an object of 16 bytes at least.
    unsafe {
        p.cast::<usize>().write(bytes);
        p.add(bytes - 8)
            .cast::<usize>()
            .write_unaligned(bytes ^ p as usize);
    }
}

fn check(at: usize) {
    let p = at as *mut u8;
    // SAFETY: as above.
    unsafe {
        let bytes = p.cast::<usize>().read();
        assert_eq!(
            p.add(bytes - 8).cast::<usize>().read_unaligned(),
            bytes ^ at
        );
    }
}

/// Runs `f` with a trap after every instruction.
fn stepped<R>(f: impl FnOnce() -> R) -> R {
    stepped_with(40, f)
}

/// As [`stepped`]; the handler acts `left` times at most.
fn stepped_with<R>(left: u64, f: impl FnOnce() -> R) -> R {
    HANDLED.left.store(left, Relaxed);
    // SAFETY: sets the trap flag, whose signal is handled; the stack is as before.
    unsafe { core::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    let answer = f();
    // SAFETY: clears it again.
    unsafe { core::arch::asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
    answer
}

/// What the handler meets: one thread's allocations in every way there is.
fn be_stepped(random: &mut Random, task: &Task, theirs: &mut Vec<Object>) {
    let mut mine: Vec<Object> = Vec::new();
    for round in 0..15 {
        HANDLED
            .one_in
            .store([1, 5, 20, 100, 700][round % 5], Relaxed);
        let scope = (round % 3 == 0).then(|| stepped(|| task.enter()));
        for _ in 0..3 {
            let bytes = bytes(random);
            let p = stepped(|| kmalloc::alloc(bytes, Flags::NOWAIT));
            mine.push(Object { at: p, bytes });
            mine.last().unwrap().paint();
        }
        // More of one class than a slab has, so that it fills up; freed again, so that slabs end.
        if round % 10 == 9 {
            HANDLED.one_in.store(100, Relaxed);
            let bytes = [4000, 20_000, 60_000][round / 10 % 3];
            let many: Vec<*mut u8> = (0..20)
                .map(|_| stepped(|| kmalloc::alloc(bytes, Flags::NOWAIT)))
                .collect();
            for p in many {
                // SAFETY: live, ours.
                unsafe { stepped(|| kmalloc::free(p)) };
            }
        }
        if let Some(scope) = scope {
            stepped(|| drop(scope));
        }
        // Small ones: a copy brings a trap for every byte.
        let small = mine.iter_mut().filter(|object| object.bytes < 2_000).last();
        if let Some(object) = small {
            object.check();
            let bytes = 16 + random.next([300, 3_000, 70_000][round % 3]) as usize;
            // SAFETY: live, ours.
            object.at = stepped(|| unsafe { kmalloc::resize(object.at, bytes, 16, Flags::NOWAIT) });
            object.bytes = bytes;
            object.paint();
        }
        let object = mine.swap_remove(random.next(mine.len() as u64) as usize);
        object.check();
        // SAFETY: live, ours.
        unsafe { stepped(|| kmalloc::free(object.at)) };
        // One for the handler, and one that another thread allocated.
        let object = mine.swap_remove(random.next(mine.len() as u64) as usize);
        let before = HANDLED.handed[round % 4].swap(object.at as usize, Relaxed);
        for at in [before, theirs.pop().map_or(0, |object| object.at as usize)] {
            // SAFETY: live, ours now.
            unsafe { stepped(|| kmalloc::free(at as *mut u8)) };
        }
    }
    for object in mine {
        object.check();
        // SAFETY: live, ours.
        unsafe { stepped(|| kmalloc::free(object.at)) };
    }
}

/// A thread's first allocation, its exit, and what others' exits may do after that.
fn come_and_go() {
    HANDLED.on.store(true, Relaxed);
    HANDLED.one_in.store(40, Relaxed);
    let p = stepped_with(u64::MAX, || kmalloc::alloc(100, Flags::NOWAIT));
    // SAFETY: live, ours.
    unsafe { stepped(|| kmalloc::free(p)) };
    leave();
    HANDLED.on.store(false, Relaxed);
}

fn leave() {
    HANDLED.one_in.store(40, Relaxed);
    stepped_with(u64::MAX, thread_end::depart);
    let late = stepped(|| kmalloc::alloc(100, Flags::NOWAIT));
    // SAFETY: live, ours.
    unsafe { stepped(|| kmalloc::free(late)) };
}

fn run() {
    let this = &*HANDLED;
    // SAFETY: a handler for a signal nobody else here uses; zero is an empty mask.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO;
        action.sa_sigaction = on_trap as extern "C" fn(_, _, _) as usize;
        assert_eq!(
            libc::sigaction(libc::SIGTRAP, &raw const action, core::ptr::null_mut()),
            0
        );
    }
    let group = root().create("stepped").unwrap();
    let task: &'static Task = Box::leak(Box::new(group.task("task").unwrap()));
    this.task
        .store(core::ptr::from_ref(task).cast_mut(), Relaxed);
    let mut theirs: Vec<Object> = std::thread::spawn(|| {
        let mut random = Random(3);
        (0..100)
            .filter_map(|_| Object::new(bytes(&mut random), 1, false))
            .collect()
    })
    .join()
    .unwrap();
    std::thread::spawn(move || {
        let mut random = Random(1);
        this.on.store(true, Relaxed);
        // The first allocation of a thread: its record, its heap.
        this.one_in.store(1, Relaxed);
        let first = stepped(|| kmalloc::alloc(100, Flags::NOWAIT));
        be_stepped(&mut random, task, &mut theirs);
        // SAFETY: live, ours.
        unsafe { stepped(|| kmalloc::free(first)) };
        leave();
        this.on.store(false, Relaxed);
        theirs.into_iter().for_each(Object::free);
    })
    .join()
    .unwrap();
    for place in &this.mine {
        if place.load(Relaxed) != 0 {
            check(place.load(Relaxed));
        }
    }
    ledger::check(engine());
    for _ in 0..4 {
        std::thread::spawn(come_and_go).join().unwrap();
    }
    this.free_all();
    kmalloc::trim();
    ledger::check(engine());
    assert_eq!(ledger::held(engine()).values().sum::<u64>(), 0);
    let (traps, acted) = (this.traps.load(Relaxed), this.acted.load(Relaxed));
    println!(
        "{traps} traps, the handler acted at {acted}, signals were off at {}",
        this.held_off.load(Relaxed)
    );
    assert!(acted > 3_000);
}

#[test]
fn a_handler_may_allocate_between_any_two_instructions_of_malloc_and_free() {
    if own_process::argument().is_some() {
        run();
    } else {
        own_process::passes_again(TEST, "steps");
    }
}
