//! Caches where a thread does not come to its end as in a test of its own making: it stands in the
//! middle of a hit while a cache dies, it exits with magazines and slabs in its slots, or it is not
//! there any more, in the child of a fork.

use super::{ledger, own_process};
use crate::api::{Memcg, root};
use crate::engine::process_engine::with_rec;
use crate::engine::{Engine, Flags, engine};
use crate::group::ROOT_TAG;
use crate::kmem::cache::{Plan, Ways};
use crate::kmem::id::CacheId;
use crate::testing::common::Random;
use crate::thread::ThreadRec;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, mpsc};

fn plan(bytes: usize, ways: Ways) -> Plan<'static> {
    Plan {
        name: b"thing",
        bytes,
        align: 8,
        ways,
        ctor: None,
    }
}

fn take(engine: &Engine, rec: &ThreadRec, cache: CacheId) -> usize {
    engine.alloc_cached(rec, cache, Flags::WAIT).unwrap().at
}

fn free(engine: &Engine, rec: &ThreadRec, at: usize) {
    // SAFETY: live; ends here.
    unsafe { engine.free_cached(rec, at, false) };
}

fn tend(engine: &Engine, rec: &ThreadRec) {
    let _pin = engine.tree.threads.epoch.pin(rec);
    engine.kmem.tend_caches(&engine.tree);
}

/// Two threads that charge the root.
fn two(engine: &'static Engine) -> [&'static ThreadRec; 2] {
    [(); 2].map(|()| {
        let (_, rec) = engine.tree.threads.join().unwrap();
        engine.tree.enter_for_good(rec, ROOT_TAG);
        rec
    })
}

#[test]
fn a_cache_that_dies_while_a_thread_is_in_the_middle_of_a_hit_ends_when_its_magazine_is_back() {
    let engine = Engine::leaked();
    let [rec, other] = two(engine);
    let cache = engine
        .create_cache(rec, &plan(24, Ways::MAGAZINES))
        .unwrap();
    free(engine, other, take(engine, rec, cache));
    // The magazine stays where it is, the object and its slab do not.
    engine.kmem.reap_caches(&engine.tree, true);
    let record = engine.kmem.caches.get(cache);
    assert_eq!(record.nr_slabs(), 0);
    // Of the other slab kind: what the slot has would be taken for a slab.
    let next = plan(24, Ways::default());
    let again = || {
        engine.tree.collect();
        engine.create_cache(rec, &next) == Some(cache)
    };
    {
        let _in_a_hit = other.enter().unwrap();
        engine.destroy_cache(rec, cache);
        assert!(!(0..10).any(|_| again()), "a thread has something of it");
        tend(engine, rec);
        assert!(record.is_there() && record.is_dead());
    }
    tend(engine, rec);
    assert!(!record.is_there() && !engine.kmem.have_caches_ended());
    assert!((0..10).any(|_| again()), "the number is used again");
    let things: Vec<_> = (0..100).map(|_| take(engine, other, cache)).collect();
    things.into_iter().for_each(|at| free(engine, other, at));
    for rec in [rec, other] {
        engine.kmem.leave_caches(rec);
        engine.tree.return_all(rec);
    }
    ledger::check(engine);
}

#[test]
fn a_slab_that_a_thread_could_not_be_asked_for_goes_when_it_can() {
    for ways in [Ways::default(), Ways::TRACKED, Ways::MAGAZINES] {
        let engine = Engine::leaked();
        let [rec, other] = two(engine);
        let cache = engine.create_cache(rec, &plan(200, ways)).unwrap();
        let things: Vec<_> = (0..1000).map(|_| take(engine, other, cache)).collect();
        let record = engine.kmem.caches.get(cache);
        {
            let _in_a_hit = other.enter().unwrap();
            engine.destroy_cache(rec, cache);
            things.into_iter().for_each(|at| free(engine, rec, at));
            assert!(record.is_there(), "{ways:?}");
        }
        // Any free that is no hit comes by.
        let another = engine.create_cache(rec, &plan(24, ways)).unwrap();
        let at = take(engine, rec, another);
        free(engine, other, at);
        assert!(!record.is_there(), "{ways:?}");
        ledger::check(engine);
    }
}

#[test]
fn a_thread_that_ends_leaves_its_table_to_the_next() {
    let engine = Engine::leaked();
    let [rec, _] = two(engine);
    let cache = engine
        .create_cache(rec, &plan(24, Ways::MAGAZINES))
        .unwrap();
    // As many records as there may be, of which one at a time uses caches.
    let all: Vec<_> = (0..40)
        .map(|_| engine.tree.threads.join().unwrap())
        .collect();
    for round in 0..3 {
        for (_, rec) in &all {
            let at = take(engine, rec, cache);
            free(engine, rec, at);
            engine.kmem.leave_caches(rec);
            engine.kmem.leave_caches(rec);
            assert_eq!(engine.kmem.caches.nr_tables(), (0, 1), "{round}");
        }
    }
}

