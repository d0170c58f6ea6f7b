//! Reclaim over real caches: objects of the heap, on lists, given up when their group has to be
//! made smaller.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::{
    Event, Flags, Limit, ListLru, LruItem, Memcg, Registration, Scope, Shrinker, Verdict,
    no_account, register_shrinker, root,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

struct Entry {
    key: u64,
    _data: Vec<u8>,
}

/// A cache as programs have them: a map that owns, a list that says what goes first.
struct Cache {
    map: Mutex<HashMap<u64, LruItem<Entry>>>,
    list: ListLru<Entry>,
    next: AtomicU64,
    /// Threads on which it was asked.
    asked_on: Mutex<Vec<ThreadId>>,
}

impl Cache {
    fn new() -> (Arc<Self>, Registration) {
        let _free = no_account();
        let cache = Arc::new(Self {
            map: Mutex::default(),
            list: ListLru::new(),
            next: AtomicU64::new(0),
            asked_on: Mutex::default(),
        });
        let registered = cache.list.shrink_by({
            let cache = Arc::downgrade(&cache);
            move |entry| {
                let Some(cache) = cache.upgrade() else {
                    return Verdict::Stop;
                };
                let _free = no_account();
                cache
                    .asked_on
                    .lock()
                    .unwrap()
                    .push(std::thread::current().id());
                drop(cache.map().remove(&entry.key));
                Verdict::Removed
            }
        });
        (cache, registered)
    }

    fn map(&self) -> MutexGuard<'_, HashMap<u64, LruItem<Entry>>> {
        self.map.lock().unwrap()
    }

    fn put(&self, group: &Memcg, bytes: u64) {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let data = group.run(|| vec![1; bytes as usize]);
        let item = self.list.insert_for(group, Entry { key, _data: data });
        let _free = no_account();
        self.map().insert(key, item);
    }

    fn fill(&self, group: &Memcg, bytes: u64) {
        for _ in 0..bytes / (16 * KIB) {
            self.put(group, 16 * KIB - 256);
        }
    }
}

fn group(name: &str) -> Memcg {
    root().create(name).unwrap()
}

fn stat(group: &Memcg, key: &str) -> u64 {
    let text = group.read("memory.stat").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.unwrap().parse().unwrap()
}

const USER: Flags = Flags::WAIT.with(Flags::USER);

/// How much is cached, once the engine's worker, which may go on behind a charge, has been still
/// for a tenth of a second.
fn count_at_rest(cache: &Cache, group: &Memcg) -> u64 {
    let (mut count, mut still) = (cache.list.count(group), 0);
    while still < 10 {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let now = cache.list.count(group);
        still = if now == count { still + 1 } else { 0 };
        count = now;
    }
    count
}

#[test]
fn a_charge_at_the_limit_pushes_out_what_is_cached_and_nothing_more_than_it_needs() {
    let (cache, _registered) = Cache::new();
    let g = group("at-the-limit");
    g.set_max(Limit::bytes(8 * MIB)).unwrap();
    cache.fill(&g, 7 * MIB);
    let before = cache.list.count(&g);
    let room = g.try_reserve_with(3 * MIB, USER).unwrap();
    let after = count_at_rest(&cache, &g);
    assert!(after < before && after > 0);
    assert!(stat(&g, "shrinker_freed") >= before - after);
    // Beside what was needed, the worker may have gone on to a sixteenth below max.
    assert!(g.current() + 2 * MIB > 8 * MIB, "{}", g.current());
    assert!(g.peak() <= 8 * MIB);
    drop(room);
    // What can never fit costs the others nothing.
    let before = count_at_rest(&cache, &g);
    assert!(g.try_reserve_with(9 * MIB, USER).is_err());
    assert_eq!(cache.list.count(&g), before);
    // Refused when nothing is left to give, and not before.
    let kept = g.run(|| vec![1u8; 4 << 20]);
    assert!(g.try_reserve_with(6 * MIB, USER).is_err());
    assert_eq!(cache.list.count(&g), 0);
    assert!(g.nr_events(Event::Oom) >= 1);
    drop(kept);
}

#[test]
fn memory_reclaim_gives_back_what_was_asked_or_says_that_there_was_less() {
    let (cache, _registered) = Cache::new();
    let top = group("reclaimed");
    let below = top.create("below").unwrap();
    cache.fill(&top, 2 * MIB);
    cache.fill(&below, 2 * MIB);
    let before = top.current();
    top.write("memory.reclaim", "1M swappiness=max").unwrap();
    let now = top.current();
    // Stock that was drained counts as well.
    assert!(now <= before - MIB + 256 * KIB, "{now}");
    assert!(
        now >= before - 2 * MIB,
        "{now} of {before}: far more than was asked for"
    );
    let error = top.write("memory.reclaim", "100M").unwrap_err();
    assert_eq!(error.errno.name(), "EAGAIN");
    assert_eq!((cache.list.count(&top), cache.list.count(&below)), (0, 0));
    assert!(top.write("memory.reclaim", "1M swappiness=201").is_err());
    assert_eq!(top.reclaim(1), 0);
}

