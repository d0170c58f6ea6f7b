//! Lists under groups that come and go; moves of tasks are proved above (`proof`).

use super::{Cx, Link, Verdict, Walked};
use crate::group::{Hierarchy, Memcg, ROOT, ROOT_TAG, Tag};
use crate::kmem::Kmem;
use crate::kmem::per_id::IdPolicy;
use crate::sync::promise::SoleThread;
use crate::thread::ThreadRec;
use std::sync::atomic::{AtomicU64, Ordering};

struct World {
    tree: &'static Hierarchy,
    kmem: &'static Kmem,
    rec: &'static ThreadRec,
    list: crate::kmem::id::ListId,
}

/// # Safety
/// `link` is one of the leaked links of these tests.
unsafe fn let_go(link: *const Link) {
    // SAFETY: the links of these tests are leaked, so a pointer to one is valid for ever.
    assert!(!unsafe { &*link }.unref());
}

fn run(f: &mut dyn FnMut()) {
    f();
}

impl World {
    fn new() -> Self {
        Self::with(IdPolicy::default())
    }

    fn with(policy: IdPolicy) -> Self {
        let kmem: &'static Kmem = Box::leak(Box::default());
        kmem.init().unwrap();
        assert!(kmem.tables.set_policy(policy));
        let tree = Hierarchy::leaked();
        let (_, rec) = tree.threads.join().unwrap();
        let mut world = Self {
            tree,
            kmem,
            rec,
            // Until the list is open.
            list: crate::kmem::id::ListId::new(u32::MAX),
        };
        world.list = kmem.lists.open(world.cx(), let_go).unwrap();
        world
    }

    fn on_another_thread(&self) -> Self {
        let (_, rec) = self.tree.threads.join().unwrap();
        Self { rec, ..*self }
    }

    fn cx(&self) -> Cx<'static> {
        Cx {
            tree: self.tree,
            kmem: self.kmem,
            rec: self.rec,
            change: &run,
        }
    }

    fn group(&self, parent: &Memcg, name: &str) -> &'static Memcg {
        let _pin = self.tree.threads.epoch.pin(self.rec);
        let index = self.tree.create(parent, name.as_bytes()).unwrap();
        self.tree.memcgs.get(index)
    }

    fn root(&self) -> &'static Memcg {
        self.tree.memcgs.get(ROOT)
    }

    /// As `offline::remove`, which is above.
    fn end(&self, group: &Memcg) {
        use crate::counter::Level;
        let _pin = self.tree.threads.epoch.pin(self.rec);
        let parent = group.parent().unwrap();
        self.tree.unlink(group).unwrap();
        self.kmem.group_ends(self.tree, group, parent);
        group.counter.close();
        self.tree.link_cell(group.cell(), parent.cell());
        self.tree.end_own_objcg(group, 0);
        self.tree.dismiss(group);
    }

    fn add(&self, link: &Link) -> bool {
        // SAFETY: the links of these tests are leaked, so they do not move or end; the list is
        // closed last, if at all.
        unsafe { self.kmem.lists.add(self.cx(), self.list, link) }
    }

    fn del(&self, link: &Link) -> bool {
        self.kmem.lists.del(self.cx(), link)
    }

    fn count(&self, group: &Memcg) -> u64 {
        match self.tree.kmem_id_if_any(group) {
            Some(id) => self.kmem.lists.count(self.cx(), self.list, id),
            None => 0,
        }
    }

    fn walk(&self, group: &Memcg, nr: u64, mut look: impl FnMut(&Link) -> Verdict) -> Walked {
        let id = self.tree.kmem_id(group).unwrap();
        let lists = &self.kmem.lists;
        lists.walk(self.cx(), self.list, id, nr, &mut look)
    }
}

fn link(tag: Tag) -> &'static Link {
    Box::leak(Box::new(Link::new(tag)))
}

#[test]
fn a_thing_is_in_the_list_of_its_owner_s_group_and_in_one_only() {
    let w = World::new();
    let (a, b) = (w.group(w.root(), "a"), w.group(w.root(), "b"));
    let (of_a, of_b) = (link(a.tag()), link(b.tag()));
    assert!(w.add(of_a) && w.add(of_b));
    assert!(!w.add(of_a));
    assert_eq!((w.count(a), w.count(b), w.count(w.root())), (1, 1, 0));
    assert!(w.del(of_a));
    assert!(!w.del(of_a) && !of_a.is_listed());
    assert!(w.add(of_a) && w.del(of_a) && w.del(of_b));
    assert_eq!(w.kmem.lists.count_all(w.cx(), w.list), 0);
}

