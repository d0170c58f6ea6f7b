//! What the slabs say every owner holds, against what the books say it is charged.
//!
//! At rest, for every owner: live objects = charged − stocked − what it holds of other kinds. A
//! storm of threads comes before, with scopes, hand-overs, exits, moves, ends of groups and tasks,
//! and forks, whose children are held to the same.

use super::own_process;
use crate::api::{Task, root};
use crate::engine::{Engine, Flags, engine, kmalloc};
use crate::group::Tag;
use crate::group::kind::Kind;
use crate::group::objcg::State;
use crate::testing::common::Random;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

/// Bytes of live objects by tag.
pub(super) fn held(engine: &Engine) -> BTreeMap<Option<Tag>, u64> {
    let mut held = BTreeMap::new();
    let add = |tag, bytes: usize| *held.entry(tag).or_default() += bytes as u64;
    engine.kmem.each_live(add);
    held
}

/// Holds the books against the slabs, and the books against themselves.
pub(super) fn check(engine: &Engine) {
    let tree = &engine.tree;
    tree.audit().unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut held = held(engine);
    held.remove(&None);
    for (tag, owner) in tree.objcgs.each() {
        let objects = held.remove(&Some(tag)).unwrap_or(0);
        if owner.state() == State::Free {
            assert_eq!(objects, 0, "objects of {tag:?}, who is done with");
            continue;
        }
        let others = owner.side_bytes(Kind::Mapped) + tree.reserved_of(tag);
        let charged = owner.charged_bytes() - tree.stocked_for(tag) - others;
        assert_eq!(charged, objects, "{tag:?}: charged, held");
    }
    assert!(
        held.is_empty(),
        "objects of owners there never were: {held:?}"
    );
}

/// An object with its address at both ends.
pub(super) struct Object {
    pub at: *mut u8,
    pub bytes: usize,
}

// SAFETY: plain memory.
unsafe impl Send for Object {}

impl Object {
    /// `None` without memory.
    pub fn new(bytes: usize, align: usize, zeroed: bool) -> Option<Object> {
        let at = match zeroed {
            true => kmalloc::alloc_zeroed(bytes, align, Flags::NOWAIT),
            false => kmalloc::alloc_aligned(bytes, align, Flags::NOWAIT),
        };
        let this = Object { at, bytes };
        if at.is_null() {
            return None;
        }
        assert!((at as usize).is_multiple_of(align.max(16)));
        if zeroed {
            for place in [0, bytes / 2, bytes.saturating_sub(1)] {
                // SAFETY: in the object.
                assert!(bytes == 0 || unsafe { at.add(place).read() } == 0);
            }
        }
        this.paint();
        Some(this)
    }

    pub fn paint(&self) {
        if self.bytes >= 8 {
            for end in self.ends() {
                // SAFETY: in the object.
                unsafe { end.write_unaligned(self.bytes as u64 ^ 0x55aa) };
            }
        }
    }

    /// The first and the last eight bytes; twice the first of what is short.
    fn ends(&self) -> [*mut u64; 2] {
        let last = if self.bytes < 16 { 0 } else { self.bytes - 8 };
        // SAFETY: in the object, of eight bytes at least.
        unsafe { [self.at.cast(), self.at.add(last).cast()] }
    }

    pub fn check(&self) {
        if self.bytes >= 8 {
            for end in self.ends() {
                // SAFETY: in the object.
                assert_eq!(unsafe { end.read_unaligned() }, self.bytes as u64 ^ 0x55aa);
            }
        }
    }

    /// Another length; `false`: there is no memory, and nothing has changed.
    pub fn resize(&mut self, bytes: usize) -> bool {
        self.check();
        // SAFETY: live, ours.
        let at = unsafe { kmalloc::resize(self.at, bytes, 16, Flags::NOWAIT) };
        if at.is_null() {
            self.check();
            return false;
        }
        if self.bytes.min(bytes) >= 8 {
            // SAFETY: in the object.
            let first = unsafe { at.cast::<u64>().read_unaligned() };
            assert_eq!(first, self.bytes as u64 ^ 0x55aa);
        }
        (self.at, self.bytes) = (at, bytes);
        self.paint();
        true
    }

    pub fn free(self) {
        self.check();
        // SAFETY: live, ours, not used again.
        unsafe { kmalloc::free(self.at) };
    }
}

/// Small mostly; every range of sizes.
pub(super) fn some_bytes(random: &mut Random) -> usize {
    let most = match random.next(200) {
        0..150 => 600,
        150..190 => 9 << 10,
        190..197 => 70 << 10,
        197..199 => 3 << 20,
        _ => 40 << 20,
    };
    random.next(most) as usize
}

const THREADS: usize = 5;
const HANDED: usize = 64;
static OTHERS_AT_IT: AtomicUsize = AtomicUsize::new(0);

struct Storm {
    handed: Vec<Mutex<Option<Object>>>,
    tasks: Vec<Task>,
    seed: u64,
}

