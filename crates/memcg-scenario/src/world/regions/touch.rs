//! Touches of a region's pages, and what they leave in them.
//!
//! Invariants: a page is noted before it is written, while it is pinned. A touch gives back what it
//! brought itself, and nothing that another has used.
//! Depends on: `pattern`; the engine's pins.
//! Never: decides how often a page is tried.

#![forbid(unsafe_code)]

use super::{MappedRegion, refused};
use crate::world::fault::Fault;
use crate::world::lock::lock;
use crate::world::pattern::Pattern;
use memcg::testing::engine::Flags;
use memcg::{Mapping, PAGE_SIZE, PageError};
use std::sync::{PoisonError, RwLockReadGuard};

/// To read or to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// What is there is looked at.
    Read,
    /// The pattern is written.
    Write,
}

/// How a page came to have content.
pub(super) struct Brought {
    /// By which touch.
    by: u64,
    /// Whether another touch has used it since.
    is_used: bool,
    /// Whether its pattern was written into it.
    is_written: bool,
}

impl MappedRegion {
    /// Begins to touch pages; `id` is no other touch's. Touches of several threads go on beside
    /// each other.
    pub fn begin_touch(&self, id: u64) -> Touching<'_> {
        let others = self.touches.read().unwrap_or_else(PoisonError::into_inner);
        Touching {
            of: self,
            id,
            others,
        }
    }

    /// Whether what is used of a page holds its pattern; where that was never written zeros, or
    /// what a file has that was there before.
    pub(super) fn is_as_touched(&self, page: u64, bytes: &[u8]) -> bool {
        let is_written = lock(&self.pages).get(&page).is_some_and(|p| p.is_written);
        if is_written {
            return Pattern::of(self.seed, page).is_in(bytes);
        }
        let has_content = self.file.as_ref().is_some_and(|file| !file.is_made());
        has_content || is_zero(bytes)
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// A touch of some pages, one after the other.
pub struct Touching<'a> {
    of: &'a MappedRegion,
    /// Which touch it is.
    id: u64,
    others: RwLockReadGuard<'a, ()>,
}

impl Touching<'_> {
    /// Touches a page through a mapping of the region. A read of anonymous memory without content
    /// brings nothing. `false`: it does not hold what was written into it.
    ///
    /// # Errors
    /// Why the page was refused.
    pub fn page(
        &self,
        mapping: &Mapping,
        page: u64,
        access: Access,
        flags: Flags,
    ) -> Result<bool, PageError> {
        let of = self.of;
        match access {
            Access::Read if of.goes_unmapped() && mapping.reads_as_zeros(page)? => {
                let mut bytes = [0; PAGE_SIZE];
                mapping.read_with(page, |view| view.copy_to(0, &mut bytes))?;
                // Another thread may have written it meanwhile.
                Ok(is_zero(&bytes) || Pattern::of(of.seed, page).is_in(&bytes))
            }
            Access::Read => {
                let pinned = mapping.pin_with(page, flags)?;
                self.note(page, false);
                Ok(of.is_as_touched(page, &pinned[..of.used(page)]))
            }
            Access::Write => {
                let mut pinned = mapping.pin_mut_with(page, flags)?;
                let bytes = &mut pinned[..of.used(page)];
                let was_right = of.is_as_touched(page, bytes);
                self.note(page, true);
                Pattern::of(of.seed, page).write(bytes);
                Ok(was_right)
            }
        }
    }

    /// This touch has used a page, which has content now.
    fn note(&self, page: u64, writes: bool) {
        let mut pages = lock(&self.of.pages);
        let brought = pages.entry(page).or_insert(Brought {
            by: self.id,
            is_used: false,
            is_written: false,
        });
        brought.is_used |= brought.by != self.id;
        brought.is_written |= writes;
    }

    /// Gives back the pages that this touch has brought and no other has used since. What it wrote
    /// into a file stays in the file; nothing else has changed then.
    ///
    /// # Errors
    /// When somebody has one pinned all the time; of a file why it could not be written.
    pub fn undo(self) -> Result<(), Fault> {
        let Touching { of, id, others } = self;
        drop(others);
        let _alone = of.touches.write().unwrap_or_else(PoisonError::into_inner);
        let is_own = |brought: &Brought| brought.by == id && !brought.is_used;
        let own: Vec<u64> = {
            let mut pages = lock(&of.pages);
            let own = pages.iter().filter(|(_, brought)| is_own(brought));
            let own = own.map(|(page, _)| *page).collect();
            pages.retain(|_, brought| {
                let stays = of.file.is_some() && brought.is_written;
                stays || !is_own(brought)
            });
            own
        };
        for page in own {
            let from = page * PAGE_SIZE as u64;
            let to = from + of.used(page) as u64;
            match &of.file {
                Some(file) => file.drop_from_memory(from..to)?,
                None => drop(of.region.discard(from..to).map_err(refused)?),
            }
        }
        Ok(())
    }
}
