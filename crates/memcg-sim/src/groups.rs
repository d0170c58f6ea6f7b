//! The steps of groups: they are made, told what to do, removed by every policy, and forgotten. A
//! shrinker may remove one too.

#![forbid(unsafe_code)]

use crate::books::{Css, Group, Owner, OwnerIs};
use crate::generation::Generation;
use crate::stage::{Planted, Stage};
use crate::world::World;
use memcg::testing::counter::page_counter::UNLIMITED;
use memcg::testing::group::tree::TreeError;
use memcg::testing::group::{OfflinePolicy, OomPolicy};
use memcg::testing::offline;
use memcg::testing::sync::lock::Rank;

impl World {
    pub(crate) fn create(&mut self, n: [u32; 4]) {
        let g = self.stage.online(n[0]);
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec());
        self.names += 1;
        // Names of every length, used again after their group.
        let name = format!("{:0width$}", self.names % 40, width = 2 + n[1] as usize);
        let created = tree.create(self.stage.group(g), name.as_bytes());
        let index = match created {
            Ok(index) => index,
            Err(TreeError::Exists) => return,
            Err(why) => {
                assert!(
                    self.is_lenient() && why == TreeError::NoMemory,
                    "create: {why:?}"
                );
                return;
            }
        };
        let tag = tree.memcgs.get(index).tag();
        tree.ref_objcg(tag);
        let mut books = self.stage.books.borrow_mut();
        let known = Group::new(Some(g), index).begin_with(&books.groups[g].defaults);
        books.groups.push(known);
        let group = books.groups.len() - 1;
        let generation = Generation::of(self.engine, tag);
        books.owners.push(Owner::of_group(tag, group, generation));
    }

    /// What a charge at max comes to.
    pub(crate) fn policy(&mut self, n: [u32; 4]) {
        // A group with a task more often than not, or the one above it.
        let g = match self.live_task(n[0]) {
            Some(t) if !n[0].is_multiple_of(8) => {
                let books = self.stage.books.borrow();
                let chain = books.chain(books.owners[books.live(self.tasks[t].1)].group);
                let at = chain.len().saturating_sub(2).min(n[0] as usize / 8 % 2);
                chain[at]
            }
            _ => self.stage.online(n[0]),
        };
        if g == 0 {
            return;
        }
        let group = self.stage.group(g);
        let policy = [
            OomPolicy::Default,
            OomPolicy::Deny,
            OomPolicy::Debt,
            OomPolicy::Kill,
            OomPolicy::Kill,
            OomPolicy::Observe,
        ][n[1] as usize % 6];
        let whole = n[2] % 3 == 1;
        let debt = match n[2] % 4 {
            1 => u64::from(n[2]),
            _ => UNLIMITED,
        };
        {
            let _held = group.lock.lock(Rank::Group);
            group.set_oom_policy(policy);
            group.set_oom_group(whole);
            group.set_debt_max(debt);
        }
        {
            let known = &mut self.stage.books.borrow_mut().groups[g];
            (known.oom_policy, known.oom_group, known.debt_max) = (policy, whole, debt);
            known.had_oom_group |= whole;
        }
        if matches!(policy, OomPolicy::Debt | OomPolicy::Kill) && !n[3].is_multiple_of(4) {
            // A limit that the next charges meet.
            let usage = self.stage.books.borrow().usages()[g];
            self.set_max(g, usage + u64::from(n[2] % 512));
        }
    }

    /// What is to become of what a group leaves.
    pub(crate) fn offline(&mut self, n: [u32; 4]) {
        let g = self.stage.online(n[0]);
        if g > 0 {
            let (policy, _) = OfflinePolicy::ALL[n[1] as usize % 5];
            self.stage.group(g).set_offline_policy(policy);
            self.stage.books.borrow_mut().groups[g].offline = policy;
        }
    }

    /// A handle on a removed group goes.
    pub(crate) fn forget(&mut self, n: [u32; 4]) {
        let found = {
            let books = self.stage.books.borrow();
            let gone = |o: &usize| books.owners[*o].held && books.owners[*o].is == OwnerIs::Dead;
            let gone: Vec<usize> = (0..books.owners.len()).filter(gone).collect();
            (!gone.is_empty()).then(|| gone[n[0] as usize % gone.len()])
        };
        if let Some(owner) = found {
            let tag = {
                let owner = &mut self.stage.books.borrow_mut().owners[owner];
                owner.held = false;
                owner.tag
            };
            let tree = &self.engine.tree;
            let _pin = tree.threads.epoch.pin(self.rec());
            tree.unref_objcg(tag);
        }
    }
}

