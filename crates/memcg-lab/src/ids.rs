//! Kmem ids and the tables they index: three policies under either end of a group.

#![forbid(unsafe_code)]

use crate::design::{
    Arm, Experiment, Plot,
    Unit::{Bytes, Count, Ns},
    less, loses, wins,
};
use crate::sheet::Sheet;
use crate::tools::{Setting, each, group, settle, sliced, with};
use memcg::testing::engine::Flags;
use memcg::{
    Charge, GroupEnd, IdPolicy, ListLru, LruItem, Memcg, Verdict, id_stat, set_group_end,
    set_id_policy,
};

/// Lists that keep something for each group, so tables.
const LISTS: usize = 4;
/// Groups that are online at once, for lookups.
const ONLINE: usize = 256;
/// One group of so many leaves something that nobody can take back.
const PINNED: usize = 8;

const DAVYDOV: &str = "Davydov, 2015";

/// See the module.
pub const EXPERIMENT: Experiment = Experiment {
    name: "ids",
    title: "ids of groups that have ended, and the arrays they keep large",
    source: "2015, Davydov: lookups by kmem id are fast, but offline groups keep their ids, and the arrays grow without end. Three ways out, here under both ends of a group.",
    what: "Rounds of: a group, an item in a list, its end. Of eight groups one leaves an item that nobody can take back; that of every other one could be reclaimed.",
    arms: &[
        Arm {
            name: "ask-linger",
            title: "before arrays grow, groups that linger are asked for their ids",
        },
        Arm {
            name: "free-linger",
            title: "lists move to the parent at the end and the id is free, while charges linger",
        },
        Arm {
            name: "tree-linger",
            title: "radix trees that shrink, with a hint of the last lookup in each thread",
        },
        Arm {
            name: "ask-reparent",
            title: "as ask, where groups do not linger",
        },
        Arm {
            name: "free-reparent",
            title: "as free, where groups do not linger: the default",
        },
        Arm {
            name: "tree-reparent",
            title: "as tree, where groups do not linger",
        },
    ],
    rows: &[
        less("table_bytes", Bytes, "arrays or trees after all rounds"),
        less(
            "table_bytes_after",
            Bytes,
            "the same, once all that was left is freed",
        ),
        less("ids", Count, "ids in use after all rounds"),
        less("highest", Count, "the highest id there was"),
        less("grown", Count, "how often arrays grew"),
        less("not_helped", Count, "asked for an id, in vain"),
        less("dying", Count, "groups that linger after all rounds"),
        less("hint_bytes", Bytes, "hints, for each thread"),
        less(
            "lookup_same",
            Ns,
            "a look into a group's list, the same group",
        ),
        less(
            "lookup_other",
            Ns,
            "a look into a group's list, groups at random",
        ),
        less("round", Ns, "a round: group, id, item, end"),
    ],
    plots: &[Plot {
        key: "tables",
        title: "bytes of arrays or trees; after the rounds what is left is freed",
        across: "rounds",
        unit: Bytes,
    }],
    predictions: &[
        loses(
            "ask-linger",
            "table_bytes",
            "free-linger",
            DAVYDOV,
            "not reliable: it may fail, and the arrays grow anyway",
        ),
        loses(
            "ask-linger",
            "not_helped",
            "free-linger",
            DAVYDOV,
            "in the hope that one releases its slot",
        ),
        wins(
            "ask-linger",
            "lookup_other",
            "tree-linger",
            DAVYDOV,
            "a lookup in an array is fast, and happens on every kmalloc",
        ),
        wins(
            "free-linger",
            "table_bytes",
            "tree-linger",
            DAVYDOV,
            "the id is free at once and arrays hold online groups only",
        ),
        wins(
            "free-linger",
            "ids",
            "ask-linger",
            DAVYDOV,
            "no id outlives its group",
        ),
        loses(
            "free-linger",
            "dying",
            "free-reparent",
            DAVYDOV,
            "list elements move, charges do not",
        ),
        wins(
            "tree-linger",
            "table_bytes_after",
            "ask-linger",
            DAVYDOV,
            "it shrinks as groups are reclaimed",
        ),
        loses(
            "tree-linger",
            "lookup_other",
            "free-linger",
            DAVYDOV,
            "lookups must be as fast as possible, and take a walk",
        ),
        loses(
            "tree-linger",
            "hint_bytes",
            "free-linger",
            DAVYDOV,
            "the hint would have to be per CPU, which makes list_lru bulky",
        ),
        wins(
            "ask-reparent",
            "ids",
            "ask-linger",
            "the same argument, where nothing lingers",
            "there is nobody to ask, and no need to",
        ),
        loses(
            "ask-reparent",
            "table_bytes_after",
            "tree-reparent",
            DAVYDOV,
            "arrays never shrink",
        ),
        wins(
            "free-reparent",
            "dying",
            "free-linger",
            "Mercier and Ahmed, 2023",
            "what cannot be reclaimed should be reparented",
        ),
        loses(
            "free-reparent",
            "table_bytes_after",
            "tree-reparent",
            DAVYDOV,
            "arrays never shrink",
        ),
        wins(
            "tree-reparent",
            "table_bytes_after",
            "free-reparent",
            DAVYDOV,
            "it shrinks as groups go",
        ),
        loses(
            "tree-reparent",
            "lookup_other",
            "free-reparent",
            DAVYDOV,
            "lookups must be as fast as possible, and take a walk",
        ),
    ],
    run,
};

