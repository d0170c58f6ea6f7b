//! The books against the things: every sum that the engine keeps, done again from below.
//!
//! Invariants: every check is an equality. Dead cells may be halved on the way, as by any reader;
//! nothing else changes.
//! Depends on: quiescence. Nobody charges, frees, moves, drains, creates or removes meanwhile, and
//! nobody is pinned on what it has let go. While things move, a discrepancy means nothing.
//! Never: an allocation.

#![forbid(unsafe_code)]

use super::id::{CellId, GroupId, KmemId, ROOT};
use super::kind::NR_SIDE_KINDS;
use super::memcg_record::Memcg;
use super::objcg::{Objcg, State};
use super::page_count::PageCount;
use super::{Hierarchy, Tag};
use crate::counter::Level;
use crate::sync::atomic::Ordering;
use crate::sync::id::Id;
use crate::thread::SLOTS;
use crate::thread::id::ThreadId;
use core::fmt;

/// What a sum is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    /// The whole hierarchy.
    All,
    /// A group.
    Group(GroupId),
    /// An owner.
    Owner(Tag),
    /// A thread's record.
    Thread(ThreadId),
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Of::All => f.write_str("of all"),
            Of::Group(group) => write!(f, "of group {}", group.raw()),
            Of::Owner(tag) => write!(f, "of owner {}", tag.raw()),
            Of::Thread(thread) => write!(f, "of thread {}", thread.raw()),
        }
    }
}

/// The first sum that did not add up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Discrepancy {
    /// What was counted.
    pub what: &'static str,
    /// Of what.
    pub of: Of,
    /// What the parts add up to, in bytes or pieces.
    pub expected: u64,
    /// What the books say.
    pub found: u64,
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: the parts make {}, the books say {}",
            self.what, self.of, self.expected, self.found
        )
    }
}

impl core::error::Error for Discrepancy {}

fn same(what: &'static str, of: Of, expected: u64, found: u64) -> Result<(), Discrepancy> {
    if expected == found {
        Ok(())
    } else {
        Err(Discrepancy {
            what,
            of,
            expected,
            found,
        })
    }
}

fn at_most(what: &'static str, of: Of, most: u64, found: u64) -> Result<(), Discrepancy> {
    same(what, of, most.min(found), found)
}

/// With so many owners the records of each group are counted anew; with more, those of all.
const FEW: u32 = 1 << 10;

/// What the owners at or below a group add up to.
#[derive(Default)]
struct Sums {
    /// Charged at the group itself.
    charged: u64,
    /// Live tasks in the group itself.
    tasks: u64,
    /// Live tasks in it or below.
    tasks_below: u64,
    /// Granted at it or below.
    granted: u64,
    /// Of the kinds with a word, at it or below.
    side: [u64; NR_SIDE_KINDS],
}

impl Hierarchy {
    /// Adds everything up again and compares.
    ///
    /// For tests, for a soak, for a person in doubt: at quiescence only, see the module.
    /// Cost: O(groups × owners × depth + owners × threads + cells + names).
    ///
    /// # Errors
    /// The first [`Discrepancy`].
    pub fn audit(&self) -> Result<(), Discrepancy> {
        same("broken", Of::All, 0, u64::from(self.is_broken()))?;
        let (mut groups, mut records) = (0, 0);
        let mut at = Some(ROOT);
        while let Some(index) = at {
            self.audit_group(index)?;
            groups += 1;
            records += self.memcgs.get(index).record_bytes();
            at = self.next_in_preorder(ROOT, index);
        }
        let mut at = None;
        while let Some(index) = self.next_lingering(self.memcgs.get(ROOT), at) {
            self.audit_lingering(index)?;
            groups += 1;
            at = Some(index);
        }
        if cfg!(not(loom)) {
            same("records", Of::All, self.records_anew(None), records)?;
        }
        let mut owners = 0;
        for (tag, objcg) in self.objcgs.each() {
            self.audit_owner(tag, objcg)?;
            owners += u64::from(!matches!(objcg.state(), State::Free | State::Lost));
        }
        self.audit_kmem_ids()?;
        self.audit_slots()?;
        self.audit_cells(groups, owners)?;
        self.audit_names(groups, owners)
    }