impl Stage {
    pub(crate) fn online(&self, n: u32) -> usize {
        let online = self.books.borrow().there(Css::Online);
        online[n as usize % online.len()]
    }

    /// What the end of a group comes to now.
    pub(crate) fn may_end(&self, g: usize) -> Result<(), TreeError> {
        let books = self.books.borrow();
        let is_child = |c: &Group| c.css == Css::Online && c.parent == Some(g);
        let is_task = |o: &Owner| o.is == OwnerIs::Task && o.group == g;
        if g == 0 {
            Err(TreeError::Root)
        } else if books.groups[g].css != Css::Online {
            Err(TreeError::Gone)
        } else if books.groups.iter().any(is_child) {
            Err(TreeError::HasChildren)
        } else if books.owners.iter().any(is_task) {
            Err(TreeError::HasTasks)
        } else {
            Ok(())
        }
    }

    /// A group's end, by its policy.
    pub(crate) fn remove(&self, n: [u32; 4]) {
        let g = self.online(n[0]);
        let (tree, group, rec) = (&self.engine.tree, self.group(g), self.rec.get());
        if n[1].is_multiple_of(2) {
            let _pin = tree.threads.epoch.pin(rec);
            tree.drain(rec, group);
        }
        let evicts = self.books.borrow().groups[g].offline == OfflinePolicy::Evict
            && self.may_end(g).is_ok()
            && !rec.is_helping();
        let mut left = group.counter.usage() > 0;
        // What moves left in it goes home while it is evicted, or is the parent's after; which of
        // it, the books do not see.
        let had_residuals = self.books.borrow().has_residuals(g);
        let outcome = {
            let _pin = tree.threads.epoch.pin(rec);
            match self.planted {
                Planted::ListLeftBehind if !tree.lingers() => offline::remove_alone(tree, group),
                Planted::Nothing
                | Planted::ShortUncharge
                | Planted::ListLeftBehind
                | Planted::LostByReclaim
                | Planted::GivenToNobody
                | Planted::ScoreUnheard
                | Planted::AdoptedUnsaid
                | Planted::DefaultUnheard
                | Planted::GenerationKept
                | Planted::ServedTwice => self.engine.remove(rec, group),
            }
        };
        // Shrinkers may have changed what is there by then, this group's end included.
        assert_eq!(outcome, self.may_end(g), "removing a group");
        if outcome.is_err() {
            return;
        }
        self.removed.borrow_mut().push(g);
        // Those who stood there go on above.
        self.books.borrow_mut().groups[g].line = None;
        // Reclaim may have sent home what was marked.
        self.adopt_if(true);
        let mut books = self.books.borrow_mut();
        // Also where it lingers: what it accounts is its parent's affair.
        books.groups[g].words = 0;
        if books.groups[g].offline == OfflinePolicy::Mapper {
            self.ended_by_mapper.set(true);
        }
        if evicts {
            // The last thing before the end was a drain.
            left = books.usages()[g] > 0;
        }
        if tree.lingers() {
            books.groups[g].css = Css::Lingers;
            books.groups[g].reserve = 0;
            books.note_offline_policy(g);
            let own = books.owners.iter_mut();
            let own = own.filter(|o| o.group == g && o.is == OwnerIs::Group);
            own.for_each(|o| o.is = OwnerIs::Dead);
        } else {
            if let Some(parent) = books.groups[g].parent {
                if left {
                    books.event(parent, |g| &mut g.inherited);
                } else if evicts && had_residuals {
                    books.event(parent, |g| &mut g.inherited_may);
                }
            }
            books.inherit(g);
        }
    }
}
