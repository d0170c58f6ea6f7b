//! The steps by which a block gets another owner under its holder's hand: an object of the heap, or
//! a block of another allocator's, in which the tag is written.
//!
//! The new owner is charged as at the door, and has the block whole or not at all.

#![forbid(unsafe_code)]

use crate::books::What;
use crate::stage::Planted;
use crate::things::flags;
use crate::world::World;
use memcg::testing::engine::Flags;
use memcg::testing::engine::adopt::NotAdopted;
use memcg::testing::group::Tag;
use memcg::testing::group::kind::Kind;
use std::cell::Cell;

impl World {
    /// A block of another allocator's.
    pub(crate) fn block(&mut self, n: [u32; 4]) {
        let bytes = (u64::from(n[2]) + 1).next_multiple_of(8);
        let how = flags(n[1] / 4);
        self.within(n, |world, owner| {
            let is_charged =
                owner.is_none_or(|owner| world.try_charge(owner, bytes, Kind::Heap, how));
            if is_charged {
                world.note(owner, bytes, What::Block, false);
            }
        });
    }

    /// A block is given to somebody, whoever had it.
    pub(crate) fn adopt(&mut self, n: [u32; 4]) {
        let is = |what: What| match what {
            What::Heap { .. } | What::Block => true,
            What::Charge(_) | What::Cached { .. } => false,
        };
        let Some(id) = self.some_thing(n[2], |thing| is(thing.what)) else {
            return;
        };
        let (to, named) = self.some_name(n);
        let (thing, from, expected) = {
            let books = self.stage.books.borrow();
            let thing = books.things[&id];
            let from = thing.owner.map(|owner| books.owners[owner].tag);
            (thing, from, books.owners[to].tag)
        };
        let rec = self.rec();
        let written = Cell::new(None);
        let give = || match thing.what {
            What::Heap { at } => self.engine.adopt(rec, at, named).map_err(|why| match why {
                NotAdopted::Full(why) => why,
                NotAdopted::NotOurs => panic!("a live object is not found"),
            }),
            What::Block | What::Charge(_) | What::Cached { .. } => {
                self.engine
                    .give_owner(rec, from, named, thing.bytes, |tag| written.set(Some(tag)))
            }
        };
        if thing.owner == Some(to) {
            assert_eq!(give(), Ok(()), "a block is its owner's already");
            assert_eq!(written.get(), None, "a tag is written for nothing");
            return;
        }
        let is_given = self.try_charge_by(to, thing.bytes, Flags::NOWAIT, give);
        let is_block = thing.what == What::Block;
        assert_eq!(
            written.get(),
            (is_block && is_given).then_some(expected),
            "the tag in a block"
        );
        if is_given && self.stage.planted != Planted::AdoptedUnsaid {
            let mut books = self.stage.books.borrow_mut();
            books.things.entry(id).and_modify(|t| t.owner = Some(to));
        }
        self.stage.adopt_residuals(thing.owner);
        self.stage.adopt_residuals(Some(to));
    }

    /// Somebody, and a name of his: of a task its first, whoever it is by now.
    fn some_name(&self, n: [u32; 4]) -> (usize, Tag) {
        let task = self.live_task(n[0]).filter(|_| n[1].is_multiple_of(3));
        let books = self.stage.books.borrow();
        if let Some(task) = task {
            let (tag, first) = self.tasks[task];
            return (books.live(first), tag);
        }
        drop(books);
        let owner = self.some_owner(n[0]);
        (owner, self.stage.books.borrow().owners[owner].tag)
    }
}
