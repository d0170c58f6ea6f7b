//! Two tenants of a dentry cache: one needs the same names again and again, the other walks a large
//! tree.

#![forbid(unsafe_code)]

use crate::cpu_clock::thread_cpu_ns;
use crate::design::{
    Arm, Experiment,
    Unit::{Bytes, Count, Ns},
    less, loses, more, wins,
};
use crate::sheet::Sheet;
use crate::tools::{Setting, group, median};
use memcg::{Limit, Memcg};
use memcg_dentry::{Answer, DentryCache, Freshness};
use std::path::{Path, PathBuf};

/// Names that are needed again and again.
const HOT: usize = 200;
/// Files of a directory.
const FILES: usize = 100;
/// Names the one looks up, and the other, in turn.
const REQUEST: usize = 20;
const STEP: usize = 100;

const COSTA: &str = "Costa, 2012";

/// See the module.
pub const EXPERIMENT: Experiment = Experiment {
    name: "dentries",
    title: "a tenant that walks a large tree, and its neighbour: with groups, in one group, without a limit",
    source: "2012, Costa: a group that touches many files fills the dentry cache at everyone's cost; past a limit of its own its own dentries are cleaned.",
    what: "A real tree is walked; in between the other tenant looks up 20 of its 200 names, again and again. There is room for three times those names, half of it the walker's.",
    arms: &[
        Arm {
            name: "groups",
            title: "a group for each, the walker's with a limit of its own",
        },
        Arm {
            name: "one-group",
            title: "both charged to one group with the same room",
        },
        Arm {
            name: "no-limit",
            title: "nobody is limited",
        },
    ],
    rows: &[
        more(
            "hits",
            Count,
            "of a thousand lookups, answered by the cache",
        ),
        less("lookup", Ns, "a lookup of the neighbour's"),
        less("lookup_p99", Ns, "the same, the slowest of a hundred"),
        less("walk", Ns, "a name of the walk"),
        less("entries", Count, "entries in the cache"),
        less("bytes", Bytes, "charged for entries"),
        less("given_up", Count, "entries given up and looked up anew"),
    ],
    plots: &[],
    predictions: &[
        wins(
            "groups",
            "hits",
            "one-group",
            COSTA,
            "its own dentries are cleaned, other groups' are not",
        ),
        wins(
            "groups",
            "lookup",
            "one-group",
            COSTA,
            "its processes slow down, other groups' do not",
        ),
        loses(
            "groups",
            "walk",
            "no-limit",
            COSTA,
            "a group past its limit slows down",
        ),
        loses(
            "one-group",
            "hits",
            "no-limit",
            COSTA,
            "one fills the cache at everyone's cost",
        ),
        wins(
            "one-group",
            "bytes",
            "no-limit",
            "any limit",
            "the cache stays within its room",
        ),
        loses(
            "no-limit",
            "bytes",
            "groups",
            COSTA,
            "the dentry cache fills up",
        ),
        wins(
            "no-limit",
            "given_up",
            "groups",
            "no limit",
            "nothing is looked up twice while there is memory",
        ),
    ],
    run,
};

/// A folder of this process's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let name = format!("memcg-lab-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for the tree");
        Scratch(path)
    }

    /// A tree of so many files, some to a directory; their paths.
    fn tree(&self, name: &str, nr: usize) -> Vec<PathBuf> {
        let file = |n: usize| {
            let folder = self.0.join(format!("{name}/{}", n / FILES));
            if n.is_multiple_of(FILES) {
                std::fs::create_dir_all(&folder).expect("a folder");
            }
            let path = folder.join(format!("{n}"));
            std::fs::write(&path, "").expect("a file");
            path
        };
        (0..nr).map(file).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(arm: &str, setting: &Setting, sheet: &mut Sheet) {
    let scratch = Scratch::new();
    let hot = scratch.tree("hot", HOT);
    let tree = scratch.tree("large", (setting.scale / 20).clamp(4 * HOT, 5000));
    let cache = DentryCache::with("/", Freshness::Trusted).expect("a cache over /");
    let both = group("both");
    let (server, walker) = match arm {
        "one-group" => (both.clone(), both.clone()),
        _ => (
            both.create("server").expect("a new group"),
            both.create("walker").expect("a new group"),
        ),
    };
    let room = 3 * HOT as u64 * cache.entry_bytes();
    if arm != "no-limit" {
        both.set_max(Limit::bytes(room)).unwrap();
    }
    if arm == "groups" {
        walker.set_max(Limit::bytes(room / 2)).unwrap();
    }
    look_up(&server, &cache, &hot);

    let mut random = setting.random();
    let (mut hits, mut nr, mut walked) = (0, 0, 0.0);
    let mut times = Vec::new();
    // Again and again through the tree: what comes round is not there any more, if there is no
    // room.
    let rounds = (setting.scale / tree.len()).max(2) * tree.len();
    let mut names = tree.iter().cycle().take(rounds).peekable();
    while names.peek().is_some() {
        let step: Vec<&PathBuf> = names.by_ref().take(STEP).collect();
        let start = thread_cpu_ns();
        look_up(&walker, &cache, &step);
        walked += (thread_cpu_ns() - start) as f64;
        let start = random.below(HOT);
        server.run(|| {
            for name in hot.iter().cycle().skip(start).take(REQUEST) {
                let before = thread_cpu_ns();
                let found = cache.lookup(name).expect("it is there");
                times.push((thread_cpu_ns() - before) as f64);
                hits += u64::from(found.answer == Answer::Hit);
                nr += 1;
            }
        });
    }
    sheet.count("hits", hits * 1000 / nr);
    sheet.set("walk", walked / rounds as f64);
    sheet.set("lookup", times.iter().sum::<f64>() / times.len() as f64);
    times.sort_by(f64::total_cmp);
    let slow = times.len() * 98 / 100;
    sheet.set("lookup_p99", median(&mut times[slow..]));
    let stats = cache.stats();
    sheet.count("entries", stats.entries);
    sheet.count("given_up", stats.reclaimed);
    sheet.count("bytes", both.usage().slab);
}

fn look_up(tenant: &Memcg, cache: &DentryCache, names: &[impl AsRef<Path>]) {
    tenant.run(|| {
        for name in names {
            cache.lookup(name).expect("it is there");
        }
    });
}
