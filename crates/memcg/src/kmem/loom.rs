//! Frees from other threads under every schedule: the real stack of objects with its notice, the
//! real stack of slabs.
//!
//! A slab here is its `Remote`, the links of a few objects and how many its owner thinks are held;
//! the steps are those of `kmem::heap` and `kmem::mod`. The word of a slab's tag and the state of a
//! parked heap are modelled with the same orderings, since their records are bytes and not objects
//! of loom's.

#![forbid(unsafe_code)]

use crate::kmem::list::Returned;
use crate::kmem::remote::{NONE, Pushed, Remote};
use crate::kmem::slab::Slab;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering::*, fence};
use loom::thread;
use std::sync::Arc;

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(f);
}

struct Mini {
    remote: Remote,
    links: [AtomicU32; 4],
    released: AtomicBool,
    /// Pushers that hold the slab as in flight.
    flights: AtomicU32,
}

impl Mini {
    fn new() -> Arc<Self> {
        let this = Self {
            remote: Remote::default(),
            links: Default::default(),
            released: AtomicBool::new(false),
            flights: AtomicU32::new(0),
        };
        this.remote.reset();
        Arc::new(this)
    }

    /// As `remote_free::publish`.
    fn push(&self, object: u32) -> bool {
        let link = |next| self.links[object as usize].store(next, Relaxed);
        let notify = self.remote.push(object, 1, link) == Pushed::Notify;
        if notify {
            assert_eq!(self.flights.fetch_add(1, Relaxed), 0, "in flight twice");
            assert!(!self.released.load(Relaxed), "released while in flight");
        }
        notify
    }

    /// As `Slab::collect`: how many, and which as bits.
    fn collect(&self) -> (u32, u32) {
        let Some(found) = self.remote.collect() else {
            return (0, 0);
        };
        let (mut at, mut bits, mut n) = (found.first, 0, 0);
        while at != NONE {
            assert_eq!(bits >> at & 1, 0, "an object twice");
            bits |= 1 << at;
            n += 1;
            at = self.links[at as usize].load(Relaxed);
        }
        assert_eq!(n, found.count);
        (n, bits)
    }

    fn arrive(&self) {
        self.flights.fetch_sub(1, Relaxed);
        self.remote.arrive();
    }
}

#[test]
fn loom_objects_pushed_by_two_are_collected_once() {
    model(|| {
        let slab = Mini::new();
        let pushers: [_; 2] = std::array::from_fn(|me| {
            let slab = slab.clone();
            thread::spawn(move || {
                for object in 0..2 {
                    assert!(
                        !slab.push(me as u32 * 2 + object),
                        "nobody asked for notice"
                    );
                }
            })
        });
        let mut all = slab.collect();
        for pusher in pushers {
            pusher.join().unwrap();
            let more = slab.collect();
            assert_eq!(all.1 & more.1, 0);
            all = (all.0 + more.0, all.1 | more.1);
        }
        assert_eq!(all, (4, 0b1111));
    });
}

#[test]
fn loom_notice_that_was_asked_for_comes_once() {
    model(|| {
        let slab = Mini::new();
        let pushers: [_; 2] = std::array::from_fn(|me| {
            let slab = slab.clone();
            thread::spawn(move || slab.push(me as u32))
        });
        let asked = slab.remote.ask_notice(0);
        let notices: u32 = pushers
            .into_iter()
            .map(|p| u32::from(p.join().unwrap()))
            .sum();
        // Refused when there is something to collect at once; else one push of those after it, if
        // there is one.
        let before = if asked { 0 } else { slab.collect().0 };
        let after = slab.collect().0;
        assert_eq!(before + after, 2);
        assert!(notices <= 1);
        assert!(
            asked || before > 0,
            "neither notice nor anything to collect"
        );
        assert_eq!(
            notices,
            u32::from(asked),
            "asked while both were still to come, or refused"
        );
    });
}

