//! Means over rows, and the targets beside what was measured.

use crate::layout::lay_out;
use crate::peers::{IMAGES, short};
use crate::report::Report;
use crate::stats::Samples;
use memcg_bench::rows::Unit::{self, Bytes, Cpu, Peak, Ratio, Value, Wall};

/// The hit paths.
const HITS: &[&str] = &[
    "pair-16",
    "pair-64",
    "pair-256",
    "pair-1024",
    "pair-4096",
    "batch-16",
    "batch-64",
    "batch-256",
    "batch-1024",
    "batch-4096",
    "tenants",
    "handoff-64",
    "handoff-mixed",
];
const PAIRS: &[&str] = &["pair-16", "pair-64", "pair-256", "pair-1024", "pair-4096"];
const BATCHES: &[&str] = &[
    "batch-16",
    "batch-64",
    "batch-256",
    "batch-1024",
    "batch-4096",
];
const HANDOFFS: &[&str] = &["handoff-64", "handoff-mixed"];
/// What programs do, in small.
const SHAPES: &[&str] = &[
    "larson",
    "xmalloc",
    "threads",
    "realloc-small",
    "realloc-large",
    "mixed",
    "large",
    "fragment",
    "retain",
];
/// Kinds of work that allocators are traditionally compared by; `larson` and `xmalloc` are among
/// the shapes.
const CLASSICS: &[&str] = &[
    "cfrac",
    "espresso",
    "alloc-test",
    "alloc-test-n",
    "glibc-simple",
    "glibc-thread",
    "mstress",
    "cache-scratch",
    "cache-thrash",
];
const PROGRAMS: &[&str] = &[
    "python",
    "python-malloc",
    "compile",
    "sqlite",
    "tokio",
    "redis",
];
/// Where the tenants' row without its scopes is kept.
pub const NET: &str = "tenants less scope";

/// The hits with the scopes of the tenants taken out.
fn hits_net() -> Vec<&'static str> {
    HITS.iter()
        .map(|&row| if row == "tenants" { NET } else { row })
        .collect()
}

/// Writes both tables.
pub fn write(report: &Report, out: &mut String, markdown: bool) {
    means(report, out, markdown);
    targets(report, out, markdown);
}

fn means(report: &Report, out: &mut String, markdown: bool) {
    let net = hits_net();
    let kinds: [(&str, &[&str], Unit); 11] = [
        ("pairs", PAIRS, Cpu),
        ("batches", BATCHES, Cpu),
        ("handoffs", HANDOFFS, Cpu),
        ("hits, scopes included", HITS, Cpu),
        ("hits, scopes apart", &net, Cpu),
        ("shapes", SHAPES, Cpu),
        ("shapes, peak RSS", SHAPES, Peak),
        ("classics", CLASSICS, Cpu),
        ("classics, peak RSS", CLASSICS, Peak),
        ("programs", PROGRAMS, Cpu),
        ("programs, peak RSS", PROGRAMS, Peak),
    ];
    for baseline in ["mimalloc3", "jemalloc", "glibc"] {
        let mut rows = vec![vec![String::new()]];
        let peers: Vec<&str> = IMAGES.iter().map(|peer| peer.name).collect();
        rows[0].extend(peers.iter().map(|peer| short(peer).to_owned()));
        for (name, of, unit) in kinds {
            let cells: Vec<Option<f64>> = peers
                .iter()
                .map(|peer| over(report.samples, of, peer, baseline, unit))
                .collect();
            if cells.iter().any(Option::is_some) {
                let mut row = vec![name.to_owned()];
                row.extend(
                    cells
                        .iter()
                        .map(|cell| cell.map_or("-".to_owned(), |n| format!("{n:.2}"))),
                );
                rows.push(row);
            }
        }
        if rows.len() > 1 && (markdown || baseline == "mimalloc3") {
            lay_out(
                out,
                markdown,
                &format!("Geometric means of ratios to {baseline}"),
                &rows,
            );
        }
    }
}

/// The mean over those of the rows that were run.
fn over(samples: &Samples, rows: &[&str], peer: &str, baseline: &str, unit: Unit) -> Option<f64> {
    let run: Vec<&str> = rows
        .iter()
        .copied()
        .filter(|row| samples.spread(row, baseline, unit).is_some())
        .collect();
    samples.geomean(&run, peer, baseline, unit)
}

