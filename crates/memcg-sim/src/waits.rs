//! The steps of those who wait for room: they stand in line at the group that is full, are served
//! in turn, and go away.

#![forbid(unsafe_code)]

use crate::books::{Css, What};
use crate::stage::Planted;
use crate::standing::{Wait, now};
use crate::world::World;
use memcg::testing::engine::{Flags, Request};
use memcg::testing::group::kind::Kind;
use memcg::testing::os::clock::own;
use std::cell::Cell;

/// So many wait at once, at most.
const MOST: usize = 12;

impl World {
    /// Somebody asks for room, and waits where there is none.
    pub(crate) fn stand(&mut self, n: [u32; 4]) {
        let owner = {
            let books = self.stage.books.borrow();
            let is = |o: &usize| books.owners[*o].held && books.owners[*o].generation.is_some();
            let all: Vec<usize> = (0..books.owners.len()).filter(is).collect();
            all[n[0] as usize % all.len()]
        };
        let tag = self.stage.books.borrow().owners[owner].tag;
        let bytes = (u64::from(n[2]) + 1).next_multiple_of(8);
        if n[1].is_multiple_of(3) {
            self.make_scarce(owner, bytes);
        }
        let (rec, full) = (self.rec(), Cell::new(None));
        let ask = || {
            let request = Request::reserved(tag, bytes, Flags::NOWAIT);
            let asked = self.engine.charge(rec, request);
            asked.inspect_err(|why| full.set(why.refusal.group))
        };
        if self.try_charge_by(owner, bytes, Flags::NOWAIT, ask) {
            self.note(Some(owner), bytes, What::Charge(Kind::Reserved), false);
            return;
        }
        let tree = &self.engine.tree;
        let never = {
            let _pin = tree.threads.epoch.pin(rec);
            tree.never_fits(tag, bytes).and_then(|why| why.group)
        };
        let full = {
            let books = self.stage.books.borrow();
            let chain = books.chain(books.owners[owner].group);
            let is_too_small = |g: &usize| books.groups[*g].max < bytes;
            let known = chain.into_iter().find(is_too_small);
            let known = known.map(|g| books.groups[g].index);
            assert_eq!(never, known, "where so much never fits");
            let full = full.get().and_then(|full| books.group_at(full));
            full.expect("a group that is there refuses")
        };
        if never.is_some() || self.stage.books.borrow().waits.len() >= MOST {
            return;
        }
        {
            let _pin = tree.threads.epoch.pin(rec);
            tree.ref_objcg(tag);
        }
        let number = {
            let mut books = self.stage.books.borrow_mut();
            books.next += 1;
            let (number, at) = (books.next, full);
            books.waits.push(Wait {
                number,
                owner,
                bytes,
                at,
            });
            number
        };
        let at = self.enter_line(number, full);
        self.try_lines(vec![at]);
    }

    /// So little room is left where an owner is that something is to be freed for so many bytes.
    fn make_scarce(&self, owner: usize, bytes: u64) {
        let (g, used) = {
            let books = self.stage.books.borrow();
            let g = books.owners[owner].group;
            (g, books.usages()[g])
        };
        if g > 0 && self.is_online(g) && used >= bytes {
            self.set_max(g, used + bytes / 2);
        }
    }

    /// Somebody waits no more.
    fn end_wait(&self, wait: Wait) {
        let tree = &self.engine.tree;
        let tag = {
            let mut books = self.stage.books.borrow_mut();
            books.waits.retain(|other| other.number != wait.number);
            books.owners[wait.owner].tag
        };
        {
            let _pin = tree.threads.epoch.pin(self.rec());
            tree.unref_objcg(tag);
        }
        self.end_line_if_left(wait.at);
    }

    /// From one line to another; whether it is another.
    fn go_on(&self, wait: Wait, to: usize, later: &mut Vec<usize>) -> bool {
        let at = self.enter_line(wait.number, to);
        if at == wait.at {
            return false;
        }
        self.end_line_if_left(wait.at);
        let first = self.stage.books.borrow().in_line(at).next();
        if first.is_some_and(|first| first.number == wait.number) {
            later.push(at);
        }
        true
    }

    /// Tries lines in order, as far as they allow.
    fn try_lines(&self, mut later: Vec<usize>) {
        while let Some(at) = later.pop() {
            let mut from = 0;
            while let Some(wait) = self.next_in_line(at, from) {
                let other = self.stage.books.borrow().stands_behind(wait);
                let refused = match other {
                    Some(other) => Some(other),
                    None => self.serve(wait),
                };
                let has_gone = refused.is_none_or(|to| self.go_on(wait, to, &mut later));
                from = if has_gone { 0 } else { wait.number + 1 };
            }
        }
    }