/// Both slab kinds, both layouts.
fn all_ways() -> [Ways; 4] {
    let (own, magazines) = (Ways::PER_GROUP, Ways::MAGAZINES);
    [Ways::default(), own, magazines, magazines.with(own)]
}

const BYTES: u64 = 208;

/// A cache of the process's engine. By its number: the handle of `api` would start the worker,
/// which is never at rest.
fn new_cache(ways: Ways) -> CacheId {
    with_rec(|engine, rec| engine.create_cache(rec, &plan(BYTES as usize, ways)))
        .flatten()
        .unwrap()
}

fn end_cache(cache: CacheId) {
    with_rec(|engine, rec| engine.destroy_cache(rec, cache)).unwrap();
}

/// An object for a group, by whatever thread calls.
fn take_for(group: &Memcg, cache: CacheId) -> usize {
    let at = group.run(|| with_rec(|engine, rec| take(engine, rec, cache)).unwrap());
    // SAFETY: in the object.
    unsafe { (at as *mut u8).write_bytes(0x5a, BYTES as usize) };
    at
}

fn take_many(group: &Memcg, cache: CacheId, nr: usize) -> Vec<usize> {
    (0..nr).map(|_| take_for(group, cache)).collect()
}

fn give(at: usize) {
    // SAFETY: in the object, which is live.
    let found = unsafe { (at as *const u8).add(BYTES as usize / 2).read() };
    assert_eq!(found, 0x5a, "somebody wrote into a live object");
    with_rec(|engine, rec| free(engine, rec, at)).unwrap();
}

/// Nobody is at work: the group holds so many objects, to the byte, in every book.
fn holds(group: &Memcg, nr: usize) {
    let bytes = nr as u64 * BYTES;
    let as_objects = group.with(|engine, _, group| engine.tree.slab_bytes(group));
    assert_eq!((group.current(), as_objects), (bytes, Some(bytes)));
    ledger::check(engine());
}

/// Caches there are, dead or alive.
fn nr_caches() -> usize {
    let caches = &engine().kmem.caches;
    caches.each().filter(|(_, cache)| cache.is_there()).count()
}

#[test]
fn what_a_thread_leaves_at_its_exit_others_free_to_the_byte() {
    if own_process::argument().is_none() {
        own_process::passes_again(
            "proof::cache_ends::what_a_thread_leaves_at_its_exit_others_free_to_the_byte",
            "exit",
        );
        return;
    }
    for ways in all_ways() {
        let cache = new_cache(ways);
        let group = root().create("a").unwrap();
        let run = |f: &(dyn Fn() -> Vec<usize> + Sync)| {
            std::thread::scope(|s| s.spawn(f).join().unwrap())
        };
        // It ends with a magazine that is half full, or a slab that is.
        let mut live = run(&|| {
            let mut all = take_many(&group, cache, 1_000);
            all.drain(..100).for_each(give);
            all
        });
        assert_eq!(live.len(), 900);
        holds(&group, 900);
        let (theirs, rest) = live.split_at(450);
        run(&|| {
            theirs.iter().copied().for_each(give);
            take_many(&group, cache, 10).into_iter().for_each(give);
            Vec::new()
        });
        holds(&group, rest.len());
        live = rest.to_vec();
        // Freed after the exit of who had them and of who freed the others, the group gone, the
        // cache dead.
        group.remove().unwrap();
        end_cache(cache);
        assert!(nr_caches() > 0);
        run(&|| {
            live.iter().copied().for_each(give);
            Vec::new()
        });
        assert_eq!(
            nr_caches(),
            0,
            "{ways:?}: a dead cache outlives its last object"
        );
        assert_eq!(root().current(), 0);
        ledger::check(engine());
    }
    let (in_use, ever) = engine().kmem.caches.nr_tables();
    assert!(in_use <= 1 && ever <= 2, "{in_use} {ever}");
}

/// Forks; the child does `work` and ends, and has to end well.
fn in_child(work: impl FnOnce()) {
    // SAFETY: the child calls nothing but what the parent could, and ends by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child, should it hang.
        unsafe { libc::alarm(60) };
        work();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: our child, a valid place.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "a child");
}