fn targets(report: &Report, out: &mut String, markdown: bool) {
    let s = report.samples;
    let net = hits_net();
    let work: Vec<&'static str> = SHAPES
        .iter()
        .chain(CLASSICS)
        .chain(PROGRAMS)
        .copied()
        .collect();
    let mean = |rows: &[&str], peer, baseline, unit| over(s, rows, peer, baseline, unit);
    let worst = |rows: &[&'static str], baseline| {
        let ratios = rows
            .iter()
            .filter_map(|row| Some((s.ratio(row, "memcg", baseline, Cpu)?.median, *row)));
        ratios.max_by(|a, b| a.0.total_cmp(&b.0))
    };
    let median = |row: &str, unit| s.spread(row, "memcg", unit).map(|spread| spread.median);
    let ratio = |row, baseline, unit| {
        s.ratio(row, "memcg", baseline, unit)
            .map(|spread| spread.median)
    };
    let kb = |row: &str| median(row, Cpu);
    #[rustfmt::skip]
    let list: Vec<(String, f64, Option<f64>)> = vec![
        ("hits / mimalloc3, scopes included".into(), 1.10, mean(HITS, "memcg", "mimalloc3", Cpu)),
        ("hits / mimalloc3, scopes apart".into(), 1.10, mean(&net, "memcg", "mimalloc3", Cpu)),
        (named("worst hit / jemalloc", worst(HITS, "jemalloc")), 1.0, worst(HITS, "jemalloc").map(|w| w.0)),
        (named("worst hit / glibc", worst(HITS, "glibc")), 1.0, worst(HITS, "glibc").map(|w| w.0)),
        ("accounting off: hits / mimalloc3".into(), 1.05, mean(HITS, "memcg-off", "mimalloc3", Cpu)),
        ("shapes, classics and programs / mimalloc3".into(), 1.05, mean(&work, "memcg", "mimalloc3", Cpu)),
        (named("worst of them / mimalloc3", worst(&work, "mimalloc3")), 1.3, worst(&work, "mimalloc3").map(|w| w.0)),
        (named("worst of them / glibc", worst(&work, "glibc")), 1.0, worst(&work, "glibc").map(|w| w.0)),
        ("their peak RSS / jemalloc".into(), 1.10, mean(&work, "memcg", "jemalloc", Peak)),
        ("their peak RSS / glibc".into(), 1.25, mean(&work, "memcg", "glibc", Peak)),
        ("on / off, programs".into(), 1.03, mean(PROGRAMS, "memcg", "memcg-off", Cpu)),
        ("on / off, hits".into(), 1.10, mean(HITS, "memcg", "memcg-off", Cpu)),
        ("on / off, 10^6 retained".into(), 1.15, ratio("retain", "memcg-off", Cpu)),
        ("10^6 retained, RSS / 64 B".into(), 1.15, median("retain", Bytes).map(|n| n / 64.0)),
        ("handoff-64 / snmalloc".into(), 1.5, ratio("handoff-64", "snmalloc", Cpu)),
        ("handoff-64 / glibc".into(), 0.25, ratio("handoff-64", "glibc", Cpu)),
        ("charge and uncharge, one tenant, ns".into(), 2.5, kb("charge-1")),
        ("the same, 8 in turn, scopes included (2.5 + 2), ns".into(), 4.5, kb("charge-8")),
        ("enter and leave, ns".into(), 2.0, kb("scope")),
        ("a future in a scope / by hand".into(), 2.0, kb("future-scope").zip(kb("future-by-hand")).map(|(a, b)| a / b)),
        ("a future as a task, ns".into(), 400.0, kb("future-task")),
        ("the same, waiting, ns".into(), 400.0, kb("future-task-waits")),
        ("a pool, from stock, ns".into(), 15.0, kb("pool")),
        ("a pool, above stock, ns".into(), 40.0, kb("pool-above-stock")),
        ("a tenant at twice its max / below".into(), 1.3, median("over", Ratio)),
        ("its neighbour meanwhile".into(), 1.02, median("over-neighbour", Ratio)),
        ("refusal, ns".into(), 200.0, kb("refuse")),
        ("refusal in a storm, ns".into(), 200.0, kb("refuse-storm")),
        ("memory.current as text, ns".into(), 1000.0, kb("read-current")),
        ("memory.stat as text, ns".into(), 3000.0, kb("read-stat")),
        ("create and remove, all CPU, ns".into(), 1000.0, kb("create-remove")),
        ("a group of 10^6, B".into(), 512.0, median("groups-rss", Bytes)),
        ("remove with 10^6 objects, ns".into(), 5000.0, median("remove-1e6", Wall)),
        ("remove-busy, most, ns".into(), 5000.0, median("remove-busy", Value)),
        ("remove-load, all CPU, ns".into(), 5000.0, median("remove-load", Value)),
        ("move of 10^7 objects, p99, ns".into(), 3000.0, median("move-1e7", Value)),
        ("move-busy, p99, ns".into(), 10_000.0, median("move-busy", Value)),
        ("move-load, all CPU, ns".into(), 10_000.0, median("move-load", Value)),
    ];
    let mut rows = vec![["", "target", "now", ""].map(str::to_owned).to_vec()];
    for (name, target, now) in list {
        let Some(now) = now else { continue };
        let verdict = if now <= target { "holds" } else { "misses" };
        rows.push(vec![name, number(target), number(now), verdict.to_owned()]);
    }
    if rows.len() > 1 {
        lay_out(out, markdown, "Targets of memcg", &rows);
    }
}

fn named(what: &str, worst: Option<(f64, &str)>) -> String {
    worst.map_or_else(|| what.to_owned(), |(_, row)| format!("{what} ({row})"))
}

fn number(n: f64) -> String {
    if n < 100.0 {
        format!("{n:.2}")
    } else {
        format!("{n:.0}")
    }
}
