//! Moves by every policy: the cases of record, and what happens to threads and other moves
//! meanwhile.

#![forbid(unsafe_code)]

use crate::attach::{Attach, MoveError, Moved, move_task_with};
use crate::group::Tag;
use crate::group::exact_charge::Mode;
use crate::group::objcg::State;
use crate::group::{Event, GroupId, Memcg, MovePolicy, ROOT};
use crate::offline;
use crate::testing::common::*;
use crate::thread::ThreadRec;

const MIB: u64 = 1 << 20;

pub(super) fn child(tree: Tree, rec: &ThreadRec, parent: GroupId, name: &str) -> &'static Memcg {
    let _pin = tree.threads.epoch.pin(rec);
    let parent = tree.memcgs.get(parent);
    let index = tree.create(parent, name.as_bytes()).unwrap();
    tree.memcgs.get(index)
}

/// A (1 GiB) with a task of 800 MiB and B (1 GiB) of which others use some.
struct Record {
    tree: Tree,
    rec: &'static ThreadRec,
    a: &'static Memcg,
    b: &'static Memcg,
    task: Tag,
}

impl Record {
    fn new(held: u64, used: u64) -> Self {
        let (tree, rec) = alone();
        let (a, b) = (child(tree, rec, ROOT, "a"), child(tree, rec, ROOT, "b"));
        a.counter.set_max(1024 * MIB);
        b.counter.set_max(1024 * MIB);
        let _pin = tree.threads.epoch.pin(rec);
        let task = tree.new_task(a, b"task", 0).unwrap();
        let this = Self {
            tree,
            rec,
            a,
            b,
            task,
        };
        this.charge(task, held).unwrap();
        this.charge(b.tag(), used).unwrap();
        this
    }

    fn charge(&self, tag: Tag, bytes: u64) -> Result<(), crate::group::Refusal> {
        let _pin = self.tree.threads.epoch.pin(self.rec);
        self.tree.charge_exact(tag, bytes, Mode::Within)
    }

    fn free(&self, tag: Tag, bytes: u64) {
        let _pin = self.tree.threads.epoch.pin(self.rec);
        self.tree.uncharge_exact(tag, bytes);
    }

    fn go(&self, policy: MovePolicy, evictable: u64) -> Result<Moved, MoveError> {
        let _pin = self.tree.threads.epoch.pin(self.rec);
        move_task_with(self.tree, self.rec, self.task, self.b, policy, evictable)
    }

    /// MiB in A and in B.
    fn used(&self) -> (u64, u64) {
        let _pin = self.tree.threads.epoch.pin(self.rec);
        self.tree.audit().unwrap();
        let mib = |group| {
            let current = self.tree.usage(group).current;
            assert_eq!(current % MIB, 0);
            current / MIB
        };
        let root = mib(self.tree.memcgs.get(ROOT));
        let (a, b) = (mib(self.a), mib(self.b));
        assert_eq!(root, a + b, "nothing is nowhere");
        (a, b)
    }

    fn live(&self) -> Tag {
        let _pin = self.tree.threads.epoch.pin(self.rec);
        self.tree.live_tag(self.task)
    }

    /// The task frees all it held, and ends: nothing of it is left anywhere.
    fn finish(self, held_by_first: u64, held_by_live: u64, others: (u64, u64)) {
        let live = self.live();
        self.free(self.task, held_by_first);
        self.free(live, held_by_live);
        assert_eq!(self.used(), (others.0 / MIB, others.1 / MIB));
        let _pin = self.tree.threads.epoch.pin(self.rec);
        self.tree.end_task(self.task);
        self.free(self.a.tag(), others.0);
        self.free(self.b.tag(), others.1);
        for group in [self.a, self.b] {
            offline::remove_alone(self.tree, group).unwrap();
        }
        drop(_pin);
        assert_empty(self.tree);
    }
}

