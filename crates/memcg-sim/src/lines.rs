//! Lines of those who wait for room, and the door behind which others stand: what is known of
//! them, and what is held against the engine.
//!
//! The line itself is the face's (`api::line`), over the engine of the process. Here the world
//! keeps one, as that does: who came first is tried first, and nobody passes him for a second
//! (`waits`). What is held against the books is the engine's half: marks and doors, that what is
//! freed is told, and charges that are made in line.

#![forbid(unsafe_code)]

use crate::books::{Books, Css, OwnerIs};
use crate::rules::How;
use crate::stage::Stage;
use crate::standing::{Line, Wait, now};
use crate::world::World;
use memcg::testing::engine::Flags;

/// How long others stand behind the first in line who cannot be served, ns.
const PATIENCE_NS: u64 = 1_000_000_000;

impl Books {
    pub(crate) fn is_closed(&self, group: usize) -> bool {
        let line = self.groups[group].line;
        line.is_some_and(|line| now() < line.closed_until)
    }

    /// The first on an owner's way where others stand in line before who asks at the door now.
    pub(crate) fn closed_door(&self, owner: usize) -> Option<usize> {
        let chain = self.chain(self.owners[owner].group);
        chain.into_iter().find(|&g| self.is_closed(g))
    }

    /// The same for a charge: allocators do not ask at the door, and nobody who is observed is
    /// refused.
    pub(crate) fn is_kept_out(&self, owner: usize, how: How) -> Option<usize> {
        let asks = !how.is_of_allocator() && !how.flags.has(Flags::FORCE);
        let is_free = self.is_observed(self.owners[owner].group);
        self.closed_door(owner).filter(|_| asks && !is_free)
    }

    /// There may be stock at a group from now on although others stand in line: what was forced
    /// above a limit, and what goes back to where that was; what a task brought along.
    pub(crate) fn may_stock(&mut self, group: usize) {
        for g in self.chain(group) {
            self.groups[g].may_stock = true;
        }
    }

    /// Those in the line of a group, in order.
    pub(crate) fn in_line(&self, group: usize) -> impl Iterator<Item = Wait> {
        let all = self.waits.iter();
        all.filter(move |wait| wait.at == group).copied()
    }

    /// The group with another line before one who waits: he needs room there too, and others came
    /// earlier.
    pub(crate) fn stands_behind(&self, wait: Wait) -> Option<usize> {
        let is_before = |&g: &usize| {
            let is_first = self.in_line(g).next();
            g != wait.at && self.is_closed(g) && is_first.is_some_and(|w| w.number < wait.number)
        };
        let mut chain = self.chain(self.owners[wait.owner].group).into_iter();
        chain.find(is_before)
    }
}

impl Stage {
    /// In the child of a fork nobody waits.
    pub(crate) fn forget_lines(&self) {
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec.get());
        let mut books = self.books.borrow_mut();
        for wait in core::mem::take(&mut books.waits) {
            tree.unref_objcg(books.owners[wait.owner].tag);
        }
        for group in &mut books.groups {
            group.line = None;
        }
    }
}

impl World {
    /// Puts somebody who waits into the line of a group, or of the nearest above that is online.
    pub(crate) fn enter_line(&self, number: u64, full: usize) -> usize {
        let (tree, rec) = (&self.engine.tree, self.rec());
        let mut at = full;
        loop {
            let (has_line, css, parent) = {
                let known = &self.stage.books.borrow().groups[at];
                (known.line.is_some(), known.css, known.parent)
            };
            if has_line {
                break;
            }
            let group = self.stage.group(at);
            let _pin = tree.threads.epoch.pin(rec);
            let begun = self.engine.begin_line(rec, group);
            assert_eq!(begun, css == Css::Online, "a line at group {at} begins");
            if begun {
                assert_eq!(group.counter.granted(), 0, "stock where a line begins");
                self.close_door(at);
                break;
            }
            at = parent.expect("the root is online");
        }
        let mut books = self.stage.books.borrow_mut();
        let mut waits = books.waits.iter_mut();
        if let Some(wait) = waits.find(|wait| wait.number == number) {
            wait.at = at;
        }
        at
    }

    /// A line begins, or somebody of it was served.
    pub(crate) fn close_door(&self, at: usize) {
        let closed_until = now() + PATIENCE_NS;
        self.stage.group(at).notice.close_door(closed_until);
        let mut books = self.stage.books.borrow_mut();
        let used = books.groups[at].line.and_then(|line| line.used);
        books.groups[at].line = Some(Line { closed_until, used });
    }

    pub(crate) fn end_line_if_left(&self, at: usize) {
        let is_left = {
            let books = self.stage.books.borrow();
            books.groups[at].line.is_some() && books.in_line(at).next().is_none()
        };
        if is_left {
            let tree = &self.engine.tree;
            let _pin = tree.threads.epoch.pin(self.rec());
            self.engine.end_line(self.stage.group(at));
            self.stage.books.borrow_mut().groups[at].line = None;
        }
    }

    /// After a step: who stood where a group has ended goes on above, and what was freed was told.
    pub(crate) fn follow_lines(&self) {
        let lost: Vec<Wait> = {
            let books = self.stage.books.borrow();
            let is_lost = |wait: &&Wait| books.groups[wait.at].line.is_none();
            books.waits.iter().filter(is_lost).copied().collect()
        };
        if !lost.is_empty() {
            // A line ends with its group, before anybody has gone on.
            self.audit_lines();
        }
        for wait in lost {
            self.enter_line(wait.number, wait.at);
        }
        let mut books = self.stage.books.borrow_mut();
        if books.groups.iter().all(|group| group.line.is_none()) {
            return;
        }
        let usages = books.usages();
        for (g, known) in books.groups.iter_mut().enumerate() {
            let Some(line) = &mut known.line else {
                continue;
            };
            let group = self.engine.tree.memcgs.get(known.index);
            let is_told = group.notice.take_told().freed;
            let before = line.used.replace(usages[g]);
            let has_stock = group.counter.granted() > 0;
            assert!(
                known.may_stock || !has_stock,
                "stock below the line of group {g}"
            );
            // What goes back to stock is nobody's news.
            let is_freed = before.is_some_and(|before| usages[g] < before);
            assert!(
                is_told || has_stock || !is_freed,
                "nobody was told that group {g} uses {} bytes, not {before:?}",
                usages[g]
            );
        }
    }

    /// Doors are closed where the books say so.
    pub(crate) fn audit_lines(&self) {
        let books = self.stage.books.borrow();
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec());
        for (o, owner) in books.owners.iter().enumerate() {
            if !owner.held && owner.is != OwnerIs::Task {
                continue;
            }
            let found = tree.closed_door(owner.tag).and_then(|why| why.group);
            let known = books.closed_door(o).map(|g| books.groups[g].index);
            assert_eq!(found, known, "whose line is at the door of owner {o}");
        }
    }
}