#[test]
fn a_forks_child_goes_on_with_caches_and_with_what_dead_threads_had_of_them() {
    if own_process::argument().is_none() {
        own_process::passes_again(
            "proof::cache_ends::a_forks_child_goes_on_with_caches_and_with_what_dead_threads_had_of_them",
            "rest",
        );
        return;
    }
    for ways in all_ways() {
        let cache = new_cache(ways);
        let groups = ["a", "b"].map(|name| root().create(name).unwrap());
        let rest = Barrier::new(4);
        let (send, receive) = mpsc::channel();
        std::thread::scope(|s| {
            let threads = [(); 3].map(|()| {
                let (groups, rest, send) = (&groups, &rest, send.clone());
                s.spawn(move || {
                    for (group, nr) in groups.iter().zip([300, 500]) {
                        let mut all = take_many(group, cache, nr);
                        all.drain(..50).for_each(give);
                        send.send((group.path(), all)).unwrap();
                    }
                    rest.wait();
                    rest.wait();
                })
            });
            let mine = take_many(&groups[0], cache, 10);
            rest.wait();
            drop(send);
            let live: Vec<(String, Vec<usize>)> = receive.iter().take(6).collect();
            let of = |path: &str| {
                let of_path = live.iter().filter(|(of, _)| of == path);
                of_path.flat_map(|(_, all)| all.clone()).collect::<Vec<_>>()
            };
            let check = || {
                holds(&groups[0], 760);
                holds(&groups[1], 1350);
            };
            check();
            in_child(|| {
                check();
                // One of the two goes on, the other ends; a new cache has what is there of its own.
                let more = take_many(&groups[0], cache, 1_000);
                holds(&groups[0], 1_760);
                let new = new_cache(ways);
                take_many(&groups[1], new, 100).into_iter().for_each(give);
                groups[1].remove().unwrap();
                of("/b").into_iter().for_each(give);
                let by_thread = std::thread::scope(|s| {
                    let work = || {
                        of("/a").into_iter().for_each(give);
                        take_many(&groups[0], cache, 5)
                    };
                    s.spawn(work).join().unwrap()
                });
                holds(&groups[0], 1_015);
                end_cache(cache);
                end_cache(new);
                for all in [&more, &mine, &by_thread] {
                    all.iter().copied().for_each(give);
                }
                holds(&groups[0], 0);
                assert_eq!(nr_caches(), 0, "{ways:?}");
            });
            // The parent's are what they were.
            check();
            rest.wait();
            for all in [of("/a"), of("/b"), mine] {
                all.into_iter().for_each(give);
            }
            // The end of the scope waits for what they do, a join for their exit.
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        });
        for group in groups {
            group.remove().unwrap();
        }
        end_cache(cache);
        assert_eq!((root().current(), nr_caches()), (0, 0), "{ways:?}");
    }
}

#[test]
fn a_fork_in_the_middle_of_other_threads_work_leaves_caches_that_serve() {
    if own_process::argument().is_none() {
        own_process::passes_again(
            "proof::cache_ends::a_fork_in_the_middle_of_other_threads_work_leaves_caches_that_serve",
            "storm",
        );
        return;
    }
    for ways in all_ways() {
        let caches = [new_cache(ways), new_cache(ways)];
        let group = root().create("a").unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            for me in 0..3 {
                let (group, stop) = (&group, &stop);
                s.spawn(move || {
                    let mut random = Random(0x9e37_79b9 + me);
                    let mut live = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        match random.next(3) {
                            0 if live.len() > 500 => live.drain(100..).for_each(give),
                            1 if !live.is_empty() => {
                                give(live.swap_remove(random.next(live.len() as u64) as usize));
                            }
                            _ => live.push(take_for(group, caches[random.next(2) as usize])),
                        }
                        if random.next(200) == 0 {
                            // What dies while the others are at it.
                            let short = new_cache(ways);
                            let some = take_many(group, short, 20);
                            end_cache(short);
                            some.into_iter().for_each(give);
                        }
                    }
                    live.into_iter().for_each(give);
                });
            }
            let mine = take_many(&group, caches[0], 300);
            for _ in 0..15 {
                in_child(|| {
                    mine.iter().copied().for_each(give);
                    let new = new_cache(ways);
                    for cache in [caches[0], caches[1], new] {
                        let all = take_many(&group, cache, 500);
                        end_cache(cache);
                        all.into_iter().for_each(give);
                    }
                    assert!(!engine().kmem.caches.get(new).is_there());
                    // Its exit leaves what it has, whatever a thread that is not here was doing
                    // with that.
                    let (group, new) = (&group, new_cache(ways));
                    std::thread::scope(|s| {
                        let all = s.spawn(move || take_many(group, new, 50)).join().unwrap();
                        all.into_iter().for_each(give);
                    });
                    crate::engine::thread_end::depart();
                });
            }
            stop.store(true, Ordering::Relaxed);
            mine.into_iter().for_each(give);
        });
        group.remove().unwrap();
        caches.into_iter().for_each(end_cache);
    }
}
