//! The step of a task's move in which others have a say: between memory's answer and the last word
//! anything happens, then one of them may refuse.

#![forbid(unsafe_code)]

use crate::books::{OwnerIs, Thing, What};
use crate::world::World;
use memcg::testing::attach::{Attach, MoveError};
use memcg::testing::engine::{Flags, Request};
use memcg::testing::group::MovePolicy;
use memcg::testing::group::kind::Kind;
use memcg::testing::os::clock::own;

impl World {
    pub(crate) fn attach(&mut self, n: [u32; 4]) {
        let Some(t) = self.live_task(n[0]) else {
            return;
        };
        let (tag, first) = self.tasks[t];
        let g = self.online(n[1]);
        let (policy, _) = MovePolicy::ALL[n[3] as usize % 7];
        let live = self.stage.books.borrow().live(first);
        let (tree, rec, engine) = (&self.engine.tree, self.rec(), self.engine);
        let begin = || {
            let _pin = tree.threads.epoch.pin(rec);
            engine.change(|| Attach::begin(tree, rec, tag, self.stage.group(g), policy))
        };
        let mut attach = begin().expect("a live task, and a group that is there");
        attach.let_stay(u64::from(n[2]) & !7);
        let prepared = {
            let _pin = tree.threads.epoch.pin(rec);
            engine.change(|| attach.prepare())
        };
        let refused = n[2].is_multiple_of(3);
        // What is shipped already is nobody's to free while it is on its way.
        if prepared.is_ok() && policy != MovePolicy::Leaky {
            match n[2] / 3 % 7 {
                0 => assert_eq!(
                    begin().err(),
                    Some(MoveError::Moving),
                    "two moves of a task"
                ),
                1 => self.stage.fork(),
                2 => self.charge_forced(live, u64::from(n[2] % 97 + 1) * 8),
                3 => self.free_of(live),
                4 if g > 0 => {
                    let _pin = tree.threads.epoch.pin(rec);
                    let removed = engine.remove(rec, self.stage.group(g));
                    assert!(removed.is_err(), "a group ends to which a task is moving");
                }
                _ => {}
            }
        }
        let _pin = tree.threads.epoch.pin(rec);
        let outcome = match prepared {
            Ok(()) if !refused => {
                engine.lists_follow(attach.tag(), || engine.change(|| attach.commit()))
            }
            answer => {
                let leaked = engine.change(|| attach.cancel());
                let why = leaked.or(answer.err());
                // A refusal of others leaves all as it was, as one of memory's does.
                Err(why.unwrap_or(MoveError::Busy))
            }
        };
        drop(_pin);
        self.note_move(tag, live, g, policy, outcome);
    }

    /// A charge that is made whatever the limits say.
    fn charge_forced(&self, owner: usize, bytes: u64) {
        let tag = self.stage.books.borrow().owners[owner].tag;
        let killers = self.stage.books.borrow().killers(owner);
        let kind = Kind::Mapped;
        let began = own::now().unwrap_or_default();
        let charged = self.engine.charge(
            self.rec(),
            Request {
                tag,
                bytes,
                kind,
                flags: Flags::FORCE,
            },
        );
        assert_eq!(charged, Ok(bytes), "a forced charge");
        self.stage.books.borrow_mut().note(Thing {
            owner: Some(owner),
            bytes,
            what: What::Charge(kind),
            link: core::ptr::null(),
            listed: false,
            pooled: false,
        });
        if !killers.is_empty() {
            // Its bytes are under way between groups: whom that brings to end is read.
            self.adopt_kills(&killers, began);
        }
    }

    /// Frees the oldest thing of an owner's.
    fn free_of(&self, owner: usize) {
        let oldest = {
            let books = self.stage.books.borrow();
            debug_assert_eq!(books.owners[owner].is, OwnerIs::Task);
            let mut all = books.things.iter();
            all.find(|(_, t)| t.owner == Some(owner)).map(|(&id, _)| id)
        };
        if let Some(id) = oldest {
            self.stage.free(id);
        }
    }
}
