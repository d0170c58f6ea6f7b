//! The world's own shrinkers, beside the list's: one that gives back what it has, one that lies,
//! one that meddles.
//!
//! The first counts the things of a group that are marked as its own, and frees so many of them.
//! The second says whatever comes to mind, and frees nothing. The third charges, frees, removes
//! groups and forks while others reclaim, a few times a step. All are called in the middle of
//! charges, writes of limits, ends of groups.

use crate::books::{Css, OwnerIs, Thing, What};
use crate::stage::{Stage, on_stage};
use crate::world::World;
use memcg::testing::engine::{Flags, Request};
use memcg::testing::group::kind::Kind;
use memcg::testing::kmem::shrinker_registry::{Ask, Manner, Ops};
use memcg::testing::sync::promise::{HeldOverFork, SoleThread};

const HONEST: usize = 0;
const LIAR: usize = 1;

/// Which of the three it is, is the data.
static OPS: Ops = Ops {
    count: |which, ask| on_stage().pool_count(which as usize, ask),
    scan: |which, ask, nr| on_stage().pool_scan(which as usize, ask, nr),
    let_go: |_| {},
};

impl Stage {
    /// Things of the honest one's in a group; of all groups, where it is not asked by group.
    fn pooled(&self, ask: Ask) -> Vec<u64> {
        let books = self.books.borrow();
        let group = books.group_at(ask.group);
        let everywhere = !self.pool_by_group.get();
        let is = |thing: &Thing| {
            let at = thing.owner.map(|owner| books.owners[owner].group);
            thing.pooled && (everywhere || at.is_some() && at == group)
        };
        let all = books.things.iter().filter(|(_, thing)| is(thing));
        all.map(|(&id, _)| id).collect()
    }

    fn pool_count(&self, which: usize, ask: Ask) -> u64 {
        match which {
            HONEST => self.pooled(ask).len() as u64,
            LIAR => [0, 1, 40, 700, u64::MAX][self.next_mood() as usize % 5],
            _ => 3,
        }
    }

    fn pool_scan(&self, which: usize, ask: Ask, nr: u64) -> Option<u64> {
        match which {
            HONEST => {
                let mut freed = self.pooled(ask);
                freed.truncate(nr as usize);
                for &id in &freed {
                    self.free(id);
                }
                Some(freed.len() as u64)
            }
            // Of what it has said is without end nothing can be had.
            LIAR if nr > 1000 => None,
            LIAR => [Some(nr), Some(0), None, Some(u64::MAX), None][self.next_mood() as usize % 5],
            _ => self.meddle(),
        }
    }

    /// What a shrinker does that does not keep to its business.
    fn meddle(&self) -> Option<u64> {
        let left = self.meddling.get().checked_sub(1)?;
        self.meddling.set(left);
        self.meddled.set(self.meddled.get() + 1);
        // What is charged to a group that lingered is its parent's from its end on.
        self.settle();
        let n = self.next_mood();
        match n % 5 {
            0 | 1 => self.charge_helping(n / 5),
            2 => {
                let is = |thing: &Thing| matches!(thing.what, What::Charge(_));
                let first = {
                    let books = self.books.borrow();
                    books.things.iter().find(|(_, t)| is(t)).map(|(&id, _)| id)
                };
                if let Some(id) = first {
                    self.free(id);
                    return Some(1);
                }
            }
            3 => self.remove([n / 5, n / 7, 0, 0]),
            _ => self.fork(),
        }
        Some(0)
    }

    /// A charge by who is reclaiming: it is made, whatever the limits are.
    fn charge_helping(&self, n: u32) {
        let (owner, tag) = {
            let books = self.books.borrow();
            let may = |o: &usize| books.owners[*o].held || books.owners[*o].is == OwnerIs::Task;
            let all: Vec<usize> = (0..books.owners.len()).filter(may).collect();
            let owner = books.live(all[n as usize % all.len()]);
            (owner, books.owners[owner].tag)
        };
        let bytes = u64::from(n % 500 + 1) * 8;
        let how = [Flags::NOWAIT, Flags::WAIT.with(Flags::USER)][n as usize / 3 % 2];
        let charged = self
            .engine
            .charge(self.rec.get(), Request::reserved(tag, bytes, how));
        assert_eq!(charged, Ok(bytes), "a charge by who reclaims");
        self.books.borrow_mut().note(Thing {
            owner: Some(owner),
            bytes,
            what: What::Charge(Kind::Reserved),
            link: core::ptr::null(),
            listed: false,
            pooled: true,
        });
    }

    /// The process forks, and this is the child: of its threads there is the one that is on.
    pub(crate) fn fork(&self) {
        self.engine.kmem.lock_for_fork();
        // SAFETY: this thread has just taken the locks.
        let held = unsafe { HeldOverFork::new() };
        self.engine.kmem.unlock_after_fork(held);
        // SAFETY: a world has one thread; those it plays are its own.
        let sole = unsafe { SoleThread::new() };
        self.engine.begin_in_child(sole, Some(self.rec.get()), true);
        self.forget_lines();
        self.forked.set(true);
    }
}

impl World {
    /// One of the three comes, or goes.
    pub(crate) fn toggle_pool(&mut self, n: [u32; 4]) {
        let shrinkers = &self.engine.kmem.shrinkers;
        let which = n[0] as usize % self.pools.len();
        if let Some(index) = self.pools[which].take() {
            shrinkers.unregister(index);
            return;
        }
        let per_group = n[1] % 4 != 3;
        if which == HONEST {
            self.stage.pool_by_group.set(per_group);
        }
        let manner = Manner {
            per_group,
            seeks: n[1] % 3,
            batch: u64::from(n[2] % 200),
            list: None,
        };
        let data = core::ptr::without_provenance(which);
        // SAFETY: the data is a number, and is not looked behind.
        self.pools[which] = unsafe { shrinkers.register(&OPS, data, manner) };
        assert!(
            self.pools[which].is_some() || self.is_lenient(),
            "no memory for a shrinker"
        );
    }

    /// Whether shrinkers have left a group online: one that is removed has no limit to be reclaimed
    /// to.
    pub(crate) fn is_online(&self, g: usize) -> bool {
        self.stage.books.borrow().groups[g].css == Css::Online
    }

    /// Whether a group is there at all, after a step in which shrinkers may have removed it.
    pub(crate) fn is_there(&self, g: usize) -> bool {
        self.stage.settle();
        self.stage.books.borrow().groups[g].css != Css::Gone
    }
}
