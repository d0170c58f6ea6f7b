//! Moves against charges and frees, and what they leave, under every schedule that a few
//! preemptions make.
//!
//! Each model says which mistake it was seen to catch.

#![forbid(unsafe_code)]

use super::{Moved, move_task, move_task_with};
use crate::group::exact_charge::Mode;
use crate::group::kind::Kind;
use crate::group::loom::{
    Tree, charge_exact, current, go, group, join, model, root, task, uncharge_exact,
};
use crate::group::objcg::State;
use crate::group::{Memcg, MovePolicy, PageCount, Tag};
use crate::thread::ThreadRec;

pub(crate) fn go_to(
    tree: Tree,
    rec: &ThreadRec,
    tag: Tag,
    to: &Memcg,
    policy: MovePolicy,
    stays: u64,
) -> Moved {
    let _pin = tree.threads.epoch.pin(rec);
    move_task_with(tree, rec, tag, to, policy, stays).unwrap()
}

pub(crate) fn supersede(tree: Tree, rec: &ThreadRec, tag: Tag, to: &Memcg) {
    go_to(tree, rec, tag, to, MovePolicy::Stay, 0);
}

pub(crate) fn live(tree: Tree, rec: &ThreadRec, tag: Tag) -> Tag {
    let _pin = tree.threads.epoch.pin(rec);
    tree.live_tag(tag)
}

pub(crate) fn end_task(tree: Tree, rec: &ThreadRec, tag: Tag) {
    let _pin = tree.threads.epoch.pin(rec);
    tree.end_task(tag);
}

/// No owner is left but those of so many groups, and nothing waits to be let go.
pub(crate) fn only_groups_are_left(tree: Tree, groups: u32) {
    for _ in 0..4 {
        tree.collect();
    }
    assert_eq!((tree.objcgs.in_use(), tree.limbo_len()), (groups, 0));
}

/// A task of `a` that holds 24 bytes, and has gone on to `b`: 8 went along, 16 stayed as a residual
/// that is to follow.
pub(crate) struct Parted {
    pub(crate) a: &'static Memcg,
    pub(crate) b: &'static Memcg,
    pub(crate) tag: Tag,
}

impl Parted {
    pub(crate) fn new(tree: Tree, rec: &ThreadRec) -> Self {
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, root(tree), "b");
        let tag = task(tree, rec, a);
        assert!(charge_exact(tree, rec, tag, 24));
        let moved = go_to(tree, rec, tag, b, MovePolicy::Lazy, 16);
        assert_eq!((moved.moved, moved.stayed), (8, 16));
        Self { a, b, tag }
    }
}

#[test]
fn loom_a_refill_during_a_move_is_charged_where_the_task_ends_up() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, root(tree), "b");
        let tag = task(tree, rec, a);
        let charger = go(move || tree.charge(other, tag, 8).unwrap());
        {
            let _pin = tree.threads.epoch.pin(rec);
            move_task(tree, rec, tag, b).unwrap();
        }
        charger.join().unwrap();
        assert_eq!(current(tree, rec, a), 0);
        assert_eq!(current(tree, rec, b), 8);
    });
}

#[test]
fn loom_a_free_during_a_move_is_credited_once() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, a, "b");
        let tag = task(tree, rec, a);
        assert!(charge_exact(tree, rec, tag, 24));
        let freer = go(move || {
            uncharge_exact(tree, other, tag, 16);
            assert!(charge_exact(tree, other, tag, 8));
        });
        a.counter.set_max(32);
        {
            let _pin = tree.threads.epoch.pin(rec);
            move_task(tree, rec, tag, b).unwrap();
        }
        freer.join().unwrap();
        assert_eq!(current(tree, rec, b), 16);
        // The move itself never charged what both have above them.
        assert!(a.counter.peak() <= 24 && root(tree).counter.peak() <= 24);
    });
}

#[test]
fn loom_kinds_counted_during_a_move_follow_the_task() {
    model(2, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, root(tree), "b");
        let tag = task(tree, rec, a);
        let mapper = go(move || {
            assert!(charge_exact(tree, other, tag, 24));
            let _pin = tree.threads.epoch.pin(other);
            tree.add_side(tag, 24, Kind::Mapped);
            tree.sub_side(tag, 24, Kind::Mapped);
            tree.uncharge_exact(tag, 24);
            tree.charge_exact(tag, 8, Mode::Within).unwrap();
            tree.add_side(tag, 8, Kind::Mapped);
        });
        {
            let _pin = tree.threads.epoch.pin(rec);
            move_task(tree, rec, tag, b).unwrap();
        }
        mapper.join().unwrap();
        assert_eq!(
            (a.side_kind(Kind::Mapped), b.side_kind(Kind::Mapped)),
            (0, 8)
        );
    });
}

