//! A snapshot for people: the tree of groups in aligned columns, and a footer about the whole
//! process.

use super::groups::{Cell, Group, Snapshot};
use super::rates::Rates;
use super::tree;
use crate::client::escape::printable;
use crate::size::{human, human_rate, human_time};
use crate::table::{Align, Table};
use crate::terminal::{Line, Tone};

/// The picture: a header, a line for each group, a footer. Rates are those since `before`.
pub fn lines(now: &Snapshot, before: Option<&Snapshot>) -> Vec<Line> {
    let rates = Rates::new(now, before);
    let order = tree::order(&now.groups);
    let mut table = Table::new([
        ("GROUP", Align::Left),
        ("CURRENT", Align::Right),
        ("PEAK", Align::Right),
        ("MAX", Align::Right),
        ("HIGH", Align::Right),
        ("TASKS", Align::Right),
        ("INHERITED", Align::Right),
        ("RATE", Align::Right),
        ("EVENTS", Align::Left),
    ]);
    for place in &order {
        table.push(row(&now.groups[place.index], place.depth, &rates));
    }
    let tones = [Tone::Head]
        .into_iter()
        .chain(order.iter().map(|place| tone(&now.groups[place.index])));
    let mut lines: Vec<Line> = table
        .lines()
        .into_iter()
        .zip(tones)
        .map(|(text, tone)| Line { text, tone })
        .collect();
    lines.push(Line::plain(footer(now)));
    lines
}

/// The picture of a process that has ended: what it was, a header, a line for each group, no
/// footer. The peaks come first: most of what groups held is freed by then.
pub fn at_the_end(last: &Snapshot) -> Vec<Line> {
    let order = tree::order(&last.groups);
    let mut table = Table::new([
        ("GROUP", Align::Left),
        ("PEAK", Align::Right),
        ("CURRENT", Align::Right),
        ("MAX", Align::Right),
        ("HIGH", Align::Right),
        ("TASKS", Align::Right),
        ("INHERITED", Align::Right),
        ("EVENTS", Align::Left),
    ]);
    for place in &order {
        let group = &last.groups[place.index];
        table.push(vec![
            indented(group, place.depth),
            size(group.peak),
            human(group.current),
            limit(group.max.as_ref()),
            limit(group.high.as_ref()),
            group.tasks.map_or_else(dash, |n| n.to_string()),
            size(group.inherited),
            events(group).unwrap_or_else(dash),
        ]);
    }
    let title = format!(
        "{} at the end, after {}: PEAK is the most that a group ever held",
        last.comm,
        human_time(last.uptime_ms)
    );
    let tones = [Tone::Head]
        .into_iter()
        .chain(std::iter::repeat(Tone::Plain));
    let lines = table.lines().into_iter().zip(tones);
    let lines = lines.map(|(text, tone)| Line { text, tone });
    [Line::plain(title)].into_iter().chain(lines).collect()
}

/// `coverage 83.1 % (charged 12.3M of 14.8M RSS)`
pub fn coverage(snapshot: &Snapshot) -> String {
    let (charged, rss) = (human(snapshot.charged), human(snapshot.rss));
    let more = match snapshot.coverage > 100.0 {
        true => ": more was asked for than touched",
        false => "",
    };
    format!(
        "coverage {:.1} % (charged {charged} of {rss} RSS{more})",
        snapshot.coverage
    )
}

/// The line about processes that are under the engine as well and whose groups are not in the
/// picture.
pub fn not_shown(comm: &str, started: usize) -> String {
    format!(
        "not shown: {} that {comm} started: each has groups of its own, and a copy of every limit",
        processes(started)
    )
}

/// `1 process`, `3 processes`.
pub fn processes(count: usize) -> String {
    match count {
        1 => String::from("1 process"),
        count => format!("{count} processes"),
    }
}

fn footer(snapshot: &Snapshot) -> String {
    format!(
        "coverage {:.1} %   charged {}   rss {}   accounting {}",
        snapshot.coverage,
        human(snapshot.charged),
        human(snapshot.rss),
        snapshot.accounting
    )
}

