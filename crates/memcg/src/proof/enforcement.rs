//! Who is refused at a limit, who is charged above it, who is told to end: the table of
//! docs/enforcement.md, line by line.

#![forbid(unsafe_code)]

use crate::engine::group_limits::Bound;
use crate::engine::{Engine, Flags, Request};
use crate::group::kill_generation::KillGeneration;
use crate::group::{Event, Kind, Memcg, OomPolicy, ROOT, Tag};
use crate::thread::ThreadRec;

const MIB: u64 = 1 << 20;

struct World {
    engine: &'static Engine,
    rec: &'static ThreadRec,
}

impl World {
    fn new() -> Self {
        let engine = Engine::leaked();
        let (_, rec) = engine.tree.threads.join().unwrap();
        Self { engine, rec }
    }

    fn group(&self, parent: Option<&Memcg>, name: &str) -> &'static Memcg {
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec);
        let parent = parent.unwrap_or(tree.memcgs.get(ROOT));
        tree.memcgs
            .get(tree.create(parent, name.as_bytes()).unwrap())
    }

    fn task(&self, group: &Memcg) -> Tag {
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec);
        tree.new_task(group, b"task", 0).unwrap()
    }

    fn charge(&self, tag: Tag, bytes: u64, flags: Flags) -> bool {
        let request = Request::heap(tag, bytes, flags);
        self.engine.charge(self.rec, request).is_ok()
    }

    fn reserve(&self, tag: Tag, bytes: u64) -> bool {
        let request = Request::reserved(tag, bytes, Flags::NOWAIT);
        self.engine.charge(self.rec, request).is_ok()
    }

    fn uncharge(&self, tag: Tag, bytes: u64) {
        self.engine.uncharge(self.rec, tag, bytes, Kind::Heap);
    }

    fn is_killed(&self, tag: Tag) -> bool {
        self.engine.tree.objcgs.get(tag).is_killed()
    }

    fn end(&self, tag: Tag, held: u64) {
        self.uncharge(tag, held);
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        self.engine.tree.end_task(tag);
    }
}

#[test]
fn each_caller_is_refused_or_charged_above_max_as_the_table_says() {
    use OomPolicy::{Debt, Default, Deny, Kill, Observe};
    let door = [
        (Default, false),
        (Debt, false),
        (Kill, false),
        (Deny, false),
        (Observe, true),
    ];
    // With nobody to tell, `kill` refuses who can be refused.
    let malloc = [
        (Default, false),
        (Debt, true),
        (Kill, false),
        (Deny, false),
        (Observe, true),
    ];
    let rust = [
        (Default, true),
        (Debt, true),
        (Kill, true),
        (Deny, false),
        (Observe, true),
    ];
    let force = rust.map(|(policy, _)| (policy, true));
    for (flags, answers) in [
        (Flags::NOWAIT, door),
        (Flags::MALLOC, malloc),
        (Flags::INFALLIBLE, rust),
        (Flags::FORCE, force),
    ] {
        for (policy, answer) in answers {
            let w = World::new();
            let a = w.group(None, "a");
            a.set_oom_policy(policy);
            a.counter.set_max(MIB);
            assert!(w.charge(a.tag(), MIB, flags));
            let case = format!("{flags:?} under {policy:?}");
            assert_eq!(w.charge(a.tag(), 4096, flags), answer, "{case}");
            assert_eq!(a.nr_events(Event::Debt, true), answer.into(), "{case}");
            let refused = u64::from(!answer);
            assert_eq!(a.nr_events(Event::Oom, true), refused, "{case}");
        }
    }
}

#[test]
fn inside_fallible_large_requests_can_be_refused_and_small_ones_cannot() {
    for policy in [
        OomPolicy::Default,
        OomPolicy::Debt,
        OomPolicy::Kill,
        OomPolicy::Deny,
    ] {
        let w = World::new();
        let a = w.group(None, "a");
        a.set_oom_policy(policy);
        a.counter.set_max(MIB);
        let task = w.task(a);
        assert!(w.charge(task, MIB, Flags::INFALLIBLE));
        {
            let _inside = w.rec.begin_fallible();
            assert!(!w.charge(task, 4096, Flags::INFALLIBLE), "{policy:?}");
            assert!(w.charge(task, 4088, Flags::INFALLIBLE), "{policy:?}");
            assert!(!w.charge(task, 4096, Flags::MALLOC), "{policy:?}");
        }
        assert!(!w.is_killed(task), "a refusal kills nobody");
        assert_eq!(
            w.charge(task, 4096, Flags::INFALLIBLE),
            policy != OomPolicy::Deny
        );
    }
}

