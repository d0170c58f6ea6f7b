//! The steps of tasks: they begin, move by every policy, and end.

use super::books::{Owner, OwnerIs};
use super::world::World;
use crate::attach::{MoveError, move_task_with};
use crate::group::MovePolicy;

impl World {
    pub(super) fn new_task(&mut self, n: [u32; 4]) {
        let g = self.online(n[0]);
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec());
        match tree.new_task(self.stage.group(g), b"task", 0) {
            Ok(tag) => self.note_task(tag, g),
            Err(why) => assert!(self.is_lenient(), "task: {why:?}"),
        }
    }

    pub(super) fn note_task(&mut self, tag: u32, group: usize) {
        let mut books = self.stage.books.borrow_mut();
        books.owners.push(Owner {
            tag,
            group,
            is: OwnerIs::Task,
            held: false,
            heir: None,
            rests: Vec::new(),
        });
        self.tasks.push((tag, books.owners.len() - 1));
    }

    pub(super) fn end_task(&mut self, n: [u32; 4]) {
        let Some(t) = self.live_task(n[0]) else {
            return;
        };
        let (tag, owner) = self.tasks.swap_remove(t);
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec());
        tree.end_task(tag);
        let mut books = self.stage.books.borrow_mut();
        let live = books.live(owner);
        books.owners[live].is = OwnerIs::Dead;
    }

    /// A task moves.
    pub(super) fn go(&mut self, n: [u32; 4]) {
        let Some(t) = self.live_task(n[0]) else {
            return;
        };
        let (tag, first) = self.tasks[t];
        let g = self.online(n[1]);
        let (policy, _) = MovePolicy::ALL[n[3] as usize % 7];
        let (live, expected) = {
            let books = self.stage.books.borrow();
            let live = books.live(first);
            let whole = matches!(policy, MovePolicy::Transfer | MovePolicy::Paged);
            let expected = whole && books.owners[live].rests.is_empty();
            (live, expected.then(|| books.fits_in(live, g)))
        };
        let (tree, rec) = (&self.engine.tree, self.rec());
        let evictable = u64::from(n[2]) & !7;
        let go = || {
            let _pin = tree.threads.epoch.pin(rec);
            let mover = || move_task_with(tree, rec, tag, self.stage.group(g), policy, evictable);
            self.engine.lists_follow(tree.live_tag(tag), mover)
        };
        let mut outcome = go();
        if matches!(outcome, Err(MoveError::Full(_) | MoveError::KmemFull(_))) {
            // What is stocked elsewhere, or by the task, is in the way.
            self.drain_all();
            outcome = go();
        }
        if let Some(expected) = expected.filter(|_| !self.is_lenient()) {
            assert_eq!(
                outcome.is_ok(),
                expected,
                "moving by {policy:?}: {outcome:?}"
            );
        }
        let now = {
            let _pin = tree.threads.epoch.pin(rec);
            tree.live_tag(tag)
        };
        let mut books = self.stage.books.borrow_mut();
        if outcome.is_ok() && now != books.owners[live].tag {
            // It left its bytes behind, and goes on as another.
            assert!(matches!(policy, MovePolicy::Stay | MovePolicy::BestEffort));
            let heir = books.owners.len();
            books.owners[live].heir = Some(heir);
            books.owners[live].is = OwnerIs::Dead;
            books.owners.push(Owner {
                tag: now,
                group: g,
                is: OwnerIs::Task,
                held: false,
                heir: None,
                rests: Vec::new(),
            });
        } else if outcome.is_ok() {
            books.owners[live].group = g;
        }
        let rests = self.stage.rests_of(&books, live);
        if let Ok(moved) = outcome
            && matches!(
                policy,
                MovePolicy::Transfer | MovePolicy::ReserveBoth | MovePolicy::Paged
            )
        {
            assert_eq!(moved.stayed, 0, "{policy:?} leaves nothing");
            assert!(rests.iter().all(|rest| rest.0.is_none()));
        } else if !matches!(outcome, Ok(_) | Err(MoveError::Leaked(_))) {
            assert_eq!(
                rests, books.owners[live].rests,
                "a refused move changes nothing"
            );
        }
        books.owners[live].rests = rests;
    }

    pub(super) fn follow(&mut self, n: [u32; 4]) {
        let Some(t) = self.live_task(n[0]) else {
            return;
        };
        let (tag, first) = self.tasks[t];
        let tree = &self.engine.tree;
        {
            let _pin = tree.threads.epoch.pin(self.rec());
            tree.follow(tree.live_tag(tag), u64::from(n[2]) & !7);
        }
        let live = self.stage.books.borrow().live(first);
        self.stage.adopt_rests(Some(live));
    }
}