fn row(group: &Group, depth: usize, rates: &Rates) -> Vec<String> {
    vec![
        indented(group, depth),
        human(group.current),
        size(group.peak),
        limit(group.max.as_ref()),
        limit(group.high.as_ref()),
        group.tasks.map_or_else(dash, |n| n.to_string()),
        size(group.inherited),
        rates.of(group).map_or_else(dash, human_rate),
        events(group).unwrap_or_else(dash),
    ]
}

fn indented(group: &Group, depth: usize) -> String {
    format!("{}{}", "  ".repeat(depth), tree::shown_name(group, depth))
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(dash, human)
}

/// A limit: a size, `max`, or a dash where the engine has none.
pub fn limit(cell: Option<&Cell>) -> String {
    match cell {
        Some(Cell::Number(bytes)) => human(*bytes),
        Some(Cell::Max) => "max".to_owned(),
        Some(Cell::Text(text)) => printable(text.as_bytes()),
        None => dash(),
    }
}

/// The events that happened, `high:1 max:3`.
pub fn events(group: &Group) -> Option<String> {
    let events: Vec<String> = group
        .events
        .iter()
        .map(|(name, count)| format!("{name}:{count}"))
        .collect();
    (!events.is_empty()).then(|| events.join(" "))
}

/// A group that has used nine tenths of what it may is worth a look.
fn tone(group: &Group) -> Tone {
    match group.used() {
        Some(part) if part >= 0.9 => Tone::Warm,
        _ => Tone::Plain,
    }
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::parse::{parse, tests::TEXT};
    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn the_first_table_is_a_tree_without_rates() {
        let snapshot = parse(TEXT).expect("a snapshot");
        assert_eq!(
            texts(&lines(&snapshot, None)),
            [
                "GROUP  CURRENT  PEAK    MAX  HIGH  TASKS  INHERITED  RATE  EVENTS",
                "/         1.0M  2.0M    max   max      1          0     -  -",
                "  b c     4.0K  8.0K  16.0K   max      2        512     -  high:1 max:3",
                "coverage 50.0 %   charged 1.0M   rss 2.0M   accounting on",
            ]
        );
    }

    #[test]
    fn rates_are_changes_in_a_second_of_the_engines_clock() {
        let before = parse(TEXT).expect("a snapshot");
        let later = TEXT
            .replace("uptime_ms=1500", "uptime_ms=2000")
            .replace("\t4096\t", "\t2048\t");
        let now = parse(&later).expect("a snapshot");
        let lines = lines(&now, Some(&before));
        assert!(lines[1].text.contains(" 0/s "), "{:?}", lines[1]);
        assert!(lines[2].text.contains(" -4.0K/s "), "{:?}", lines[2]);
    }

    #[test]
    fn a_group_near_its_limit_stands_out() {
        let snapshot = parse(&TEXT.replace("\t4096\t", "\t15000\t")).expect("a snapshot");
        let lines = lines(&snapshot, None);
        assert_eq!(
            (lines[0].tone, lines[1].tone, lines[2].tone),
            (Tone::Head, Tone::Plain, Tone::Warm)
        );
    }

    #[test]
    fn at_the_end_peaks_come_first() {
        let snapshot = parse(TEXT).expect("a snapshot");
        assert_eq!(
            texts(&at_the_end(&snapshot)),
            [
                "my app at the end, after 1.5 s: PEAK is the most that a group ever held",
                "GROUP  PEAK  CURRENT    MAX  HIGH  TASKS  INHERITED  EVENTS",
                "/      2.0M     1.0M    max   max      1          0  -",
                "  b c  8.0K     4.0K  16.0K   max      2        512  high:1 max:3",
            ]
        );
    }

    #[test]
    fn coverage_is_one_line() {
        let snapshot = parse(TEXT).expect("a snapshot");
        assert_eq!(
            coverage(&snapshot),
            "coverage 50.0 % (charged 1.0M of 2.0M RSS)"
        );
        let text = TEXT.replace("coverage=50.0", "coverage=137.4");
        let more = coverage(&parse(&text).expect("a snapshot"));
        assert!(more.ends_with("RSS: more was asked for than touched)"));
    }
}
