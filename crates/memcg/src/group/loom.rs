//! Stock, drains, retirement, epochs and limits, under every schedule that a few preemptions make.
//!
//! The asymmetric fence is a SeqCst fence on both sides here, which is what the pair amounts to.
//! Each model ends with the audit: whatever the schedule was, the books add up. What models of the
//! rooms above share is here, too.

use super::exact_charge::Mode;
use super::objcg::State;
use super::{Hierarchy, Memcg, ROOT, Tag};
use crate::counter;
use crate::counter::page_counter::UNLIMITED;
use crate::sync::lock::Rank;
use crate::thread::ThreadRec;
use loom::thread::{self, JoinHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) type Tree = &'static Hierarchy;

/// Runs `f` on a tree of its own under every schedule with at most so many preemptions.
pub(crate) fn model(preemptions: usize, f: impl Fn(Tree) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    let schedules = Arc::new(AtomicU64::new(0));
    let counter = schedules.clone();
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let tree = Hierarchy::leaked();
        f(tree);
        tree.audit().unwrap_or_else(|wrong| panic!("{wrong}"));
        // SAFETY: `leaked` made it from a Box; the threads that knew it have been joined.
        drop(unsafe { Box::from_raw(core::ptr::from_ref(tree).cast_mut()) });
    });
    println!("{} schedules", schedules.load(Ordering::Relaxed));
}

pub(crate) fn join(tree: Tree) -> &'static ThreadRec {
    tree.threads.join().unwrap().1
}

pub(crate) fn go<R: 'static>(f: impl FnOnce() -> R + 'static) -> JoinHandle<R> {
    thread::spawn(f)
}

/// A group below another. While nobody else is at work.
pub(crate) fn group(tree: Tree, rec: &ThreadRec, parent: &Memcg, name: &str) -> &'static Memcg {
    let _pin = tree.threads.epoch.pin(rec);
    let index = tree.create(parent, name.as_bytes()).unwrap();
    tree.memcgs.get(index)
}

pub(crate) fn root(tree: Tree) -> &'static Memcg {
    tree.memcgs.get(ROOT)
}

pub(crate) fn task(tree: Tree, rec: &ThreadRec, group: &Memcg) -> Tag {
    let _pin = tree.threads.epoch.pin(rec);
    tree.new_task(group, b"t", 0).unwrap()
}

pub(crate) fn charge_exact(tree: Tree, rec: &ThreadRec, tag: Tag, bytes: u64) -> bool {
    let _pin = tree.threads.epoch.pin(rec);
    tree.charge_exact(tag, bytes, Mode::Within).is_ok()
}

pub(crate) fn uncharge_exact(tree: Tree, rec: &ThreadRec, tag: Tag, bytes: u64) {
    let _pin = tree.threads.epoch.pin(rec);
    tree.uncharge_exact(tag, bytes);
}

pub(crate) fn current(tree: Tree, rec: &ThreadRec, group: &Memcg) -> u64 {
    let _pin = tree.threads.epoch.pin(rec);
    tree.usage(group).current
}

/// A thread with stock for a task in the root: 32 bytes, and 8 charged.
fn stocked(tree: Tree, rec: &ThreadRec) -> Tag {
    let tag = task(tree, rec, root(tree));
    tree.charge(rec, tag, 8).unwrap();
    assert_eq!(tree.stocked_for(tag), 32);
    tag
}

#[test]
fn loom_a_drain_and_hits_share_the_stock_out_without_loss() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let tag = stocked(tree, other);
        let hitter = go(move || {
            let mut held = 8;
            for _ in 0..2 {
                held += 8 * u64::from(other.charge_hit_of(tag, 8, false));
            }
            if other.uncharge_hit(Some(tag), 8) {
                held -= 8;
            }
            held
        });
        {
            let _pin = tree.threads.epoch.pin(rec);
            tree.drain(rec, root(tree));
        }
        let held = hitter.join().unwrap();
        assert_eq!(current(tree, rec, root(tree)), held);
    });
}

