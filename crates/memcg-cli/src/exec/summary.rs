//! What `memcg exec` says once the program has ended: the final table, the coverage, and what an
//! operator would not notice without a line of its own.
//!
//! Invariants: with neither `--top` nor `--set` nothing is said. Every warning is one line.
//! Depends on: snapshot, options, rules.
//! Never: changes the exit status.

use super::options::Options;
use super::rules::Setting;
use crate::client::escape::printable;
use crate::output::note;
use crate::snapshot::{Group, LOW_COVERAGE, Snapshot, table, uncovered};
use crate::terminal;
use std::io::{self, Write};

/// Says all there is to say. `started` is how many processes the program started under the engine.
pub fn show(snapshot: &Snapshot, started: usize, options: &Options) {
    if options.top.is_some() {
        print_table(snapshot);
        if started > 0 {
            note(&table::not_shown(&snapshot.comm, started));
        }
    }
    for line in never_entered(snapshot, started, &options.settings) {
        note(&line);
    }
}

fn print_table(snapshot: &Snapshot) {
    let lines = table::at_the_end(snapshot);
    let stderr = io::stderr();
    let text = terminal::text(&lines, terminal::colour(&stderr));
    let _ = stderr.lock().write_all(text.as_bytes());
    note(&table::coverage(snapshot));
    if snapshot.accounting != "on" {
        note(&format!(
            "warning: accounting was {} at the end: the numbers are incomplete",
            snapshot.accounting
        ));
    }
    if snapshot.coverage < LOW_COVERAGE {
        let reason = uncovered::reason(snapshot);
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        note(&format!("warning: coverage is below 70 %{reason}"));
    }
}

/// A line for each group of a `--set` that no thread ever entered: it may be misspelt.
fn never_entered(snapshot: &Snapshot, started: usize, settings: &[Setting]) -> Vec<String> {
    let is_idle = |group: &&Group| {
        group.path != b"/"
            && group.peak == Some(0)
            && group.tasks == Some(0)
            && group.events.is_empty()
    };
    let mut paths: Vec<&[u8]> = settings.iter().map(Setting::path).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
        .into_iter()
        .filter_map(|path| snapshot.groups.iter().find(|group| group.path == path))
        .filter(is_idle)
        .map(|group| {
            let path = printable(&group.path);
            let meant = nearest(&group.path, snapshot);
            let meant = meant.map_or_else(String::new, |near| {
                format!(": did you mean {}?", printable(near))
            });
            match started {
                0 => format!("--set {path}: no thread ever entered this group{meant}"),
                n => format!(
                    "--set {path}: no thread of {} ever entered this group{meant} (each of the {} it started has \
                     a group {path} of its own)",
                    snapshot.comm,
                    table::processes(n)
                ),
            }
        })
        .collect()
}

/// The group that threads did enter whose path is nearest.
fn nearest<'a>(path: &[u8], snapshot: &'a Snapshot) -> Option<&'a [u8]> {
    let text = String::from_utf8_lossy(path);
    let near = |group: &&Group| group.peak.is_some_and(|peak| peak > 0) && group.path != b"/";
    let slips = |group: &Group| strsim::osa_distance(&text, &String::from_utf8_lossy(&group.path));
    let best = snapshot
        .groups
        .iter()
        .filter(near)
        .min_by_key(|g| slips(g))?;
    // As many slips as in a third of the name are another name.
    (slips(best) * 3 <= text.chars().count()).then_some(best.path.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot;
    use std::ffi::OsStr;

    const TEXT: &str = "\
pid=42 comm=sh uptime_ms=1500 rss=2097152 charged=1048576 coverage=50.0 accounting=on
path\tcurrent\tpeak\ttasks\tev_max
/\t1\t1\t0\t0
/tenants\t1\t1\t0\t0
/tenant\t0\t0\t0\t0
/full\t0\t0\t0\t3
/waits\t0\t0\t1\t0
/nosuch\t0\t0\t0\t0
";

    fn said(started: usize, settings: &[&str]) -> Vec<String> {
        let snapshot = snapshot::parse(TEXT).expect("a snapshot");
        let parse = |text: &&str| Setting::parse(OsStr::new(text)).expect("a setting");
        let settings: Vec<Setting> = settings.iter().map(parse).collect();
        never_entered(&snapshot, started, &settings)
    }

    #[test]
    fn a_group_of_a_set_that_nobody_entered_is_said_once() {
        let lines = said(0, &["/nosuch/memory.max=1M", "/nosuch/memory.high=1M"]);
        assert_eq!(lines, ["--set /nosuch: no thread ever entered this group"]);
        assert_eq!(
            said(0, &["/tenant/memory.max=1M"]),
            ["--set /tenant: no thread ever entered this group: did you mean /tenants?"]
        );
    }

    #[test]
    fn a_group_that_was_used_or_refused_or_waits_is_no_mistake() {
        for setting in [
            "/memory.max=1M",
            "/tenants/memory.max=1M",
            "/full/memory.max=0",
            "/waits/memory.max=1M",
            "/removed/memory.max=1M",
        ] {
            assert_eq!(said(0, &[setting]), Vec::<String>::new(), "{setting}");
        }
    }

    #[test]
    fn processes_that_were_started_may_have_entered_theirs() {
        let lines = said(3, &["/nosuch/memory.max=1M"]);
        assert!(
            lines[0].contains("no thread of sh ever") && lines[0].contains("the 3 processes"),
            "{lines:?}"
        );
        assert!(table::not_shown("sh", 1).starts_with("not shown: 1 process that sh started"));
    }
}