    /// The next to be tried: the first alone, while the others stand behind him.
    fn next_in_line(&self, at: usize, from: u64) -> Option<Wait> {
        let books = self.stage.books.borrow();
        let mut line = books.in_line(at);
        let first = line.next()?;
        if first.number >= from {
            return Some(first);
        }
        line.find(|wait| wait.number >= from)
            .filter(|_| !books.is_closed(at))
    }

    /// One in line is charged what he waits for, or refused; by whom.
    fn serve(&self, wait: Wait) -> Option<usize> {
        let Wait { owner, bytes, .. } = wait;
        let (tag, fits, is_free, full) = {
            let books = self.stage.books.borrow();
            let known = &books.owners[owner];
            let full = books.refuser(owner, bytes, |_| 0);
            let fits = books.fits(owner, bytes, false);
            assert_eq!(fits, full.is_none(), "the books are at odds");
            (known.tag, fits, books.is_observed(known.group), full)
        };
        if !fits {
            // Who refuses is a matter of the books alone where nothing is in stock.
            self.drain_all();
        }
        let rec = self.rec();
        let charge = || self.engine.charge_in_line(rec, tag, bytes);
        let outcome = self.stage.while_coming(Some(owner), || {
            charge().or_else(|why| {
                if !fits {
                    return Err(why);
                }
                // Stock beside the line is in the way.
                self.drain_all();
                charge()
            })
        });
        if outcome.is_ok() && self.stage.planted == Planted::ServedTwice {
            let _ = charge();
        }
        self.stage.adopt_residuals(Some(owner));
        match outcome {
            Ok(()) => {
                assert!(fits || is_free, "granted beyond a limit");
                self.note(Some(owner), bytes, What::Charge(Kind::Reserved), false);
                self.engine.owe_for(rec, tag, bytes);
                if self.stage.books.borrow().groups[wait.at].line.is_some() {
                    self.close_door(wait.at);
                }
                self.end_wait(wait);
                None
            }
            Err(why) => {
                assert!(!fits && !is_free, "not served, though it fits: {why:?}");
                let full = full.expect("it does not fit");
                let known = self.stage.books.borrow().groups[full].index;
                assert_eq!(why.group, Some(known), "who refuses one in line");
                Some(full)
            }
        }
    }

    /// Something is freed where somebody waits; or time goes by. Then all lines are looked at.
    pub(crate) fn look(&mut self, n: [u32; 4]) {
        if n[1].is_multiple_of(2) {
            self.free_for_line(n);
        } else {
            own::set(Some(now() + u64::from(n[1] % 16) * 50_000_000));
        }
        let mut lines: Vec<usize> = Vec::new();
        for wait in &self.stage.books.borrow().waits {
            if !lines.contains(&wait.at) {
                lines.push(wait.at);
            }
        }
        // Room that has come in several groups at once is for who came first.
        for at in lines {
            self.try_lines(vec![at]);
        }
    }

    fn free_for_line(&self, n: [u32; 4]) {
        let freed = {
            let books = self.stage.books.borrow();
            let Some(at) = (n[0] as usize).checked_rem(books.waits.len()) else {
                return;
            };
            let line = books.waits[at].at;
            let is_below = |owner: usize| books.is_within(books.owners[owner].group, line);
            let all = books.things.iter();
            let all = all.filter(|(_, thing)| thing.owner.is_some_and(is_below));
            let all: Vec<u64> = all.map(|(&id, _)| id).collect();
            let at = (n[2] as usize).checked_rem(all.len());
            at.map(|at| all[at])
        };
        if let Some(id) = freed {
            self.stage.free(id);
        }
    }

    /// Somebody goes away; or the group does where he stands.
    pub(crate) fn cancel(&mut self, n: [u32; 4]) {
        if n[1] % 3 == 1 {
            return self.end_group_of_line(n);
        }
        let (wait, was_first) = {
            let books = self.stage.books.borrow();
            let Some(at) = (n[0] as usize).checked_rem(books.waits.len()) else {
                return;
            };
            let wait = books.waits[at];
            let first = books.in_line(wait.at).next();
            (wait, first.is_some_and(|w| w.number == wait.number))
        };
        self.end_wait(wait);
        if was_first {
            self.try_lines(vec![wait.at]);
        }
    }

    /// A group ends where somebody stands, if one can.
    fn end_group_of_line(&self, n: [u32; 4]) {
        let online = self.stage.books.borrow().there(Css::Online);
        let mut lines = (0..online.len()).filter(|&at| {
            let g = online[at];
            let has_line = self.stage.books.borrow().groups[g].line.is_some();
            has_line && self.stage.may_end(g).is_ok()
        });
        if let Some(at) = lines.next() {
            self.stage.remove([at as u32, n[2], 0, 0]);
        }
    }
}