#[test]
fn loom_a_refill_beside_a_drain_deposits_what_it_was_granted() {
    model(4, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let tag = stocked(tree, other);
        let filler = go(move || {
            // More than is left: a refill, or exactly.
            tree.charge(other, tag, 16).unwrap();
            tree.charge(other, tag, 16).unwrap();
            tree.charge(other, tag, 16).unwrap();
        });
        {
            let _pin = tree.threads.epoch.pin(rec);
            tree.drain(rec, root(tree));
        }
        filler.join().unwrap();
        assert_eq!(current(tree, rec, root(tree)), 56);
    });
}

#[test]
fn loom_a_reader_sees_a_refill_done_or_not_begun() {
    model(3, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let tag = task(tree, rec, root(tree));
        let filler = go(move || tree.charge(other, tag, 8).unwrap());
        let seen = current(tree, rec, root(tree));
        assert!(seen == 0 || seen == 8, "{seen}");
        filler.join().unwrap();
    });
}

#[test]
fn loom_a_reader_sees_what_things_hold_while_stock_is_drained() {
    model(3, |tree| {
        let (rec, third) = (join(tree), join(tree));
        let other = join(tree);
        let _tag = stocked(tree, other);
        let drainer = go(move || {
            let _pin = tree.threads.epoch.pin(third);
            tree.drain(third, root(tree));
        });
        assert_eq!(current(tree, rec, root(tree)), 8);
        drainer.join().unwrap();
    });
}

fn drain_root(tree: Tree, rec: &ThreadRec) {
    let _pin = tree.threads.epoch.pin(rec);
    tree.drain(rec, root(tree));
}

/// A thread with stock leaves while one or two others drain; the next thread may come, and have
/// stock of its own.
fn drained_while_it_leaves(tree: Tree, twice: bool, next_comes: bool) {
    let rec = join(tree);
    let third = twice.then(|| join(tree));
    let (index, other) = tree.threads.join().unwrap();
    let tag = stocked(tree, other);
    let drainer = third.map(|third| go(move || drain_root(tree, third)));
    let leaver = go(move || {
        tree.return_all(other);
        tree.threads.leave(index);
        if next_comes {
            // Perhaps in the same record, while the drain of the last one is still on.
            let (_, next) = tree.threads.join().unwrap();
            tree.charge(next, tag, 8).unwrap();
        }
    });
    drain_root(tree, rec);
    if let Some(drainer) = drainer {
        drainer.join().unwrap();
    }
    leaver.join().unwrap();
    let held = if next_comes { 16 } else { 8 };
    assert_eq!(current(tree, rec, root(tree)), held);
}

/// All of it, with one preemption alone: with two it takes minutes. The two models below have more,
/// of a part each.
#[test]
fn loom_two_drains_and_a_thread_that_leaves_and_the_next_return_everything_once() {
    model(1, |tree| drained_while_it_leaves(tree, true, true));
}

#[test]
fn loom_two_drains_and_a_thread_that_leaves_return_everything_once() {
    model(2, |tree| drained_while_it_leaves(tree, true, false));
}

#[test]
fn loom_a_drain_and_a_thread_that_leaves_and_the_next_return_everything_once() {
    model(3, |tree| drained_while_it_leaves(tree, false, true));
}

#[test]
fn loom_a_scope_entered_during_a_drain_names_its_owner_until_it_is_left() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let tag = stocked(tree, other);
        let worker = go(move || {
            let outer = tree.enter_scope(other, Some(tag));
            let inner = tree.enter_scope(other, Some(tag));
            let hit = other.charge_hit(8);
            assert!(hit.is_none_or(|charged| charged.owner == Some(tag)));
            if hit.is_some() {
                tree.uncharge(other, tag, 8);
            }
            tree.leave_scope(other, inner);
            tree.leave_scope(other, outer);
        });
        {
            let _pin = tree.threads.epoch.pin(rec);
            tree.drain(rec, root(tree));
            tree.end_task(tag);
        }
        worker.join().unwrap();
        tree.uncharge(other, tag, 8);
        tree.return_all(other);
        assert_eq!(tree.objcgs.get(tag).state(), State::Free);
    });
}

