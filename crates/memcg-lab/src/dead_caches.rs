//! What becomes of a group's caches when it ends with objects in them.

#![forbid(unsafe_code)]

use crate::design::{
    Arm, Experiment, Plot,
    Unit::{Bytes, Count, Ns},
    less, loses, wins,
};
use crate::random::Random;
use crate::sheet::Sheet;
use crate::tools::{Setting, dead_caches, each, group, settle, slab_bytes, sliced, with};
use memcg::{CacheLayout, CacheOptions, KBox, KmemCache, Memcg, SlabKind};
use std::mem::MaybeUninit;

/// What caches hold: only a word of it is written, so that the allocator is what is measured.
struct Object {
    word: u64,
    _rest: MaybeUninit<[u8; 504]>,
}

impl Object {
    fn new(word: u64) -> Object {
        Object {
            word,
            _rest: MaybeUninit::uninit(),
        }
    }
}

/// Objects of a group.
const EACH: usize = 500;
/// One object of so many outlives its group.
const SURVIVES: usize = 8;
/// Objects out at once where groups live.
const WORKING: usize = 4096;

const DAVYDOV: &str = "Davydov, 2014";

/// See the module.
pub const EXPERIMENT: Experiment = Experiment {
    name: "dead-caches",
    title: "caches of groups that have ended: they destroy themselves, or are handed over slab by slab",
    source: "2014, Davydov: a dead cache goes with its last slab, in both slab allocators; handing every slab to the root cache was refused, since full slabs would have to be tracked.",
    what: "Groups with a cache each of 500 objects of 512 bytes; one object of eight outlives its group, and is freed later. First what it costs live caches.",
    arms: &[
        Arm {
            name: "slub",
            title: "free lists in the slabs; a dead cache drops a slab the moment it is empty",
        },
        Arm {
            name: "slab",
            title: "magazines and a shared array; a dead cache's are emptied, by the reaper as well",
        },
        Arm {
            name: "handed-over",
            title: "as slub with full slabs in a list; at the end each slab becomes the root cache's",
        },
    ],
    rows: &[
        less("pair", Ns, "live: an object and its free"),
        less("churn", Ns, "live: an object for a free one, at random"),
        less("two", Ns, "live: the same, two threads on one cache"),
        less("fill", Ns, "live: an object of many, none freed"),
        less("end", Ns, "the end of a group"),
        less("free_dead", Ns, "a free of what an ended group left"),
        less("dead", Count, "dead caches, all groups ended"),
        less("held", Bytes, "slabs, all groups ended"),
        less(
            "regrown",
            Bytes,
            "slabs made for what the parent then allocates",
        ),
        less("dead_last", Count, "dead caches, the last object freed"),
        less("held_last", Bytes, "slabs, the last object freed"),
        less("held_reaped", Bytes, "slabs, the reaper has come by twice"),
    ],
    plots: &[Plot {
        key: "held",
        title: "bytes in slabs, as what ended groups left is freed",
        across: "objects freed",
        unit: Bytes,
    }],
    predictions: &[
        loses(
            "handed-over",
            "churn",
            "slub",
            DAVYDOV,
            "tracking full slabs takes list locks more often: a significant slowdown of the regular paths",
        ),
        loses(
            "handed-over",
            "two",
            "slub",
            DAVYDOV,
            "the same, where the lock is wanted by others",
        ),
        wins(
            "handed-over",
            "dead",
            "slub",
            DAVYDOV,
            "reparenting all slabs leaves no dead cache that pins its group",
        ),
        wins(
            "handed-over",
            "regrown",
            "slub",
            "Davydov, 2014, of live caches",
            "empty places are kept to speed up later allocations; dead caches never serve any",
        ),
        loses(
            "handed-over",
            "end",
            "slub",
            "the rival's own price",
            "every slab is touched at the end",
        ),
        wins(
            "slub",
            "held_last",
            "handed-over",
            DAVYDOV,
            "a dead cache drops a slab as soon as it is empty; a live one keeps some for later",
        ),
        loses(
            "slab",
            "held_last",
            "slub",
            DAVYDOV,
            "in Slab what is freed waits until the reaper comes by",
        ),
        loses(
            "slub",
            "dead",
            "handed-over",
            DAVYDOV,
            "groups pinned by dead caches are not solved by it",
        ),
        wins(
            "slab",
            "churn",
            "slub",
            "Slab's own claim",
            "a free object is taken from a magazine, whoever's slab it is from",
        ),
        loses(
            "slab",
            "free_dead",
            "slub",
            DAVYDOV,
            "dead caches are shrunk aggressively, past their magazines",
        ),
    ],
    run,
};