/// Catches: the successor made known only after the owner is none any more; whether it is to die
/// asked before that.
#[test]
fn loom_who_looks_up_a_task_that_leaves_charges_one_that_lives() {
    model(4, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, root(tree), "b");
        let tag = task(tree, rec, a);
        assert!(charge_exact(tree, rec, tag, 8));
        tree.ref_objcg(tag);
        let user = go(move || {
            let _pin = tree.threads.epoch.pin(other);
            let killed = tree.objcgs.get(tag).kill();
            let found = tree.ref_live_tag(tag);
            tree.charge_exact(found, 16, Mode::Within).unwrap();
            tree.unref_objcg(found);
            tree.unref_objcg(tag);
            (found, killed)
        });
        supersede(tree, rec, tag, b);
        let (found, killed) = user.join().unwrap();
        let successor = live(tree, rec, tag);
        assert!(successor != tag && (found == tag || found == successor));
        assert_eq!(tree.objcgs.get(successor).state(), State::Task);
        assert!(!killed || tree.objcgs.get(successor).is_killed());
        let (at_a, at_b) = if found == tag { (24, 0) } else { (8, 16) };
        assert_eq!((current(tree, rec, a), current(tree, rec, b)), (at_a, at_b));
        uncharge_exact(tree, rec, found, 16);
        uncharge_exact(tree, rec, tag, 8);
        end_task(tree, rec, tag);
        only_groups_are_left(tree, 3);
    });
}

/// Catches: what is set of a task set for who it was when looked up; and written over by what the
/// old owner had.
#[test]
fn loom_what_is_set_of_a_task_that_leaves_is_set_of_its_successor() {
    model(3, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, root(tree), "b");
        let tag = task(tree, rec, a);
        let user = go(move || {
            let _pin = tree.threads.epoch.pin(other);
            tree.set_oom_score_adj(tag, 500);
        });
        supersede(tree, rec, tag, b);
        user.join().unwrap();
        let successor = live(tree, rec, tag);
        assert_eq!(tree.objcgs.get(successor).oom_score_adj(), 500);
        end_task(tree, rec, tag);
        only_groups_are_left(tree, 3);
    });
}

/// Catches: an owner retired without its successor being let go; one that is let go twice.
#[test]
fn loom_the_last_bytes_of_an_owner_and_its_successor_beside_the_end_retire_both() {
    model(4, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, root(tree), "b");
        let tag = task(tree, rec, a);
        assert!(charge_exact(tree, rec, tag, 8));
        supersede(tree, rec, tag, b);
        let successor = live(tree, rec, tag);
        assert!(charge_exact(tree, rec, successor, 8));
        let freer = go(move || {
            uncharge_exact(tree, other, tag, 8);
            uncharge_exact(tree, other, successor, 8);
        });
        end_task(tree, rec, tag);
        freer.join().unwrap();
        assert_eq!(tree.objcgs.get(tag).state(), State::Free);
        assert_eq!(tree.objcgs.get(successor).state(), State::Free);
        only_groups_are_left(tree, 3);
    });
}

/// Catches: a successor's tag taken for the id of a task, before the owner's state says what it is.
#[test]
fn loom_a_task_that_leaves_is_found_by_its_id_and_by_no_other() {
    model(3, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, root(tree), "b");
        let tag = task(tree, rec, a);
        let id = tree.objcgs.get(tag).id();
        let next = tree.objcgs.high_water();
        let user = go(move || {
            let _pin = tree.threads.epoch.pin(other);
            assert_eq!(tree.task_by_id(next), None);
            assert!(tree.task_by_id(id).is_some());
        });
        supersede(tree, rec, tag, b);
        user.join().unwrap();
        assert_eq!(live(tree, rec, tag), Tag::new(next));
        end_task(tree, rec, tag);
        only_groups_are_left(tree, 3);
    });
}

/// Catches: a chain halved without a hold on whom it leads to, and one that is skipped and not let
/// go.
#[test]
fn loom_successors_skipped_while_the_task_leaves_again_are_let_go_once() {
    model(3, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, root(tree), "b");
        let tag = task(tree, rec, a);
        assert!(charge_exact(tree, rec, tag, 8));
        supersede(tree, rec, tag, b);
        let middle = live(tree, rec, tag);
        tree.ref_objcg(tag);
        let user = go(move || {
            let _pin = tree.threads.epoch.pin(other);
            let found = tree.ref_live_tag(tag);
            let state = tree.objcgs.get(found).state();
            assert!(
                matches!(state, State::Task | State::Superseded),
                "{state:?}"
            );
            tree.unref_objcg(found);
            tree.unref_objcg(tag);
        });
        supersede(tree, rec, middle, a);
        let last = live(tree, rec, tag);
        assert_eq!(tree.objcgs.get(last).state(), State::Task);
        user.join().unwrap();
        assert_eq!(live(tree, rec, tag), last);
        uncharge_exact(tree, rec, tag, 8);
        end_task(tree, rec, tag);
        only_groups_are_left(tree, 3);
    });
}

/// Catches: a chain halved without a hold on who is to skip: its own last name may have gone with
/// another's skip of it.
#[test]
fn loom_two_who_skip_the_same_successors_let_each_go_once() {
    model(3, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let tag = task(tree, rec, a);
        assert!(charge_exact(tree, rec, tag, 8));
        let mut last = tag;
        for name in ["b", "c", "d"] {
            supersede(tree, rec, last, group(tree, rec, root(tree), name));
            last = live(tree, rec, last);
        }
        let user = go(move || live(tree, other, tag));
        assert_eq!(live(tree, rec, tag), last);
        assert_eq!(user.join().unwrap(), last);
        uncharge_exact(tree, rec, tag, 8);
        end_task(tree, rec, tag);
        only_groups_are_left(tree, 5);
    });
}

