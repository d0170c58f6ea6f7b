//! The steps by which a thing gets another owner: it is looked up after its group's end, or given
//! away.

use crate::books::{Thing, What};
use crate::rules::How;
use crate::stage::{Planted, Stage};
use crate::world::World;
use memcg::testing::group::OfflinePolicy::{Auto, NextTouch};
use memcg::testing::group::cell::OfflineAction;
use memcg::testing::group::{ROOT_TAG, Refusal, Tag};
use memcg::testing::kmem::list_lru::Cx;

/// What a cache that sees lookups takes over.
const FOUND: &[OfflineAction] = &[
    OfflineAction::RechargeToToucher,
    OfflineAction::RechargeToFinder,
];

impl Stage {
    /// Makes `to` the owner of a thing of a cache, and takes its link along.
    fn recharge(&self, thing: &Thing, to: Tag) -> Result<bool, Refusal> {
        let What::Cached { at, .. } = thing.what else {
            return Ok(false);
        };
        let (tree, rec) = (&self.engine.tree, self.rec.get());
        if thing.link.is_null() {
            return self.engine.recharge_cached(rec, at, to);
        }
        // SAFETY: held by the books.
        let link = unsafe { &*thing.link };
        let from = link.begin_change().expect("nobody else is at it");
        let outcome = self.engine.recharge_cached(rec, at, to);
        if outcome == Ok(true) {
            tree.ref_objcg(to);
            link.end_change(to);
            {
                let _pin = tree.threads.epoch.pin(rec);
                tree.unref_objcg(from);
            }
            let lists = &self.engine.kmem.lists;
            let follow = |cx: Cx<'_>| lists.follow(cx, self.list, link);
            self.engine.with_lists(rec, follow);
        } else {
            link.end_change(from);
        }
        outcome
    }
}

impl World {
    /// A thing of some cache's: its number, and what it is.
    pub(crate) fn some_object(&self, n: u32) -> Option<(u64, Thing)> {
        let books = self.stage.books.borrow();
        let is = |t: &Thing| t.owner.is_some() && matches!(t.what, What::Cached { .. });
        let all: Vec<(u64, Thing)> = books
            .things
            .iter()
            .filter(|(_, t)| is(t))
            .map(|(&id, t)| (id, *t))
            .collect();
        (!all.is_empty()).then(|| all[n as usize % all.len()])
    }

    /// A thing is looked up by whom the thread works for.
    pub(crate) fn touch(&mut self, n: [u32; 4]) {
        let Some((id, thing)) = self.some_object(n[2]) else {
            return;
        };
        let Some(from) = thing.owner else { return };
        let (tag, is_left) = {
            let books = self.stage.books.borrow();
            let is_left = books.was_left(from, &[NextTouch, Auto]);
            (books.owners[from].tag, is_left)
        };
        let found = self.engine.has_offline_action(self.rec(), Some(tag), FOUND);
        assert_eq!(found, is_left, "whether a thing is for who looks it up");
        if !is_left {
            return;
        }
        self.within(n, |world, to| {
            let mut named = None;
            world.engine.with_toucher(world.rec(), |tag| {
                named = Some(tag);
                false
            });
            let to = to.filter(|&to| world.stage.books.borrow().owners[to].tag != ROOT_TAG);
            let known = to.map(|to| world.stage.books.borrow().owners[to].tag);
            assert_eq!(named, known, "who looks a thing up");
            if let Some(to) = to {
                world.give_to(id, to);
            }
        });
    }

    /// A thing is given to somebody, whoever had it.
    pub(crate) fn give(&mut self, n: [u32; 4]) {
        let Some((id, _)) = self.some_object(n[2]) else {
            return;
        };
        let to = self.some_owner(n[0]);
        let to = self.stage.books.borrow().live(to);
        self.give_to(id, to);
    }

    pub(crate) fn give_to(&self, id: u64, to: usize) {
        let (thing, tag, fits) = {
            let books = self.stage.books.borrow();
            let thing = books.things[&id];
            // Nor does it pass those who stand in line for room. Nobody who is observed is refused.
            let may = books.is_observed(books.owners[to].group)
                || books.fits(to, thing.bytes, false)
                    && books.is_kept_out(to, How::AT_DOOR).is_none();
            let fits = may && books.fits_kmem(to, thing.bytes);
            (thing, books.owners[to].tag, fits)
        };
        let Some(from) = thing.owner.filter(|&from| from != to) else {
            return;
        };
        if !fits {
            // What was charged in advance may be spent still.
            self.drain_all();
        }
        let failed = |_: &Refusal| {
            let mut books = self.stage.books.borrow_mut();
            let group = books.owners[to].group;
            books.event(group, |g| &mut g.recharge_failed);
        };
        let mut outcome = self.stage.recharge(&thing, tag).inspect_err(failed);
        if fits && outcome.is_err() {
            // Stock was in the way.
            self.drain_all();
            outcome = self.stage.recharge(&thing, tag).inspect_err(failed);
        }
        // What was charged, and given back where it was refused later, pays off what a move left
        // elsewhere.
        self.stage.adopt_residuals(Some(from));
        self.stage.adopt_residuals(Some(to));
        match outcome {
            Ok(changed) => {
                assert!(fits, "given beyond a limit");
                assert!(changed || self.is_lenient(), "nothing was given");
                let forgets = self.stage.planted == Planted::GivenToNobody;
                if changed && !forgets {
                    let mut books = self.stage.books.borrow_mut();
                    books.things.entry(id).and_modify(|t| t.owner = Some(to));
                }
            }
            Err(why) => assert!(!fits || self.is_lenient(), "not given: {why:?}"),
        }
    }
}
