//! The state of the view. Nothing here draws or waits; what keys do to it is in [`super::keys`].

use super::message::Order;
use super::owners::Owners;
use super::rows::{self, Row, Sort};
use crate::snapshot::Snapshot;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use unicode_width::UnicodeWidthStr;

/// What lies over the tree.
#[derive(Debug)]
pub enum Over {
    Nothing,
    Help,
    Owners(Owners),
}

/// The state.
#[derive(Debug)]
pub struct Model {
    /// The process.
    pub pid: u32,
    /// The groups as seen last.
    pub now: Option<Snapshot>,
    /// How many processes this one started that are not shown.
    pub started: usize,
    /// What is shown of the groups.
    pub rows: Vec<Row>,
    /// How wide their names are: the same for all, so that columns stand still while the user
    /// moves.
    pub widest: usize,
    /// The row the user is at.
    pub cursor: usize,
    /// The first row on the screen, and how many have room there: kept by the picture.
    pub top: usize,
    /// See `top`.
    pub page: usize,
    /// What siblings are sorted by.
    pub sort: Sort,
    /// The other way round.
    pub reversed: bool,
    /// The picture stands still.
    pub paused: bool,
    /// How often to look.
    pub interval: Duration,
    /// What lies over the tree.
    pub over: Over,
    /// When something was seen last, or first asked for.
    heard: Instant,
    /// The connection is lost.
    pub lost: bool,
    before: Option<Snapshot>,
    folded: HashSet<Vec<u8>>,
    /// The path of the group the user is at; empty if there is none.
    at: Vec<u8>,
}

impl Model {
    /// Nothing was seen yet.
    pub fn new(pid: u32, interval: Duration) -> Model {
        Model {
            pid,
            now: None,
            started: 0,
            rows: Vec::new(),
            widest: 0,
            cursor: 0,
            top: 0,
            page: 1,
            sort: Sort::Current,
            reversed: false,
            paused: false,
            interval,
            over: Over::Nothing,
            heard: Instant::now(),
            lost: false,
            before: None,
            folded: HashSet::new(),
            at: Vec::new(),
        }
    }

    /// What the feed is to do.
    pub fn order(&self) -> Order {
        let owners = match &self.over {
            Over::Owners(owners) => Some(owners.path.clone()),
            Over::Nothing | Over::Help => None,
        };
        Order {
            interval: self.interval,
            paused: self.paused,
            owners,
        }
    }

    /// The process's name, as far as it is known.
    pub fn comm(&self) -> &str {
        self.now.as_ref().map_or("?", |now| now.comm.as_str())
    }

    /// The groups now.
    pub fn see(&mut self, snapshot: Snapshot) {
        self.heard = Instant::now();
        self.lost = false;
        // One that was under way when the user said pause comes too late.
        if self.paused && self.now.is_some() {
            return;
        }
        self.before = self.now.replace(snapshot);
        self.arrange();
    }

    /// The owners of a group; too late if another one is looked at.
    pub fn see_owners(&mut self, path: &[u8], answer: Result<String, String>) {
        self.heard = Instant::now();
        self.lost = false;
        if let Over::Owners(owners) = &mut self.over
            && owners.path == path
        {
            owners.fill(answer);
        }
    }

    /// The connection was lost.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// How long nothing was heard, if that is longer than it should be.
    pub fn silence(&self) -> Option<Duration> {
        let silence = self.heard.elapsed();
        let late = self.interval + Duration::from_secs(2);
        (!self.paused && silence > late).then_some(silence)
    }

    /// The path of the group the user is at.
    pub fn selected(&self) -> &[u8] {
        &self.at
    }

    /// Goes to that row, or as near as there is one.
    pub fn go_to(&mut self, row: usize) {
        self.cursor = row.min(self.rows.len().saturating_sub(1));
        let row = self.rows.get(self.cursor);
        let group = row
            .zip(self.now.as_ref())
            .map(|(r, now)| &now.groups[r.index]);
        self.at = group.map_or_else(Vec::new, |group| group.path.clone());
    }

    /// Folds the group the user is at, or unfolds it.
    pub fn fold(&mut self, folded: bool) {
        let changed = match folded {
            true => self.folded.insert(self.at.clone()),
            false => self.folded.remove(&self.at),
        };
        if changed {
            self.arrange();
        }
    }

    /// Makes the rows anew; the user stays at the same group, or at the same line if it is gone.
    pub fn arrange(&mut self) {
        let Some(now) = &self.now else { return };
        let before = self.before.as_ref();
        self.rows = rows::rows(now, before, &self.folded, self.sort, self.reversed);
        let names = self
            .rows
            .iter()
            .map(|row| row.label(&now.groups[row.index]));
        self.widest = names.map(|name| name.width()).max().unwrap_or(0);
        let path = |row: &Row| &now.groups[row.index].path;
        let same = self.rows.iter().position(|row| *path(row) == self.at);
        self.go_to(same.unwrap_or(self.cursor));
    }

    /// The row above that the row at `row` stands below.
    pub fn parent_of(&self, row: usize) -> Option<usize> {
        let depth = self.rows.get(row)?.depth;
        self.rows[..row].iter().rposition(|r| r.depth < depth)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::snapshot;
    use super::*;

    pub fn model(groups: &[(&str, u64)]) -> Model {
        let mut model = Model::new(1, Duration::from_secs(1));
        model.see(snapshot(1000, groups));
        model
    }

    #[test]
    fn the_user_stays_at_a_group_that_moves_and_at_a_line_whose_group_is_gone() {
        let mut model = model(&[("/", 9), ("/a", 5), ("/b", 3), ("/c", 1)]);
        model.go_to(2);
        assert_eq!(model.selected(), b"/b");
        model.see(snapshot(2000, &[("/", 9), ("/a", 5), ("/b", 7), ("/c", 1)]));
        assert_eq!((model.cursor, model.selected()), (1, &b"/b"[..]));
        model.see(snapshot(3000, &[("/", 9), ("/a", 5), ("/c", 1)]));
        assert_eq!((model.cursor, model.selected()), (1, &b"/a"[..]));
        model.see(snapshot(4000, &[("/", 9)]));
        assert_eq!((model.cursor, model.selected()), (0, &b"/"[..]));
        model.see(snapshot(5000, &[]));
        assert_eq!((model.cursor, model.selected()), (0, &b""[..]));
    }

    #[test]
    fn a_paused_picture_stands_still() {
        let mut model = Model::new(1, Duration::from_secs(1));
        model.paused = true;
        // There is nothing to stand still yet.
        model.see(snapshot(1000, &[("/", 9)]));
        model.see(snapshot(2000, &[("/", 9), ("/a", 5)]));
        assert_eq!(model.rows.len(), 1);
        model.paused = false;
        model.see(snapshot(3000, &[("/", 9), ("/a", 5)]));
        assert_eq!(model.rows.len(), 2);
    }

    #[test]
    fn owners_that_come_too_late_are_not_shown_for_another_group() {
        let mut model = model(&[("/", 9), ("/a", 5)]);
        model.over = Over::Owners(Owners::new(b"/a"));
        model.see_owners(b"/", Ok("owner\tbytes\nx\t1\n".into()));
        let Over::Owners(owners) = &model.over else {
            panic!("they are shown")
        };
        assert!(owners.lines.is_none());
        assert_eq!(model.order().owners.as_deref(), Some(&b"/a"[..]));
    }
}
