//! What becomes of the objects a group leaves: `memory.offline`.

#![forbid(unsafe_code)]

use crate::design::{
    Arm, Experiment,
    Unit::{Bytes, Count, Ns},
    less, loses, more, wins,
};
use crate::sheet::Sheet;
use crate::tools::{Setting, each, group};
use memcg::{Event, KBox, KmemCache, Limit, Scope, Shared, Shrinker, register_shrinker, root};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A thing: something that takes work to make again.
type Thing = [u64; 32];
const BYTES: u64 = size_of::<Thing>() as u64;

const MERCIER: &str = "Mercier and Ahmed, 2023";

/// See the module.
pub const EXPERIMENT: Experiment = Experiment {
    name: "offline",
    title: "what a group leaves: to the parent, given up, to who holds it, to who uses it next",
    source: "2023, Mercier and Ahmed: a toolkit for the charges of a removed group: evict, recharge to the parent, to the mapper, or deferred to the next access.",
    what: "A group leaves objects of 256 bytes: of eight, three are held and used again by another group, one is held and never used, one is used but not held, three are nobody's.",
    arms: &[
        Arm {
            name: "parent",
            title: "(b): the parent's, for good",
        },
        Arm {
            name: "evict",
            title: "(a): what shrinkers can give is freed, and made again at the next access",
        },
        Arm {
            name: "mapper",
            title: "(c): charged to who holds it, at once",
        },
        Arm {
            name: "next-touch",
            title: "(d): the parent's until somebody uses it, who is charged then",
        },
    ],
    rows: &[
        less("end", Ns, "the end of the group, for each object"),
        less("access", Ns, "the next access of an object"),
        less("at_parent", Bytes, "at the parent, the group just gone"),
        less(
            "taxed",
            Bytes,
            "used by the other group and charged to the parent, all accessed",
        ),
        less(
            "surprise",
            Bytes,
            "charged to holders at the end, for no access of theirs",
        ),
        less("never", Bytes, "charged to a holder who never used it"),
        less("unused", Bytes, "at the parent, nobody's, in the end"),
        more(
            "kept",
            Count,
            "objects that were there at their next access",
        ),
        less(
            "failed",
            Count,
            "recharges that failed, the holder having room for half",
        ),
    ],
    plots: &[],
    predictions: &[
        wins(
            "parent",
            "end",
            "evict",
            MERCIER,
            "any page, simple: already charged there hierarchically",
        ),
        loses(
            "parent",
            "taxed",
            "next-touch",
            MERCIER,
            "if another group uses it, the parent is taxed for ever",
        ),
        wins(
            "evict",
            "unused",
            "parent",
            MERCIER,
            "simple: it is freed, and the next access is charged to its faulter",
        ),
        loses(
            "evict",
            "access",
            "next-touch",
            MERCIER,
            "the next access is slow, above all for active pages",
        ),
        loses(
            "evict",
            "kept",
            "parent",
            MERCIER,
            "what is still used has to be brought back",
        ),
        wins(
            "mapper",
            "at_parent",
            "next-touch",
            MERCIER,
            "the rightful user pays, at once",
        ),
        loses(
            "mapper",
            "surprise",
            "next-touch",
            MERCIER,
            "at an unpredictable moment, hard to relate to any allocation",
        ),
        loses(
            "mapper",
            "end",
            "parent",
            MERCIER,
            "more complicated: who maps it has to be found",
        ),
        wins(
            "next-touch",
            "taxed",
            "parent",
            MERCIER,
            "the charge comes with an access",
        ),
        wins(
            "next-touch",
            "never",
            "mapper",
            MERCIER,
            "who does not use it is never charged",
        ),
        loses(
            "next-touch",
            "unused",
            "evict",
            MERCIER,
            "the parent holds the charge until that access, if it ever comes",
        ),
        loses(
            "next-touch",
            "access",
            "parent",
            MERCIER,
            "it adds work to a latency-sensitive path",
        ),
    ],
    run,
};

/// What becomes of a thing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    HeldAndUsed,
    Held,
    Used,
    Nobodys,
}

impl Fate {
    fn of(number: usize) -> Fate {
        match number {
            0..3 => Fate::HeldAndUsed,
            3 => Fate::Held,
            4 => Fate::Used,
            _ => Fate::Nobodys,
        }
    }

    fn is_held(self) -> bool {
        matches!(self, Fate::HeldAndUsed | Fate::Held)
    }

    fn is_used(self) -> bool {
        matches!(self, Fate::HeldAndUsed | Fate::Used)
    }
}

type Slot = Option<Shared<KBox<Thing>>>;

