//! The groups in the order a tree is read.

use super::groups::Group;
use crate::client::escape::printable;
use std::collections::HashMap;

/// A group's place in the tree.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// Its index in the snapshot.
    pub index: usize,
    /// How far it is indented.
    pub depth: usize,
}

/// Which groups stand below which, by their indices in the snapshot.
#[derive(Debug, Default)]
pub struct Tree {
    /// Those at the left edge: the root, and groups whose parent is not in the snapshot.
    pub tops: Vec<usize>,
    /// The children of each group. A child's index is above its parent's.
    pub children: Vec<Vec<usize>>,
}

impl Tree {
    /// Siblings in the order they came.
    ///
    /// The engine promises parents before children, which breadth first keeps too, so the tree is
    /// made here.
    pub fn new(groups: &[Group]) -> Tree {
        let index: HashMap<&[u8], usize> = groups
            .iter()
            .enumerate()
            .map(|(i, g)| (g.path.as_slice(), i))
            .collect();
        let mut tops = Vec::new();
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
        for (i, group) in groups.iter().enumerate() {
            match parent(&group.path).and_then(|p| index.get(p)) {
                Some(&parent) if parent < i => children[parent].push(i),
                _ => tops.push(i),
            }
        }
        Tree { tops, children }
    }

    /// Each group right below its parent, without what is below a group for which `closed` holds.
    pub fn walk(&self, closed: impl Fn(usize) -> bool) -> Vec<Place> {
        let mut places = Vec::with_capacity(self.children.len());
        let place = |depth| move |&index: &usize| Place { index, depth };
        let mut open: Vec<Place> = self.tops.iter().rev().map(place(0)).collect();
        while let Some(next) = open.pop() {
            if !closed(next.index) {
                let below = self.children[next.index].iter().rev();
                open.extend(below.map(place(next.depth + 1)));
            }
            places.push(next);
        }
        places
    }
}

/// All groups, each right below its parent, siblings in the order they came.
pub fn order(groups: &[Group]) -> Vec<Place> {
    Tree::new(groups).walk(|_| false)
}

/// The name to show: a group at the left edge is the root, or one whose parent is not shown, and
/// its whole path says which.
pub fn shown_name(group: &Group, depth: usize) -> String {
    printable(match depth {
        0 => &group.path,
        _ => name(&group.path),
    })
}

/// The last component of a path; the root's is `/`.
pub fn name(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) if slash + 1 < path.len() => &path[slash + 1..],
        _ => path,
    }
}

/// The path of the group above; none above the root.
pub fn parent(path: &[u8]) -> Option<&[u8]> {
    match path.iter().rposition(|b| *b == b'/')? {
        0 if path.len() == 1 => None,
        0 => Some(b"/"),
        slash => Some(&path[..slash]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(paths: &[&str]) -> Vec<Group> {
        let head =
            "pid=1 comm=x uptime_ms=1 rss=1 charged=1 coverage=1.0 accounting=on\npath\tcurrent\n";
        let rows: String = paths.iter().map(|p| format!("{p}\t1\n")).collect();
        super::super::parse::parse(&(head.to_owned() + &rows))
            .expect("a snapshot")
            .groups
    }

    fn drawn(paths: &[&str]) -> Vec<(usize, String)> {
        let groups = groups(paths);
        order(&groups)
            .iter()
            .map(|p| {
                (
                    p.depth,
                    String::from_utf8_lossy(name(&groups[p.index].path)).into_owned(),
                )
            })
            .collect()
    }

    #[test]
    fn children_stand_below_their_parent_even_if_they_came_breadth_first() {
        let tree = drawn(&["/", "/b", "/a", "/b/x", "/a/y"]);
        let names: Vec<(usize, &str)> = tree.iter().map(|(d, n)| (*d, n.as_str())).collect();
        assert_eq!(names, [(0, "/"), (1, "b"), (2, "x"), (1, "a"), (2, "y")]);
    }

    #[test]
    fn no_group_is_lost_without_its_parent() {
        assert_eq!(drawn(&["/a/b", "/c"]).len(), 2);
        assert_eq!(drawn(&["/a/b", "/a"]).len(), 2);
    }
}
