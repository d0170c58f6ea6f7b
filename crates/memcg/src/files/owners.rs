//! The ledger: whose bytes a group inherited, since when.

use super::table::At;
use super::text::{path_of_name, put};
use crate::group::objcg::State;
use crate::group::stat::OwnerLine;

/// The first line of `memory.owners`.
const HEADER: &str = "ORIGIN\tSTATE\tENDED\tHELD\tHEAP\tMAPPED\tRESERVED\tID\n";

/// One line an owner whose task or group has ended and that holds bytes in this very group; the largest first.
pub(super) fn owners(at: &At<'_>, out: &mut String) {
    let mut lines = Vec::new();
    each_inherited(at, |line| lines.push(line));
    lines.sort_by(|a, b| b.held.cmp(&a.held).then(a.ended_at.cmp(&b.ended_at)));
    out.push_str(HEADER);
    for line in lines {
        let state = match line.state {
            State::DeadTask => "ended-task",
            _ => "removed-group",
        };
        let id = match line.id {
            0 => "-".to_owned(),
            id => id.to_string(),
        };
        let mapped = line.mapped.min(line.held);
        let reserved = line.reserved.min(line.held - mapped);
        put(
            out,
            format_args!(
                "{}\t{state}\t{}\t{}\t{}\t{mapped}\t{reserved}\t{id}\n",
                path_of_name(at.engine, line.name),
                rfc3339(line.ended_at / 1_000_000_000),
                line.held,
                line.held - mapped - reserved,
            ),
        );
    }
}

/// Bytes and owners of the ledger of this very group. O(owners).
pub(super) fn inherited_here(at: &At<'_>) -> (u64, u64) {
    let (mut bytes, mut owners) = (0, 0);
    each_inherited(at, |line| {
        bytes += line.held;
        owners += 1;
    });
    (bytes, owners)
}

fn each_inherited(at: &At<'_>, mut each: impl FnMut(OwnerLine)) {
    let here = at.group.index();
    at.engine.tree.each_owner(|line| {
        let dead = matches!(line.state, State::DeadTask | State::DeadGroup);
        if dead && line.group == here && line.held > 0 {
            each(line);
        }
    });
}

/// Seconds since 1970 as `2026-11-21T07:56:44Z`.
fn rfc3339(seconds: u64) -> String {
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(day);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day of a day since 1970, by eras of 400 years that begin in March (Hinnant, chrono-compatible
/// low-level date algorithms).
fn civil(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (
        era * 400 + year + u64::from(month <= 2),
        month,
        of_year - (153 * from_march + 2) / 5 + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;
    use crate::group::Kind;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_799, "2024-02-28T23:59:59Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    /// The ledger without header and times.
    fn ledger(bench: &Bench, path: &str) -> Vec<String> {
        let text = bench.text(path, "memory.owners");
        let body = text.strip_prefix(HEADER).unwrap();
        body.lines()
            .map(|line| {
                let mut cells: Vec<&str> = line.split('\t').collect();
                assert!(
                    cells[2].starts_with("20") && cells[2].ends_with('Z'),
                    "{line}"
                );
                cells.remove(2);
                cells.join(" ")
            })
            .collect()
    }

    #[test]
    fn a_removed_groups_bytes_are_a_line_until_the_last_goes() {
        let bench = Bench::new();
        bench.mkdir("/a");
        bench.mkdir("/a/b");
        let tag = bench.group("/a/b").tag();
        assert!(bench.charge(tag, 4096, Kind::Mapped));
        assert!(bench.charge(tag, 1000, Kind::Heap));
        assert!(ledger(&bench, "/a").is_empty());
        bench.rmdir("/a/b").unwrap();
        assert_eq!(
            ledger(&bench, "/a"),
            ["/a/b removed-group 5096 1000 4096 0 -"]
        );
        assert!(ledger(&bench, "/").is_empty());
        assert_eq!(bench.value("/a", "memory.stat", "inherited_bytes"), 5096);
        assert_eq!(bench.value("/a", "memory.stat", "inherited_owners"), 1);
        assert_eq!(bench.value("/a", "memory.events", "inherited"), 1);
        // Its parent's end hands the line on.
        bench.rmdir("/a").unwrap();
        assert_eq!(
            ledger(&bench, "/"),
            ["/a/b removed-group 5096 1000 4096 0 -"]
        );
        bench.uncharge(tag, 4096, Kind::Mapped);
        assert_eq!(ledger(&bench, "/"), ["/a/b removed-group 1000 1000 0 0 -"]);
        bench.uncharge(tag, 1000, Kind::Heap);
        assert!(ledger(&bench, "/").is_empty());
    }

    #[test]
    fn an_ended_task_is_a_line_under_its_name_and_the_largest_comes_first() {
        let bench = Bench::new();
        bench.mkdir("/a");
        bench.mkdir("/b");
        let small = bench.task("/a", "sm\tall", 7);
        let large = bench.task("/b", "large", 8);
        assert!(bench.charge(small, 64, Kind::Reserved));
        assert!(bench.charge(large, 1 << 20, Kind::Reserved));
        bench.move_task(large, "/a");
        assert!(ledger(&bench, "/a").is_empty());
        bench.end(small);
        bench.end(large);
        assert_eq!(
            ledger(&bench, "/a"),
            [
                "/a/large ended-task 1048576 0 0 1048576 8",
                "/a/sm\\011all ended-task 64 0 0 64 7"
            ]
        );
    }
}