fn options(arm: &str) -> CacheOptions<'static> {
    let options = CacheOptions::new("lab").layout(CacheLayout::PerGroup);
    match arm {
        "slab" => options.slab_kind(SlabKind::Slab),
        "handed-over" => options.track_full_slabs(),
        _ => options,
    }
}

type Cache = KmemCache<Object>;

fn take(cache: &Cache, word: usize) -> KBox<Object> {
    cache
        .alloc_with(memcg::Flags::WAIT, || Object::new(word as u64))
        .expect("an object")
}

fn run(arm: &str, setting: &Setting, sheet: &mut Sheet) {
    let mut random = setting.random();
    live(arm, setting, &mut random, sheet);

    let cache: Cache = options(arm).typed().expect("a cache");
    let nr = (setting.scale / EACH).max(8);
    let tenants: Vec<Memcg> = (0..nr).map(|n| group(format!("t{n}"))).collect();
    let before = slab_bytes();
    let mut left = Vec::new();
    let mut freed = 0;
    for tenant in &tenants {
        let mut objects: Vec<KBox<Object>> =
            tenant.run(|| (0..EACH).map(|word| take(&cache, word)).collect());
        random.shuffle(&mut objects);
        freed += EACH - EACH / SURVIVES;
        left.extend(objects.drain(..EACH / SURVIVES));
    }
    let (ns, ()) = each(nr, || {
        for tenant in &tenants {
            tenant.remove().expect("the end of a group");
        }
    });
    sheet.set("end", ns);
    settle();
    sheet.count("dead", dead_caches());
    let held = slab_bytes();
    sheet.count("held", held - before);

    // The parent allocates as many as were freed, on a thread that takes nothing of it along.
    let regrown = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let more: Vec<KBox<Object>> = (0..freed).map(|word| take(&cache, word)).collect();
            let regrown = slab_bytes() - held;
            drop(more);
            regrown
        });
        thread.join().expect("it does not panic")
    });
    sheet.count("regrown", regrown);
    cache.shrink();

    random.shuffle(&mut left);
    let all = left.len();
    sheet.point("held", 0.0, slab_bytes() as f64);
    let mut spent = 0.0;
    for step in 1..=20 {
        let keep = all - all * step / 20;
        spent += each(1, || left.truncate(keep)).0;
        sheet.point("held", (all - keep) as f64, slab_bytes() as f64);
    }
    sheet.set("free_dead", spent / all as f64);
    sheet.count("dead_last", dead_caches());
    sheet.count("held_last", slab_bytes().saturating_sub(before));
    for _ in 0..2 {
        with(|engine, rec| {
            let _pin = engine.tree.threads.epoch.pin(rec);
            engine.kmem.reap_caches(&engine.tree, false);
        });
    }
    settle();
    sheet.count("held_reaped", slab_bytes().saturating_sub(before));
}

/// What a cache costs that nobody has ended.
fn live(arm: &str, setting: &Setting, random: &mut Random, sheet: &mut Sheet) {
    let cache: Cache = options(arm).typed().expect("a cache");
    let tenant = group("live");
    let nr = setting.scale;
    tenant.run(|| {
        let ns = sliced(nr, |range| {
            for word in range {
                drop(take(&cache, word));
            }
        });
        sheet.set("pair", ns);
        sheet.set("churn", churn(&cache, nr, random));
    });
    let seeds = [random.next(), random.next()];
    let times: Vec<f64> = std::thread::scope(|scope| {
        let threads = seeds.map(|seed| {
            let (cache, tenant) = (&cache, &tenant);
            scope.spawn(move || tenant.run(|| churn(cache, nr, &mut Random::new(seed))))
        });
        threads
            .into_iter()
            .map(|thread| thread.join().expect("it does not panic"))
            .collect()
    });
    sheet.set("two", (times[0] + times[1]) / 2.0);
    tenant.run(|| {
        let mut all = Vec::with_capacity(nr);
        let mut fill = || {
            let ns = sliced(nr, |range| {
                for word in range {
                    all.push(take(&cache, word));
                }
            });
            all.clear();
            ns
        };
        // Once for the pages.
        fill();
        sheet.set("fill", fill());
    });
    drop(cache);
    tenant.remove().expect("the end of a group");
    settle();
}

/// Replaces objects of a full working set at random; the time of one.
fn churn(cache: &Cache, nr: usize, random: &mut Random) -> f64 {
    let mut held: Vec<KBox<Object>> = (0..WORKING).map(|word| take(cache, word)).collect();
    let order: Vec<usize> = (0..nr).map(|_| random.below(WORKING)).collect();
    let ns = sliced(nr, |range| {
        for word in range {
            held[order[word]] = take(cache, word);
        }
    });
    let sum: u64 = held.iter().map(|object| object.word).sum();
    assert!(sum > 0);
    ns
}