impl Storm {
    fn hand(&self, random: &mut Random, object: Option<Object>) {
        let place = &self.handed[random.next(HANDED as u64) as usize];
        if let Some(other) = std::mem::replace(&mut *place.lock().unwrap(), object) {
            other.free();
        }
    }

    /// One thread's part: in scopes of tasks, and of groups that are removed under it.
    fn work(&self, me: usize, steps: usize) {
        let mut random = Random(self.seed * 1000 + me as u64 + 1);
        let mut mine: Vec<Object> = Vec::new();
        for step in 0..steps {
            let task = &self.tasks[random.next(self.tasks.len() as u64) as usize];
            let group = root()
                .create(format!("t{me}-{}-{step}", self.seed))
                .unwrap();
            let _in_task = (step % 3 != 0).then(|| task.enter());
            let _in_group = (step % 3 != 1).then(|| group.enter());
            for _ in 0..random.next(60) {
                match random.next(8) {
                    0..4 => {
                        let align = if random.next(10) == 0 {
                            1 << random.next(13)
                        } else {
                            1
                        };
                        let bytes = some_bytes(&mut random);
                        mine.extend(Object::new(bytes, align, random.next(4) == 0));
                    }
                    4 if !mine.is_empty() => {
                        let at = random.next(mine.len() as u64) as usize;
                        let bytes = some_bytes(&mut random);
                        assert!(mine[at].resize(bytes.max(1)));
                    }
                    5 if !mine.is_empty() => {
                        let at = random.next(mine.len() as u64) as usize;
                        let object = mine.swap_remove(at);
                        self.hand(&mut random, Some(object));
                    }
                    6 => self.hand(&mut random, None),
                    _ if !mine.is_empty() => {
                        let at = random.next(mine.len() as u64) as usize;
                        mine.swap_remove(at).free();
                    }
                    _ => {}
                }
            }
            if random.next(4) == 0 {
                let target = if random.next(2) == 0 {
                    root()
                } else {
                    group.clone()
                };
                let _ = task.move_to(&target);
            }
            // It stays when a task has been moved there.
            let _ = group.remove();
        }
        // What is left is somebody else's to free, or nobody's for a while.
        for object in mine {
            self.hand(&mut random, Some(object));
        }
    }

    /// A child has the same books, and may go on.
    fn fork(&self) {
        // SAFETY: the child calls nothing but what the parent could, and ends by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // A panic's text may need a lock that a thread of the parent's holds.
            // SAFETY: ends the child, should it hang.
            unsafe { libc::alarm(60) };
            // What threads that the child does not have were about to do is charged and held by
            // nobody, or held and not charged any more: only where they all rest is it an equality.
            if OTHERS_AT_IT.load(Ordering::SeqCst) == 0 {
                check(engine());
            }
            let mut random = Random(9);
            let objects: Vec<Object> = (0..200)
                .filter_map(|_| Object::new(some_bytes(&mut random), 1, false))
                .collect();
            objects.into_iter().for_each(Object::free);
            if OTHERS_AT_IT.load(Ordering::SeqCst) == 0 {
                check(engine());
            }
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: our child, a valid place.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "a child's books");
    }
}

fn storm(seed: u64) {
    let home = root().create(format!("home-{seed}")).unwrap();
    let storm = Storm {
        handed: (0..HANDED).map(|_| Mutex::new(None)).collect(),
        tasks: (0..6).map(|_| home.task("task").unwrap()).collect(),
        seed,
    };
    let rest = Barrier::new(THREADS + 1);
    std::thread::scope(|s| {
        let threads: [_; THREADS] = std::array::from_fn(|me| {
            let (storm, rest) = (&storm, &rest);
            s.spawn(move || {
                storm.work(me, 40);
                rest.wait();
                // All stand still, with stock and heaps: the books must balance now, and in a
                // child.
                rest.wait();
                storm.work(me + 10, if me % 2 == 0 { 20 } else { 2 });
            })
        });
        OTHERS_AT_IT.store(1, Ordering::SeqCst);
        for _ in 0..3 {
            storm.fork();
        }
        rest.wait();
        OTHERS_AT_IT.store(0, Ordering::SeqCst);
        check(engine());
        storm.fork();
        OTHERS_AT_IT.store(1, Ordering::SeqCst);
        rest.wait();
        // The end of the scope waits for what they do, a join for their exit.
        for thread in threads {
            thread.join().unwrap();
        }
    });
    OTHERS_AT_IT.store(0, Ordering::SeqCst);
    check(engine());
    storm.fork();
    for place in &storm.handed {
        if let Some(object) = place.lock().unwrap().take() {
            object.free();
        }
    }
    drop(storm);
    check(engine());
}

#[test]
fn what_owners_are_charged_is_what_their_objects_hold() {
    if own_process::argument().is_none() {
        own_process::passes_again(
            "proof::ledger::what_owners_are_charged_is_what_their_objects_hold",
            "storm",
        );
        return;
    }
    for seed in 1..=16 {
        storm(seed);
        kmalloc::trim();
        check(engine());
    }
    let left: u64 = held(engine()).values().sum();
    assert_eq!(left, 0, "everything was freed");
}
