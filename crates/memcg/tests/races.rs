//! Everything at once against groups that end: create, charge, cache objects, lists, recharges,
//! moves, limits, reclaim, and a second remove; under each `memory.offline` and both group-endings.
//! Nothing is lost, and nothing is left.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::testing::engine::engine;
use memcg::{
    CacheLayout, CacheOptions, Charge, Flags, GroupEnd, Holder, KBox, KmemCache, Limit, ListLru,
    LruItem, Memcg, Shared, Task, Verdict, root, safe_point,
};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const WORKERS: usize = 4;
/// Groups to be ended before all stop.
const ENDS: usize = 25;
const MOST_GROUPS: usize = 10;

/// Small, fast, the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % n as u64) as usize
    }

    /// Takes one out, if there is any.
    fn take<T>(&mut self, from: &mut Vec<T>) -> Option<T> {
        (!from.is_empty()).then(|| from.swap_remove(self.below(from.len())))
    }
}

type Thing = [u64; 24];

struct World {
    policy: &'static str,
    tops: [Memcg; 2],
    groups: Mutex<Vec<Memcg>>,
    tasks: [Task; 3],
    caches: [KmemCache<Thing>; 2],
    list: ListLru<u64>,
    /// What one thread left for another.
    handed: Mutex<Vec<KBox<Thing>>>,
    /// Groups that were ended, things that were taken over and given.
    nr_removed: AtomicUsize,
    nr_touched: AtomicUsize,
    nr_given: AtomicUsize,
}

impl World {
    fn new(policy: &'static str) -> Self {
        let top = |name: &str| root().create(name).unwrap();
        let tops = [top("a"), top("b")];
        let cache = |layout| CacheOptions::new("race").layout(layout).typed().unwrap();
        Self {
            policy,
            tasks: core::array::from_fn(|n| tops[n % 2].task(format!("t{n}")).unwrap()),
            tops,
            groups: Mutex::default(),
            caches: [cache(CacheLayout::Shared), cache(CacheLayout::PerGroup)],
            list: ListLru::in_cache(CacheOptions::new("listed")).unwrap(),
            handed: Mutex::default(),
            nr_removed: AtomicUsize::new(0),
            nr_touched: AtomicUsize::new(0),
            nr_given: AtomicUsize::new(0),
        }
    }

    /// One of those that come and go, or of those that stay.
    fn some_group(&self, random: &mut Random) -> Memcg {
        let groups = self.groups.lock().unwrap();
        match random.below(groups.len() + 2) {
            n @ (0 | 1) => self.tops[n].clone(),
            n => groups[n - 2].clone(),
        }
    }

    /// Until all that is to happen has happened, on a busy machine too; or never will.
    fn goes_on(&self) -> bool {
        let nr = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let had_all = nr(&self.nr_given) > 100 && (!self.defers() || nr(&self.nr_touched) > 0);
        nr(&self.nr_removed) < if had_all { ENDS } else { 100 * ENDS }
    }

    /// Whether what a group leaves waits for who touches it.
    fn defers(&self) -> bool {
        matches!(self.policy, "next-touch" | "auto")
    }

    fn remove(&self, group: &Memcg) {
        self.nr_removed
            .fetch_add(usize::from(group.remove().is_ok()), Ordering::Relaxed);
        if !group.is_online() {
            let mut groups = self.groups.lock().unwrap();
            groups.retain(Memcg::is_online);
        }
    }

    /// Makes groups, ends them, moves tasks between them, writes limits, reclaims.
    fn control(&self, mut random: Random) {
        let mut serial = 0;
        while self.goes_on() {
            let group = self.some_group(&mut random);
            match random.below(12) {
                0..=3 if self.groups.lock().unwrap().len() < MOST_GROUPS => {
                    serial += 1;
                    // Some below others.
                    let above = match random.below(4) {
                        0 => &group,
                        n => &self.tops[n % 2],
                    };
                    if let Ok(new) = above.create(format!("g{serial}")) {
                        new.write("memory.offline", self.policy).unwrap();
                        self.groups.lock().unwrap().push(new);
                    }
                }
                4..=6 if group.path().len() > 2 => self.remove(&group),
                7 | 8 => {
                    let _ = self.tasks[random.below(3)].move_to(&group);
                }
                // Another thread may have removed it, and the root takes no limit.
                9 => {
                    let max = 16384 + random.below(1 << 20) as u64;
                    let _ = group.set_max(Limit::bytes(max));
                }
                10 => {
                    let _ = group.set_max(Limit::MAX);
                }
                _ => {
                    group.reclaim(random.below(1 << 16) as u64);
                }
            }
        }
    }