#[test]
fn a_limit_that_is_written_below_what_is_used_is_reclaimed_to() {
    let (cache, _registered) = Cache::new();
    let g = group("written");
    let kept = g.create("kept").unwrap().run(|| vec![1u8; 1 << 19]);
    cache.fill(&g, 6 * MIB);
    g.write("memory.high", "4M").unwrap();
    assert!(g.current() <= 4 * MIB, "{}", g.current());
    g.write("memory.high", "max").unwrap();
    g.write("memory.max", "2M").unwrap();
    assert!(g.current() <= 2 * MIB && g.current() > 0, "{}", g.current());
    g.set_max(Limit::bytes(MIB)).unwrap();
    assert!(g.current() <= MIB);
    // What nobody can give stays, and the limit is what was written.
    g.write("memory.max", "64K").unwrap();
    assert_eq!(g.max(), Limit::bytes(64 * KIB));
    assert_eq!(cache.list.count(&g), 0);
    drop(kept);
}

#[test]
fn a_thing_of_the_heap_that_may_wait_is_made_room_for_by_who_makes_it() {
    type Thing = (u64, [u8; 1000]);
    let list: ListLru<Thing> = ListLru::new();
    let kept: Arc<Mutex<HashMap<u64, LruItem<Thing>>>> = Arc::default();
    let _registered = list.shrink_by({
        let kept = Arc::downgrade(&kept);
        move |thing| {
            let _free = no_account();
            let gone = kept
                .upgrade()
                .and_then(|kept| kept.lock().unwrap().remove(&thing.0));
            gone.map_or(Verdict::Skip, |_| Verdict::Removed)
        }
    });
    let g = group("heap-things");
    g.set_max(Limit::bytes(MIB)).unwrap();
    // Not a byte on credit: what is left to malloc, which cannot wait, ends the program.
    g.write("memory.debt.max", "0").unwrap();
    for nr in 0..4000 {
        let made = g.run(|| list.try_item(USER, || (nr, [1; 1000])));
        let item = made.unwrap_or_else(|e| panic!("{e}"));
        list.add(&item);
        let _free = no_account();
        kept.lock().unwrap().insert(nr, item);
    }
    assert_eq!(g.nr_events(Event::Oom), 0);
    assert!(g.current() <= MIB, "{}", g.current());
    kept.lock().unwrap().clear();
    // The worker may be looking at one still.
    while g.current() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_large_charge_takes_what_is_missing_for_it_and_leaves_what_is_protected() {
    let (cache, _registered) = Cache::new();
    let top = group("large-charge");
    let [low, bare, own] = ["low", "bare", "own"].map(|name| top.create(name).unwrap());
    for group in [&low, &bare] {
        cache.fill(group, 3 * MIB);
    }
    low.write("memory.low", "max").unwrap();
    top.set_max(Limit::bytes(8 * MIB)).unwrap();
    let full = cache.list.count(&low);
    // More than the unprotected one has, but a part of it is free.
    let room = own.try_reserve_with(9 * MIB / 2, USER).unwrap();
    assert_eq!(cache.list.count(&low), full);
    assert_eq!(low.nr_events(Event::Low), 0);
    drop(room);
}

#[test]
fn who_is_protected_is_left_alone_until_the_others_have_given_what_they_have() {
    let (cache, _registered) = Cache::new();
    let top = group("protecting");
    let [low, min, bare] = ["low", "min", "bare"].map(|name| top.create(name).unwrap());
    for group in [&low, &min, &bare] {
        cache.fill(group, 2 * MIB);
    }
    low.write("memory.low", "100M").unwrap();
    min.write("memory.min", "100M").unwrap();
    let full = cache.list.count(&low);
    top.write("memory.reclaim", "1M").unwrap();
    assert_eq!(
        (cache.list.count(&low), cache.list.count(&min)),
        (full, full)
    );
    assert!(cache.list.count(&bare) < full);
    assert_eq!(low.nr_events(Event::Low), 0);
    // More than the unprotected one has.
    top.write("memory.reclaim", "2M").unwrap();
    assert_eq!(cache.list.count(&bare), 0);
    assert!(cache.list.count(&low) < full);
    assert!(low.nr_events(Event::Low) >= 1 && bare.nr_events(Event::Low) == 0);
    assert!(top.write("memory.reclaim", "100M").is_err());
    assert_eq!((cache.list.count(&low), cache.list.count(&min)), (0, full));
    // Its own settings do not protect a group from itself.
    min.write("memory.reclaim", "1M").unwrap();
    assert!(cache.list.count(&min) < full);
}

#[test]
fn four_threads_at_the_limit_are_all_served_and_none_passes_it() {
    let (cache, _registered) = Cache::new();
    let g = group("crowd");
    g.set_max(Limit::bytes(4 * MIB)).unwrap();
    cache.fill(&g, 3 * MIB);
    std::thread::scope(|s| {
        for thread in 0..4 {
            let (cache, g) = (&cache, &g);
            s.spawn(move || {
                for round in 0..60 {
                    // Holds up to 512 KiB at a time, so that all four fit beside an empty cache.
                    let bytes = (1 + (round + thread) % 4) * 128 * KIB;
                    let held = g.try_reserve_with(bytes, USER);
                    let held = held.unwrap_or_else(|e| panic!("refused needlessly: {e}"));
                    drop(held);
                    // What is cached afterwards is cached within the limit.
                    if let Ok(room) = g.try_reserve(20 * KIB) {
                        drop(room);
                        cache.put(g, 12 * KIB);
                    }
                }
            });
        }
    });
    // The cache's own objects are charged by an allocator that may go into debt: only that could
    // pass the limit.
    assert!(
        g.peak() <= 4 * MIB || g.nr_events(Event::Debt) > 0,
        "{}",
        g.peak()
    );
}

/// Does as it is told when it is asked.
struct Told<F>(F);

impl<F: Fn(&Scope, u64) -> Option<u64> + Send + Sync + 'static> Shrinker for Told<F> {
    fn count(&self, scope: &Scope) -> u64 {
        u64::from(scope.group().path().starts_with("/told")) * 100
    }

    fn scan(&self, scope: &Scope, nr: u64) -> Option<u64> {
        (self.0)(scope, nr)
    }
}