#[test]
fn a_walk_shows_the_oldest_first_and_does_as_it_is_told() {
    let w = World::new();
    let a = w.group(w.root(), "a");
    let all: Vec<_> = (0..6).map(|_| link(a.tag())).collect();
    assert!(all.iter().all(|link| w.add(link)));
    let order = |w: &World| {
        let mut seen = Vec::new();
        w.walk(a, u64::MAX, |link| {
            seen.push(all.iter().position(|l| core::ptr::eq(*l, link)).unwrap());
            Verdict::Skip
        });
        seen
    };
    assert_eq!(order(&w), [0, 1, 2, 3, 4, 5]);
    let mut verdicts = [
        Verdict::Rotate,
        Verdict::Removed,
        Verdict::Skip,
        Verdict::Retry,
        Verdict::Rotate,
        Verdict::Stop,
    ]
    .into_iter();
    let walked = w.walk(a, u64::MAX, |_| verdicts.next().unwrap());
    assert_eq!((walked.scanned, walked.removed), (5, 1));
    assert_eq!(order(&w), [2, 4, 5, 0, 3]);
    let walked = w.walk(a, 2, |_| Verdict::Removed);
    assert_eq!((walked.scanned, walked.removed), (2, 2));
    assert_eq!(order(&w), [5, 0, 3]);
    // What is rotated is not met again.
    let walked = w.walk(a, u64::MAX, |_| Verdict::Rotate);
    assert_eq!(walked.scanned, 3);
}

#[test]
fn a_callback_may_do_whatever_it_likes_with_the_list() {
    let w = World::new();
    let a = w.group(w.root(), "a");
    let all: Vec<_> = (0..4).map(|_| link(a.tag())).collect();
    assert!(all.iter().all(|link| w.add(link)));
    // Takes out what is looked at, and what comes next.
    let walked = w.walk(a, u64::MAX, |link| {
        assert!(w.del(link));
        w.del(all[1]);
        Verdict::Removed
    });
    assert_eq!((walked.scanned, walked.removed), (3, 3));
    assert!(all.iter().all(|link| w.add(link)));
    // Walks inside a walk; ends the group in the middle.
    let b = w.group(w.root(), "b");
    let of_b: Vec<_> = (0..3).map(|_| link(b.tag())).collect();
    assert!(of_b.iter().all(|link| w.add(link)));
    let walked = w.walk(b, u64::MAX, |_| {
        assert_eq!(w.walk(b, u64::MAX, |_| Verdict::Rotate).scanned, 3);
        w.end(b);
        Verdict::Skip
    });
    assert_eq!(walked.scanned, 1);
    assert_eq!((w.count(w.root()), w.count(a)), (3, 4));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        w.walk(a, u64::MAX, |_| panic!("of the program"))
    }));
    assert!(panicked.is_err());
    assert_eq!(w.walk(a, u64::MAX, |_| Verdict::Removed).removed, 4);
}

#[test]
fn what_a_group_leaves_is_its_parent_s_without_a_touch_and_its_heads_go_with_the_last_of_it() {
    let w = World::new();
    let before = w.kmem.lists.nr_heads();
    let a = w.group(w.root(), "a");
    let b = w.group(a, "b");
    let c = w.group(b, "c");
    let all: Vec<_> = [a, b, c, c].map(|group| link(group.tag())).to_vec();
    // The deepest first: those above get their lists all the same.
    assert!(all.iter().rev().all(|link| w.add(link)));
    w.end(c);
    assert_eq!((w.count(a), w.count(b)), (1, 3));
    w.end(b);
    assert_eq!(w.count(a), 4);
    // In the name of a removed group.
    let late = link(all[3].tag());
    assert!(w.add(late));
    w.end(a);
    assert_eq!(w.count(w.root()), 5);
    assert!(all.iter().all(|link| w.del(link)) && w.del(late));
    assert_eq!(w.kmem.lists.nr_heads(), before);
    w.kmem.lists.close(w.cx(), w.list);
    assert_eq!(w.kmem.lists.nr_heads(), before - 1);
}

