//! The steps of tasks: they begin, move by every policy, are told to die, and end.

#![forbid(unsafe_code)]

use crate::books::{Owner, OwnerIs};
use crate::stage::Planted;
use crate::world::World;
use memcg::testing::attach::{MoveError, Moved, move_task_with};
use memcg::testing::group::{MovePolicy, Tag};

impl World {
    pub(crate) fn new_task(&mut self, n: [u32; 4]) {
        let g = self.online(n[0]);
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec());
        match tree.new_task(self.stage.group(g), b"task", 0) {
            Ok(tag) => self.note_task(tag, g),
            Err(why) => assert!(self.is_lenient(), "task: {why:?}"),
        }
    }

    pub(crate) fn note_task(&mut self, tag: Tag, group: usize) {
        let mut books = self.stage.books.borrow_mut();
        books.owners.push(Owner::new(tag, group, OwnerIs::Task));
        self.tasks.push((tag, books.owners.len() - 1));
    }

    pub(crate) fn end_task(&mut self, n: [u32; 4]) {
        let Some(t) = self.live_task(n[0]) else {
            return;
        };
        // Of those that were told to die one ends before others.
        let dies = |&(_, first): &(Tag, usize)| {
            let books = self.stage.books.borrow();
            books.owners[books.live(first)].killed.is_some()
        };
        let t = self.tasks.iter().position(dies).unwrap_or(t);
        let (tag, owner) = self.tasks.swap_remove(t);
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec());
        tree.end_task(tag);
        let mut books = self.stage.books.borrow_mut();
        let live = books.live(owner);
        books.owners[live].is = OwnerIs::Dead;
    }

    /// A task moves.
    pub(crate) fn go(&mut self, n: [u32; 4]) {
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
            let expected = whole && books.owners[live].residuals.is_empty();
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
        self.note_move(tag, live, g, policy, outcome);
    }

    /// A task that was named `tag`, and is `live`, has moved or has not.
    pub(crate) fn note_move(
        &self,
        tag: Tag,
        live: usize,
        g: usize,
        policy: MovePolicy,
        outcome: Result<Moved, MoveError>,
    ) {
        let (tree, rec) = (&self.engine.tree, self.rec());
        let now = {
            let _pin = tree.threads.epoch.pin(rec);
            tree.live_tag(tag)
        };
        let mut books = self.stage.books.borrow_mut();
        if outcome.is_ok() && now != books.owners[live].tag {
            // It left its bytes behind, and goes on as another.
            assert!(matches!(policy, MovePolicy::Stay | MovePolicy::BestEffort));
            let successor = books.owners.len();
            books.owners[live].successor = Some(successor);
            books.owners[live].is = OwnerIs::Dead;
            let was = &books.owners[live];
            let (adj, killed, overdue) = (was.adj, was.killed, was.overdue);
            let unsure = was.unsure;
            books.owners.push(Owner {
                adj,
                killed,
                overdue,
                unsure,
                ..Owner::new(now, g, OwnerIs::Task)
            });
        } else if outcome.is_ok() {
            books.owners[live].group = g;
            books.may_stock(g);
        }
        let residuals = self.stage.residuals_of(&books, live);
        if let Ok(moved) = outcome
            && matches!(
                policy,
                MovePolicy::Transfer | MovePolicy::ReserveBoth | MovePolicy::Paged
            )
        {
            assert_eq!(moved.stayed, 0, "{policy:?} leaves nothing");
            assert!(residuals.iter().all(|residual| residual.0.is_none()));
        } else if !matches!(outcome, Ok(_) | Err(MoveError::Leaked(_))) {
            assert_eq!(
                residuals, books.owners[live].residuals,
                "a refused move changes nothing"
            );
        }
        books.owners[live].residuals = residuals;
    }

    /// What is said of a task, for when one is to die.
    pub(crate) fn score(&mut self, n: [u32; 4]) {
        let Some(t) = self.live_task(n[0]) else {
            return;
        };
        let (tag, first) = self.tasks[t];
        let adj = [-1000, -400, 0, 0, 300, 1000][n[1] as usize % 6];
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec());
        if self.stage.planted != Planted::ScoreUnheard {
            tree.objcgs.get(tree.live_tag(tag)).set_oom_score_adj(adj);
        }
        let mut books = self.stage.books.borrow_mut();
        let live = books.live(first);
        books.owners[live].adj = adj;
    }

    pub(crate) fn follow(&mut self, n: [u32; 4]) {
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
        {
            // How much of what stayed is tried, and so what fails, is the engine's choice.
            let mut books = self.stage.books.borrow_mut();
            let group = books.owners[live].group;
            for _ in 0..books.owners[live].residuals.len() {
                books.event(group, |g| &mut g.recharge_may);
            }
        }
        self.stage.adopt_residuals(Some(live));
    }
}
