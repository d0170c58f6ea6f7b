//! What tasks hold, by tag: heap objects, objects of caches, reservations.
//!
//! Invariants: a tag has one holder; others may hold it as well, by a share of their own.
//! Depends on: `objects`, `reclaimable`, `shared_charge`, `fault`.
//! Never: holds its lock while something is freed.

#![forbid(unsafe_code)]

use crate::text::line::Name;
use crate::text::word::show;
use crate::world::fault::Fault;
use crate::world::lock::lock;
use crate::world::objects::Objects;
use crate::world::reclaimable::ReclaimableObjects;
use crate::world::shared_charge::{Held, SharedCharge};
use memcg::Charge;
use memcg::testing::os::errno::Errno;
use std::collections::HashMap;
use std::sync::Mutex;

/// Something a task holds.
pub enum Part {
    /// Heap objects.
    Heap(Objects),
    /// A reservation.
    Reserved(Charge),
    /// A reservation that others may hold as well.
    Shared(SharedCharge),
    /// Objects of a cache that gives them up when memory is short.
    Reclaimable(ReclaimableObjects),
}

impl Part {
    /// Bytes it takes.
    pub fn bytes(&self) -> u64 {
        match self {
            Part::Heap(objects) => objects.bytes(),
            Part::Reserved(charge) => charge.bytes(),
            Part::Shared(charge) => charge.bytes(),
            Part::Reclaimable(objects) => objects.bytes(),
        }
    }

    /// Objects, or reservations, that are left of it.
    pub fn left(&self) -> u64 {
        match self {
            Part::Heap(objects) => objects.len() as u64,
            Part::Reserved(_) | Part::Shared(_) => 1,
            Part::Reclaimable(objects) => objects.left(),
        }
    }

    /// Uses it for the task that the thread works for. What an ended group left may be charged to
    /// that task from now on.
    pub fn touch(&mut self) {
        match self {
            Part::Heap(objects) => objects.touch(),
            Part::Reserved(charge) => drop(charge.touch()),
            Part::Shared(charge) => charge.touch(),
            Part::Reclaimable(objects) => objects.touch(),
        }
    }

    /// The first object of it that does not hold what was written into it.
    pub fn first_damaged(&self) -> Option<usize> {
        match self {
            Part::Heap(objects) => objects.first_damaged(),
            Part::Reserved(_) | Part::Shared(_) => None,
            Part::Reclaimable(objects) => objects.first_damaged(),
        }
    }

    /// What it is, in words, for [`TagTable::holdings`].
    fn text(&self) -> String {
        match self {
            Part::Heap(objects) => format!("{} objects", objects.len()),
            Part::Reserved(_) | Part::Shared(_) => format!("{} bytes reserved", self.bytes()),
            // The number is left out: reclaim may change it at any time.
            Part::Reclaimable(_) => "objects that can be given up".to_owned(),
        }
    }
}

/// What a tag names.
pub struct Things {
    /// The task that holds it.
    pub holder: Name,
    /// In the order they were made.
    pub parts: Vec<Part>,
    /// Who holds it as well.
    pub others: Vec<(Name, Held)>,
}

/// What all tags name.
#[derive(Default)]
pub struct TagTable(Mutex<HashMap<Name, Things>>);

impl TagTable {
    /// Runs `f` on what a tag names, to change it. `f` shall not call the engine for anything that
    /// may free memory: a lock is held.
    ///
    /// # Errors
    /// ENOENT when nothing has that tag.
    pub fn change<R>(&self, tag: &[u8], f: impl FnOnce(&mut Things) -> R) -> Result<R, Fault> {
        let mut things = lock(&self.0);
        things.get_mut(tag).map(f).ok_or_else(|| no_tag(tag))
    }

    /// Runs `f` on what a tag names, if there is anything.
    pub fn look<R>(&self, tag: &[u8], f: impl FnOnce(&Things) -> R) -> Option<R> {
        lock(&self.0).get(tag).map(f)
    }

    /// Every tag, and what is held under it by whom.
    pub fn holdings(&self) -> Vec<(Name, String)> {
        lock(&self.0)
            .iter()
            .map(|(tag, thing)| {
                let parts: Vec<String> = thing.parts.iter().map(Part::text).collect();
                let what = format!("{} of {}", parts.join(", "), show(&thing.holder));
                (tag.clone(), what)
            })
            .collect()
    }

    /// Refuses `holder` when somebody else holds what `tag` names.
    ///
    /// # Errors
    /// EEXIST, with the name of the other task.
    pub fn check(&self, tag: &[u8], holder: &[u8]) -> Result<(), Fault> {
        match lock(&self.0).get(tag) {
            Some(thing) if thing.holder != holder => Err(Fault::refused(
                Errno::EEXIST,
                format!("'{}' is held by {}", show(tag), show(&thing.holder)),
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Adds a part to what `tag` names.
    ///
    /// # Errors
    /// EEXIST when somebody else holds it; the part is freed then.
    pub fn add(&self, tag: &[u8], holder: &[u8], part: Part) -> Result<(), Fault> {
        let refused = {
            let mut things = lock(&self.0);
            let thing = things.entry(tag.to_vec()).or_insert_with(|| Things {
                holder: holder.to_vec(),
                parts: Vec::new(),
                others: Vec::new(),
            });
            if thing.holder == holder {
                thing.parts.push(part);
                return Ok(());
            }
            part
        };
        // Freed where no lock is held.
        drop(refused);
        self.check(tag, holder)
    }

    /// Takes what a tag names out of the table.
    ///
    /// # Errors
    /// ENOENT when nothing has that tag.
    pub fn remove(&self, tag: &[u8]) -> Result<Things, Fault> {
        let taken = lock(&self.0).remove(tag);
        taken.ok_or_else(|| no_tag(tag))
    }

    /// Makes `to` the holder of what `from` held.
    ///
    /// # Errors
    /// ENOENT when nothing has that tag, EPERM when `from` does not hold it.
    pub fn give(&self, tag: &[u8], from: &[u8], to: &[u8]) -> Result<(), Fault> {
        let mut things = lock(&self.0);
        let thing = things.get_mut(tag).ok_or_else(|| no_tag(tag))?;
        if thing.holder != from {
            let message = format!("'{}' is held by {}", show(tag), show(&thing.holder));
            return Err(Fault::refused(Errno::EPERM, message));
        }
        thing.holder = to.to_vec();
        Ok(())
    }

    /// Takes out what `holder` holds, and its share of what others hold. The caller drops both.
    pub fn remove_all_of(&self, holder: &[u8]) -> (Vec<Things>, Vec<(Name, Held)>) {
        let (mut held, mut shares) = (Vec::new(), Vec::new());
        let mut things = lock(&self.0);
        let tags: Vec<Name> = things
            .iter()
            .filter(|(_, thing)| thing.holder == holder)
            .map(|(tag, _)| tag.clone())
            .collect();
        for tag in tags {
            held.extend(things.remove(&tag));
        }
        for thing in things.values_mut() {
            let others = std::mem::take(&mut thing.others);
            let (its, others): (Vec<_>, Vec<_>) =
                others.into_iter().partition(|(other, _)| other == holder);
            thing.others = others;
            shares.extend(its);
        }
        (held, shares)
    }

    /// Frees everything.
    pub fn clear(&self) {
        let things = std::mem::take(&mut *lock(&self.0));
        drop(things);
    }
}

/// What a command is answered with that names a tag nothing has.
pub fn no_tag(tag: &[u8]) -> Fault {
    Fault::refused(
        Errno::ENOENT,
        format!("'{}': nothing is called so", show(tag)),
    )
}
