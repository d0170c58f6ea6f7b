//! The step by which a group is killed, and the kill generations: what works for a group itself
//! notes the generation of its owner, and is to die once that is another.

#![forbid(unsafe_code)]

use crate::books::{Books, Css, OwnerIs};
use crate::generation::Generation;
use crate::stage::Planted;
use crate::world::World;
use memcg::testing::group::kill_generation::KillGeneration;
use memcg::testing::os::clock::own;

impl Books {
    /// All that works for a group, or for one below it, is to die; but where it is observed, if
    /// those are spared.
    pub(crate) fn raise_generations(&mut self, top: usize, spares_observed: bool) {
        for owner in 0..self.owners.len() {
            let group = self.owners[owner].group;
            let is_spared = spares_observed && self.is_observed(group);
            if !self.is_within(group, top) || is_spared {
                continue;
            }
            if let Some(generation) = &mut self.owners[owner].generation {
                generation.is_raised = true;
            }
        }
    }

    /// A group ended in a step in which others were told to end: whether what it had was among
    /// them is not known.
    pub(crate) fn doubt_generations(&mut self, gone: usize) {
        let is_there = |g: &usize| self.groups[*g].css != Css::Gone;
        let Some(heir) = self.chain(gone).into_iter().find(is_there) else {
            return;
        };
        for owner in &mut self.owners {
            if owner.group == heir && owner.is == OwnerIs::Dead {
                owner.generation = owner.generation.map(|generation| Generation {
                    may_be: true,
                    ..generation
                });
            }
        }
    }
}

impl World {
    /// A group is killed, as by a write of `cgroup.kill`, or as the engine does it: its tasks apart.
    pub(crate) fn kill(&mut self, n: [u32; 4]) {
        let g = self.online(n[0]);
        let (tree, group) = (&self.engine.tree, self.stage.group(g));
        let _pin = tree.threads.epoch.pin(self.rec());
        let mut books = self.stage.books.borrow_mut();
        if n[1].is_multiple_of(3) {
            for owner in 0..books.owners.len() {
                let known = &books.owners[owner];
                if known.is != OwnerIs::Task || !books.is_within(known.group, g) {
                    continue;
                }
                let was_told = tree.objcgs.get(known.tag).kill();
                assert_eq!(was_told, known.killed.is_none(), "task {owner} is told");
                let at = known.killed.or_else(own::now);
                books.owners[owner].killed = at;
            }
        }
        let spares_observed = n[1] % 3 == 2;
        if self.stage.planted == Planted::GenerationKept {
            // Nothing.
        } else if spares_observed {
            self.engine.raise_kill_generation(group);
        } else {
            tree.raise_kill_generation(group, false);
        }
        books.raise_generations(g, spares_observed);
    }

    /// Whatever works for an owner is to die if the books say so.
    pub(crate) fn audit_generations(&self) {
        let mut books = self.stage.books.borrow_mut();
        let held = books.held();
        let tree = &self.engine.tree;
        for (o, owner) in books.owners.iter_mut().enumerate() {
            let Some(known) = owner.generation else {
                if owner.is == OwnerIs::Task {
                    let first = KillGeneration::default();
                    let is_to_die = tree.is_to_die(self.rec(), owner.tag, first);
                    assert_eq!(is_to_die, owner.killed.is_some(), "task {o} is to die");
                }
                continue;
            };
            // Another's may have its record by now.
            if owner.is == OwnerIs::Dead && !owner.held && held[o] == 0 {
                continue;
            }
            let is_to_die = tree.is_to_die(self.rec(), owner.tag, known.noted);
            assert!(
                is_to_die == known.is_raised || is_to_die && known.may_be,
                "what works for owner {o} is to die: {is_to_die}, not {}",
                known.is_raised
            );
            owner.generation = Some(Generation::of(self.engine, owner.tag));
        }
    }
}
