//! Regions: memory by the page that tasks map, with what they have written into it.
//!
//! Invariants: a page that was written by a touch holds its pattern; any other page of memory holds
//! zeros.
//! Depends on: `touch`, `file`, `fault`, `lock`; the engine's regions and mappings.
//! Never: holds a lock over a call of the engine, but for the one that keeps touches out while the
//! pages are looked at, or given back by a touch that was refused.

#![forbid(unsafe_code)]

mod file;
#[cfg(test)]
mod tests;
mod touch;

pub use touch::Access;

use crate::text::line::Name;
use crate::text::word::show;
use crate::world::fault::Fault;
use crate::world::lock::lock;
use file::File;
use memcg::testing::os::errno::Errno;
use memcg::{Mapping, PAGE_SIZE, PageError, Region, RegionKind, Task};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use touch::Brought;

/// A region that tasks map. Memory of one user goes with its mapping; what many can use stays,
/// mapped or not, as long as its tag.
pub struct MappedRegion {
    /// Who maps it, in the order in which they came. Dropped before the file.
    users: Mutex<Vec<(Name, Arc<Mapping>)>>,
    region: Region,
    /// Bytes that are used of it.
    len: u64,
    file: Option<File>,
    seed: u64,
    /// The pages that have content, by number.
    pages: Mutex<BTreeMap<u64, Brought>>,
    /// Held by touches to read, to write by who looks at all pages or gives some back.
    touches: RwLock<()>,
}

impl MappedRegion {
    /// Memory of one user, the task `name`.
    ///
    /// # Errors
    /// ENOMEM; EINVAL when it is too long.
    pub fn anon(name: &[u8], task: &Task, len: u64, seed: u64) -> Result<MappedRegion, Fault> {
        let mapping = task.map_anon(len).map_err(refused)?;
        let mapped = MappedRegion::of_region(mapping.region(), len, None, seed);
        mapped.add(name, mapping)?;
        Ok(mapped)
    }

    /// Memory of many users, mapped by the task `name`, which opens it.
    ///
    /// # Errors
    /// As [`Self::anon`].
    pub fn shmem(
        tag: &[u8],
        (name, task): (&[u8], &Task),
        len: u64,
        seed: u64,
    ) -> Result<MappedRegion, Fault> {
        let region = {
            let _for_the_task = task.enter();
            Region::shmem(show(tag), len).map_err(refused)?
        };
        let mapped = MappedRegion::of_region(region, len, None, seed);
        mapped.map(name, task)?;
        Ok(mapped)
    }

    /// The first `len` bytes of a file, mapped by the task `name`, which opens it. One that is not
    /// there is made.
    ///
    /// # Errors
    /// EINVAL when the file is shorter; what the kernel refuses; ENOMEM.
    pub fn file(
        path: &Path,
        (name, task): (&[u8], &Task),
        len: u64,
        seed: u64,
    ) -> Result<MappedRegion, Fault> {
        let file = {
            let _for_the_task = task.enter();
            File::open(path, len)?
        };
        let mapped = MappedRegion::of_region(file.region(), len, Some(file), seed);
        mapped.map(name, task)?;
        Ok(mapped)
    }

    fn of_region(region: Region, len: u64, file: Option<File>, seed: u64) -> MappedRegion {
        MappedRegion {
            region,
            len,
            file,
            seed,
            users: Mutex::default(),
            pages: Mutex::default(),
            touches: RwLock::default(),
        }
    }

