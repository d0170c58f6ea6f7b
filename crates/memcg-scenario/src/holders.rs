//! `NAME hold TAG`, `NAME take TAG`, `kmem-id PATH`: who holds what, and who is charged for it; which groups lists and caches know.

use crate::act::Actor;
use crate::words::show;
use crate::world::{Fault, Part};
use memcg::{Charge, IdError, Memcg, ReserveError, Shared, root};
use std::any::Any;
use std::sync::{Mutex, PoisonError};

/// A hold on things, of one kind or another; it ends with this.
pub type Held = Vec<Box<dyn Any + Send>>;

/// A reservation that several hold.
pub struct SharedCharge(Shared<Mutex<Charge>>);

impl SharedCharge {
    /// Of one that nobody else holds yet.
    pub fn new(charge: Charge) -> SharedCharge {
        SharedCharge(Shared::new(Mutex::new(charge)))
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .bytes()
    }

    /// It is used.
    pub fn touch(&self) {
        let mut charge = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        charge.touch();
    }

    fn give(&self, group: &Memcg) -> Result<(), ReserveError> {
        let mut charge = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        charge.give(group)
    }

    fn hold(&self, group: &Memcg) -> Box<dyn Any + Send> {
        Box::new(self.0.hold(group))
    }
}

impl Actor<'_> {
    /// A task's group holds what a tag names from now on, until the task ends or the thing does.
    pub fn hold(&self, name: &[u8], tag: &[u8]) -> Result<(), Fault> {
        let task = self.world.task(name)?;
        let group = task.group();
        let group = group.ok_or_else(|| Fault::refused("ESRCH", "the task is nowhere"))?;
        self.world.change(tag, |things| {
            let mut held = Held::new();
            for part in std::mem::take(&mut things.parts) {
                let mut part = match part {
                    Part::Reserved(charge) => Part::Shared(SharedCharge::new(charge)),
                    part => part,
                };
                match &mut part {
                    Part::Shared(charge) => held.push(charge.hold(&group)),
                    Part::Heap(objects) => objects.hold(&group, &mut held),
                    _ => {}
                }
                things.parts.push(part);
            }
            if held.is_empty() {
                let message = format!(
                    "'{}': objects of a cache and reservations can be held by several",
                    show(tag)
                );
                return Err(Fault::refused("EINVAL", message));
            }
            things.others.push((name.to_vec(), held));
            Ok(())
        })?
    }

    /// A task holds what a tag names from now on, and its group is charged for it: all of it, or nothing has changed. Where others
    /// take up room at the same time a part of it may have come.
    pub fn take(&self, name: &[u8], tag: &[u8]) -> Result<(), Fault> {
        let task = self.world.task(name)?;
        let group = task.group();
        let group = group.ok_or_else(|| Fault::refused("ESRCH", "the task is nowhere"))?;
        let full = |why: ReserveError| Fault::refused("ENOMEM", why.to_string());
        let bytes: u64 = self.world.change(tag, |things| {
            let stays = |part: &Part| matches!(part, Part::Heap(all) if !all.are_of_a_cache());
            if things.parts.iter().any(stays) {
                let message = format!(
                    "'{}': objects of a cache and reservations can be taken; those of the heap stay whose they are",
                    show(tag)
                );
                return Err(Fault::refused("EINVAL", message));
            }
            Ok(things.parts.iter().map(Part::bytes).sum())
        })??;
        // Whether there is room for all is seen before the first goes.
        drop(group.try_reserve(bytes).map_err(full)?);
        self.world.change(tag, |things| {
            for part in &mut things.parts {
                match part {
                    Part::Reserved(charge) => charge.give(&group).map_err(full)?,
                    Part::Shared(charge) => charge.give(&group).map_err(full)?,
                    Part::Heap(objects) => objects.recharge_to(&group).map_err(full)?,
                    Part::Kept(objects) => objects.recharge_to(&group).map_err(full)?,
                }
            }
            things.holder = name.to_vec();
            Ok(())
        })?
    }

    /// A group takes its kmem id, as with its first list or cache.
    pub fn take_kmem_id(&self, path: &[u8]) -> Result<(), Fault> {
        let Some(group) = root().lookup(path) else {
            let message = format!("{}: no such group", show(path));
            return Err(Fault::refused("ENOENT", message));
        };
        group.kmem_id().map(drop).map_err(|why| {
            let errno = match why {
                IdError::Gone => "ENODEV",
                IdError::Exhausted => "ENOSPC",
                // NoMemory, and what is added later: the enum is open.
                _ => "ENOMEM",
            };
            Fault::refused(errno, format!("{}: {why}", show(path)))
        })
    }
}
