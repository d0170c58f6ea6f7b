//! What a group leaves, by `memory.offline`.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::{
    CacheOptions, Event, KBox, KmemCache, Limit, ListLru, LruItem, Memcg, Shared, Verdict, root,
};
use std::sync::Mutex;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

type Thing = [u64; 32];
const BYTES: u64 = 256;

/// What caches hold for a group and below.
fn slab(group: &Memcg) -> u64 {
    group.usage().slab
}

fn group(parent: &Memcg, name: &str) -> Memcg {
    parent.create(name).unwrap()
}

/// `n` things made in a group of its own in `parent`, which then ends by `policy`.
fn left(parent: &Memcg, cache: &KmemCache<Thing>, policy: &str, n: u64) -> Vec<KBox<Thing>> {
    let dying = group(parent, "dying");
    dying.write("memory.offline", policy).unwrap();
    let _free = memcg::no_account();
    let mut things = Vec::with_capacity(n as usize);
    things.extend((0..n).map(|i| dying.run(|| cache.alloc([i; 32]).unwrap())));
    assert_eq!(slab(&dying), n * BYTES);
    dying.remove().unwrap();
    assert_eq!(slab(parent), n * BYTES);
    things
}

#[test]
fn next_touch_charges_who_looks_a_thing_up_and_nothing_else() {
    let (parent, user) = (group(&root(), "touch-p"), group(&root(), "touch-u"));
    let cache = KmemCache::<Thing>::new("touch").unwrap();
    let things = left(&parent, &cache, "next-touch", 1000);
    // Work in no group takes nothing over.
    assert!(!things[0].touch());
    let touched = user.run(|| {
        things
            .iter()
            .step_by(4)
            .filter(|thing| thing.touch())
            .count()
    });
    assert_eq!(touched, 250);
    assert_eq!((slab(&user), slab(&parent)), (250 * BYTES, 750 * BYTES));
    // Once it is somebody's who lives, looking it up changes nothing.
    parent.run(|| assert!(!things[0].touch()));
    // Others take from the same slabs meanwhile, and everybody gets back what is its own.
    let more: Vec<_> = {
        let _free = memcg::no_account();
        (0..500)
            .map(|i| parent.run(|| cache.alloc([i; 32]).unwrap()))
            .collect()
    };
    assert_eq!((slab(&user), slab(&parent)), (250 * BYTES, 1250 * BYTES));
    for (i, thing) in things.iter().enumerate() {
        assert_eq!(**thing, [i as u64; 32]);
    }
    drop(things);
    assert_eq!((slab(&user), slab(&parent)), (0, 500 * BYTES));
    drop(more);
    assert_eq!((slab(&user), slab(&parent)), (0, 0));
    user.remove().unwrap();
    parent.remove().unwrap();
}

#[test]
fn what_is_the_parent_s_for_good_is_not_taken_over() {
    let (parent, user) = (group(&root(), "keep-p"), group(&root(), "keep-u"));
    let cache = KmemCache::<Thing>::new("keep").unwrap();
    for policy in ["parent", "evict", "mapper"] {
        let things = left(&parent, &cache, policy, 10);
        assert!(user.run(|| things.iter().all(|thing| !thing.touch())));
        assert_eq!((slab(&user), slab(&parent)), (0, 10 * BYTES));
    }
    // With `auto` what a cache finds is taken over, a reservation is not.
    for (policy, charged) in [("auto", false), ("next-touch", true)] {
        let dying = group(&parent, "dying");
        dying.write("memory.offline", policy).unwrap();
        let mut charge = dying.try_reserve(4096).unwrap();
        let thing = dying.run(|| cache.alloc([1; 32]).unwrap());
        dying.remove().unwrap();
        assert!(user.run(|| thing.touch()));
        assert_eq!(user.run(|| charge.touch()), charged, "{policy}");
        assert_eq!(user.usage().reserved, if charged { 4096 } else { 0 });
    }
}

#[test]
fn what_an_ended_task_or_a_child_gone_before_left_goes_the_group_s_way() {
    let (parent, user) = (group(&root(), "chain-p"), group(&root(), "chain-u"));
    let cache = KmemCache::<Thing>::new("chain").unwrap();
    let middle = group(&parent, "middle");
    let things = left(&middle, &cache, "parent", 3);
    let task = middle.task("t").unwrap();
    let of_task = task.run(|| cache.alloc([1; 32]).unwrap());
    drop(task);
    assert!(user.run(|| !things[0].touch() && !of_task.touch()));
    middle.write("memory.offline", "auto").unwrap();
    middle.remove().unwrap();
    assert!(user.run(|| things[0].touch() && of_task.touch()));
    // Also after one more end above, by another policy.
    parent.remove().unwrap();
    assert!(user.run(|| things[1].touch()));
    assert_eq!(slab(&user), 3 * BYTES);
}