#[test]
fn who_asks_at_the_door_gets_nothing_of_stock_that_was_forced() {
    let w = World::new();
    let a = w.group(None, "a");
    a.counter.set_max(64 * MIB);
    let held = w.group(None, "b");
    let _ = held;
    assert!(w.charge(a.tag(), 63 * MIB, Flags::INFALLIBLE));
    // The first reservations count some in advance.
    assert!(w.reserve(a.tag(), 64));
    for _ in 0..4096 {
        assert!(w.charge(a.tag(), 1024, Flags::INFALLIBLE));
    }
    assert!(a.is_over());
    assert!(a.counter.granted() > 0, "who is over has stock");
    assert!(!w.reserve(a.tag(), 8));
    assert!(!w.charge(a.tag(), 8, Flags::NOWAIT));
    // What is given back is not had again either.
    let give = |bytes| {
        let kind = Kind::Reserved;
        w.engine.uncharge(w.rec, a.tag(), bytes, kind);
    };
    give(64);
    assert!(!w.reserve(a.tag(), 64));
    for _ in 0..4096 {
        w.uncharge(a.tag(), 1024);
    }
    assert!(w.reserve(a.tag(), 64), "there is room again");
    give(64);
    w.uncharge(a.tag(), 63 * MIB);
    let _pin = w.engine.tree.threads.epoch.pin(w.rec);
    assert_eq!(w.engine.tree.usage(a).current, 0);
}

#[test]
fn a_request_that_could_never_fit_kills_its_own_task_at_most() {
    let w = World::new();
    let a = w.group(None, "a");
    a.set_oom_policy(OomPolicy::Kill);
    a.counter.set_max(8 * MIB);
    let tasks: Vec<Tag> = (0..4).map(|_| w.task(a)).collect();
    for &task in &tasks {
        assert!(w.charge(task, MIB, Flags::MALLOC));
    }
    assert!(!w.charge(tasks[0], 16 * MIB, Flags::NOWAIT));
    assert!(!w.charge(tasks[0], 16 * MIB, Flags::MALLOC));
    assert!(tasks.iter().all(|&task| !w.is_killed(task)));
    assert_eq!(a.nr_events(Event::Oom, true), 2, "one for each refusal");
    assert!(w.charge(tasks[1], 16 * MIB, Flags::INFALLIBLE));
    let killed: Vec<bool> = tasks.iter().map(|&task| w.is_killed(task)).collect();
    assert_eq!(killed, [false, true, false, false]);
}

#[test]
fn the_excess_is_covered_by_marks_and_nobody_more_is_marked() {
    let w = World::new();
    let a = w.group(None, "a");
    a.set_oom_policy(OomPolicy::Kill);
    a.counter.set_max(8 * MIB);
    let (large, small) = (w.task(a), w.task(a));
    assert!(w.charge(large, 6 * MIB, Flags::MALLOC));
    assert!(w.charge(small, 2 * MIB, Flags::MALLOC));
    for _ in 0..5 {
        assert!(w.charge(small, MIB, Flags::MALLOC));
    }
    assert!(w.is_killed(large) && !w.is_killed(small));
    assert_eq!(a.nr_events(Event::OomKill, true), 1);
    // As soon as the one has ended the other counts.
    w.end(large, 6 * MIB);
    assert!(w.charge(small, MIB, Flags::MALLOC) && !w.is_killed(small));
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(w.charge(small, MIB, Flags::MALLOC));
    assert!(w.is_killed(small));
}