    fn audit_group(&self, id: GroupId) -> Result<(), Discrepancy> {
        let (group, of) = (self.memcgs.get(id), Of::Group(id));
        let counter = &group.counter;
        same("group online", of, 1, u64::from(group.is_online()))?;
        same("group closed", of, 0, u64::from(counter.is_closed()))?;
        let own = self.objcgs.get(group.tag());
        let own_state = u64::from(own.state() == State::Group);
        same("group's own owner lives", of, 1, own_state)?;
        let (cell, own_cell) = (number(Some(group.cell())), number(own.cell_if_any()));
        same("group's own owner's cell", of, cell, own_cell)?;

        let (mut passed_up, mut children, mut descendants) = (0u64, 0u64, 0u64);
        let mut strays = 0;
        self.each_child(group, |_, child| {
            strays += u64::from(child.parent_index() != Some(id));
            passed_up += child.counter.usage().max(child.counter.reserve());
            children += 1;
            descendants += 1 + u64::from(child.nr_descendants());
            true
        });
        same("group's children of others", of, 0, strays)?;
        same("group's children", of, children, nr(&group.nr_children))?;
        let found = u64::from(group.nr_descendants());
        same("group's descendants", of, descendants, found)?;

        passed_up += self.passed_up_by_lingering(group)?;

        let sums = self.sums_of(group);
        self.audit_records(group, of)?;
        let usage = sums.charged + group.own_engine_bytes() + passed_up;
        same("group's usage", of, usage, counter.usage())?;
        same("group's grants", of, sums.granted, counter.granted())?;
        let found = u64::from(group.nr_tasks());
        same("group's tasks", of, sums.tasks, found)?;
        let count = group.census.read();
        let found = count.tasks() as u64;
        same("group's tasks, all", of, sums.tasks_below, found)?;
        same("group's stalls", of, 0, count.stalled() as u64)?;
        for (side, &expected) in sums.side.iter().enumerate() {
            let found = group.side_count(side).load(Ordering::Relaxed);
            same("group's bytes of a kind", of, expected, found)?;
        }
        let expected = self.page_counts_anew(group);
        for count in PageCount::ALL {
            let found = self
                .group_pages(group)
                .map_or(0, |pages| pages.bytes(count));
            same(count.name(), of, expected[count.at()], found)?;
        }
        Ok(())
    }

    /// The records that belong to a group are counted in it, and it is charged for them.
    fn audit_records(&self, group: &Memcg, of: Of) -> Result<(), Discrepancy> {
        if cfg!(loom) {
            return Ok(());
        }
        if self.objcgs.in_use() <= FEW {
            let records = self.records_anew(Some(group));
            same("group's records", of, records, group.record_bytes())?;
        }
        let (due, found) = (group.engine_bytes_due(), group.own_engine_bytes());
        same("group's bytes of the engine", of, due, found)?;
        let mut below = found;
        self.each_child(group, |_, child| {
            below += child.engine_bytes();
            true
        });
        let found = group.engine_bytes();
        same("bytes of the engine here and below", of, below, found)
    }

    /// What the children of `group` that linger have it charged.
    fn passed_up_by_lingering(&self, group: &Memcg) -> Result<u64, Discrepancy> {
        let (mut bytes, mut n, mut at) = (0, 0, None);
        while let Some(index) = self.next_lingering(group, at) {
            at = Some(index);
            let below = self.memcgs.get(index);
            if below.parent_index() == Some(group.index()) {
                bytes += below.counter.usage();
                n += 1;
            }
        }
        let found = nr(&group.nr_lingering);
        same(
            "group's children that linger",
            Of::Group(group.index()),
            n,
            found,
        )?;
        Ok(bytes)
    }

