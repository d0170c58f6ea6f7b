//! What a removed group leaves: to the parent, or as a zombie, with and without somebody who hunts
//! zombies.

#![forbid(unsafe_code)]

use crate::design::{
    Arm, Experiment, Plot,
    Unit::{Bytes, Count, Ns},
    less, loses, wins,
};
use crate::sheet::Sheet;
use crate::tools::{Setting, each, group, median, settle, with};
use memcg::{
    Charge, GroupEnd, IdPolicy, ListLru, Memcg, Scope, Shrinker, Verdict, id_stat, reap,
    register_shrinker, root, set_group_end, set_id_policy, set_kmem_id_max,
};
use std::sync::Mutex;

/// Bytes that a group leaves.
const LEFT: u64 = 4096;
/// Rounds between two visits of the reaper.
const VISITS: usize = 10;

const MERCIER: &str = "Mercier and Ahmed, 2023";

/// See the module.
pub const EXPERIMENT: Experiment = Experiment {
    name: "endings",
    title: "groups that end at once, that linger, and a reaper beside them",
    source: "2023, Mercier and Ahmed: a removed group lives until its last reference goes; zombies by the thousand cost memory and slow down whatever walks groups; daemons reclaim from them.",
    what: "Groups are made, charge 4 KiB, and end: half of them leave it with a shrinker that could give it back, a quarter pinned, a quarter nothing.",
    arms: &[
        Arm {
            name: "reparent",
            title: "what is left is the parent's, the group is gone",
        },
        Arm {
            name: "linger",
            title: "the classic kernel: the group stays until its last byte goes",
        },
        Arm {
            name: "linger-reaper",
            title: "the same, and a daemon reclaims from zombies ten times on the way",
        },
    ],
    rows: &[
        less("dying", Count, "zombies at the end"),
        less("records", Count, "records of groups in use at the end"),
        less("reapable", Bytes, "left that could be reclaimed"),
        less("inherited", Bytes, "left that is the root's own at the end"),
        less("end", Ns, "a group's life: made, charged, ended"),
        less("walk", Ns, "memory.reclaim of the root that finds nothing"),
        less("reaper", Ns, "the reaper's work, for each group"),
        less("visited", Count, "zombies the reaper came by"),
        less("vain", Count, "of them, those that it could not end"),
    ],
    plots: &[
        Plot {
            key: "dying",
            title: "zombies",
            across: "groups ended",
            unit: Count,
        },
        Plot {
            key: "walk",
            title: "time of a memory.reclaim of the root that finds nothing",
            across: "groups ended",
            unit: Ns,
        },
    ],
    predictions: &[
        wins(
            "reparent",
            "dying",
            "linger-reaper",
            MERCIER,
            "memory that cannot be reclaimed should be reparented; then nothing pins the group",
        ),
        wins(
            "reparent",
            "walk",
            "linger",
            MERCIER,
            "zombies make operations slow that scale with the number of groups, such as reclaim",
        ),
        loses(
            "reparent",
            "inherited",
            "linger",
            MERCIER,
            "the parent is taxed for what others use",
        ),
        loses(
            "linger",
            "records",
            "reparent",
            MERCIER,
            "zombies by the thousand cost memory",
        ),
        wins(
            "linger",
            "inherited",
            "reparent",
            MERCIER,
            "existing charges stay with the removed group",
        ),
        wins(
            "linger-reaper",
            "dying",
            "linger",
            MERCIER,
            "out-of-tree daemons reclaim from zombies periodically",
        ),
        loses(
            "linger-reaper",
            "vain",
            "reparent",
            MERCIER,
            "useless for memory that cannot be reclaimed",
        ),
        loses(
            "linger-reaper",
            "reaper",
            "linger",
            MERCIER,
            "it comes by every zombie, each time",
        ),
    ],
    run,
};

/// Memory that can be taken back.
struct Cached(Mutex<Option<Charge>>);

