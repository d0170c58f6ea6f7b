//! A group's end against what comes into its list and what leaves it: the real lists, under every
//! schedule.

use crate::group::Tag;
use crate::group::kmem_id::ROOT_ID;
use crate::group::{Hierarchy, Memcg, OfflinePolicy, ROOT, ROOT_TAG};
use crate::kmem::Kmem;
use crate::kmem::list_lru::{Cx, Link, Verdict};
use crate::thread::ThreadRec;
use loom::thread;

struct World {
    tree: &'static Hierarchy,
    kmem: &'static Kmem,
    rec: &'static ThreadRec,
    list: crate::kmem::id::ListId,
}

fn run(f: &mut dyn FnMut()) {
    f();
}

unsafe fn let_go(link: *const Link) {
    // SAFETY: the links of these models live as long as they.
    assert!(!unsafe { &*link }.unref());
}

impl World {
    fn cx(&self) -> Cx<'static> {
        Cx {
            tree: self.tree,
            kmem: self.kmem,
            rec: self.rec,
            change: &run,
        }
    }

    fn other(&self) -> Self {
        let rec = self.tree.threads.join().unwrap().1;
        Self { rec, ..*self }
    }

    fn group(&self, parent: &Memcg, name: &[u8]) -> &'static Memcg {
        let _pin = self.tree.threads.epoch.pin(self.rec);
        let index = self.tree.create(parent, name).unwrap();
        self.tree.memcgs.get(index)
    }

    fn root(&self) -> &'static Memcg {
        self.tree.memcgs.get(ROOT)
    }

    fn add(&self, link: &Link) -> bool {
        // SAFETY: the links of these models live as long as they.
        unsafe { self.kmem.lists.add(self.cx(), self.list, link) }
    }

    fn del(&self, link: &Link) -> bool {
        self.kmem.lists.del(self.cx(), link)
    }

    fn end(&self, group: &Memcg) {
        let _pin = self.tree.threads.epoch.pin(self.rec);
        crate::offline::remove(self.tree, self.kmem, self.rec, group).unwrap();
    }

    fn count(&self, group: &Memcg) -> u64 {
        let id = self.tree.kmem_id_if_any(group).unwrap();
        self.kmem.lists.count(self.cx(), self.list, id)
    }
}

fn model(preemptions: usize, f: impl Fn(&World) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(move || {
        let tree = Hierarchy::leaked();
        let kmem: &'static Kmem = Box::leak(Box::default());
        let (_, rec) = tree.threads.join().unwrap();
        let mut world = World {
            tree,
            kmem,
            rec,
            // Until the list is open.
            list: crate::kmem::id::ListId::new(u32::MAX),
        };
        world.list = kmem.lists.open(world.cx(), let_go).unwrap();
        f(&world);
        assert_eq!(kmem.lists.count_all(world.cx(), world.list), 0);
        assert_eq!(
            kmem.lists.nr_heads(),
            1,
            "a head is left of a group that ended"
        );
        kmem.lists.close(world.cx(), world.list);
        // SAFETY: both were leaked above; the threads that knew them have been joined.
        drop(unsafe {
            (
                Box::from_raw(core::ptr::from_ref(tree).cast_mut()),
                Box::from_raw(core::ptr::from_ref(kmem).cast_mut()),
            )
        });
    });
}

fn link(tag: Tag) -> &'static Link {
    Box::leak(Box::new(Link::new(tag)))
}

/// Redirect, then splice. Catches: the splice before the group's id is ended; a head that has ended
/// taken for the list; a first list of the group that comes too late and stays.
#[test]
fn loom_what_is_put_in_while_its_group_ends_is_in_the_parent_s_list() {
    model(3, |w| {
        let a = w.group(w.root(), b"a");
        w.tree.ref_objcg(a.tag());
        let (other, new) = (w.other(), link(a.tag()));
        let first = link(a.tag());
        assert!(w.add(first));
        let adder = thread::spawn(move || assert!(other.add(new)));
        w.end(a);
        adder.join().unwrap();
        assert_eq!(w.count(w.root()), 2);
        assert!(w.del(new) && w.del(first));
    });
}

/// Catches: the same.
#[test]
fn loom_the_first_of_a_group_that_ends_is_in_the_parent_s_list() {
    model(3, |w| {
        let a = w.group(w.root(), b"a");
        w.tree.ref_objcg(a.tag());
        let (other, new) = (w.other(), link(a.tag()));
        let adder = thread::spawn(move || assert!(other.add(new)));
        w.end(a);
        adder.join().unwrap();
        assert_eq!(w.count(w.root()), 1);
        assert!(w.del(new));
    });
}