    /// A group that lingers holds something, or one below does; it has neither children, tasks,
    /// reserve nor stock.
    fn audit_lingering(&self, id: GroupId) -> Result<(), Discrepancy> {
        let (group, of) = (self.memcgs.get(id), Of::Group(id));
        let counter = &group.counter;
        same(
            "lingering group closed",
            of,
            0,
            u64::from(counter.is_closed()),
        )?;
        same("lingering group's children", of, 0, nr(&group.nr_children))?;
        same(
            "lingering group's tasks",
            of,
            0,
            u64::from(group.nr_tasks()),
        )?;
        same("lingering group's reserve", of, 0, counter.reserve())?;
        let sums = self.sums_of(group);
        // What it counted of the engine's records is the parent's.
        same("lingering group's records", of, 0, group.own_engine_bytes())?;
        let usage = sums.charged + self.passed_up_by_lingering(group)?;
        same("lingering group's usage", of, usage, counter.usage())?;
        same(
            "lingering group's grants",
            of,
            sums.granted,
            counter.granted(),
        )?;
        same("lingering group done with", of, 1, usage.min(1))?;
        for (side, &expected) in sums.side.iter().enumerate() {
            let found = group.side_count(side).load(Ordering::Relaxed);
            same("group's bytes of a kind", of, expected, found)?;
        }
        Ok(())
    }

    fn sums_of(&self, group: &Memcg) -> Sums {
        let mut sums = Sums::default();
        for (_, objcg) in self.objcgs.each() {
            let state = objcg.state();
            if matches!(state, State::Free | State::Lost) {
                continue;
            }
            let at = self.resolve(objcg.cell()).group;
            if core::ptr::eq(at, group) {
                sums.charged += objcg.charged_bytes();
                sums.tasks += u64::from(state == State::Task);
            }
            if at.is_within(group) {
                sums.tasks_below += u64::from(state == State::Task);
                sums.granted += objcg.granted.read().bytes;
                for (sum, word) in sums.side.iter_mut().zip(&objcg.side) {
                    *sum += word.read().bytes;
                }
            }
        }
        sums
    }

    fn audit_owner(&self, tag: Tag, objcg: &Objcg) -> Result<(), Discrepancy> {
        let of = Of::Owner(tag);
        let (mut slots, mut stocked, mut caps, mut ahead) = (0, 0, 0, 0);
        for (_, rec) in self.threads.each() {
            for slot in rec
                .named()
                .filter(|&s| rec.slots[s].tag.is(Some(tag), Ordering::Relaxed))
            {
                let cap = rec.slots[slot].cap.load(Ordering::Relaxed);
                let balance = rec.slots[slot].balance.load(Ordering::Relaxed);
                at_most("owner's balance in a slot", of, cap, balance)?;
                slots += 1;
                ahead += rec.slots[slot].spare.bytes();
                stocked += balance;
                caps += cap;
                ahead += rec.slots[slot].slab.load(Ordering::Relaxed);
            }
        }
        if objcg.state() == State::Free {
            let left = objcg.words().map(|word| word.read().bytes).sum();
            same("bytes of no owner", of, 0, left)?;
            return same("slots of no owner", of, 0, slots);
        }
        if objcg.state() == State::Lost {
            return Ok(());
        }
        for word in objcg.words() {
            let (cell, found) = (number(objcg.cell_if_any()), number(word.read().cell));
            same("owner's cells", of, cell, found)?;
        }
        let charged = objcg.charged_bytes();
        at_most("owner's stock", of, charged, stocked)?;
        same("owner's grants", of, caps, objcg.granted.read().bytes)?;
        let kinds: u64 = objcg.side.iter().map(|word| word.read().bytes).sum();
        let residuals = self.residual_bytes(tag);
        at_most("owner's kinds in advance", of, kinds, ahead)?;
        at_most(
            "owner's kinds",
            of,
            charged - stocked + residuals,
            kinds - ahead,
        )?;
        same(
            "stock of an owner with residuals",
            of,
            0,
            residuals.min(caps),
        )?;

        let lives = u64::from(objcg.is_live());
        at_most("owner's names", of, objcg.nr_refs(), slots + lives)?;
        let at = self.resolve(objcg.cell());
        let there = at.group.is_online() || at.group.is_lingering();
        same("owner's group", of, 1, u64::from(there))?;
        if lives == 1 {
            same("live owner", of, 0, u64::from(at.inherited))?;
        } else {
            let words = objcg.words().map(|w| w.read().bytes).sum::<u64>();
            let held = objcg.nr_refs() + words + residuals;
            same("owner done with", of, 1, held.min(1))?;
        }
        Ok(())
    }

