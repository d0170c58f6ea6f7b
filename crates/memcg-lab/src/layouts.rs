//! Objects of all tenants in the same slabs, or slabs of each tenant's own.

#![forbid(unsafe_code)]

use crate::design::{
    Arm, Experiment, Plot,
    Unit::{Bytes, Ns},
    less, loses, wins,
};
use crate::sheet::Sheet;
use crate::tools::{Setting, each, group, settle, slab_bytes, sliced};
use memcg::{CacheLayout, CacheOptions, KBytes, Memcg};

/// Bytes of an object.
const OBJECT: usize = 256;
/// Objects of a tenant.
const EACH: usize = 500;

const SOUHLAL: &str = "Souhlal, 2012";
const COSTA: &str = "Costa, 2012";

/// See the module.
pub const EXPERIMENT: Experiment = Experiment {
    name: "layouts",
    title: "slabs shared by all tenants, or a cache of each tenant's own",
    source: "2012, Costa and Souhlal: a cache becomes an array of caches, one for each group. Shared slabs with an owner for each object are what it was before, and is again.",
    what: "Tenants with 500 objects of 256 bytes each allocate at random; nine of ten then end and free what they hold.",
    arms: &[
        Arm {
            name: "shared",
            title: "one cache; an object's owner is told by its tag",
        },
        Arm {
            name: "per-group",
            title: "a child cache for each tenant, split off at its first allocation",
        },
    ],
    rows: &[
        less(
            "split",
            Ns,
            "a tenant's first object, and the end of an empty tenant",
        ),
        less("alloc_mixed", Ns, "an object, tenants at random"),
        less("pair", Ns, "an object and its free, one tenant at work"),
        less("free_ended", Ns, "a free of what an ended tenant held"),
        less("end", Ns, "the end of a tenant, with all it holds"),
        less(
            "bytes_one_each",
            Bytes,
            "slabs, each tenant with one object",
        ),
        less("bytes_full", Bytes, "slabs, all objects live"),
        less("bytes_churned", Bytes, "slabs, nine of ten tenants gone"),
    ],
    plots: &[Plot {
        key: "left",
        title: "bytes in slabs, as tenants end and free their objects",
        across: "tenants gone",
        unit: Bytes,
    }],
    predictions: &[
        loses(
            "per-group",
            "split",
            "shared",
            SOUHLAL,
            "the split needs locks and memory",
        ),
        loses(
            "per-group",
            "bytes_one_each",
            "shared",
            "Davydov, 2015",
            "copies for each group cost memory, so much that their arrays have to be bounded",
        ),
        loses(
            "shared",
            "bytes_churned",
            "per-group",
            COSTA,
            "with parallel caches a group's objects do not pin memory that others' were in",
        ),
        wins(
            "per-group",
            "bytes_churned",
            "shared",
            COSTA,
            "a group that goes takes its slabs with it",
        ),
        wins(
            "shared",
            "end",
            "per-group",
            SOUHLAL,
            "objects that only change their charge cost a group's end nothing; its caches do",
        ),
    ],
    run,
};

fn run(arm: &str, setting: &Setting, sheet: &mut Sheet) {
    let layout = match arm {
        "per-group" => CacheLayout::PerGroup,
        _ => CacheLayout::Shared,
    };
    let cache = CacheOptions::new("lab")
        .layout(layout)
        .sized(OBJECT)
        .expect("a cache");
    let mut random = setting.random();
    let nr = (setting.scale / EACH).max(20);
    let tenants: Vec<Memcg> = (0..nr).map(|n| group(format!("t{n}"))).collect();

    // Each its first object.
    let (ns, first) = each(nr, || {
        let firsts = tenants
            .iter()
            .map(|tenant| tenant.run(|| cache.alloc().expect("an object")));
        firsts.collect::<Vec<KBytes>>()
    });
    sheet.count("bytes_one_each", slab_bytes());
    drop(first);
    let spare: Vec<Memcg> = (0..nr).map(|n| group(format!("s{n}"))).collect();
    for tenant in &spare {
        drop(tenant.run(|| cache.alloc().expect("an object")));
    }
    let (ended, ()) = each(nr, || {
        for tenant in &spare {
            tenant.remove().expect("the end of a group");
        }
    });
    sheet.set("split", ns + ended);
    settle();

    // All theirs, in no order.
    let mut turns: Vec<usize> = (0..nr * EACH).map(|n| n % nr).collect();
    random.shuffle(&mut turns);
    let mut held: Vec<Vec<KBytes>> = (0..nr).map(|_| Vec::with_capacity(EACH)).collect();
    let ns = sliced(turns.len(), |range| {
        for &tenant in &turns[range] {
            let object = tenants[tenant].run(|| cache.alloc().expect("an object"));
            held[tenant].push(object);
        }
    });
    sheet.set("alloc_mixed", ns);
    sheet.count("bytes_full", slab_bytes());
    let ns = sliced(turns.len(), |range| {
        tenants[0].run(|| {
            for _ in range {
                drop(cache.alloc().expect("an object"));
            }
        });
    });
    sheet.set("pair", ns);

    // Nine of ten end, in no order, and somebody frees what they held.
    let mut order: Vec<usize> = (0..nr).filter(|n| n % 10 != 0).collect();
    random.shuffle(&mut order);
    let (mut ends, mut frees) = (0.0, 0.0);
    sheet.point("left", 0.0, slab_bytes() as f64);
    for (gone, &tenant) in order.iter().enumerate() {
        ends += each(1, || tenants[tenant].remove().expect("the end of a group")).0;
        let mut objects = std::mem::take(&mut held[tenant]);
        random.shuffle(&mut objects);
        frees += each(1, || drop(objects)).0;
        if (gone + 1) % (order.len() / 18).max(1) == 0 {
            sheet.point("left", (gone + 1) as f64, slab_bytes() as f64);
        }
    }
    sheet.set("end", ends / order.len() as f64);
    sheet.set("free_ended", frees / (order.len() * EACH) as f64);
    settle();
    cache.shrink();
    sheet.count("bytes_churned", slab_bytes());
}
