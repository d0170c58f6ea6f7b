//! `NAME hold TAG`, `kmem-id PATH`: who holds what with others, and which groups lists and caches know.

use super::act::Actor;
use super::words::show;
use super::world::{Fault, Part};
use memcg::{Charge, IdError, Memcg, Shared, root};
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
                IdError::NoMemory => "ENOMEM",
            };
            Fault::refused(errno, format!("{}: {why}", show(path)))
        })
    }
}