#[test]
fn a_task_too_large_for_the_target_moves_by_policy_or_not_at_all() {
    let (held, used) = (800 * MIB, 500 * MIB);
    for policy in [
        MovePolicy::Transfer,
        MovePolicy::ReserveBoth,
        MovePolicy::Paged,
        MovePolicy::Leaky,
        MovePolicy::Lazy,
    ] {
        let r = Record::new(held, used);
        let why = r.go(policy, 0).unwrap_err();
        let MoveError::Full(full) = why else {
            panic!("{policy:?}: {why:?}")
        };
        assert_eq!((full.group, full.max), (Some(r.b.index()), 1024 * MIB));
        assert_eq!(r.used(), (800, 500), "{policy:?}");
        r.finish(held, 0, (0, used));
    }
    let r = Record::new(held, used);
    let moved = r.go(MovePolicy::Stay, 0).unwrap();
    assert_eq!((moved.moved, moved.stayed), (0, held));
    assert_eq!(r.used(), (800, 500));
    r.charge(r.live(), 24 * MIB).unwrap();
    assert_eq!(r.used(), (800, 524), "what comes later is the new group's");
    r.finish(held, 24 * MIB, (0, used));

    let r = Record::new(held, used);
    let moved = r.go(MovePolicy::BestEffort, 0).unwrap();
    assert_eq!((moved.moved, moved.stayed), (524 * MIB, 276 * MIB));
    assert_eq!(r.used(), (276, 1024), "what fits has moved");
    r.free(r.task, 300 * MIB);
    assert_eq!(r.used(), (0, 1000), "what stayed is paid off first");
    r.finish(500 * MIB, 0, (0, used));

    let r = Record::new(held, used);
    let moved = r.go(MovePolicy::Lazy, 300 * MIB).unwrap();
    assert_eq!((moved.moved, moved.stayed), (500 * MIB, 300 * MIB));
    assert_eq!(r.used(), (300, 1000), "only what can be evicted stays");
    {
        let _pin = r.tree.threads.epoch.pin(r.rec);
        assert_eq!(
            r.tree.follow(r.task, 100 * MIB),
            24 * MIB,
            "as much as fits"
        );
        assert_eq!(r.tree.follow(r.task, 100 * MIB), 0);
        assert_eq!(r.b.nr_events(Event::RechargeFailed, true), 2);
    }
    r.free(r.b.tag(), 400 * MIB);
    {
        let _pin = r.tree.threads.epoch.pin(r.rec);
        assert_eq!(r.tree.follow(r.task, 100 * MIB), 100 * MIB);
    }
    assert_eq!(r.used(), (176, 724), "what is used follows");
    r.finish(held, 0, (0, 100 * MIB));
}

#[test]
fn what_lazy_left_goes_first_when_its_group_is_made_smaller_and_no_further_than_there_is_room() {
    let r = Record::new(800 * MIB, 500 * MIB);
    r.go(MovePolicy::Lazy, 300 * MIB).unwrap();
    assert_eq!(r.used(), (300, 1000));
    let send = |top: &Memcg, bytes| {
        let _pin = r.tree.threads.epoch.pin(r.rec);
        r.tree.send_marked(top, bytes)
    };
    // Nothing is won for a group that has both, and there is nothing of it in the other.
    assert_eq!(send(r.tree.memcgs.get(ROOT), MIB), 0);
    assert_eq!(send(r.b, MIB), 0);
    assert_eq!(send(r.a, 4 * MIB), 4 * MIB);
    assert_eq!(r.used(), (296, 1004));
    assert_eq!(send(r.a, 100 * MIB), 20 * MIB, "as much as fits");
    assert_eq!(r.used(), (276, 1024));
    assert_eq!(r.b.nr_events(Event::RechargeFailed, true), 1);
    r.free(r.b.tag(), 300 * MIB);
    assert_eq!(send(r.a, u64::MAX), 276 * MIB);
    assert_eq!(r.used(), (0, 1000));
    assert_eq!(send(r.a, u64::MAX), 0);
    assert!(!r.tree.may_have_marked(), "the next looks no further");
    r.finish(800 * MIB, 0, (0, 200 * MIB));
}