/// A cache of things that are found by number.
struct Things {
    slots: Vec<Mutex<Slot>>,
    fates: Vec<Fate>,
    /// Where a shrinker goes on.
    next: Mutex<usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives up what nobody holds, of the group that is about to end.
struct Giving(Arc<Things>);

impl Shrinker for Giving {
    fn count(&self, scope: &Scope) -> u64 {
        let left = self.0.slots.len() - *lock(&self.0.next);
        match scope.group().path().ends_with("/dying") {
            true => left as u64,
            false => 0,
        }
    }

    fn scan(&self, _: &Scope, nr: u64) -> Option<u64> {
        let mut next = lock(&self.0.next);
        let mut freed = 0;
        for at in (*next..self.0.slots.len()).take(nr as usize) {
            *next = at + 1;
            if !self.0.fates[at].is_held() {
                freed += u64::from(lock(&self.0.slots[at]).take().is_some());
            }
        }
        Some(freed)
    }
}

fn run(arm: &str, setting: &Setting, sheet: &mut Sheet) {
    let nr = setting.scale;
    history(arm, nr, Limit::MAX, setting, Some(sheet));
    // The same, where the holder has room for half of what it holds.
    let room = Limit::bytes(nr as u64 * BYTES / 4);
    let failed = history(arm, nr, room, setting, None);
    sheet.count("failed", failed);
}

/// From the things' making to their last access; answers how many recharges failed.
fn history(
    arm: &str,
    nr: usize,
    room: Limit,
    setting: &Setting,
    mut sheet: Option<&mut Sheet>,
) -> u64 {
    let mut set = |row: &str, value: f64| {
        if let Some(sheet) = &mut sheet {
            sheet.set(row, value);
        }
    };
    let mut random = setting.random();
    let (parent, user) = (group("parent"), group("user"));
    user.set_max(room).unwrap();
    let dying = parent.create("dying").expect("a new group");
    dying.write("memory.offline", arm).expect("a policy");
    let cache: KmemCache<Thing> = KmemCache::new("things").expect("a cache");
    let fates: Vec<Fate> = (0..nr).map(|_| Fate::of(random.below(8))).collect();
    let make = |at: usize| Shared::new(cache.alloc([at as u64; 32]).expect("an object"));
    let slots = (0..nr).map(|at| Mutex::new(Some(dying.run(|| make(at)))));
    let things = Arc::new(Things {
        slots: slots.collect(),
        fates,
        next: Mutex::new(0),
    });
    let mut held = Vec::new();
    for (slot, fate) in things.slots.iter().zip(&things.fates) {
        if fate.is_held() {
            held.extend(lock(slot).as_ref().map(|thing| thing.hold(&user)));
        }
    }
    let registered = (arm == "evict").then(|| register_shrinker(Giving(things.clone())));

    let before = user.usage().slab;
    let (ns, ()) = each(nr, || dying.remove().expect("the end of a group"));
    drop(registered);
    set("end", ns);
    let at_parent = parent.usage().slab;
    set("at_parent", at_parent as f64);
    let surprise = user.usage().slab - before;
    set("surprise", surprise as f64);

    let mut order: Vec<usize> = (0..nr).filter(|&at| things.fates[at].is_used()).collect();
    random.shuffle(&mut order);
    let (ns, kept) = each(order.len(), || {
        user.run(|| {
            order
                .iter()
                .filter(|&&at| access(&things, &cache, at))
                .count()
        })
    });
    set("access", ns);
    set("kept", kept as f64);
    let all = |fates: fn(Fate) -> bool| {
        things.fates.iter().filter(|&&fate| fates(fate)).count() as u64 * BYTES
    };
    // What the user pays beyond what it was given for nothing is what it has used.
    let used = all(Fate::is_used);
    let for_nothing = if arm == "mapper" {
        all(|fate| fate == Fate::Held)
    } else {
        0
    };
    let paid = user.usage().slab.saturating_sub(for_nothing);
    set("taxed", used.saturating_sub(paid) as f64);
    set("never", for_nothing.min(user.usage().slab) as f64);
    drop(held);
    // In the end the other group goes on with what it uses.
    for (slot, fate) in things.slots.iter().zip(&things.fates) {
        if fate.is_used() {
            lock(slot).take();
        }
    }
    set("unused", parent.usage().slab as f64);
    let failed = user.nr_events(Event::RechargeFailed);
    drop(things);
    for group in [&user, &parent] {
        group.remove().expect("the end of a group");
    }
    assert_eq!(root().current(), 0, "all is freed");
    failed
}

/// A use of a thing: found, or made again. Whether it was found.
fn access(things: &Things, cache: &KmemCache<Thing>, at: usize) -> bool {
    let mut slot = lock(&things.slots[at]);
    if let Some(thing) = slot.as_ref() {
        thing.touch();
        assert_eq!(thing[7], at as u64);
        return true;
    }
    // No room for it is no answer kept.
    let made: Result<KBox<Thing>, _> = cache.alloc([at as u64; 32]);
    *slot = made.ok().map(Shared::new);
    false
}