    /// The bytes that are used of it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The path of the file, as it was written.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(File::path)
    }

    /// Pages of it that have content.
    pub fn nr_pages(&self) -> u64 {
        self.region.nr_pages()
    }

    /// Whether it goes when nobody maps it.
    pub fn goes_unmapped(&self) -> bool {
        self.region.kind() == RegionKind::Anon
    }

    /// Who maps it, in words.
    pub fn users(&self) -> String {
        let users = lock(&self.users);
        let names: Vec<String> = users.iter().map(|(name, _)| show(name)).collect();
        if names.is_empty() {
            return "nobody maps it".into();
        }
        format!("mapped by {}", names.join(", "))
    }

    /// A task's mapping of it.
    ///
    /// # Errors
    /// EPERM when the task does not map it.
    pub fn of(&self, task: &[u8]) -> Result<Arc<Mapping>, Fault> {
        let users = lock(&self.users);
        let found = users.iter().find(|(name, _)| name == task);
        found.map(|(_, mapping)| mapping.clone()).ok_or_else(|| {
            let message = format!("{} does not map it", show(task));
            Fault::refused(Errno::EPERM, message)
        })
    }

    /// Maps it for a task as well.
    ///
    /// # Errors
    /// EEXIST when the task maps it; EINVAL when it is one user's; ENOMEM.
    pub fn map(&self, name: &[u8], task: &Task) -> Result<(), Fault> {
        if self.goes_unmapped() {
            let why = "anonymous memory has one user: shmem and files can be shared";
            return Err(Fault::refused(Errno::EINVAL, why));
        }
        let mapping = self.region.map_for(task).map_err(refused)?;
        self.add(name, mapping)
    }

    /// Makes it `to`'s what was `from`'s: the pages stay with who was charged for them.
    ///
    /// # Errors
    /// EPERM when `from` does not map it; ENOMEM.
    pub fn give(&self, from: &[u8], to: &[u8], task: &Task) -> Result<(), Fault> {
        self.of(from)?;
        let is_new = self.of(to).is_err();
        if is_new {
            let mapping = self.region.map_for(task).map_err(refused)?;
            self.add(to, mapping)?;
        }
        if from != to {
            drop(self.unmap(from));
        }
        Ok(())
    }

    /// Takes a task's mapping out, to be dropped where no lock is held.
    pub fn unmap(&self, name: &[u8]) -> Option<Arc<Mapping>> {
        let mut users = lock(&self.users);
        let at = users.iter().position(|(user, _)| user == name)?;
        Some(users.remove(at).1)
    }

    /// Whether somebody maps it.
    pub fn is_mapped(&self) -> bool {
        !lock(&self.users).is_empty()
    }

    fn add(&self, name: &[u8], mapping: Mapping) -> Result<(), Fault> {
        let mut users = lock(&self.users);
        if users.iter().any(|(user, _)| user == name) {
            drop(users);
            drop(mapping);
            let message = format!("{} maps it", show(name));
            return Err(Fault::refused(Errno::EEXIST, message));
        }
        users.push((name.to_vec(), Arc::new(mapping)));
        Ok(())
    }

    /// The pages that a range of bytes lies in; all of them without one.
    ///
    /// # Errors
    /// EINVAL when not all of it is in the region.
    pub fn pages_of(&self, range: Option<(u64, u64)>) -> Result<Range<u64>, Fault> {
        let page = PAGE_SIZE as u64;
        let (offset, len) = range.unwrap_or((0, self.len()));
        match offset.checked_add(len) {
            Some(end) if end <= self.len() => Ok(offset / page..end.div_ceil(page)),
            Some(_) | None => {
                let message = format!("the region is {} bytes long", self.len());
                Err(Fault::refused(Errno::EINVAL, message))
            }
        }
    }

    /// How many bytes are used of a page.
    fn used(&self, page: u64) -> usize {
        let left = self.len.saturating_sub(page * PAGE_SIZE as u64);
        usize::try_from(left).map_or(PAGE_SIZE, |left| left.min(PAGE_SIZE))
    }

    /// The number of the first page that does not hold what was written into it. It is read as its
    /// first user reads.
    ///
    /// # Errors
    /// When nobody maps it, or a page cannot be had.
    pub fn first_damaged(&self) -> Result<Option<u64>, Fault> {
        let first = lock(&self.users)
            .first()
            .map(|(_, mapping)| mapping.clone());
        let Some(mapping) = first else {
            let why = "nobody maps it, so nobody can look at it: 'TASK map' lets a task";
            return Err(Fault::Wrong(why.into()));
        };
        // What is touched meanwhile would be looked at half done.
        let _alone = self.touches.write().unwrap_or_else(PoisonError::into_inner);
        let pages: Vec<u64> = lock(&self.pages).keys().copied().collect();
        for page in pages {
            let mut bytes = [0; PAGE_SIZE];
            let bytes = &mut bytes[..self.used(page)];
            let read = mapping.read_with(page, |view| view.copy_to(0, bytes));
            read.map_err(refused)?;
            if !self.is_as_touched(page, bytes) {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }
}

/// What a command is answered with that a page, or a mapping, was refused to.
pub fn refused(why: PageError) -> Fault {
    Fault::refused(why.errno(), why.to_string())
}