    /// Every id that somebody has is that group's, and the groups above have one.
    fn audit_kmem_ids(&self) -> Result<(), Discrepancy> {
        let mut held = 0;
        for (id, _) in self.kmem_ids.holders.each() {
            let Some(holder) = self.kmem_ids.holder(id) else {
                continue;
            };
            let (group, of) = (self.memcgs.get(holder), Of::Group(holder));
            let found = self.kmem_id_if_any(group).map_or(0, KmemId::raw);
            same("kmem id's holder", of, id.raw().into(), found.into())?;
            let above = group.parent().map(|p| self.kmem_id_if_any(p).is_some());
            same("kmem id above", of, 1, above.unwrap_or(true).into())?;
            held += 1;
        }
        let in_use = u64::from(self.kmem_ids.in_use());
        at_most("kmem ids held", Of::All, in_use, held)
    }

    fn audit_slots(&self) -> Result<(), Discrepancy> {
        for (thread, rec) in self.threads.each() {
            let of = Of::Thread(thread);
            same("thread in transit", of, 0, nr(&rec.seq) & 0xff)?;
            same("thread busy", of, 0, nr(&rec.busy))?;
            same("thread drained", of, 0, nr(&rec.drain) & 1)?;
            let named: u64 = rec.named().map(|slot| slot as u64).sum();
            let tagged = (1..SLOTS).filter(|&s| rec.slots[s].tag.load(Ordering::Relaxed).is_some());
            same(
                "slots with a tag",
                of,
                tagged.map(|slot| slot as u64).sum(),
                named,
            )?;
            for slot in (1..SLOTS).filter(|&s| rec.slots[s].tag.load(Ordering::Relaxed).is_none()) {
                let cap = rec.slots[slot].cap.load(Ordering::Relaxed);
                let slab = rec.slots[slot].slab.load(Ordering::Relaxed);
                let spare = rec.slots[slot].spare.bytes();
                same("stock of no owner", of, 0, cap + slab + spare)?;
                same("scopes on no owner", of, 0, nr(&rec.slots[slot].scopes))?;
            }
        }
        Ok(())
    }

    /// Every reference on a cell is a group's, an owner's or a dead cell's.
    fn audit_cells(&self, groups: u64, owners: u64) -> Result<(), Discrepancy> {
        let (mut refs, mut dead) = (0, 0);
        for (_, cell) in self.cells.each() {
            refs += cell.nr_refs();
            dead += u64::from(cell.nr_refs() != 0 && cell.is_dead());
        }
        same("references on cells", Of::All, groups + owners + dead, refs)
    }

    /// Every reference on a name is a group's, an owner's, a lower name's or the piece's before it.
    fn audit_names(&self, groups: u64, owners: u64) -> Result<(), Discrepancy> {
        let (mut refs, mut links) = (0, 0);
        for (_, name) in self.names.each() {
            refs += name.nr_refs();
            if name.nr_refs() != 0 {
                links += name.nr_links();
            }
        }
        same(
            "references on names",
            Of::All,
            groups + owners + links,
            refs,
        )
    }
}

fn number(cell: Option<CellId>) -> u64 {
    cell.map_or(0, |cell| u64::from(cell.raw()))
}

fn nr(count: &crate::sync::atomic::AtomicU32) -> u64 {
    u64::from(count.load(Ordering::Relaxed))
}