#[test]
fn a_store_that_fills_the_parent_does_not_end_the_siblings_requests() {
    let w = World::new();
    let parent = w.group(None, "tenants");
    parent.set_oom_policy(OomPolicy::Kill);
    parent.counter.set_max(64 * MIB);
    let (hog, other) = (w.group(Some(parent), "hog"), w.group(Some(parent), "other"));
    let requests: Vec<Tag> = (0..8).map(|_| w.task(other)).collect();
    // The store is no task: it is charged to the group itself.
    assert!(w.charge(hog.tag(), 70 * MIB, Flags::INFALLIBLE));
    for &request in &requests {
        for _ in 0..64 {
            assert!(w.charge(request, 8192, Flags::INFALLIBLE));
        }
        assert!(!w.is_killed(request));
    }
    assert_eq!(parent.nr_events(Event::OomKill, false), 0);
}

#[test]
fn the_subtree_that_is_most_above_its_own_max_gives_the_victim() {
    let w = World::new();
    let parent = w.group(None, "tenants");
    parent.set_oom_policy(OomPolicy::Kill);
    parent.counter.set_max(64 * MIB);
    let (small, large) = (
        w.group(Some(parent), "small"),
        w.group(Some(parent), "large"),
    );
    small.counter.set_max(4 * MIB);
    let (hog, big) = (w.task(small), w.task(large));
    assert!(w.charge(big, 50 * MIB, Flags::INFALLIBLE));
    assert!(w.charge(hog, 14 * MIB, Flags::INFALLIBLE));
    assert!(
        !w.is_killed(hog) && !w.is_killed(big),
        "the parent is not full yet"
    );
    assert!(w.charge(big, MIB, Flags::INFALLIBLE));
    assert!(w.is_killed(hog) && !w.is_killed(big));
    // Among those within their own max the one that uses most beyond its min.
    let w = World::new();
    let parent = w.group(None, "tenants");
    parent.set_oom_policy(OomPolicy::Kill);
    parent.counter.set_max(64 * MIB);
    let (kept, plain) = (
        w.group(Some(parent), "kept"),
        w.group(Some(parent), "plain"),
    );
    kept.counter.set_min(40 * MIB);
    let (safe, victim) = (w.task(kept), w.task(plain));
    assert!(w.charge(safe, 42 * MIB, Flags::INFALLIBLE));
    assert!(w.charge(victim, 22 * MIB, Flags::INFALLIBLE));
    assert!(w.charge(safe, MIB, Flags::INFALLIBLE));
    assert!(w.is_killed(victim) && !w.is_killed(safe));
}

#[test]
fn a_group_that_ends_as_a_whole_is_one_candidate_of_its_whole_size() {
    let w = World::new();
    let a = w.group(None, "a");
    a.set_oom_policy(OomPolicy::Kill);
    a.counter.set_max(64 * MIB);
    let (whole, single) = (w.group(Some(a), "whole"), w.group(Some(a), "single"));
    whole.set_oom_group(true);
    let tasks: Vec<Tag> = (0..5).map(|_| w.task(whole)).collect();
    let one = w.task(single);
    for &task in &tasks {
        assert!(w.charge(task, 7 * MIB, Flags::INFALLIBLE));
    }
    assert!(w.charge(one, 30 * MIB, Flags::INFALLIBLE));
    assert!(tasks.iter().all(|&task| w.is_killed(task)) && !w.is_killed(one));
    assert_eq!(whole.nr_events(Event::OomGroupKill, true), 1);
    // Who comes afterwards is told as well, however soon.
    for &task in &tasks {
        w.end(task, 7 * MIB);
    }
    let late = w.task(whole);
    assert!(w.charge(late, 32 * MIB, Flags::MALLOC) && !w.is_killed(late));
    assert!(w.charge(late, 4 * MIB, Flags::MALLOC));
    assert!(w.is_killed(late) && !w.is_killed(one));
    assert_eq!(whole.nr_events(Event::OomGroupKill, true), 2);
    assert_eq!(a.nr_events(Event::OomKill, false), 6);
}

