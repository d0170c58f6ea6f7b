//! Pages, as part of a reclaim: from each group on the way, above its protection.
//!
//! Invariants: of a group within its protection no page is taken; of another as many as the round's
//! pressure says, as for shrinkers.
//! Depends on: `engine::pages::evict`.
//! Never: runs code of the program.

#![forbid(unsafe_code)]

use super::{Control, Engine, Part};
use crate::counter::protection::exposed;
use crate::engine::pages::eviction::{Effort, listed_group};
use crate::group::PageCount;
use crate::kmem::shrinker_registry::Ask;
use crate::page::PAGE;
use crate::page::lists::Group;
use crate::reclaim::share::share;

/// The least that is taken from a group at a time, in pages, where so much is wanted.
const LEAST: u64 = 32;
/// Compressed pages take up to this part of what a group uses, a quarter, before the oldest go to a
/// device, where there is one.
const COMPRESSED: u64 = 4;
/// What a page costs to bring back, as shrinkers say it: the kernel's figure for a thing that is
/// read from a device.
const SEEKS: u32 = 2;

impl Engine {
    /// Takes pages of a group itself. The caller is not pinned.
    pub(super) fn take_pages(&self, control: &mut Control<'_>, ask: Ask, part: Part) {
        if !self.pages.are_mine() {
            return;
        }
        let (group, candidates, compressed) = {
            let _pin = self.tree.threads.epoch.pin(control.rec);
            let Some(group) = self.group_of(ask) else {
                return;
            };
            let books = self.tree.group_pages(group);
            let compressed = books.map_or(0, |books| books.bytes(PageCount::Zswap));
            (listed_group(group), self.evictable(group), compressed)
        };
        // The oldest of what is compressed is older than anything in a frame.
        if compressed > part.usage / COMPRESSED {
            self.take_compressed_pages(control, group);
        }
        let all = candidates.anon.saturating_add(candidates.file);
        if all == 0 {
            return self.take_compressed_pages(control, group);
        }
        let freeable = exposed(all, part.usage, part.effective, control.pass);
        control.met = control.met.saturating_add(freeable);
        let wanted = control
            .want
            .saturating_sub(control.got.bytes)
            .div_ceil(PAGE as u64);
        let pressure = share(freeable, 0, control.priority, SEEKS).now;
        let nr = pressure.max(LEAST).min(wanted).min(freeable);
        let taken = self.evict_pages(control.rec, group, nr, control.swappiness, Effort::Full);
        control.got.bytes += taken.bytes;
        control.got.things = control.got.things.saturating_add(taken.pages);
        if taken.pages == 0 {
            self.take_compressed_pages(control, group);
        }
    }

    /// Has compressed pages of a group itself written to a device, until there is enough or no
    /// more.
    fn take_compressed_pages(&self, control: &mut Control<'_>, group: Group) {
        let compressed = {
            let _pin = self.tree.threads.epoch.pin(control.rec);
            let top = self.tree.memcgs.get(group.index);
            let books = self.tree.group_pages(top);
            books.map_or(0, |books| books.bytes(PageCount::Zswap))
        };
        while compressed > 0 && !control.is_enough() {
            let taken = self.write_compressed(control.rec, Some(group));
            if taken.pages == 0 {
                return;
            }
            control.met = control.met.saturating_add(taken.pages);
            control.got.bytes += taken.bytes;
            control.got.things = control.got.things.saturating_add(taken.pages);
        }
    }
}