#[test]
fn a_recharge_is_whole_or_not_at_all_and_never_above_a_limit() {
    let (parent, user) = (group(&root(), "room-p"), group(&root(), "room-u"));
    let cache = KmemCache::<Thing>::new("room").unwrap();
    let things = left(&parent, &cache, "next-touch", 100);
    user.set_max(Limit::bytes(10 * BYTES)).unwrap();
    user.write("memory.oom.policy", "debt").unwrap();
    let touched = user.run(|| things.iter().filter(|thing| thing.touch()).count());
    assert_eq!(touched, 10);
    assert_eq!((slab(&user), slab(&parent)), (10 * BYTES, 90 * BYTES));
    assert_eq!(user.nr_events(Event::RechargeFailed), 90);
    assert_eq!(user.nr_events(Event::Oom) + user.nr_events(Event::Debt), 0);
    let why = things[50].recharge_to(&user).unwrap_err();
    assert_eq!((why.group.as_str(), why.bytes), ("/room-u", BYTES));
    // memory.kmem.max is a limit as well.
    user.set_max(Limit::MAX).unwrap();
    user.write("memory.kmem.max", &format!("{}", 12 * BYTES))
        .unwrap();
    let given = things
        .iter()
        .filter(|t| t.recharge_to(&user).is_ok())
        .count();
    assert_eq!(given, 12);
    assert_eq!((slab(&user), user.current()), (12 * BYTES, 12 * BYTES));
    assert_eq!(parent.current(), 88 * BYTES);
    things[0].recharge_to(&parent).unwrap();
    assert_eq!((slab(&user), slab(&parent)), (11 * BYTES, 89 * BYTES));
}

fn listed(list: &ListLru<u64>, group: &Memcg, values: core::ops::Range<u64>) -> Vec<LruItem<u64>> {
    let _free = memcg::no_account();
    let insert = |value| group.run(|| list.insert(value));
    values.map(insert).collect()
}

fn order(list: &ListLru<u64>, group: &Memcg) -> Vec<u64> {
    let mut seen = Vec::new();
    list.walk(group, u64::MAX, |value| {
        seen.push(*value);
        Verdict::Skip
    });
    seen
}

#[test]
fn what_nobody_touches_is_first_to_go_and_what_is_touched_goes_to_who_did() {
    let (parent, user) = (group(&root(), "first-p"), group(&root(), "first-u"));
    let list = ListLru::<u64>::in_cache(CacheOptions::new("first")).unwrap();
    let own = listed(&list, &parent, 0..3);
    for (policy, expected) in [
        ("parent", [0, 1, 2, 3, 4, 5]),
        ("next-touch", [3, 4, 5, 0, 1, 2]),
    ] {
        let dying = group(&parent, "dying");
        dying.write("memory.offline", policy).unwrap();
        let left = listed(&list, &dying, 3..6);
        dying.remove().unwrap();
        assert_eq!(order(&list, &parent), expected, "{policy}");
        let before = slab(&parent);
        assert_eq!(user.run(|| left[1].touch()), policy == "next-touch");
        if policy == "next-touch" {
            assert_eq!(order(&list, &parent), [3, 5, 0, 1, 2]);
            assert_eq!(order(&list, &user), [4]);
            assert!(left[1].is_listed());
            assert_eq!(slab(&parent) + slab(&user), before);
            assert!(slab(&user) > 0);
            // Used in the group that has it, it is the last to go there.
            assert!(parent.run(|| left[0].touch()));
            assert_eq!(order(&list, &parent), [5, 0, 1, 2, 3]);
        }
    }
    drop(own);
    assert_eq!((slab(&parent), slab(&user)), (0, 0));
    assert_eq!(list.count_all(), 0);
}

#[test]
fn evict_asks_the_shrinkers_and_leaves_the_parent_the_rest() {
    let parent = group(&root(), "evict-p");
    let list: &'static ListLru<u64> = Box::leak(Box::new(
        ListLru::in_cache(CacheOptions::new("evict")).unwrap(),
    ));
    let items: &'static Mutex<Vec<Option<LruItem<u64>>>> = Box::leak(Box::default());
    let _registered = list.shrink_by(|value| {
        // Every third is in use.
        if value.is_multiple_of(3) {
            return Verdict::Rotate;
        }
        let gone = items.lock().unwrap()[*value as usize].take();
        drop(gone);
        Verdict::Removed
    });
    let dying = group(&parent, "dying");
    dying.write("memory.offline", "evict").unwrap();
    items
        .lock()
        .unwrap()
        .extend(listed(list, &dying, 0..3000).into_iter().map(Some));
    let before = slab(&dying);
    assert_eq!(slab(&parent), before);
    // A group that is busy is not asked for anything.
    let child = group(&dying, "child");
    dying.remove().unwrap_err();
    assert_eq!(list.count(&dying), 3000);
    child.remove().unwrap();
    dying.remove().unwrap();
    assert_eq!(list.count(&parent), 1000);
    assert_eq!(slab(&parent), before / 3);
    items.lock().unwrap().clear();
    assert_eq!(slab(&parent), 0);
    parent.remove().unwrap();
}

