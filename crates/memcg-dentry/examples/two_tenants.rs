//! Two tenants share a dentry cache: one serves requests out of the same 2,000 names, the other
//! walks a huge tree, again and again. What the first one gets: alone, with a group for each, and
//! with both charged to one group of the same limit.
//!
//! `two_tenants [DIRECTORY [TIMES]]`: what is walked (default: /usr), and how often (default:
//! once). `two_tenants --check` walks a small tree of its own, and fails where nothing was walked or
//! served.

use memcg::{Memcg, root};
use memcg_dentry::{Answer, DentryCache};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Room for both.
const ROOM: &str = "1M";
/// Of it, for the one who walks, where each has a group of its own.
const WALKERS_ROOM: &str = "512K";
const HOT_NAMES: usize = 2000;
/// Names a request looks up.
const REQUEST: usize = 20;
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(1);
/// How long the first serves alone.
const ALONE: Duration = Duration::from_secs(1);

fn main() -> std::io::Result<()> {
    let place = tempfile::tempdir()?;
    let mut args = std::env::args_os().skip(1);
    let (tree, times) = match args.next() {
        Some(word) if word == "--check" => (place.path().into(), 20),
        word => {
            let times = args.next().and_then(|text| text.to_str()?.parse().ok());
            let tree = word.map_or_else(|| "/usr".into(), PathBuf::from);
            (tree, times.unwrap_or(1))
        }
    };

    let hot: Vec<PathBuf> = (0..HOT_NAMES)
        .map(|nr| place.path().join(format!("{}/{nr}", nr % 20)))
        .collect();
    for name in &hot {
        std::fs::create_dir_all(name.parent().unwrap_or(Path::new("/")))?;
        std::fs::write(name, "")?;
    }
    // Directories that have changed a moment ago are asked again sooner.
    std::thread::sleep(Duration::from_millis(100));

    println!(
        "limit {ROOM} for both, {HOT_NAMES} hot names, walking {}",
        tree.display()
    );
    println!(
        "{:<16}{:>10}{:>10}{:>10}{:>10}{:>12}{:>12}",
        "", "hits", "p50", "p99", "lookups", "walked", "reclaimed"
    );
    let group = |parent: &Memcg, name: &str, max: &str| {
        let group = parent.create(name).expect("a new group");
        group.write("memory.max", max).expect("a limit");
        group
    };
    let alone = group(&root(), "alone", ROOM);
    run("alone", &alone, None, &hot)?;

    let both = group(&root(), "both", ROOM);
    let (server, walker) = (
        group(&both, "server", "max"),
        group(&both, "walker", WALKERS_ROOM),
    );
    let with = run("with groups", &server, Some((&walker, &tree, times)), &hot)?;

    let one = group(&root(), "one", ROOM);
    let without = run("without", &one, Some((&one, &tree, times)), &hot)?;
    println!(
        "the walker took {:.1} % of the other's hits with groups, {:.1} % without",
        100.0 - with,
        100.0 - without
    );
    Ok(())
}

/// Serves while the other walks; prints a row, and answers the percentage of hits.
fn run(
    what: &str,
    server: &Memcg,
    walker: Option<(&Memcg, &Path, u32)>,
    hot: &[PathBuf],
) -> std::io::Result<f64> {
    let cache = DentryCache::new("/")?;
    server.run(|| hot.iter().try_for_each(|name| cache.lookup(name).map(drop)))?;
    let is_over = AtomicBool::new(false);
    let has_walker = walker.is_some();
    let (walked, (mut times, hits)) = std::thread::scope(|threads| {
        let (cache, is_over) = (&cache, &is_over);
        let walking = threads.spawn(move || {
            let mut walked = 0;
            match walker {
                Some((group, tree, times)) => group.run(|| {
                    for _ in 0..times {
                        walked += cache.walk(tree).map_or(0, |tour| tour.names);
                    }
                }),
                None => std::thread::sleep(ALONE),
            }
            is_over.store(true, Ordering::Relaxed);
            walked
        });
        let served = server.run(|| serve(cache, hot, is_over));
        (walking.join().unwrap_or(0), served)
    });
    if times.is_empty() || has_walker && walked == 0 {
        let why = format!("{what}: {} lookups, {walked} names walked", times.len());
        return Err(std::io::Error::other(why));
    }
    times.sort_unstable();
    let at = |part: f64| {
        let index = (times.len() as f64 * part) as usize;
        format!(
            "{:.2} µs",
            times[index.min(times.len() - 1)] as f64 / 1000.0
        )
    };
    let ratio = 100.0 * hits as f64 / times.len() as f64;
    println!(
        "{what:<16}{:>8.1} %{:>10}{:>10}{:>10}{:>12}{:>12}",
        ratio,
        at(0.5),
        at(0.99),
        times.len(),
        walked,
        cache.stats().reclaimed,
    );
    Ok(ratio)
}

/// One request after the other: how long each lookup took, in ns, and how many were hits.
fn serve(cache: &DentryCache, hot: &[PathBuf], is_over: &AtomicBool) -> (Vec<u64>, u64) {
    let mut names = hot.iter().cycle();
    let mut times = Vec::new();
    let mut hits = 0;
    while !is_over.load(Ordering::Relaxed) {
        for name in names.by_ref().take(REQUEST) {
            let start = Instant::now();
            let found = cache.lookup(name);
            times.push(start.elapsed().as_nanos() as u64);
            hits += u64::from(found.is_ok_and(|found| found.answer == Answer::Hit));
        }
        std::thread::sleep(PAUSE);
    }
    (times, hits)
}
