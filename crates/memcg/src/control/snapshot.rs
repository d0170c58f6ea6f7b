//! All groups at one moment, as a table.
//!
//! Invariants: a table has a line for each group.
//! Depends on: the engine's tree.
//! Never: accounts what it allocates.

#![forbid(unsafe_code)]

use super::escape::escape;
use super::held::held;
use crate::engine::{Accounting, Engine};
use crate::files::{outside, rss, rss_peak};
use crate::group::events::ALL;
use crate::group::objcg::State;
use crate::group::{Event, GroupId, ROOT};
use crate::thread::ThreadRec;
use crate::units::Limit;
use core::fmt::Write;
use std::collections::HashMap;

const COLUMNS: &str = "path\tcurrent\tpeak\tmax\thigh\tlow\tmin\treserve\ttasks\tinherited\town\theap\tmapped\treserved\tslab\t\
    stocked\tev_low\tev_high\tev_max\tev_oom\tev_oom_kill\tthrottled_us\n";

#[derive(Default, Clone, Copy)]
struct Own {
    inherited: u64,
    own: u64,
}

/// The snapshot of docs/internals/protocol.md. O(groups × threads + owners).
#[must_use]
pub fn snapshot(engine: &Engine, rec: &ThreadRec) -> String {
    let now = |charged| (charged, rss());
    table(engine, rec, now)
}

/// As `snapshot`, for the end of a process, when most has been freed. Its first line has the
/// highest charge and the highest resident size of the process, each at its own time. Where the
/// engine is strict and the process is at rest, it also has what a walk of all objects finds:
/// O(objects).
#[must_use]
pub fn report(engine: &Engine, rec: &ThreadRec) -> String {
    let _free = crate::api::no_account();
    let peak = engine.tree.memcgs.get(ROOT).counter.peak();
    let mut text = table(engine, rec, |_| (peak, rss_peak()));
    if engine.options.strict()
        && let Some(found) = held(engine)
        && let Some(at) = text.find('\n')
    {
        let words = format!(
            " held={} unaccounted={} live={} wrong_owners={}",
            found.accounted, found.unaccounted, found.live, found.wrong
        );
        text.insert_str(at, &words);
    }
    text
}

fn table(engine: &Engine, rec: &ThreadRec, head: impl FnOnce(u64) -> (u64, u64)) -> String {
    let _free = crate::api::no_account();
    let _pin = engine.tree.threads.epoch.pin(rec);
    let tree = &engine.tree;
    let mut owns: HashMap<GroupId, Own> = HashMap::new();
    tree.each_owner(|line| {
        let group = owns.entry(line.group).or_default();
        match line.state {
            State::Group | State::Task => group.own += line.held,
            State::Free
            | State::DeadGroup
            | State::DeadTask
            | State::Superseded
            | State::Residual
            | State::Lost => group.inherited += line.held,
        }
    });
    let root = tree.memcgs.get(ROOT);
    let (charged, rss) = head(tree.usage(root).current);
    let accounting = match engine.accounting() {
        Accounting::On => "on",
        Accounting::Off => "off",
        Accounting::Broken => "broken",
    };
    let kmem = engine.kmem.stat();
    let outside = outside(engine, tree.usage(root).mapped);
    let mut text = format!(
        "pid={} comm={} uptime_ms={} rss={rss} charged={charged} coverage={:.1} accounting={accounting} \
         slab_live={} slab_uncollected={} slab_free={} span_cached={} \
         engine={} elsewhere={} rss_file={} rss_shared={}\n{COLUMNS}",
        std::process::id(),
        escape(&comm()),
        engine.uptime_ns() / 1_000_000,
        if rss == 0 {
            0.0
        } else {
            charged as f64 * 100.0 / rss as f64
        },
        kmem.live,
        kmem.uncollected,
        kmem.free,
        kmem.spare,
        outside.engine,
        outside.elsewhere,
        outside.file,
        outside.shared,
    );
    let mut at = Some(ROOT);
    while let Some(index) = at {
        at = tree.next_in_preorder(ROOT, index);
        let group = tree.memcgs.get(index);
        let usage = tree.usage(group);
        let own = owns.get(&index).copied().unwrap_or_default();
        let counter = &group.counter;
        let mut path = Vec::new();
        tree.with_path(group.name(), |piece| path.extend_from_slice(piece));
        let _ = write!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            escape(&path),
            usage.current,
            counter.peak(),
            Limit::bytes(counter.max()),
            Limit::bytes(counter.high()),
            Limit::bytes(counter.low()),
            Limit::bytes(counter.min()),
            counter.reserve(),
            group.nr_tasks(),
            own.inherited,
            own.own,
            usage.heap,
            usage.mapped,
            usage.reserved,
            usage.slab,
            usage.stocked,
        );
        let shown = [
            Event::Low,
            Event::High,
            Event::Max,
            Event::Oom,
            Event::OomKill,
        ];
        for (event, _) in ALL.into_iter().filter(|(event, _)| shown.contains(event)) {
            let _ = write!(text, "\t{}", group.nr_events(event, false));
        }
        let _ = writeln!(text, "\t{}", group.throttled_us());
    }
    text
}

/// The process's name.
pub(super) fn comm() -> Vec<u8> {
    std::fs::read("/proc/self/comm")
        .map(|name| name.trim_ascii_end().to_vec())
        .unwrap_or_default()
}