#[test]
fn a_shrinker_may_allocate_remove_groups_move_tasks_unregister_itself_and_panic() {
    let top = group("told");
    top.set_max(Limit::bytes(2 * MIB)).unwrap();
    let victim = top.create("victim").unwrap();
    let task = victim.task("moves").unwrap();
    let held = Arc::new(Mutex::new(Some(task.try_reserve(MIB).unwrap())));
    let kept = top.try_reserve(MIB / 2).unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let own: Arc<Mutex<Option<Registration>>> = Arc::default();
    let registration = register_shrinker(Told({
        let (top, own, asked, held) = (top.clone(), own.clone(), asked.clone(), held.clone());
        let (task, victim) = (Mutex::new(Some(task)), victim.clone());
        move |_: &Scope, _| {
            let n = asked.fetch_add(1, Ordering::Relaxed);
            // More than there is room for: charged by force, and no reclaim inside reclaim.
            let allocated = top.run(|| vec![1u8; 3 << 20]);
            drop(allocated);
            match n {
                0 => panic!("of the shrinker"),
                1 => task
                    .lock()
                    .unwrap()
                    .as_ref()
                    .unwrap()
                    .move_to(&root())
                    .unwrap(),
                2 => drop(task.lock().unwrap().take()),
                3 => victim.remove().unwrap(),
                _ => {
                    let mine = own.lock().unwrap().take();
                    drop(mine);
                    drop(held.lock().unwrap().take());
                    return Some(1);
                }
            }
            Some(0)
        }
    }));
    *own.lock().unwrap() = Some(registration);
    // Scans end with a panic, with nothing, and in the end with what the task had.
    for _ in 0..8 {
        let _ = top.try_reserve_with(2 * MIB - 64 * KIB, USER);
        let _ = top.write("memory.reclaim", "2M");
    }
    assert!(asked.load(Ordering::Relaxed) >= 5);
    assert!(!victim.is_online() && own.lock().unwrap().is_none());
    let before = asked.load(Ordering::Relaxed);
    let _ = top.write("memory.reclaim", "2M");
    assert_eq!(
        asked.load(Ordering::Relaxed),
        before,
        "asked after it was unregistered"
    );
    drop(kept);
    assert_eq!(top.current(), 0);
}

