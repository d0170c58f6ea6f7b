//! Which objects of caches are accounted: those of a few that ask for it, or all.

#![forbid(unsafe_code)]

use crate::design::{
    Arm, Experiment,
    Unit::{Bytes, Count, Ns},
    less, loses, more, wins,
};
use crate::sheet::Sheet;
use crate::tools::{Setting, each, group, sliced};
use memcg::{
    CacheLayout, CacheOptions, KBytes, Limit, Memcg, SizedCache, register_memcg_cache, root,
    set_cache_tracking,
};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of an object.
const OBJECT: usize = 192;
/// Caches there are; the first is the large user that somebody thought of.
const CACHES: usize = 8;

const COSTA: &str = "Costa, 2012";
const SOUHLAL: &str = "Souhlal, 2012";

/// See the module.
pub const EXPERIMENT: Experiment = Experiment {
    name: "tracking",
    title: "account the caches that ask for it, or all that do not refuse",
    source: "2012, Costa: a cache is registered, with a function that shrinks it; the root is not tracked. Souhlal: all caches are tracked, the root too unless configured away; no shrinkers yet.",
    what: "Tenants hold objects of eight caches, one of which is registered where that is the way; then one of them runs into its limit, of an eighth of what it wants.",
    arms: &[
        Arm {
            name: "opt-in",
            title: "Costa: registered caches only, each with a shrink function; root untracked",
        },
        Arm {
            name: "opt-out",
            title: "Souhlal: every cache, root tracked, nobody to ask",
        },
        Arm {
            name: "opt-out-rootless",
            title: "the same, root untracked",
        },
    ],
    rows: &[
        less(
            "unused",
            Ns,
            "an object and its free in the root, no group in use",
        ),
        less(
            "in_group",
            Ns,
            "the same in a group, a cache nobody thought of",
        ),
        less("registered", Ns, "the same in a group, the large cache"),
        less(
            "untagged",
            Ns,
            "the same in a group, of a cache without accounting",
        ),
        more("caught", Bytes, "charged to tenants"),
        less("missed", Bytes, "held by tenants and charged to nobody"),
        more("root_seen", Bytes, "held and shown by the root itself"),
        less(
            "refused",
            Count,
            "refused to a tenant at its limit, in the large cache",
        ),
        less(
            "beyond",
            Bytes,
            "taken beyond its limit from a cache nobody thought of",
        ),
        more("neighbour", Count, "objects its neighbour has still"),
        less("at_limit", Ns, "an object at the limit, or its refusal"),
    ],
    plots: &[],
    predictions: &[
        wins(
            "opt-in",
            "unused",
            "opt-out",
            COSTA,
            "the root is not tracked, so the cost when unused is almost zero",
        ),
        wins(
            "opt-in",
            "refused",
            "opt-out",
            COSTA,
            "more useful than a failure: the shrink function gets the group back below its limit",
        ),
        loses(
            "opt-in",
            "missed",
            "opt-out",
            SOUHLAL,
            "all caches are tracked, without anybody's knowledge",
        ),
        loses(
            "opt-in",
            "beyond",
            "opt-out",
            SOUHLAL,
            "the same, where a tenant takes what nobody thought of",
        ),
        wins(
            "opt-out",
            "caught",
            "opt-in",
            SOUHLAL,
            "opt-out: what is not exempt is counted",
        ),
        wins(
            "opt-out",
            "root_seen",
            "opt-out-rootless",
            SOUHLAL,
            "the root is tracked",
        ),
        loses(
            "opt-out",
            "in_group",
            "opt-in",
            COSTA,
            "a few large users are enough, the rest need not pay",
        ),
        wins(
            "opt-out-rootless",
            "unused",
            "opt-out",
            SOUHLAL,
            "root tracking can be configured away",
        ),
        loses(
            "opt-out-rootless",
            "refused",
            "opt-in",
            SOUHLAL,
            "no shrinkers yet",
        ),
    ],
    run,
};

/// What tenants hold of the large cache, oldest first, by their paths.
#[derive(Default)]
struct Shelves(Mutex<HashMap<String, VecDeque<KBytes>>>);

