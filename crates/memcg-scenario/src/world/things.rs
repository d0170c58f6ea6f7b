//! What tasks hold, by tag: heap objects, objects of caches, reservations, regions.
//!
//! Invariants: a tag has one holder; others may hold it as well, by a share of their own. One of a
//! region has those who map it.
//! Depends on: `objects`, `reclaimable`, `shared_charge`, `regions`, `fault`.
//! Never: holds its lock while something is freed.

#![forbid(unsafe_code)]

use crate::text::line::Name;
use crate::text::word::show;
use crate::world::fault::Fault;
use crate::world::lock::lock;
use crate::world::objects::Objects;
use crate::world::reclaimable::ReclaimableObjects;
use crate::world::regions::MappedRegion;
use crate::world::shared_charge::{Held, SharedCharge};
use memcg::testing::os::errno::Errno;
use memcg::{Charge, Mapping};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

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

/// What a tag names, if it is no region.
pub struct Things {
    /// The task that holds it.
    pub holder: Name,
    /// In the order they were made.
    pub parts: Vec<Part>,
    /// Who holds it as well.
    pub others: Vec<(Name, Held)>,
}

/// What a tag names.
pub enum Named {
    /// Things that one task holds.
    Things(Things),
    /// A region, which tasks map.
    Region(Arc<MappedRegion>),
}

impl Named {
    /// Who holds it, in words.
    fn holder(&self) -> String {
        match self {
            Named::Things(things) => format!("held by {}", show(&things.holder)),
            Named::Region(region) => format!("a region, {}", region.users()),
        }
    }

    /// What it is and who holds it, in words.
    fn text(&self) -> String {
        match self {
            Named::Things(things) => {
                let parts: Vec<String> = things.parts.iter().map(Part::text).collect();
                format!("{} of {}", parts.join(", "), show(&things.holder))
            }
            Named::Region(region) => {
                let users = region.users();
                match region.path() {
                    // How many pages of it are in memory may change at any time.
                    Some(path) => format!("the file {}, {users}", path.display()),
                    None => format!("a region with {} pages, {users}", region.nr_pages()),
                }
            }
        }
    }
}

/// What a task has let go of: to be dropped where no lock is held.
#[derive(Default)]
pub struct LetGo {
    named: Vec<Named>,
    shares: Vec<(Name, Held)>,
    mappings: Vec<Arc<Mapping>>,
}

/// What all tags name.
#[derive(Default)]
pub struct TagTable(Mutex<HashMap<Name, Named>>);

impl TagTable {
    /// Runs `f` on what a tag names, to change it. `f` shall not call the engine for anything that
    /// may free memory: a lock is held.
    ///
    /// # Errors
    /// ENOENT when nothing has that tag, EINVAL when it is a region's.
    pub fn change<R>(&self, tag: &[u8], f: impl FnOnce(&mut Things) -> R) -> Result<R, Fault> {
        match lock(&self.0).get_mut(tag) {
            Some(Named::Things(things)) => Ok(f(things)),
            Some(Named::Region(_)) => {
                let message = format!(
                    "'{}' is a region: its pages are charged one by one",
                    show(tag)
                );
                Err(Fault::refused(Errno::EINVAL, message))
            }
            None => Err(no_tag(tag)),
        }
    }

    /// Runs `f` on what a tag names, if there is anything that is no region.
    pub fn look<R>(&self, tag: &[u8], f: impl FnOnce(&Things) -> R) -> Option<R> {
        match lock(&self.0).get(tag)? {
            Named::Things(things) => Some(f(things)),
            Named::Region(_) => None,
        }
    }

    /// The region that a tag names, if it names one.
    pub fn region(&self, tag: &[u8]) -> Option<Arc<MappedRegion>> {
        match lock(&self.0).get(tag)? {
            Named::Things(_) => None,
            Named::Region(region) => Some(region.clone()),
        }
    }

    /// Who holds what a tag names, in words, if there is anything.
    pub fn holder(&self, tag: &[u8]) -> Option<String> {
        lock(&self.0).get(tag).map(Named::holder)
    }

    /// Every tag, and what is held under it by whom.
    pub fn holdings(&self) -> Vec<(Name, String)> {
        let named = lock(&self.0);
        let texts = named.iter().map(|(tag, named)| (tag.clone(), named.text()));
        texts.collect()
    }

    /// Refuses `holder` when somebody else holds what `tag` names, or it is a region.
    ///
    /// # Errors
    /// EEXIST, with the name of the other task.
    pub fn check(&self, tag: &[u8], holder: &[u8]) -> Result<(), Fault> {
        match lock(&self.0).get(tag) {
            Some(Named::Things(things)) if things.holder == holder => Ok(()),
            Some(named) => Err(taken(tag, named)),
            None => Ok(()),
        }
    }