#[test]
fn when_the_target_fills_up_and_the_source_is_refilled_only_the_published_undo_leaks() {
    let others_of_b = 324 * MIB; // 700 of 800 MiB fit
    for policy in [
        MovePolicy::Paged,
        MovePolicy::ReserveBoth,
        MovePolicy::Leaky,
    ] {
        let r = Record::new(800 * MIB, others_of_b);
        let pin = r.tree.threads.epoch.pin(r.rec);
        let mut attach = Attach::begin(r.tree, r.rec, r.task, r.b, policy).unwrap();
        let why = attach.prepare().unwrap_err();
        assert!(matches!(why, MoveError::Full(_)));
        drop(pin);
        if policy != MovePolicy::ReserveBoth {
            assert_eq!(r.b.counter.usage(), 1024 * MIB, "{policy:?}");
        }
        // Others use the room the task has left in A, if it has left any.
        let refilled = r.charge(r.a.tag(), 600 * MIB);
        let pin = r.tree.threads.epoch.pin(r.rec);
        let leaked = attach.cancel();
        drop(pin);
        if policy == MovePolicy::Leaky {
            refilled.unwrap();
            assert_eq!(leaked, Some(MoveError::Leaked(376 * MIB)));
            assert_eq!(r.used(), (1024, 324), "376 MiB are charged to nobody");
            r.free(r.task, 376 * MIB);
            r.finish(424 * MIB, 0, (600 * MIB, others_of_b));
        } else {
            assert!(refilled.is_err(), "the source keeps the room");
            assert_eq!(leaked, None);
            assert_eq!(r.used(), (800, 324), "{policy:?}: all is as before");
            r.finish(800 * MIB, 0, (0, others_of_b));
        }
    }
}

#[test]
fn spawn_move_exec_leaves_the_source_nothing_under_any_policy() {
    for (policy, _) in MovePolicy::ALL {
        let r = Record::new(4 * MIB, 0);
        r.go(policy, 4 * MIB).unwrap();
        // exec drops what the fork had, and the new program fills its group.
        r.free(r.task, 4 * MIB);
        r.charge(r.live(), 700 * MIB).unwrap();
        assert_eq!(r.used(), (0, 700), "{policy:?}");
        r.finish(0, 700 * MIB, (0, 0));
    }
}

#[test]
fn room_for_both_is_seen_above_them_and_transfer_s_is_not() {
    for (policy, peak) in [
        (MovePolicy::Transfer, 100),
        (MovePolicy::Paged, 100),
        (MovePolicy::ReserveBoth, 200),
    ] {
        let r = Record::new(100 * MIB, 0);
        r.go(policy, 0).unwrap();
        assert_eq!(
            r.tree.memcgs.get(ROOT).counter.peak(),
            peak * MIB,
            "{policy:?}"
        );
        assert_eq!(r.used(), (0, 100));
        r.finish(100 * MIB, 0, (0, 0));
    }
}

#[test]
fn what_stayed_comes_along_with_the_next_whole_move() {
    let r = Record::new(800 * MIB, 500 * MIB);
    r.go(MovePolicy::BestEffort, 0).unwrap();
    r.free(r.b.tag(), 500 * MIB);
    let moved = r.go(MovePolicy::Transfer, 0).unwrap();
    assert_eq!((moved.moved, moved.stayed), (800 * MIB, 0));
    assert_eq!(r.used(), (0, 800));
    r.finish(800 * MIB, 0, (0, 0));
}