#[test]
fn things_come_and_go_by_threads_while_groups_end_and_walks_go_on() {
    let w = World::new();
    let rounds = AtomicU64::new(0);
    std::thread::scope(|s| {
        for thread in 0..2usize {
            let (w, rounds) = (w.on_another_thread(), &rounds);
            s.spawn(move || {
                let mut held: Vec<&Link> = Vec::new();
                while rounds.load(Ordering::Relaxed) < 300 {
                    let group = {
                        let _pin = w.tree.threads.epoch.pin(w.rec);
                        let found = w.tree.lookup(b"/a/b").map(|at| w.tree.memcgs.get(at).tag());
                        // Named for good: the links are leaked.
                        found
                            .inspect(|&tag| w.tree.ref_objcg(tag))
                            .unwrap_or(ROOT_TAG)
                    };
                    for n in 0..8 {
                        let new = link(if n % 2 == thread { group } else { ROOT_TAG });
                        assert!(w.add(new));
                        held.push(new);
                    }
                    while held.len() > 40 {
                        assert!(w.del(held.swap_remove(held.len() / 2)));
                    }
                }
                for link in held {
                    assert!(w.del(link));
                }
            });
        }
        let walker = w.on_another_thread();
        let rounds = &rounds;
        s.spawn(move || {
            let mut n = 0u32;
            while rounds.load(Ordering::Relaxed) < 300 {
                walker.walk(walker.root(), 16, |_| {
                    n += 1;
                    if n.is_multiple_of(3) {
                        Verdict::Rotate
                    } else {
                        Verdict::Skip
                    }
                });
            }
        });
        for _ in 0..300 {
            let a = w.group(w.root(), "a");
            let b = w.group(a, "b");
            for _ in 0..20 {
                std::thread::yield_now();
            }
            w.end(b);
            w.end(a);
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(w.kmem.lists.count_all(w.cx(), w.list), 0);
    assert_eq!(w.kmem.lists.nr_heads(), 1);
}

#[test]
fn the_child_of_a_fork_makes_lists_though_a_thread_it_does_not_have_was_changing_their_table() {
    let w = World::with(IdPolicy::ShrinkableTree);
    let a = w.group(w.root(), "a");
    let (first, mut status) = (link(a.tag()), 1);
    let barrier = std::sync::Barrier::new(2);
    std::thread::scope(|s| {
        s.spawn(|| {
            let _held = w.kmem.lists.lists.get(w.list).heads.lock_tree();
            barrier.wait();
            barrier.wait();
        });
        barrier.wait();
        // SAFETY: the child uses nothing that another thread may have been in the middle of but
        // what it resets, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: `alarm` takes a number only. If the child waits for a lock that is never
            // free, the signal ends it.
            unsafe { libc::alarm(20) };
            // SAFETY: this is the child of a fork, in which no other thread exists.
            w.kmem.reset_tables_in_child(unsafe { SoleThread::new() });
            let is_whole = w.add(first) && w.count(a) == 1 && w.del(first);
            // SAFETY: `_exit` takes a number only; it ends the child without running anything else.
            unsafe { libc::_exit(i32::from(!is_whole)) };
        }
        // SAFETY: `child` is the child of this process that was forked above, and `status` is a
        // valid place for an `i32`.
        unsafe { libc::waitpid(child, &mut status, 0) };
        barrier.wait();
    });
    assert_eq!(status, 0);
}

#[test]
fn a_list_that_was_found_empty_is_passed_over_until_something_is_put_in() {
    let w = World::new();
    let (a, b) = (w.group(w.root(), "a"), w.group(w.root(), "b"));
    let lists = &w.kmem.lists;
    let has = |group: &Memcg| {
        let id = w.tree.kmem_id_if_any(group);
        lists.marked(id).has(w.list)
    };
    let look = |group: &Memcg| {
        let _pin = w.tree.threads.epoch.pin(w.rec);
        lists.has_any(w.kmem, w.rec, w.list, w.tree.kmem_id(group).unwrap())
    };
    let (first, second) = (link(a.tag()), link(a.tag()));
    assert!(!has(a) && !has(w.root()));
    assert!(w.add(first) && has(a) && !has(b) && !has(w.root()));
    assert!(look(a) && has(a));
    assert!(w.del(first) && has(a), "nobody has looked");
    assert!(!look(a) && !has(a));
    assert!(w.add(second) && has(a));
    // What the parent gets is seen there, and what had the id before is not seen under it again.
    let id = w.tree.kmem_id_if_any(a);
    w.end(a);
    assert!(has(w.root()) && !lists.marked(id).has(w.list));
    assert!(w.del(second) && !look(w.root()) && !has(w.root()));
}

#[test]
fn what_has_something_in_it_is_marked_however_often_others_look_in_vain() {
    let w = World::new();
    let a = w.group(w.root(), "a");
    let id = {
        let _pin = w.tree.threads.epoch.pin(w.rec);
        w.tree.kmem_id(a).unwrap()
    };
    let done = AtomicU64::new(0);
    std::thread::scope(|s| {
        let (w2, done) = (w.on_another_thread(), &done);
        s.spawn(move || {
            while done.load(Ordering::Relaxed) == 0 {
                let _pin = w2.tree.threads.epoch.pin(w2.rec);
                w2.kmem.lists.has_any(w2.kmem, w2.rec, w2.list, id);
            }
        });
        let one = link(a.tag());
        for _ in 0..20_000 {
            assert!(w.add(one));
            assert!(w.kmem.lists.marked(Some(id)).has(w.list));
            assert!(w.del(one));
        }
        done.store(1, Ordering::Relaxed);
    });
}
