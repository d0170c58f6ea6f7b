//! The steps by which groups hold things with others, and what becomes of that when a group ends by
//! `mapper`.
//!
//! Holders are no affair of the engine's: who keeps them (`api::holders`) asks it whether a thing
//! was left, and has it charged to whom it found. Here the books keep them, and do as that does.

#![forbid(unsafe_code)]

use crate::books::Css;
use crate::world::World;
use memcg::testing::group::OfflinePolicy::{Mapper, NextTouch};
use memcg::testing::group::cell::OfflineAction;

impl World {
    /// A group holds a thing from now on, or the first that does lets go.
    pub(crate) fn hold(&mut self, n: [u32; 4]) {
        let Some((id, thing)) = self.some_object(n[2]) else {
            return;
        };
        let g = self.stage.online(n[0]);
        {
            let mut books = self.stage.books.borrow_mut();
            let holders = books.holders.entry(id).or_default();
            if n[1].is_multiple_of(4) && !holders.is_empty() {
                holders.remove(0);
                return;
            }
            holders.push(g);
        }
        let Some(owner) = thing.owner else { return };
        if self.is_left(
            owner,
            &[Mapper, NextTouch],
            &[
                OfflineAction::RechargeToHolder,
                OfflineAction::RechargeToToucher,
            ],
        ) {
            self.give_to_group(id, g);
        }
    }

    /// After an end by `mapper`: what was left so goes to who holds it, the last to come.
    pub(crate) fn settle_holders(&self) {
        if !self.stage.ended_by_mapper.take() {
            return;
        }
        self.stage.settle();
        let held: Vec<u64> = {
            let mut books = self.stage.books.borrow_mut();
            let things = core::mem::take(&mut books.things);
            books.holders.retain(|id, _| things.contains_key(id));
            books.things = things;
            books.holders.keys().copied().collect()
        };
        for id in held {
            let owner = self.stage.books.borrow().things[&id].owner;
            let Some(owner) = owner else { continue };
            if !self.is_left(owner, &[Mapper], &[OfflineAction::RechargeToHolder]) {
                continue;
            }
            let last = {
                let books = self.stage.books.borrow();
                let is_online = |g: &&usize| books.groups[**g].css == Css::Online;
                books.holders[&id].iter().rev().find(is_online).copied()
            };
            if let Some(g) = last {
                self.give_to_group(id, g);
            }
        }
    }

    /// Whether a thing was left by groups' ends, as the books and the engine both say.
    fn is_left(
        &self,
        owner: usize,
        by: &[memcg::testing::group::OfflinePolicy],
        how: &[OfflineAction],
    ) -> bool {
        let (tag, known) = {
            let books = self.stage.books.borrow();
            (books.owners[owner].tag, books.was_left(owner, by))
        };
        let found = self.engine.has_offline_action(self.rec(), Some(tag), how);
        assert_eq!(found, known, "whether a thing is for who holds it");
        found
    }

    fn give_to_group(&self, id: u64, g: usize) {
        let to = self.stage.books.borrow().owner_of_group(g);
        self.give_to(id, to);
    }
}