#[test]
fn loom_of_the_last_byte_the_last_name_and_the_end_exactly_one_retires() {
    model(3, |tree| {
        let recs = [join(tree), join(tree), join(tree)];
        let tag = task(tree, recs[0], root(tree));
        assert!(charge_exact(tree, recs[0], tag, 8));
        tree.ref_objcg(tag);
        let before = tree.limbo_len();
        let freer = go(move || uncharge_exact(tree, recs[1], tag, 8));
        let holder = go(move || {
            let _pin = tree.threads.epoch.pin(recs[2]);
            tree.unref_objcg(tag);
        });
        {
            let _pin = tree.threads.epoch.pin(recs[0]);
            tree.end_task(tag);
        }
        freer.join().unwrap();
        holder.join().unwrap();
        assert_eq!(tree.objcgs.get(tag).state(), State::Free);
        assert_eq!(before, 0);
        for _ in 0..4 {
            tree.collect();
        }
        assert_eq!(tree.limbo_len(), 0);
        assert_eq!((tree.objcgs.in_use(), tree.names.in_use()), (1, 1));
    });
}

#[test]
fn loom_a_refused_charge_undone_beside_another_leaves_only_the_other() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, a, "b");
        let tag = b.tag();
        a.counter.set_max(48);
        b.counter.set_max(96);
        let large = go(move || assert!(!charge_exact(tree, other, tag, 64)));
        let fits = charge_exact(tree, rec, tag, 48);
        large.join().unwrap();
        let held = if fits { 48 } else { 0 };
        assert_eq!(current(tree, rec, b), held);
        assert_eq!(current(tree, rec, root(tree)), held);
        assert!(a.counter.peak() <= 48 && b.counter.peak() <= 96);
        // Whoever was refused was so by a charge under way, and is not any more.
        assert!(fits || charge_exact(tree, rec, tag, 48));
    });
}

/// Gives a group a reserve that its parent has room for.
pub(crate) fn reserve(group: &Memcg, bytes: u64) {
    let _held = group.lock.lock(Rank::Group);
    counter::set_reserve(group, bytes, || panic!("the parent was charged"))
        .unwrap_or_else(|_| panic!("nothing limits the parent"));
}

#[test]
fn loom_a_reserve_written_while_bytes_come_and_go_is_paid_once() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let tag = a.tag();
        reserve(a, 16);
        let worker = go(move || {
            assert!(charge_exact(tree, other, tag, 24));
            uncharge_exact(tree, other, tag, 16);
        });
        reserve(a, 32);
        reserve(a, 0);
        worker.join().unwrap();
        assert_eq!(root(tree).counter.usage(), 8);
    });
}

#[test]
fn loom_a_refused_charge_across_a_reserve_gives_the_reserve_back() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, a, "b");
        reserve(b, 32);
        a.counter.set_max(32);
        let tag = b.tag();
        assert!(charge_exact(tree, rec, tag, 24));
        let refused = go(move || assert!(!charge_exact(tree, other, tag, 40)));
        uncharge_exact(tree, rec, tag, 24);
        refused.join().unwrap();
        assert_eq!(a.counter.usage(), 32);
    });
}

#[test]
fn loom_a_max_that_was_written_holds_from_then_on() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let tag = a.tag();
        let worker = go(move || {
            let _ = charge_exact(tree, other, tag, 64);
        });
        a.counter.set_max(32);
        let then = a.counter.usage();
        worker.join().unwrap();
        assert!(then == a.counter.usage(), "charged after the write");
        a.counter.set_max(UNLIMITED);
        uncharge_exact(tree, rec, tag, then);
    });
}