impl Shelves {
    fn put(&self, tenant: &str, object: KBytes) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(tenant.to_owned()).or_default().push_back(object);
    }

    /// Lets go of the oldest of a tenant's, about so many bytes.
    fn shrink(&self, tenant: &str, bytes: u64) -> u64 {
        let gone: Vec<KBytes> = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let shelf = all.entry(tenant.to_owned()).or_default();
            let nr = (bytes as usize).div_ceil(OBJECT).max(16).min(shelf.len());
            shelf.drain(..nr).collect()
        };
        (gone.len() * OBJECT) as u64
    }

    fn nr(&self, tenant: &str) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(tenant).map_or(0, VecDeque::len)
    }
}

fn cache(name: &str) -> SizedCache {
    let options = CacheOptions::new(name).layout(CacheLayout::PerGroup);
    options.sized(OBJECT).expect("a cache")
}

fn pair(cache: &SizedCache, nr: usize) -> f64 {
    sliced(nr, |range| {
        for _ in range {
            drop(cache.alloc().expect("an object"));
        }
    })
}

fn run(arm: &str, setting: &Setting, sheet: &mut Sheet) {
    let opt_in = arm == "opt-in";
    set_cache_tracking(opt_in, arm == "opt-out");
    let nr = setting.scale;
    let caches: Vec<SizedCache> = (0..CACHES).map(|n| cache(&format!("cache{n}"))).collect();
    let large = &caches[0];
    sheet.set("unused", pair(&caches[1], nr));

    let shelves = Arc::new(Shelves::default());
    if opt_in {
        let shelves = shelves.clone();
        let shrink = move |group: &Memcg, bytes: u64| shelves.shrink(&group.path(), bytes);
        assert!(register_memcg_cache(large, shrink));
    }
    let (tenant, neighbour) = (group("tenant"), group("neighbour"));
    sheet.set("in_group", tenant.run(|| pair(&caches[1], nr)));
    sheet.set("registered", tenant.run(|| pair(large, nr)));
    let free = CacheOptions::new("free")
        .no_account()
        .layout(CacheLayout::PerGroup)
        .sized(OBJECT)
        .expect("a cache");
    sheet.set("untagged", tenant.run(|| pair(&free, nr)));

    caught(&caches, [&tenant, &neighbour], nr, setting, sheet);

    // The neighbour has some of the large cache; the tenant wants eight times what it may have.
    let fits = nr / 8;
    let path = neighbour.path();
    neighbour.run(|| {
        for _ in 0..fits {
            shelves.put(&path, large.alloc().expect("there is no limit"));
        }
    });
    tenant
        .set_max(Limit::bytes((fits * OBJECT) as u64))
        .unwrap();
    let (path, mut refused) = (tenant.path(), 0);
    let (ns, ()) = each(nr, || {
        tenant.run(|| {
            for _ in 0..nr {
                match large.alloc() {
                    Ok(object) => shelves.put(&path, object),
                    Err(_) => refused += 1,
                }
            }
        });
    });
    sheet.set("at_limit", ns);
    sheet.count("refused", refused);
    sheet.count("neighbour", shelves.nr(&neighbour.path()) as u64);
    shelves.shrink(&path, u64::MAX / 2);
    let taken: Vec<KBytes> = tenant.run(|| (0..nr).map_while(|_| caches[1].alloc().ok()).collect());
    let most = tenant.max().get();
    sheet.count(
        "beyond",
        ((taken.len() * OBJECT) as u64).saturating_sub(most),
    );
}

/// Objects of all caches, for tenants and the root; how much of them is seen.
fn caught(
    caches: &[SizedCache],
    tenants: [&Memcg; 2],
    nr: usize,
    setting: &Setting,
    sheet: &mut Sheet,
) {
    let mut random = setting.random();
    let hold = |random: &mut super::random::Random| -> Vec<KBytes> {
        let all = (0..nr / 4).map(|_| &caches[random.below(CACHES)]);
        all.map(|cache| cache.alloc().expect("there is no limit"))
            .collect()
    };
    let held: Vec<Vec<KBytes>> = tenants
        .iter()
        .map(|tenant| tenant.run(|| hold(&mut random)))
        .collect();
    let seen: u64 = tenants.iter().map(|tenant| tenant.current()).sum();
    let there: u64 = held.iter().map(|all| (all.len() * OBJECT) as u64).sum();
    sheet.count("caught", seen);
    sheet.count("missed", there.saturating_sub(seen));
    let own = hold(&mut random);
    sheet.count("root_seen", root().current().saturating_sub(seen));
    drop(own);
}