#[test]
fn stock_of_others_is_no_reason_to_refuse_who_cannot_be_refused() {
    // By a bound of debt, and by `deny` above a group in debt.
    for (policy, debt_max) in [(OomPolicy::Debt, MIB), (OomPolicy::Deny, 0)] {
        let w = World::new();
        let (_, other) = w.engine.tree.threads.join().unwrap();
        let top = w.group(None, "top");
        let a = w.group(Some(top), "a");
        a.set_oom_policy(OomPolicy::Debt);
        a.counter.set_max(MIB);
        top.set_oom_policy(policy);
        top.set_debt_max(debt_max);
        top.counter.set_max(4 * MIB);
        let most = 4 * MIB + debt_max;
        assert!(w.charge(a.tag(), most - (64 << 10), Flags::INFALLIBLE));
        for _ in 0..8 {
            // Somebody is in debt with stock at hand, and the last drain was a moment ago.
            let some = Request::heap(a.tag(), 1024, Flags::INFALLIBLE);
            assert!(w.engine.charge(other, some).is_ok());
            {
                let _pin = w.engine.tree.threads.epoch.pin(w.rec);
                w.engine.tree.drain_for_charge(w.rec, top);
            }
            assert!(w.engine.charge(other, some).is_ok());
            assert!(top.counter.granted() > 0);
            let room = (64 << 10) - 2048;
            assert!(w.charge(a.tag(), room, Flags::INFALLIBLE), "{policy:?}");
            assert!(!w.charge(a.tag(), 8, Flags::INFALLIBLE), "{policy:?}");
            w.uncharge(a.tag(), room);
            w.engine.uncharge(other, a.tag(), 2048, Kind::Heap);
        }
    }
}

#[test]
fn below_an_observed_group_nobody_is_refused_killed_or_throttled() {
    let w = World::new();
    let top = w.group(None, "tenants");
    top.set_oom_policy(OomPolicy::Observe);
    let a = w.group(Some(top), "a");
    a.set_oom_policy(OomPolicy::Kill);
    a.counter.set_max(MIB);
    a.counter.set_high(MIB / 2);
    let task = w.task(a);
    assert!(w.charge(task, 2 * MIB, Flags::MALLOC));
    assert!(w.reserve(task, 2 * MIB), "nor at the door");
    let given = w.engine.charge_given(w.rec, task, 2 * MIB);
    assert!(given.is_ok(), "nor what it is given");
    assert!(!w.is_killed(task));
    assert_eq!(w.rec.owed_ns(), 0);
    assert_eq!(a.nr_events(Event::WouldKill, true), 1);
    assert_eq!(a.nr_events(Event::WouldRefuse, true), 2);
    assert_eq!(a.nr_events(Event::WouldThrottle, true), 2);
    assert_eq!(a.nr_events(Event::Oom, true), 0);
}

#[test]
fn a_refusal_beyond_the_bound_of_debt_is_counted_as_one_that_met_max() {
    let w = World::new();
    let a = w.group(None, "a");
    a.counter.set_max(MIB);
    a.set_debt_max(4096);
    assert!(w.charge(a.tag(), MIB + 4096, Flags::INFALLIBLE));
    let events = |event| a.nr_events(event, true);
    assert_eq!(
        (events(Event::Max), events(Event::Debt)),
        (1, 1),
        "it went above"
    );
    assert!(!w.charge(a.tag(), 8, Flags::INFALLIBLE));
    assert_eq!(
        (events(Event::Max), events(Event::Oom)),
        (2, 1),
        "it was refused"
    );
}

#[test]
fn a_c_library_call_that_asks_twice_meets_max_once() {
    let w = World::new();
    let a = w.group(None, "a");
    a.counter.set_max(MIB);
    let first = Flags::MALLOC | Flags::EARLY;
    let events = || (a.nr_events(Event::Max, true), a.nr_events(Event::Oom, true));
    assert!(!w.charge(a.tag(), 2 * MIB, first));
    assert_eq!(events(), (0, 0), "it will ask again");
    assert!(!w.charge(a.tag(), 2 * MIB, Flags::MALLOC));
    assert_eq!(events(), (1, 1), "it was refused once");
    // Whoever asks early at the door may never ask again.
    assert!(!w.charge(a.tag(), 2 * MIB, Flags::EARLY));
    assert_eq!(events(), (2, 1));
}

#[test]
fn the_policy_of_the_full_group_decides_not_that_of_the_charged_one() {
    let w = World::new();
    let parent = w.group(None, "parent");
    let child = w.group(Some(parent), "child");
    parent.counter.set_max(MIB);
    parent.set_oom_policy(OomPolicy::Deny);
    child.set_oom_policy(OomPolicy::Debt);
    assert!(w.charge(child.tag(), MIB, Flags::INFALLIBLE));
    assert!(!w.charge(child.tag(), 8, Flags::INFALLIBLE));
    parent.set_oom_policy(OomPolicy::Debt);
    child.set_oom_policy(OomPolicy::Deny);
    assert!(w.charge(child.tag(), 8, Flags::INFALLIBLE));
}