#[test]
fn loom_a_slab_in_flight_is_not_released() {
    model(|| {
        let slab = Mini::new();
        assert!(slab.remote.ask_notice(0));
        let pushers: [_; 2] = std::array::from_fn(|me| {
            let slab = slab.clone();
            thread::spawn(move || slab.push(me as u32))
        });
        // The owner looks at it meanwhile, as `trim` or the last free of its own would: two objects
        // are held.
        let mut held = 2 - slab.collect().0;
        if held == 0 && !slab.remote.is_in_flight() {
            slab.released.store(true, Relaxed);
        }
        let notified = pushers
            .into_iter()
            .filter_map(|p| p.join().unwrap().then_some(()))
            .count();
        assert_eq!(notified, 1);
        // It arrives, and is released now.
        assert!(!slab.released.load(Relaxed));
        slab.arrive();
        held -= slab.collect().0;
        assert!(held == 0 && !slab.remote.is_in_flight());
    });
}

#[test]
fn loom_the_last_free_into_a_heap_that_is_parked_is_noticed() {
    model(|| {
        // Full, and content with hearing of two.
        let slab = Mini::new();
        assert!(slab.remote.ask_notice(1));
        let pusher = {
            let slab = slab.clone();
            thread::spawn(move || slab.push(0))
        };
        // As `list_or_release` does where nobody will look again.
        let mut collected = slab.collect().0;
        while !slab.remote.ask_notice(0) {
            collected += slab.collect().0;
        }
        let notified = pusher.join().unwrap();
        assert!(notified || collected == 1, "the object is found by nobody");
    });
}