/// Catches: an amount taken from the residual before the word has it, and the other way round.
#[test]
fn loom_a_residual_paid_off_while_it_follows_its_task_is_paid_once() {
    model(3, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let Parted { a, b, tag } = Parted::new(tree, rec);
        let freer = go(move || {
            uncharge_exact(tree, other, tag, 8);
            uncharge_exact(tree, other, tag, 8);
        });
        let followed = {
            let _pin = tree.threads.epoch.pin(rec);
            tree.follow(tag, 16)
        };
        freer.join().unwrap();
        // Residuals are paid off first; what had followed by then was paid by the word.
        assert!(followed <= 16);
        assert_eq!((current(tree, rec, a), current(tree, rec, b)), (0, 8));
        uncharge_exact(tree, rec, tag, 8);
        end_task(tree, rec, tag);
        only_groups_are_left(tree, 3);
    });
}

/// Catches: the same where a later move gathers all there is, in a third group.
#[test]
fn loom_a_residual_paid_off_while_a_move_gathers_it_is_paid_once() {
    model(4, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let Parted { a, b, tag } = Parted::new(tree, rec);
        let c = group(tree, rec, root(tree), "c");
        let freer = go(move || uncharge_exact(tree, other, tag, 16));
        {
            let _pin = tree.threads.epoch.pin(rec);
            move_task(tree, rec, tag, c).unwrap();
        }
        freer.join().unwrap();
        let left = [a, b, c].map(|group| current(tree, rec, group));
        assert_eq!(left, [0, 0, 8]);
        uncharge_exact(tree, rec, tag, 8);
        end_task(tree, rec, tag);
        only_groups_are_left(tree, 4);
    });
}

/// Catches: an amount taken from the word before the residual has it; one who frees, and had seen
/// no residual, finding too little in the word.
#[test]
fn loom_what_is_freed_while_a_part_is_left_behind_is_freed_once() {
    model(3, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, root(tree), "b");
        let tag = task(tree, rec, a);
        assert!(charge_exact(tree, rec, tag, 24));
        let freer = go(move || uncharge_exact(tree, other, tag, 16));
        go_to(tree, rec, tag, b, MovePolicy::Lazy, 16);
        freer.join().unwrap();
        assert_eq!(current(tree, rec, a) + current(tree, rec, b), 8);
        uncharge_exact(tree, rec, tag, 8);
        end_task(tree, rec, tag);
        only_groups_are_left(tree, 3);
    });
}

/// Catches: stock forbidden only after it was drained; a refill that does not ask again when it
/// deposits.
#[test]
fn loom_a_refill_beside_a_move_that_leaves_a_part_leaves_no_stock() {
    model(2, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, root(tree), "b");
        let tag = task(tree, rec, a);
        assert!(charge_exact(tree, rec, tag, 24));
        let charger = go(move || tree.charge(other, tag, 8).unwrap());
        go_to(tree, rec, tag, b, MovePolicy::Lazy, 16);
        charger.join().unwrap();
        assert_eq!(current(tree, rec, a) + current(tree, rec, b), 32);
        let residual = {
            let _pin = tree.threads.epoch.pin(rec);
            tree.residual_bytes(tag)
        };
        // Stock that could not be deposited has paid the residual off, perhaps.
        assert!(residual == 0 || tree.stocked_for(tag) == 0);
        uncharge_exact(tree, rec, tag, 32);
        tree.return_all(other);
        end_task(tree, rec, tag);
        only_groups_are_left(tree, 3);
    });
}

/// The first page of an owner, and of its group, comes while the owner moves. Catches: a record of
/// pages that a move does not see and that does not look where the owner is; counts that a move
/// leaves behind.
#[test]
fn loom_pages_counted_during_a_move_are_counted_where_the_task_ends_up() {
    model(2, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, root(tree), "b");
        let tag = task(tree, rec, a);
        assert!(charge_exact(tree, rec, tag, 8));
        let toucher = go(move || {
            let _pin = tree.threads.epoch.pin(other);
            tree.ensure_owner_pages(tag).unwrap();
            let books = tree.lock_pages(tag).unwrap();
            books.page_in();
            books.add(PageCount::Anon, 8);
        });
        {
            let _pin = tree.threads.epoch.pin(rec);
            move_task(tree, rec, tag, b).unwrap();
        }
        toucher.join().unwrap();
        let _pin = tree.threads.epoch.pin(rec);
        let at = |group| {
            tree.group_pages(group)
                .map_or(0, |pages| pages.bytes(PageCount::Anon))
        };
        assert_eq!((at(a), at(b), at(root(tree))), (0, 8, 8));
        let books = tree.lock_pages(tag).unwrap();
        books.sub(PageCount::Anon, 8);
        assert!(books.page_out());
        drop(books);
        tree.unref_objcg(tag);
    });
}