#[test]
fn the_process_s_budget_refuses_who_can_be_refused_and_ends_beyond_the_emergency() {
    use crate::engine::budget::Line;
    let w = World::new();
    let a = w.group(None, "a");
    a.set_oom_policy(OomPolicy::Debt);
    // What is resident beside the charges is taken off, so the lines are wide.
    let is_refused = w.engine.set_root_max(w.rec, 4096).is_err();
    assert!(is_refused, "it would end at once");
    w.engine.set_root_max(w.rec, 1 << 40).unwrap();
    w.engine.set_emergency(w.rec, Line::Bytes(1 << 30)).unwrap();
    let max = w.engine.tree.memcgs.get(ROOT).counter.max();
    assert!(max < 1 << 40, "less what is resident");
    assert!(w.charge(a.tag(), max & !7, Flags::INFALLIBLE));
    assert!(!w.charge(a.tag(), 4096, Flags::MALLOC));
    assert!(!w.charge(a.tag(), 4096, Flags::NOWAIT));
    assert!(w.charge(a.tag(), (1 << 30) - 4096, Flags::INFALLIBLE));
    assert!(!w.charge(a.tag(), 1 << 20, Flags::INFALLIBLE));
    assert!(w.charge(a.tag(), 1 << 20, Flags::FORCE));
}

#[test]
fn above_the_process_s_high_line_tasks_of_groups_above_their_max_are_told_to_end() {
    use crate::engine::budget::Line;
    let w = World::new();
    let (over, within) = (w.group(None, "over"), w.group(None, "within"));
    over.counter.set_max(MIB);
    let (hog, big) = (w.task(over), w.task(within));
    assert!(w.charge(hog, 1 << 38, Flags::INFALLIBLE));
    assert!(w.charge(big, 1 << 39, Flags::INFALLIBLE));
    assert!(!w.is_killed(hog));
    w.engine.set_root_high(w.rec, Line::Bytes((3 << 38) - 4096));
    assert!(w.is_killed(hog) && !w.is_killed(big));
    assert!(w.charge(big, 4096, Flags::MALLOC), "nobody is refused");
    assert_eq!(w.rec.owed_ns(), 0, "nor throttled");
}

#[test]
fn who_is_observed_does_not_end_for_others_nor_for_the_budget() {
    use crate::engine::budget::Line;
    let w = World::new();
    let parent = w.group(None, "tenants");
    parent.set_oom_policy(OomPolicy::Kill);
    parent.counter.set_max(64 * MIB);
    let (seen, plain) = (
        w.group(Some(parent), "seen"),
        w.group(Some(parent), "plain"),
    );
    seen.set_oom_policy(OomPolicy::Observe);
    seen.counter.set_max(MIB);
    seen.set_oom_group(true);
    let (observed, other) = (w.task(seen), w.task(plain));
    // Observed it is far above its own max, and still another group's task goes for the parent.
    assert!(w.charge(observed, 40 * MIB, Flags::INFALLIBLE));
    assert!(w.charge(other, 20 * MIB, Flags::INFALLIBLE));
    assert!(w.charge(other, 10 * MIB, Flags::INFALLIBLE));
    assert!(!w.is_killed(observed) && w.is_killed(other));
    assert_eq!(parent.nr_events(Event::OomGroupKill, false), 0);
    // A forced charge of what is observed has nobody told to end, nor has a max that is written.
    w.end(other, 30 * MIB);
    let late = w.task(plain);
    assert!(w.charge(late, 23 * MIB, Flags::INFALLIBLE));
    assert!(w.charge(observed, 8 * MIB, Flags::FORCE));
    seen.set_oom_policy(OomPolicy::Kill);
    parent.set_oom_policy(OomPolicy::Observe);
    w.engine.set_bound(w.rec, seen, Bound::Max, 0).unwrap();
    assert!(!w.is_killed(observed) && !w.is_killed(late));
    // Nor is it what the process ends for its own budget.
    assert!(w.charge(observed, 1 << 40, Flags::INFALLIBLE));
    w.engine.set_root_high(w.rec, Line::Bytes(1 << 39));
    assert!(!w.is_killed(observed));
}