/// What is in a list: memory, and whether it can be taken back.
struct Thing {
    memory: std::sync::Mutex<Option<Charge>>,
    can_go: bool,
}

impl Thing {
    fn look(&self) -> Verdict {
        if !self.can_go {
            return Verdict::Skip;
        }
        let memory = self.memory.lock().map(|mut memory| memory.take());
        drop(memory);
        Verdict::Removed
    }
}

fn choose(arm: &str) {
    let end = match arm.ends_with("linger") {
        true => GroupEnd::Linger,
        false => GroupEnd::Reparent,
    };
    let policy = match arm.split('-').next() {
        Some("ask") => IdPolicy::ReclaimOfflineFirst,
        Some("tree") => IdPolicy::ShrinkableTree,
        _ => IdPolicy::ReparentAndFree,
    };
    set_group_end(end).expect("before the first group");
    set_id_policy(policy).expect("before the first group");
}

fn table_bytes() -> u64 {
    let tables = id_stat().tables;
    tables.arrays + tables.trees
}

fn run(arm: &str, setting: &Setting, sheet: &mut Sheet) {
    choose(arm);
    let mut random = setting.random();
    let lists: Vec<ListLru<Thing>> = (0..LISTS).map(|_| ListLru::new()).collect();
    let _registered: Vec<_> = lists
        .iter()
        .map(|list| list.shrink_by(Thing::look))
        .collect();
    let online: Vec<Memcg> = (0..ONLINE).map(|n| group(format!("online{n}"))).collect();
    let use_once = |list: &ListLru<Thing>, group: &Memcg| {
        let thing = Thing {
            memory: None.into(),
            can_go: false,
        };
        drop(list.insert_for(group, thing));
    };
    for group in &online {
        for list in &lists {
            use_once(list, group);
        }
    }

    let mut left: Vec<LruItem<Thing>> = Vec::new();
    let mut spent = 0.0;
    for round in 0..setting.scale {
        let kept = random.below(PINNED);
        let list = &lists[random.below(LISTS)];
        let (ns, item) = each(1, || rounds(list, round, kept));
        spent += ns;
        left.extend(item);
        if round % (setting.scale / 40).max(1) == 0 {
            sheet.point("tables", round as f64, table_bytes() as f64);
        }
    }
    settle();
    let stat = id_stat();
    sheet.set("round", spent / setting.scale as f64);
    sheet.count("table_bytes", table_bytes());
    sheet.count("ids", u64::from(stat.in_use));
    sheet.count("highest", u64::from(stat.highest));
    sheet.count("grown", stat.tables.grown);
    sheet.count("not_helped", stat.tables.asked - stat.tables.helped);
    sheet.count("dying", u64::from(stat.lingering));
    sheet.count("hint_bytes", stat.tables.hints_each);

    let (list, items) = (&lists[0], setting.scale);
    let ns = sliced(items, |range| {
        for _ in range {
            std::hint::black_box(list.count(&online[7]));
        }
    });
    sheet.set("lookup_same", ns);
    let order: Vec<usize> = (0..items).map(|_| random.below(ONLINE)).collect();
    let ns = sliced(items, |range| {
        for &at in &order[range] {
            std::hint::black_box(list.count(&online[at]));
        }
    });
    sheet.set("lookup_other", ns);

    random.shuffle(&mut left);
    let nr = left.len();
    while !left.is_empty() {
        left.truncate(left.len().saturating_sub(nr / 8 + 1));
        settle();
        let across = setting.scale + setting.scale * (nr - left.len()) / nr / 4;
        sheet.point("tables", across as f64, table_bytes() as f64);
    }
    for group in &online {
        group.remove().expect("the end of a group");
    }
    // Ids and nodes are free after a grace period.
    for _ in 0..8 {
        settle();
        with(|engine, _| engine.tree.collect());
    }
    sheet.count("table_bytes_after", table_bytes());
}

/// One group from its beginning to its end, and what is left of it.
fn rounds(list: &ListLru<Thing>, round: usize, kept: usize) -> Option<LruItem<Thing>> {
    let tenant = group(format!("g{round}"));
    with(|engine, rec| {
        let _pin = engine.tree.threads.epoch.pin(rec);
        if let Some(index) = engine.tree.lookup(tenant.path().as_bytes()) {
            // Without an id the nearest above that has one serves.
            let _ = engine.kmem_id(
                rec,
                engine.tree.memcgs.get(index),
                Flags::WAIT.with(Flags::USER),
            );
        }
    });
    let thing = Thing {
        memory: Some(tenant.try_reserve(4096).expect("there is no limit")).into(),
        can_go: kept % 2 == 1,
    };
    let item = list.insert_for(&tenant, thing);
    // Of eight, one stays for good, and one each other time until it is asked for.
    let stays = kept == 0 || kept % 2 == 1;
    let item = stays.then_some(item);
    tenant.remove().expect("the end of a group");
    item
}