#[test]
fn a_move_that_is_dropped_is_cancelled() {
    for (policy, _) in MovePolicy::ALL {
        let r = Record::new(100 * MIB, 0);
        let owners = r.tree.objcgs.in_use();
        {
            let _pin = r.tree.threads.epoch.pin(r.rec);
            drop(Attach::begin(r.tree, r.rec, r.task, r.b, policy).unwrap());
        }
        let mut attach = {
            let _pin = r.tree.threads.epoch.pin(r.rec);
            Attach::begin(r.tree, r.rec, r.task, r.b, policy).unwrap()
        };
        attach.let_stay(10 * MIB);
        {
            let _pin = r.tree.threads.epoch.pin(r.rec);
            attach.prepare().unwrap();
        }
        // Unpinned, as a panic between two steps would have it.
        drop(attach);
        assert_eq!(r.used(), (100, 0), "{policy:?}");
        assert_eq!(r.live(), r.task, "{policy:?}");
        r.tree.collect();
        r.tree.collect();
        r.tree.collect();
        // What was shipped by the piece has a record of its own, empty now, until its task ends.
        let kept = u32::from(policy == MovePolicy::Leaky);
        assert_eq!(r.tree.objcgs.in_use(), owners + kept, "{policy:?}");
        r.tree.audit().unwrap();
        {
            // The target does not expect the task any more.
            let _pin = r.tree.threads.epoch.pin(r.rec);
            assert_eq!(r.b.nr_tasks(), 0, "{policy:?}");
        }
        r.go(policy, 0).unwrap();
        r.finish(100 * MIB, 0, (0, 0));
    }
}

#[test]
fn while_a_move_is_under_way_there_is_no_other_and_its_target_stays() {
    let r = Record::new(MIB, 0);
    {
        let _pin = r.tree.threads.epoch.pin(r.rec);
        let attach = Attach::begin(r.tree, r.rec, r.task, r.b, MovePolicy::ReserveBoth).unwrap();
        assert_eq!(
            move_task_with(r.tree, r.rec, r.task, r.a, MovePolicy::Transfer, 0),
            Err(MoveError::Moving)
        );
        assert!(offline::remove_alone(r.tree, r.b).is_err());
        r.tree.end_task(r.task);
        assert_eq!(attach.commit(), Err(MoveError::NoTask));
        assert_eq!(
            move_task_with(r.tree, r.rec, r.task, r.a, MovePolicy::Transfer, 0),
            Err(MoveError::NoTask)
        );
    }
    assert_eq!(r.used(), (1, 0));
    r.free(r.task, MIB);
    assert_eq!(r.tree.objcgs.get(r.task).state(), State::Free);
}

#[test]
fn threads_inside_a_task_that_left_its_bytes_charge_its_successor() {
    let r = Record::new(0, 0);
    let scope = r.tree.enter_scope(r.rec, Some(r.task));
    charge_current(r.tree, r.rec, 64).unwrap();
    assert!(r.tree.stocked_for(r.task) > 0);
    r.go(MovePolicy::Stay, 0).unwrap();
    assert_eq!(r.tree.stocked_for(r.task), 0);
    assert_eq!(r.rec.charge_hit(64), None, "no hit charges the old owner");
    // Frees of what it held do not make it stock again.
    r.tree.uncharge(r.rec, r.task, 64);
    assert_eq!(r.tree.stocked_for(r.task), 0);
    assert!(!r.tree.objcgs.get(r.task).is_live());
    r.tree.leave_scope(r.rec, scope);
    let live = r.live();
    assert_ne!(live, r.task);
    // A chain of successors is followed, halved, and let go whole.
    for target in [r.a, r.b, r.a, r.b] {
        let _pin = r.tree.threads.epoch.pin(r.rec);
        move_task_with(r.tree, r.rec, r.task, target, MovePolicy::Stay, 0).unwrap();
    }
    // What they were has been let go: nothing stands in the way of the epochs.
    (0..4).for_each(|_| r.tree.collect());
    assert!(r.tree.objcgs.in_use() <= 8);
    r.tree.return_all(r.rec);
    r.finish(0, 0, (0, 0));
}