impl Cached {
    fn give(&self) -> Verdict {
        let memory = self.0.lock().map(|mut memory| memory.take());
        drop(memory);
        Verdict::Removed
    }
}

/// Who has nothing: reclaim comes by every group to learn that.
struct Nothing;

impl Shrinker for Nothing {
    fn count(&self, _: &Scope) -> u64 {
        0
    }

    fn scan(&self, _: &Scope, _: u64) -> Option<u64> {
        None
    }
}

fn run(arm: &str, setting: &Setting, sheet: &mut Sheet) {
    let end = match arm {
        "reparent" => GroupEnd::Reparent,
        _ => GroupEnd::Linger,
    };
    set_group_end(end).expect("before the first group");
    // As before 2015: zombies keep their lists.
    set_id_policy(IdPolicy::ReclaimOfflineFirst).expect("before the first group");
    set_kmem_id_max(u32::MAX);
    let mut random = setting.random();
    let cached: ListLru<Cached> = ListLru::new();
    let _asked = register_shrinker(Nothing);
    let mut pinned: Vec<Charge> = Vec::new();
    let mut listed = Vec::new();
    let (mut spent, mut reaping, mut visited, mut vain) = (0.0, 0.0, 0, 0);
    let nr = setting.scale;
    for n in 0..nr {
        let fate = random.below(4);
        let (ns, ()) = each(1, || {
            let tenant: Memcg = group(format!("g{n}"));
            let memory = tenant.try_reserve(LEFT).expect("there is no limit");
            match fate {
                0 => drop(memory),
                1 => pinned.push(memory),
                _ => listed.push(cached.insert_for(&tenant, Cached(Some(memory).into()))),
            }
            tenant.remove().expect("the end of a group");
        });
        spent += ns;
        if n % (nr / VISITS) == nr / VISITS - 1 {
            if arm == "linger-reaper" {
                // Only the reaper asks for it: what else walks finds nothing.
                let registered = cached.shrink_by(Cached::give);
                let (ns, reaped) = each(1, reap);
                drop(registered);
                reaping += ns;
                visited += u64::from(reaped.groups);
                vain += u64::from(reaped.groups - reaped.gone);
            }
            sheet.point("dying", (n + 1) as f64, f64::from(id_stat().lingering));
            sheet.point("walk", (n + 1) as f64, walk());
        }
    }
    settle();
    sheet.set("end", spent / nr as f64);
    sheet.set("walk", walk());
    sheet.set("reaper", reaping / nr as f64);
    sheet.count("visited", visited);
    sheet.count("vain", vain);
    sheet.count("dying", u64::from(id_stat().lingering));
    sheet.count(
        "records",
        with(|engine, _| u64::from(engine.tree.memcgs.in_use())),
    );
    let held: u64 = listed
        .iter()
        .filter_map(|thing| thing.0.lock().ok()?.as_ref().map(Charge::bytes))
        .sum();
    sheet.count("reapable", held);
    sheet.count("inherited", own_of_root());
}

/// The time of a `memory.reclaim` of the root that finds nothing, the median of some.
fn walk() -> f64 {
    let mut times: Vec<f64> = (0..9)
        .map(|_| {
            each(1, || {
                with(|engine, rec| {
                    let top = engine.tree.memcgs.get(memcg::testing::group::ROOT);
                    engine.reclaim(rec, top, 1 << 40)
                })
            })
            .0
        })
        .collect();
    median(&mut times)
}

/// Bytes charged to the root and to no group below it, lingering ones included.
fn own_of_root() -> u64 {
    with(|engine, rec| {
        let _pin = engine.tree.threads.epoch.pin(rec);
        let top = engine.tree.memcgs.get(memcg::testing::group::ROOT);
        let (mut at, mut below) = (None, 0);
        while let Some(index) = engine.tree.next_lingering(top, at) {
            at = Some(index);
            below += engine.tree.memcgs.get(index).counter.usage();
        }
        root().current().saturating_sub(below)
    })
}