#[test]
fn mapper_gives_a_thing_to_who_holds_it_the_last_to_come_where_there_are_several() {
    let parent = group(&root(), "mapper-p");
    let (a, b) = (group(&parent, "a"), group(&parent, "b"));
    let cache = KmemCache::<Thing>::new("mapper").unwrap();
    let dying = group(&parent, "dying");
    dying.write("memory.offline", "mapper").unwrap();
    let shared = || Shared::new(dying.run(|| cache.alloc([7; 32]).unwrap()));
    let (alone, two, nobody, large) = (
        shared(),
        shared(),
        shared(),
        Shared::new(Mutex::new(dying.try_reserve(1 << 20).unwrap())),
    );
    let held = [
        alone.hold(&a),
        two.hold(&b),
        two.hold(&a),
        alone.hold(&dying),
    ];
    let _large = large.hold(&b);
    assert_eq!((alone.nr_holders(), held.len()), (2, 4));
    b.set_max(Limit::bytes(1 << 19)).unwrap();
    dying.remove().unwrap();
    assert_eq!(
        (slab(&a), slab(&b), slab(&parent)),
        (2 * BYTES, 0, 3 * BYTES)
    );
    // There was no room for that.
    assert_eq!(
        (b.usage().reserved, b.nr_events(Event::RechargeFailed)),
        (0, 1)
    );
    assert_eq!(parent.usage().reserved, 1 << 20);
    // Who holds it from now on takes it.
    let late = nobody.hold(&b);
    assert_eq!(slab(&b), BYTES);
    assert_eq!(**late, [7; 32]);
    let _again = large.hold(&a);
    assert_eq!(a.usage().reserved, 1 << 20);
}

#[test]
fn a_reservation_is_taken_by_who_wants_to_pay_for_it() {
    let (a, b) = (group(&root(), "take-a"), group(&root(), "take-b"));
    let mut charge = a.try_reserve(4096).unwrap();
    b.set_max(Limit::bytes(1024)).unwrap();
    b.run(|| charge.take()).unwrap_err();
    assert_eq!((a.current(), b.current()), (4096, 0));
    assert_eq!(b.nr_events(Event::RechargeFailed), 1);
    b.set_max(Limit::bytes(4096)).unwrap();
    b.run(|| charge.take()).unwrap();
    assert_eq!((a.current(), b.current()), (0, 4096));
}

#[test]
fn threads_that_recharge_and_allocate_in_the_same_slabs_lose_no_byte() {
    let groups: Vec<Memcg> = (0..3)
        .map(|n| group(&root(), &format!("race{n}")))
        .collect();
    let cache = KmemCache::<Thing>::new("race").unwrap();
    for round in 0..30 {
        // All of one owner, then everybody at once.
        let things: Vec<_> = {
            let _free = memcg::no_account();
            (0..400)
                .map(|i| groups[round % 3].run(|| cache.alloc([i; 32]).unwrap()))
                .collect()
        };
        std::thread::scope(|s| {
            let runners: Vec<_> = (0..3)
                .map(|me| {
                    let (groups, things, cache) = (&groups, &things, &cache);
                    s.spawn(move || {
                        let _free = memcg::no_account();
                        let mut own = Vec::new();
                        for i in 0..things.len() {
                            things[(i * (me + 1)) % things.len()]
                                .recharge_to(&groups[me])
                                .unwrap();
                            own.push(groups[me].run(|| cache.alloc([0; 32]).unwrap()));
                            if i % 3 == 0 {
                                own.swap_remove(i % own.len());
                            }
                        }
                    })
                })
                .collect();
            for runner in runners {
                runner.join().unwrap();
            }
        });
        assert_eq!(groups.iter().map(slab).sum::<u64>(), 400 * BYTES);
        for (i, thing) in things.iter().enumerate() {
            assert_eq!(**thing, [i as u64; 32]);
        }
    }
    assert_eq!(groups.iter().map(slab).sum::<u64>(), 0);
}