    /// Ends what the other one ends.
    fn remove_as_well(&self, mut random: Random) {
        while self.goes_on() {
            let group = self.some_group(&mut random);
            if group.path().len() > 2 && random.below(2) == 0 {
                self.remove(&group);
            }
            std::thread::yield_now();
        }
    }

    fn work(&self, mut random: Random) {
        let mut own = Own::default();
        while self.goes_on() {
            let group = self.some_group(&mut random);
            let value = random.0;
            match random.below(24) {
                0..=4 => {
                    let cache = &self.caches[random.below(2)];
                    let made = group.run(|| cache.alloc_with(Flags::NOWAIT, || [value; 24]));
                    own.things.extend(made.ok());
                }
                5 | 6 => drop(random.take(&mut own.things)),
                7 | 8 => {
                    if let Some(thing) = own.things.last() {
                        let touched = group.run(|| thing.touch());
                        self.nr_touched
                            .fetch_add(usize::from(touched), Ordering::Relaxed);
                    }
                }
                9 | 10 => {
                    if let Some(thing) = own.things.first() {
                        let given = thing.recharge_to(&group).is_ok();
                        self.nr_given
                            .fetch_add(usize::from(given), Ordering::Relaxed);
                    }
                }
                11 | 12 => {
                    let made = group.run(|| self.list.try_item(Flags::NOWAIT, || value));
                    if let Ok(item) = made {
                        self.list.add(&item);
                        own.items.push(item);
                    }
                }
                13 => drop(random.take(&mut own.items)),
                14 => {
                    if let Some(item) = own.items.last() {
                        let _ = group.run(|| item.touch()) || item.recharge_to(&group).is_ok();
                        self.list.add(item);
                    }
                }
                15 => own.charges.extend(group.try_reserve(value % 4096).ok()),
                16 => {
                    if let Some(charge) = own.charges.last_mut() {
                        let _ = group.run(|| charge.touch()) || charge.give(&group).is_ok();
                    }
                }
                17 => drop(random.take(&mut own.charges)),
                18 => {
                    if let Some(thing) = random.take(&mut own.things) {
                        let shared = Shared::new(thing);
                        own.held.push((shared.hold(&group), shared));
                    }
                }
                19 => drop(random.take(&mut own.held)),
                20 => {
                    let mut bytes = Vec::new();
                    let room = group.run(|| bytes.try_reserve_exact((value % 2000) as usize));
                    own.heap.extend(room.ok().map(|()| bytes));
                }
                21 => {
                    let task = &self.tasks[random.below(3)];
                    let made = task.run(|| self.caches[0].alloc_with(Flags::NOWAIT, || [1; 24]));
                    own.things.extend(made.ok());
                    drop(random.take(&mut own.heap));
                }
                _ => {
                    let mut handed = self.handed.lock().unwrap();
                    let mine = random.take(&mut own.things);
                    own.things.extend(random.take(&mut handed));
                    handed.extend(mine);
                }
            }
            safe_point();
            own.bound(&mut random);
        }
    }
}

/// A thing that is shared, and a hold on it.
type Held = (Holder<KBox<Thing>>, Shared<KBox<Thing>>);

/// What a worker holds.
#[derive(Default)]
struct Own {
    things: Vec<KBox<Thing>>,
    items: Vec<LruItem<u64>>,
    charges: Vec<Charge>,
    held: Vec<Held>,
    heap: Vec<Vec<u8>>,
}

impl Own {
    fn bound(&mut self, random: &mut Random) {
        while self.things.len() > 200 {
            drop(random.take(&mut self.things));
        }
        while self.items.len() > 200 {
            drop(random.take(&mut self.items));
        }
        self.charges.truncate(50);
        self.held.truncate(50);
        self.heap.truncate(50);
    }
}