    /// Adds a part to what `tag` names.
    ///
    /// # Errors
    /// EEXIST when somebody else holds it, or it is a region; the part is freed then.
    pub fn add(&self, tag: &[u8], holder: &[u8], part: Part) -> Result<(), Fault> {
        let refused = {
            let mut all = lock(&self.0);
            let named = all.entry(tag.to_vec()).or_insert_with(|| {
                Named::Things(Things {
                    holder: holder.to_vec(),
                    parts: Vec::new(),
                    others: Vec::new(),
                })
            });
            match named {
                Named::Things(things) if things.holder == holder => {
                    things.parts.push(part);
                    return Ok(());
                }
                Named::Things(_) | Named::Region(_) => part,
            }
        };
        // Freed where no lock is held.
        drop(refused);
        self.check(tag, holder)
    }

    /// Refuses when `tag` names something.
    ///
    /// # Errors
    /// EEXIST, with who holds it.
    pub fn check_new(&self, tag: &[u8]) -> Result<(), Fault> {
        match lock(&self.0).get(tag) {
            Some(named) => Err(taken(tag, named)),
            None => Ok(()),
        }
    }

    /// Adds a region.
    ///
    /// # Errors
    /// EEXIST when `tag` names something; the region is dropped then.
    pub fn add_region(&self, tag: &[u8], region: MappedRegion) -> Result<(), Fault> {
        let region = Arc::new(region);
        let mut all = lock(&self.0);
        if let Some(named) = all.get(tag) {
            let fault = taken(tag, named);
            drop(all);
            drop(region);
            return Err(fault);
        }
        all.insert(tag.to_vec(), Named::Region(region));
        Ok(())
    }

    /// Takes what a tag names out of the table.
    ///
    /// # Errors
    /// ENOENT when nothing has that tag.
    pub fn remove(&self, tag: &[u8]) -> Result<Named, Fault> {
        let taken = lock(&self.0).remove(tag);
        taken.ok_or_else(|| no_tag(tag))
    }

    /// Ends a task's mapping of a region, and the region with it when it goes unmapped. The caller
    /// drops both.
    ///
    /// # Errors
    /// ENOENT when nothing has that tag, EINVAL when it is no region's, EPERM when the task does
    /// not map it.
    pub fn unmap(&self, tag: &[u8], name: &[u8]) -> Result<LetGo, Fault> {
        let mut all = lock(&self.0);
        let region = match all.get(tag) {
            Some(Named::Region(region)) => region.clone(),
            Some(Named::Things(_)) => return Err(no_region(tag)),
            None => return Err(no_tag(tag)),
        };
        region.of(name)?;
        let mut let_go = LetGo::default();
        let_go.mappings.extend(region.unmap(name));
        if region.goes_unmapped() && !region.is_mapped() {
            let_go.named.extend(all.remove(tag));
        }
        Ok(let_go)
    }

    /// Makes `to` the holder of what `from` held.
    ///
    /// # Errors
    /// ENOENT when nothing has that tag, EPERM when `from` does not hold it.
    pub fn give(&self, tag: &[u8], from: &[u8], to: &[u8]) -> Result<(), Fault> {
        self.change(tag, |things| {
            if things.holder != from {
                let message = format!("'{}' is held by {}", show(tag), show(&things.holder));
                return Err(Fault::refused(Errno::EPERM, message));
            }
            things.holder = to.to_vec();
            Ok(())
        })?
    }

    /// Takes out what `holder` holds, its share of what others hold, and its mappings. The caller
    /// drops it.
    pub fn remove_all_of(&self, holder: &[u8]) -> LetGo {
        let mut let_go = LetGo::default();
        let mut all = lock(&self.0);
        let mut tags: Vec<Name> = Vec::new();
        for (tag, named) in all.iter() {
            let goes = match named {
                Named::Things(things) => things.holder == holder,
                Named::Region(region) => {
                    let its = region.unmap(holder);
                    let was_its = its.is_some();
                    let_go.mappings.extend(its);
                    was_its && region.goes_unmapped() && !region.is_mapped()
                }
            };
            if goes {
                tags.push(tag.clone());
            }
        }
        for tag in tags {
            let_go.named.extend(all.remove(&tag));
        }
        for named in all.values_mut() {
            match named {
                Named::Things(things) => {
                    let others = std::mem::take(&mut things.others);
                    let (its, others): (Vec<_>, Vec<_>) =
                        others.into_iter().partition(|(other, _)| other == holder);
                    things.others = others;
                    let_go.shares.extend(its);
                }
                Named::Region(_) => {}
            }
        }
        let_go
    }

    /// Frees everything.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *lock(&self.0));
        drop(all);
    }
}

fn taken(tag: &[u8], named: &Named) -> Fault {
    let message = format!("'{}' is {}", show(tag), named.holder());
    Fault::refused(Errno::EEXIST, message)
}

/// What a command is answered with that needs a region and names something else.
pub fn no_region(tag: &[u8]) -> Fault {
    let message = format!(
        "'{}' is no region: 'TASK map TAG SIZE' makes one",
        show(tag)
    );
    Fault::refused(Errno::EINVAL, message)
}

/// What a command is answered with that names a tag nothing has.
pub fn no_tag(tag: &[u8]) -> Fault {
    Fault::refused(
        Errno::ENOENT,
        format!("'{}': nothing is called so", show(tag)),
    )
}