#[test]
fn shrinkers_come_and_go_while_others_are_asked() {
    let (cache, _registered) = Cache::new();
    let g = group("told-coming");
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let of_mine = Arc::new(AtomicU64::new(0));
                    let registered = register_shrinker(Told({
                        let of_mine = of_mine.clone();
                        move |_: &Scope, nr| {
                            of_mine.fetch_add(nr, Ordering::Relaxed);
                            Some(nr)
                        }
                    }));
                    std::thread::yield_now();
                    drop(registered);
                }
            });
        }
        for _ in 0..30 {
            cache.fill(&g, MIB);
            let _ = g.write("memory.reclaim", "2M");
            assert_eq!(cache.list.count(&g), 0);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn who_may_not_run_code_of_the_program_waits_for_the_worker_that_does() {
    let (cache, _registered) = Cache::new();
    let g = group("by-the-worker");
    g.set_max(Limit::bytes(8 * MIB)).unwrap();
    cache.fill(&g, 7 * MIB);
    let room = g.try_reserve_with(2 * MIB, Flags::WAIT).unwrap();
    drop(room);
    let me = std::thread::current().id();
    assert!(
        cache
            .asked_on
            .lock()
            .unwrap()
            .iter()
            .all(|&thread| thread != me)
    );
    // Who may not even wait is refused, and finds room when it comes again.
    cache.fill(&g, 7 * MIB - g.current());
    while g.try_reserve(3 * MIB).is_err() {
        std::thread::yield_now();
    }
    assert!(
        cache
            .asked_on
            .lock()
            .unwrap()
            .iter()
            .all(|&thread| thread != me)
    );
}

#[test]
fn above_high_the_worker_brings_a_group_back_down() {
    let (cache, _registered) = Cache::new();
    let g = group("above-high");
    g.set_high(Limit::bytes(4 * MIB)).unwrap();
    cache.fill(&g, 6 * MIB);
    while g.current() > 4 * MIB {
        std::thread::yield_now();
    }
    assert!(g.nr_events(Event::High) > 0);
}

#[test]
fn who_may_run_shrinkers_reclaims_before_it_pays_for_being_above_high() {
    let (cache, _registered) = Cache::new();
    let g = group("pays-in-kind");
    cache.fill(&g, 3 * MIB);
    g.set_high(Limit::bytes(4 * MIB)).unwrap();
    // The worker may be at it at the same time, and take as much once more: less than half is
    // wanted.
    let room = g.try_reserve_with(2 * MIB, USER).unwrap();
    assert!(g.current() <= 4 * MIB, "{}", g.current());
    assert!(cache.list.count(&g) > 0);
    drop(room);
}

#[test]
fn what_a_task_has_listed_is_reclaimed_where_the_task_is() {
    let (cache, _registered) = Cache::new();
    let (from, to) = (group("left"), group("entered"));
    let task = from.task("mover").unwrap();
    for key in 0..64 {
        let item = task.run(|| {
            let data = vec![1u8; 16 << 10];
            cache.list.insert(Entry { key, _data: data })
        });
        let _free = no_account();
        cache.map().insert(key, item);
    }
    assert_eq!(cache.list.count(&from), 64);
    task.move_to(&to).unwrap();
    // The worker takes them along.
    while cache.list.count(&to) != 64 {
        std::thread::yield_now();
    }
    assert_eq!(cache.list.count(&from), 0);
    let _ = from.write("memory.reclaim", "1M");
    assert_eq!(cache.list.count(&to), 64);
    let _ = to.write("memory.reclaim", "2M");
    assert_eq!((cache.list.count(&to), to.current()), (0, 0));
}

#[test]
fn a_removed_group_s_cache_is_its_parent_s_to_reclaim() {
    let (cache, _registered) = Cache::new();
    let top = group("heir");
    let gone = top.create("gone").unwrap();
    cache.fill(&gone, 2 * MIB);
    gone.remove().unwrap();
    assert!(cache.list.count(&top) > 0);
    top.write("memory.reclaim", "2M").unwrap();
    assert!(top.current() < MIB);
}

/// Has things without end, and gives none.
struct Endless;

impl Shrinker for Endless {
    fn count(&self, scope: &Scope) -> u64 {
        // Tests beside this one are left alone.
        if scope.group().path() == "/endless" {
            u64::MAX
        } else {
            0
        }
    }
    fn scan(&self, _: &Scope, _: u64) -> Option<u64> {
        Some(0)
    }
}

#[test]
fn a_shrinker_that_says_it_has_things_without_end_and_gives_none_is_let_off() {
    let g = group("endless");
    let kept = g.try_reserve(MIB).unwrap();
    let _registered = register_shrinker(Endless);
    assert_eq!(g.reclaim(MIB), 0);
    g.set_max(Limit::bytes(MIB + 64 * KIB)).unwrap();
    assert!(g.try_reserve_with(MIB, USER).is_err());
    drop(kept);
    assert_eq!(g.current(), 0);
}