fn run(policy: &'static str, seed: u64) {
    let _free = memcg::no_account();
    let world = World::new(policy);
    let registered = world.list_shrinks();
    std::thread::scope(|s| {
        let world = &world;
        let mut threads: Vec<_> = (0..WORKERS as u64)
            .map(|n| {
                s.spawn(move || {
                    let _free = memcg::no_account();
                    world.work(Random(seed + n));
                })
            })
            .collect();
        threads.push(s.spawn(move || {
            let _free = memcg::no_account();
            world.control(Random(seed ^ 0x9e37_79b9));
        }));
        threads.push(s.spawn(move || {
            let _free = memcg::no_account();
            world.remove_as_well(Random(seed ^ 0x1234_5678));
        }));
        // The end of the scope waits for what they do, a join for their exit, which gives back what
        // they have in stock.
        for thread in threads {
            thread.join().unwrap();
        }
    });
    drop(registered);
    let nr = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    println!(
        "{policy}: {} removed, {} touched, {} given",
        nr(&world.nr_removed),
        nr(&world.nr_touched),
        nr(&world.nr_given)
    );
    assert!(nr(&world.nr_given) > 100);
    assert_eq!(nr(&world.nr_touched) > 0, world.defers(), "{policy}");
    let World {
        tops,
        groups,
        tasks,
        caches,
        list,
        handed,
        ..
    } = world;
    drop((handed, tasks));
    let mut groups = groups.into_inner().unwrap();
    while !groups.is_empty() {
        groups.retain(|group| group.is_online() && group.remove().is_err());
    }
    assert_eq!(list.count_all(), 0, "{policy}");
    for top in tops {
        top.set_max(Limit::MAX).unwrap();
        // The engine's worker may be looking at a thing, whose memory stays until it has looked.
        let kept = || top.usage().slab + top.usage().reserved;
        let since = Instant::now();
        while kept() != 0 && since.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        assert_eq!(kept(), 0, "{policy}");
        top.remove().unwrap();
    }
    drop((list, caches));
    let all = root().usage();
    assert_eq!((all.slab, all.reserved), (0, 0), "{policy}");
    assert!(root().children().is_empty());
    // The last group to go may be the worker's to end.
    let dying = || {
        let stat = root().read("cgroup.stat").unwrap();
        (!stat.contains("nr_dying_descendants 0\n")).then_some(stat)
    };
    let since = Instant::now();
    while dying().is_some() && since.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    assert_eq!(dying(), None);
    let owners = root().read("memory.owners").unwrap();
    assert_eq!(owners.lines().count(), 1, "{policy}: {owners}");
    // The engine's worker may be in the middle of something.
    let audit = || engine().tree.audit();
    let mut books = audit();
    for _ in 0..100 {
        if books.is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        books = audit();
    }
    assert_eq!(books, Ok(()), "{policy}");
}

impl World {
    fn list_shrinks(&self) -> memcg::Registration {
        self.list.shrink_by(|value| {
            if value.is_multiple_of(3) {
                Verdict::Rotate
            } else {
                Verdict::Removed
            }
        })
    }
}

/// Runs the test of that name in a process of its own; `true` in that.
fn is_alone(name: &str) -> bool {
    const ALONE: &str = "RACES_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let this = std::env::current_exe().unwrap();
    let child = std::process::Command::new(this)
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let (out, err) = (&child.stdout, &child.stderr);
    let text = String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err);
    assert!(child.status.success(), "{text}");
    false
}

fn all(end: GroupEnd) {
    memcg::set_group_end(end).unwrap();
    let policies = ["parent", "evict", "mapper", "next-touch", "auto"];
    for (n, policy) in policies.into_iter().enumerate() {
        run(policy, 0x2545_f491 + 1000 * n as u64);
    }
}

#[test]
fn whatever_races_with_a_group_s_end_nothing_is_lost_and_nothing_is_left() {
    if is_alone("whatever_races_with_a_group_s_end_nothing_is_lost_and_nothing_is_left") {
        all(GroupEnd::Reparent);
    }
}

#[test]
fn the_same_holds_where_groups_linger() {
    if is_alone("the_same_holds_where_groups_linger") {
        all(GroupEnd::Linger);
    }
}