#[test]
fn loom_slabs_put_back_by_two_are_taken_once() {
    model(|| {
        let stack = Arc::new(Returned::default());
        // Not dropped before the model ends: a stack knows addresses.
        let slabs: [&'static Slab; 2] = std::array::from_fn(|_| &*Box::leak(Box::default()));
        let pushers = slabs.map(|slab| {
            let stack = stack.clone();
            thread::spawn(move || stack.push(slab))
        });
        let mut taken: Vec<*const Slab> = Vec::new();
        stack.pop_all(|slab| taken.push(slab));
        for pusher in pushers {
            pusher.join().unwrap();
        }
        stack.pop_all(|slab| taken.push(slab));
        assert!(stack.is_empty());
        taken.sort();
        let mut all = slabs.map(core::ptr::from_ref);
        all.sort();
        assert_eq!(taken, all);
    });
}

const PARKED: u32 = 2;
const BORROWED: u32 = 3;

/// A heap that is parked, and slabs that come in: as `deliver` and `unborrow`.
#[derive(Default)]
struct MiniHeap {
    returned: Returned,
    state: AtomicU32,
    seen: AtomicU32,
}

impl MiniHeap {
    fn claim(&self) -> bool {
        self.state
            .compare_exchange(PARKED, BORROWED, AcqRel, Relaxed)
            .is_ok()
    }

    fn look(&self) {
        self.returned.pop_all(|_| {
            self.seen.fetch_add(1, Relaxed);
        });
    }

    fn unborrow(&self) {
        loop {
            self.state.store(PARKED, Release);
            fence(SeqCst);
            if self.returned.is_empty() || !self.claim() {
                return;
            }
            self.look();
        }
    }

    fn deliver(&self, slab: &'static Slab) {
        self.returned.push(slab);
        fence(SeqCst);
        if self.state.load(Acquire) == PARKED && self.claim() {
            self.look();
            self.unborrow();
        }
    }
}

#[test]
fn loom_a_slab_returned_while_its_heap_is_parked_is_looked_at() {
    model(|| {
        let heap = Arc::new(MiniHeap::default());
        let slabs: [&'static Slab; 2] = std::array::from_fn(|_| &*Box::leak(Box::default()));
        heap.state.store(BORROWED, Relaxed);
        let others = slabs.map(|slab| {
            let heap = heap.clone();
            thread::spawn(move || heap.deliver(slab))
        });
        // Its thread leaves.
        heap.look();
        heap.unborrow();
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(heap.seen.load(Relaxed), 2, "a slab that nobody looks at");
        assert_eq!(heap.state.load(Relaxed), PARKED);
    });
}

#[test]
fn loom_a_tag_read_while_the_slab_is_mixed_is_the_objects() {
    const MIXED: u32 = u32::MAX;
    model(|| {
        let word = Arc::new((AtomicU32::new(7), AtomicU32::new(0)));
        let reader = {
            let word = word.clone();
            // As `tag_of`, of an object of the first tag.
            thread::spawn(move || match word.0.load(Acquire) {
                MIXED => word.1.load(Relaxed),
                tag => tag,
            })
        };
        // As `mix`.
        word.1.store(7, Relaxed);
        word.0.store(MIXED, Release);
        assert_eq!(reader.join().unwrap(), 7);
    });
}

/// A slab whose objects have one tag, three of them: as `tags` has it. Object 0 is to be adopted, 1
/// is freed by another thread, 2 is free and is taken by the slab's owner for a second tenant.
#[derive(Default)]
struct MiniTags {
    word: AtomicU32,
    beside: [AtomicU32; 3],
    mixing: AtomicU32,
}

impl MiniTags {
    const MIXED: u32 = u32::MAX;
    const FIRST: u32 = 7;
    const SECOND: u32 = 8;
    const ADOPTER: u32 = 9;

    fn new() -> Arc<Self> {
        let this = Self::default();
        this.word.store(Self::FIRST, Relaxed);
        Arc::new(this)
    }

    /// As `mix_to`, under `begin_mixing`.
    fn mix(&self) {
        while self
            .mixing
            .compare_exchange(0, 1, Acquire, Relaxed)
            .is_err()
        {
            thread::yield_now();
        }
        if self.word.load(Acquire) != Self::MIXED {
            let old = self.word.load(Relaxed);
            for beside in &self.beside {
                beside.store(old, Relaxed);
            }
            self.word.store(Self::MIXED, Release);
        }
        self.mixing.store(0, Release);
    }

    /// As `tag_of`.
    fn tag_of(&self, object: usize) -> u32 {
        match self.word.load(Acquire) {
            Self::MIXED => self.beside[object].load(Relaxed),
            tag => tag,
        }
    }

    /// As `retag_held`.
    fn adopt(&self, object: usize) {
        if self.word.load(Acquire) != Self::MIXED {
            self.mix();
        }
        self.beside[object].store(Self::ADOPTER, Relaxed);
    }

    /// As `fit_tag`, and where that fails `accept` and `note_tag`.
    fn take(&self, object: usize, tag: u32) {
        let own = self.word.load(Acquire);
        if own == tag {
            return;
        }
        if own != Self::MIXED {
            self.mix();
        }
        self.beside[object].store(tag, Relaxed);
    }
}

#[test]
fn loom_an_adopted_object_a_freed_one_and_one_of_a_second_tenant_keep_their_tags() {
    model(|| {
        let slab = MiniTags::new();
        let freer = {
            let slab = slab.clone();
            thread::spawn(move || slab.tag_of(1))
        };
        let adopter = {
            let slab = slab.clone();
            thread::spawn(move || {
                slab.adopt(0);
                // It frees it, too.
                slab.tag_of(0)
            })
        };
        slab.take(2, MiniTags::SECOND);
        assert_eq!(slab.tag_of(2), MiniTags::SECOND);
        assert_eq!(freer.join().unwrap(), MiniTags::FIRST);
        assert_eq!(adopter.join().unwrap(), MiniTags::ADOPTER);
        // Whoever it was given to.
        assert_eq!(slab.tag_of(0), MiniTags::ADOPTER);
    });
}

#[test]
fn loom_an_object_that_is_taken_while_the_slab_is_mixed_by_another_keeps_its_tag() {
    model(|| {
        let slab = MiniTags::new();
        let adopter = {
            let slab = slab.clone();
            thread::spawn(move || slab.adopt(0))
        };
        // For the first tenant, and then again for the second.
        slab.take(1, MiniTags::FIRST);
        assert_eq!(slab.tag_of(1), MiniTags::FIRST);
        slab.take(2, MiniTags::SECOND);
        assert_eq!(slab.tag_of(2), MiniTags::SECOND);
        adopter.join().unwrap();
        assert_eq!(
            [0, 1, 2].map(|object| slab.tag_of(object)),
            [MiniTags::ADOPTER, MiniTags::FIRST, MiniTags::SECOND]
        );
    });
}
