//! Polls of futures in groups: what they owe, and how they find out that they are to die.

#![forbid(unsafe_code)]

use crate::group::kill_generation::KillGeneration;
use crate::group::poll::{Debt, poll};
use crate::group::{GroupId, Hierarchy, Memcg, ROOT, ROOT_TAG};
use crate::offline::remove_alone;
use crate::thread::ThreadRec;

fn world() -> (&'static Hierarchy, &'static ThreadRec) {
    let tree = Hierarchy::leaked();
    (tree, tree.threads.join().unwrap().1)
}

fn make(tree: &'static Hierarchy, parent: GroupId, name: &str) -> &'static Memcg {
    let made = tree.create(tree.memcgs.get(parent), name.as_bytes());
    tree.memcgs.get(made.unwrap())
}

#[test]
fn a_kill_is_seen_in_the_group_and_below_also_by_who_outlived_his_group() {
    let (tree, rec) = world();
    let _pin = tree.threads.epoch.pin(rec);
    let top = make(tree, ROOT, "top");
    let beside = make(tree, ROOT, "beside");
    let below = make(tree, top.index(), "below");
    let gone = make(tree, top.index(), "gone");
    let all = [top, beside, below, gone].map(Memcg::tag);
    all.iter().for_each(|&tag| tree.ref_objcg(tag));
    remove_alone(tree, gone).unwrap();
    let seen = all.map(|tag| tree.objcgs.get(tag).kill_generation());
    let task = tree.new_task(top, b"task", 0).unwrap();
    let to_die = || [0, 1, 2, 3].map(|n| tree.is_to_die(rec, all[n], seen[n]));
    assert_eq!(to_die(), [false; 4]);
    tree.raise_kill_generation(top, false);
    assert_eq!(to_die(), [true, false, true, true]);
    // A scope made now is not killed; nor is a task, which has a mark of its own.
    let now = tree.objcgs.get(top.tag()).kill_generation();
    assert!(!tree.is_to_die(rec, top.tag(), now));
    assert!(!tree.is_to_die(rec, task, now));
    tree.raise_kill_generation(top, false);
    assert!(tree.is_to_die(rec, top.tag(), now));
    assert_eq!(tree.objcgs.get(top.tag()).id(), 0, "no task's id");
}

#[test]
fn what_a_poll_adds_is_owed_by_its_future_and_by_no_other() {
    let (_, rec) = world();
    let seen = KillGeneration::default();
    rec.set_owed(5);
    rec.enter_section();
    let mut outer = Debt::default();
    let mut inner = Debt {
        owed_ns: 100,
        sections: 0,
    };
    poll(rec, ROOT_TAG, seen, &mut outer, || {
        assert!(rec.is_polling() && !rec.is_in_section());
        assert_eq!(rec.owed_ns(), 0);
        rec.set_owed(10);
        poll(rec, ROOT_TAG, seen, &mut inner, || {
            assert_eq!(rec.owed_ns(), 100);
            rec.enter_section();
            rec.set_owed(107);
        });
        assert!(!rec.is_in_section());
        assert_eq!(rec.owed_ns(), 10);
        rec.set_owed(13);
    });
    assert_eq!((inner.owed_ns, inner.sections), (107, 1));
    assert_eq!((outer.owed_ns, outer.sections), (13, 0));
    assert_eq!(rec.owed_ns(), 5);
    assert!(rec.is_in_section() && !rec.is_polling());
    // It is left in a later poll.
    poll(rec, ROOT_TAG, seen, &mut inner, || rec.leave_section());
    assert_eq!(inner.sections, 0);
}

#[test]
fn a_panic_ends_a_poll_too() {
    let (_, rec) = world();
    rec.set_owed(5);
    let mut debt = Debt::default();
    let seen = KillGeneration::default();
    let f = || poll(rec, ROOT_TAG, seen, &mut debt, || panic!("on purpose"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err());
    assert!(!rec.is_polling());
    assert_eq!(rec.owed_ns(), 5);
}

#[test]
fn who_is_polled_within_what_is_to_die_is_to_die() {
    let (tree, rec) = world();
    let _pin = tree.threads.epoch.pin(rec);
    let (a, b) = (make(tree, ROOT, "a"), make(tree, ROOT, "b"));
    let seen = KillGeneration::default();
    poll(rec, a.tag(), seen, &mut Debt::default(), || {
        poll(rec, b.tag(), seen, &mut Debt::default(), || {
            assert!(!tree.is_polling_what_is_to_die(rec));
            tree.raise_kill_generation(a, false);
            assert!(tree.is_polling_what_is_to_die(rec));
        });
    });
    assert!(!tree.is_polling_what_is_to_die(rec));
}
