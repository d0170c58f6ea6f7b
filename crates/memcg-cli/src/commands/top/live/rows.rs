//! From a snapshot to the rows of the view: the tree, sorted, without what is folded.

use crate::snapshot::rates::Rates;
use crate::snapshot::tree::{self, Tree};
use crate::snapshot::{Group, Snapshot};
use std::cmp::Ordering;
use std::collections::HashSet;

/// What siblings are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Current,
    Peak,
    Rate,
    Events,
    Name,
}

impl Sort {
    /// The next one, round and round.
    pub fn next(self) -> Sort {
        match self {
            Sort::Current => Sort::Peak,
            Sort::Peak => Sort::Rate,
            Sort::Rate => Sort::Events,
            Sort::Events => Sort::Name,
            Sort::Name => Sort::Current,
        }
    }

    /// Its word in the footer.
    pub fn word(self) -> &'static str {
        match self {
            Sort::Current => "current",
            Sort::Peak => "peak",
            Sort::Rate => "rate",
            Sort::Events => "events",
            Sort::Name => "name",
        }
    }

    /// Names from a to z, numbers from the largest down: what is wanted mostly.
    fn compare(self, a: &Item<'_>, b: &Item<'_>) -> Ordering {
        match self {
            Sort::Current => b.group.current.cmp(&a.group.current),
            Sort::Peak => b.group.peak.cmp(&a.group.peak),
            Sort::Rate => b.rate.unwrap_or(0.0).total_cmp(&a.rate.unwrap_or(0.0)),
            Sort::Events => events(b.group).cmp(&events(a.group)),
            Sort::Name => tree::name(&a.group.path).cmp(tree::name(&b.group.path)),
        }
    }
}

fn events(group: &Group) -> u64 {
    group
        .events
        .iter()
        .fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

struct Item<'a> {
    group: &'a Group,
    rate: Option<f64>,
}

/// A group on the screen.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its index in the snapshot.
    pub index: usize,
    /// How far it is indented.
    pub depth: usize,
    /// How many groups are below it, at any depth.
    pub below: usize,
    /// Whether those are hidden.
    pub folded: bool,
    /// How fast it grows, in bytes a second.
    pub rate: Option<f64>,
}

impl Row {
    /// The group's name, indented, with a mark for what is below it and how much of that is hidden.
    pub fn label(&self, group: &Group) -> String {
        let mark = match (self.below, self.folded) {
            (0, _) => "  ",
            (_, true) => "▸ ",
            (_, false) => "▾ ",
        };
        let name = tree::shown_name(group, self.depth);
        let hidden = match self.folded {
            true => format!(" +{}", self.below),
            false => String::new(),
        };
        format!("{}{mark}{name}{hidden}", "  ".repeat(self.depth))
    }
}

/// The rows of `now`; rates are those since `before`.
pub fn rows(
    now: &Snapshot,
    before: Option<&Snapshot>,
    folded: &HashSet<Vec<u8>>,
    sort: Sort,
    reversed: bool,
) -> Vec<Row> {
    let rates = Rates::new(now, before);
    let items: Vec<Item<'_>> = now
        .groups
        .iter()
        .map(|group| Item {
            group,
            rate: rates.of(group),
        })
        .collect();
    let mut tree = Tree::new(&now.groups);
    for siblings in tree.children.iter_mut().chain([&mut tree.tops]) {
        siblings.sort_by(|a, b| {
            let order = sort.compare(&items[*a], &items[*b]);
            if reversed { order.reverse() } else { order }
        });
    }
    // A child's index is above its parent's, so from the end each group is complete when it is
    // counted.
    let mut below = vec![0; now.groups.len()];
    for index in (0..below.len()).rev() {
        below[index] = tree.children[index].iter().map(|c| below[*c] + 1).sum();
    }
    let closed = |index: usize| folded.contains(&now.groups[index].path);
    tree.walk(closed)
        .into_iter()
        .map(|place| Row {
            index: place.index,
            depth: place.depth,
            below: below[place.index],
            folded: below[place.index] > 0 && closed(place.index),
            rate: items[place.index].rate,
        })
        .collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::snapshot::parse;

    /// A snapshot with these groups: path and current.
    pub fn snapshot(uptime_ms: u64, groups: &[(&str, u64)]) -> Snapshot {
        let mut text = format!(
            "pid=1 comm=x uptime_ms={uptime_ms} rss=1000 charged=500 coverage=50.0 accounting=on\npath\tcurrent\tpeak\tmax\tev_max\n"
        );
        for (path, current) in groups {
            let peak = current * 2;
            text += &format!("{path}\t{current}\t{peak}\tmax\t0\n");
        }
        parse(&text).expect("a snapshot")
    }

    const TREE: [(&str, u64); 6] = [
        ("/", 100),
        ("/a", 10),
        ("/b", 60),
        ("/c", 30),
        ("/b/x", 20),
        ("/b/y", 40),
    ];

    fn names(rows: &[Row], of: &Snapshot) -> String {
        let name = |row: &Row| String::from_utf8_lossy(tree::name(&of.groups[row.index].path));
        rows.iter().map(|r| name(r).into_owned() + " ").collect()
    }

    #[test]
    fn siblings_are_sorted_and_stay_below_their_parent() {
        let now = snapshot(1000, &TREE);
        let sorted = |sort, reversed| {
            let rows = rows(&now, None, &HashSet::new(), sort, reversed);
            names(&rows, &now)
        };
        assert_eq!(sorted(Sort::Current, false), "/ b y x c a ");
        assert_eq!(sorted(Sort::Current, true), "/ a c b x y ");
        assert_eq!(sorted(Sort::Name, false), "/ a b x y c ");
        // Equal: the engine's order.
        assert_eq!(sorted(Sort::Events, false), "/ a b x y c ");
    }

    #[test]
    fn rates_are_sorted_by_growth() {
        let before = snapshot(1000, &TREE);
        let now = snapshot(2000, &[("/", 100), ("/a", 11), ("/b", 50), ("/c", 39)]);
        let rows = rows(&now, Some(&before), &HashSet::new(), Sort::Rate, false);
        assert_eq!(names(&rows, &now), "/ c a b ");
        assert_eq!(rows[1].rate, Some(9.0));
    }

    #[test]
    fn a_folded_group_hides_what_is_below_and_says_how_much() {
        let now = snapshot(1000, &TREE);
        let fold = |path: &str| HashSet::from([path.as_bytes().to_vec()]);
        let rows_of = |path| rows(&now, None, &fold(path), Sort::Name, false);
        let folded = rows_of("/b");
        assert_eq!(names(&folded, &now), "/ a b c ");
        assert_eq!((folded[2].below, folded[2].folded), (2, true));
        assert_eq!((folded[0].below, folded[0].folded), (5, false));
        assert_eq!(rows_of("/").len(), 1);
        // Nothing is below it: it cannot be folded.
        assert!(!rows_of("/a")[1].folded);
    }
}