#[test]
fn a_group_that_ends_as_a_whole_spares_what_is_observed_in_it() {
    let w = World::new();
    let a = w.group(None, "a");
    a.set_oom_policy(OomPolicy::Kill);
    a.counter.set_max(64 * MIB);
    let whole = w.group(Some(a), "whole");
    whole.set_oom_group(true);
    let seen = w.group(Some(whole), "seen");
    seen.set_oom_policy(OomPolicy::Observe);
    let (task, observed) = (w.task(whole), w.task(seen));
    assert!(w.charge(observed, 50 * MIB, Flags::INFALLIBLE));
    assert!(w.charge(task, 4 * MIB, Flags::INFALLIBLE));
    // More than all that could go: nobody goes.
    assert!(!w.charge(task, 20 * MIB, Flags::MALLOC) && !w.is_killed(task));
    assert!(w.charge(task, 12 * MIB, Flags::MALLOC));
    assert!(w.is_killed(task) && !w.is_killed(observed));
    let tree = &w.engine.tree;
    let generation = |group: &Memcg| tree.objcgs.get(group.tag()).kill_generation();
    assert_ne!(generation(whole), KillGeneration::default());
    assert_eq!(generation(seen), KillGeneration::default());
}

#[test]
fn a_budget_ends_tasks_one_by_one_and_none_that_the_program_did_not_make() {
    use crate::engine::budget::Line;
    let w = World::new();
    let over = w.group(None, "over");
    over.set_oom_group(true);
    over.counter.set_max(MIB);
    let (large, small) = (w.task(over), w.task(over));
    let thread = {
        let tree = &w.engine.tree;
        let _pin = tree.threads.epoch.pin(w.rec);
        tree.new_task(over, b"thread", 1).unwrap()
    };
    for (tag, bytes) in [(large, 1 << 39), (small, 1 << 38), (thread, 1 << 38)] {
        assert!(w.charge(tag, bytes, Flags::INFALLIBLE));
    }
    w.engine
        .set_root_high(w.rec, Line::Bytes((1 << 39) + (1 << 20)));
    assert!(w.is_killed(large) && !w.is_killed(small) && !w.is_killed(thread));
}

#[test]
fn a_reserve_of_what_is_observed_is_not_what_a_group_gives_back_as_a_whole() {
    let w = World::new();
    let a = w.group(None, "a");
    a.set_oom_policy(OomPolicy::Kill);
    a.counter.set_max(64 * MIB);
    // In one child, where the larger is chosen.
    let child = w.group(Some(a), "child");
    let (whole, single) = (
        w.group(Some(child), "whole"),
        w.group(Some(child), "single"),
    );
    whole.set_oom_group(true);
    let seen = w.group(Some(whole), "seen");
    seen.set_oom_policy(OomPolicy::Observe);
    w.engine.set_reserve(w.rec, seen, 20 * MIB).unwrap();
    let (task, one) = (w.task(whole), w.task(single));
    assert!(w.charge(task, 10 * MIB, Flags::INFALLIBLE));
    assert!(w.charge(one, 28 * MIB, Flags::INFALLIBLE));
    assert!(w.charge(task, 8 * MIB, Flags::INFALLIBLE));
    assert!(w.is_killed(one) && !w.is_killed(task));
}

#[test]
fn a_budget_finds_who_may_end_behind_any_number_of_groups_where_nobody_may() {
    use crate::engine::budget::Line;
    let w = World::new();
    let tree = &w.engine.tree;
    for n in 0..20 {
        let over = w.group(None, &format!("threads-{n}"));
        over.counter.set_max(MIB);
        let thread = {
            let _pin = tree.threads.epoch.pin(w.rec);
            tree.new_task(over, b"thread", 1 + n).unwrap()
        };
        assert!(w.charge(thread, 1 << 36, Flags::INFALLIBLE));
    }
    let least = w.group(None, "least");
    least.counter.set_max(MIB);
    let task = w.task(least);
    assert!(w.charge(task, 1 << 35, Flags::INFALLIBLE));
    w.engine
        .set_root_high(w.rec, Line::Bytes((20 << 36) + (1 << 34)));
    assert!(w.is_killed(task));
}