#[test]
fn loom_what_is_taken_out_while_its_group_ends_is_taken_out_once() {
    model(3, |w| {
        let a = w.group(w.root(), b"a");
        let b = w.group(a, b"b");
        w.tree.ref_objcg(b.tag());
        let (first, second) = (link(b.tag()), link(b.tag()));
        assert!(w.add(first) && w.add(second));
        let other = w.other();
        let deleter = thread::spawn(move || {
            assert!(other.del(first));
            assert!(!other.del(first));
        });
        w.end(b);
        w.end(a);
        deleter.join().unwrap();
        assert_eq!(w.count(w.root()), 1);
        assert!(w.del(second));
    });
}

#[test]
fn loom_a_walk_and_a_deletion_of_what_it_looks_at_agree() {
    model(3, |w| {
        let all = [link(ROOT_TAG), link(ROOT_TAG)];
        assert!(all.iter().all(|link| w.add(link)));
        let other = w.other();
        let deleter = thread::spawn(move || assert!(other.del(all[0])));
        let id = w.tree.kmem_id(w.root()).unwrap();
        let lists = &w.kmem.lists;
        let walked = lists.walk(w.cx(), w.list, id, 9, &mut |_| Verdict::Rotate);
        assert!(matches!(walked.scanned, 1 | 2));
        deleter.join().unwrap();
        assert_eq!(w.count(w.root()), 1);
        assert!(w.del(all[1]));
    });
}

#[test]
fn loom_what_is_put_in_beside_a_look_that_finds_nothing_is_marked() {
    model(3, |w| {
        let a = w.group(w.root(), b"a");
        let (first, second) = (link(a.tag()), link(a.tag()));
        assert!(w.add(first) && w.del(first));
        let id = w.tree.kmem_id_if_any(a).unwrap();
        let other = w.other();
        let adder = thread::spawn(move || assert!(other.add(second)));
        {
            let _pin = w.tree.threads.epoch.pin(w.rec);
            w.kmem.lists.has_any(w.kmem, w.rec, w.list, id);
        }
        adder.join().unwrap();
        assert!(w.kmem.lists.marked(Some(id)).has(w.list));
        assert!(w.del(second));
        w.end(a);
    });
}

#[test]
fn loom_what_a_group_leaves_is_marked_beside_a_look_at_its_parent() {
    model(2, |w| {
        let a = w.group(w.root(), b"a");
        let (one, of_root) = (link(a.tag()), link(ROOT_TAG));
        assert!(w.add(one) && w.add(of_root) && w.del(of_root));
        let other = w.other();
        let looker = thread::spawn(move || {
            let _pin = other.tree.threads.epoch.pin(other.rec);
            let lists = &other.kmem.lists;
            lists.has_any(other.kmem, other.rec, other.list, ROOT_ID)
        });
        w.end(a);
        looker.join().unwrap();
        assert!(w.kmem.lists.marked(Some(ROOT_ID)).has(w.list));
        assert!(w.del(one));
    });
}

/// Catches: a splice to the wrong end, or without the lock of the list that is spliced into.
#[test]
fn loom_what_a_group_leaves_in_front_stays_in_order_beside_an_add_and_a_deletion() {
    model(4, |w| {
        let a = w.group(w.root(), b"a");
        a.set_offline_policy(OfflinePolicy::NextTouch);
        let of_a: [_; 3] = std::array::from_fn(|_| link(a.tag()));
        let of_root: [_; 2] = std::array::from_fn(|_| link(ROOT_TAG));
        assert!(of_a.iter().all(|link| w.add(link)) && w.add(of_root[0]));
        let other = w.other();
        let changer = thread::spawn(move || {
            assert!(other.add(of_root[1]));
            assert!(other.del(of_a[1]));
        });
        w.end(a);
        changer.join().unwrap();
        let expected = [of_a[0], of_a[2], of_root[0], of_root[1]].map(core::ptr::from_ref);
        let mut found = Vec::new();
        let lists = &w.kmem.lists;
        lists.walk(w.cx(), w.list, ROOT_ID, 9, &mut |link| {
            found.push(core::ptr::from_ref(link));
            Verdict::Skip
        });
        assert_eq!(found, expected);
        assert!(w.del(of_a[2]) && w.del(of_root[0]) && w.del(of_a[0]) && w.del(of_root[1]));
    });
}
