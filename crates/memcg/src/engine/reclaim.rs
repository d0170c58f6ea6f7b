//! Reclaim: goes round a group and those below it and asks shrinkers, until enough came back or
//! nothing more does.
//!
//! How much came back is measured: how much less is in use after a call than before it. What other
//! threads charge meanwhile makes the result smaller, and what they free makes it larger. So a
//! thread that needs room tries again as long as anything was freed by anybody.
//!
//! Invariants: a pass is bounded, by the priorities and by the groups there are. Code of the
//! program runs unpinned, without a lock, on a thread that is marked as helping: what that thread
//! charges is forced, and it does not begin to reclaim in turn. What a thread may not do itself is
//! left to the worker.
//! Depends on: `reclaim` for which group and how much; `kmem::shrinker_registry` for who is
//! registered.
//! Never: refuses or kills; the loop around a charge decides that.

pub mod evict;
mod pages;

use super::progress::{Passes, ask_of};
use super::worker::ROOM;
use super::worker::worker_thread;
use super::{By, Engine, Flags, Request, Work};
use crate::counter::protection::{Pass, Standing, exposed, standing};
use crate::group::exact_charge::each_level;
use crate::group::id::KmemId;
use crate::group::{Event, GroupId, Memcg, ROOT, Tag};
use crate::kmem::shrinker_registry::Ask;
use crate::page::cost_balance::Swappiness;
use crate::reclaim::share::{PRIORITIES, share};
use crate::reclaim::subtree::{Cursors, Protections, Round};
use crate::sync::Zeroed;
use crate::thread::ThreadRec;

/// The least that is worth a pass, in bytes. In a small group it is less: a sixteenth of max.
const CLUSTER: u64 = 128 << 10;
/// As [`CLUSTER`], where a charge has the engine's own pages taken: one write of swap.
const PAGES_BEHIND: u64 = 256 << 10;
/// How many batches in a row may give nothing before a shrinker is left alone for this time, and
/// what it still owes is put off. The number is large enough for a list that gives each of 100,000
/// things a second chance. Without it, a shrinker that says it has things without end would be
/// asked without end.
const FRUITLESS: u32 = 1024;
/// How often a charge, or a write of a limit, tries again while each try gets something back.
pub(super) const ROUNDS: u32 = 64;

/// What the passes of an engine share.
#[derive(Default)]
pub struct State {
    cursors: Cursors,
    pub(super) passes: Passes,
}

// SAFETY: `Cursors` and `Passes` are `Zeroed`, so zero bytes are a valid value of both, and the one
// that the derived `Default` gives.
unsafe impl Zeroed for State {}

/// What a reclaim got back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reclaimed {
    /// Bytes, by the usage before and after.
    pub bytes: u64,
    /// Things that shrinkers said they freed.
    pub things: u64,
}

/// The state of one pass: which group it is for, how much is wanted, how far it has come.
struct Control<'a> {
    rec: &'a ThreadRec,
    top: Ask,
    want: u64,
    pass: Pass,
    priority: u32,
    protections: Protections,
    got: Reclaimed,
    /// Whose things are taken: the engine's own alone, or those of shrinkers, too.
    by: By,
    swappiness: Swappiness,
    /// Things that could have been asked for in this round.
    met: u64,
    low_skipped: bool,
}

impl Control<'_> {
    fn is_enough(&self) -> bool {
        self.got.bytes >= self.want
    }

    /// How many things make up the bytes that are still wanted. The size of a thing is the mean of
    /// those freed so far; before any was, the group's usage divided by `all`, the number of its
    /// things.
    fn things_wanted(&self, all: u64, part: Option<Part>) -> u64 {
        let (bytes, things) = match (self.got, part) {
            (got, _) if got.bytes > 0 && got.things > 0 => (got.bytes, got.things),
            (_, Some(part)) => (part.usage, all),
            _ => return u64::MAX,
        };
        let left = self.want.saturating_sub(self.got.bytes);
        (u128::from(left) * u128::from(things) / u128::from(bytes.max(1)))
            .try_into()
            .unwrap_or(u64::MAX)
            .max(1)
    }
}

impl Engine {
    /// Gets `want` bytes back from `top` and below, or as many as there are. Lifts the pins of the
    /// calling thread: what was found under them is to be looked up again. Runs shrinkers of the
    /// program on this thread.
    pub fn reclaim(&self, rec: &ThreadRec, top: &Memcg, want: u64) -> Reclaimed {
        self.reclaim_by(rec, top, want, Manner::NOW)
    }

    /// Whether there may be anything to reclaim. Cost: three loads.
    #[inline]
    pub(super) fn may_reclaim(&self) -> bool {
        !self.kmem.shrinkers.is_empty() || self.tree.may_have_marked() || self.pages.are_mine()
    }

    /// Gets `want` bytes back, and `behind` more where that takes nothing from a group that is
    /// within its `low`.
    fn reclaim_by(&self, rec: &ThreadRec, top: &Memcg, want: u64, manner: Manner) -> Reclaimed {
        let Manner {
            behind,
            need,
            by,
            swappiness,
        } = manner;
        if !self.may_reclaim() {
            return Reclaimed::default();
        }
        let top = ask_of(top);
        let _running = self.reclaims.passes.begin(top.group);
        let owner = rec.current().filter(|&tag| self.is_tag(tag));
        let _stall = owner.map(|tag| self.tree.stall(rec, tag));
        let _lifted = self.tree.threads.epoch.lift(rec);
        let _helping = rec.begin_helping();
        let mut control = Control {
            rec,
            top,
            want: want + behind,
            pass: Pass::RespectLow,
            priority: PRIORITIES,
            protections: Protections::below(top.group),
            got: Reclaimed::default(),
            by,
            swappiness,
            met: 0,
            low_skipped: false,
        };
        // What a move left here, marked, goes first: to the group its task is in now.
        control.got.bytes = self.send_marked(rec, top, control.want);
        if !control.is_enough() {
            self.run_pass(&mut control);
        }
        control.want = want;
        if !control.is_enough() && control.low_skipped && need == Need::Now {
            control.pass = Pass::IgnoreLow;
            self.run_pass(&mut control);
        }
        control.got
    }

    fn send_marked(&self, rec: &ThreadRec, top: Ask, want: u64) -> u64 {
        if !self.tree.may_have_marked() {
            return 0;
        }
        let _pin = self.tree.threads.epoch.pin(rec);
        self.group_of(top)
            .map_or(0, |top| self.change(|| self.tree.send_marked(top, want)))
    }

    /// Has marked bytes evicted first; then goes round with rising pressure.
    fn run_pass(&self, control: &mut Control<'_>) {
        self.evict_marked(control);
        if control.is_enough() {
            return;
        }
        for priority in (0..=PRIORITIES).rev() {
            control.priority = priority;
            control.met = 0;
            self.run_round(control);
            if control.is_enough() || control.met == 0 {
                return;
            }
        }
    }

    fn run_round(&self, control: &mut Control<'_>) {
        let epoch = &self.tree.threads.epoch;
        let mut round = {
            let _pin = epoch.pin(control.rec);
            let Some(top) = self.group_of(control.top) else {
                return;
            };
            // Computed anew: usage has changed.
            control.protections = Protections::below(control.top.group);
            Round::begin(&self.tree, top, self.reclaims.cursors.get(top.index()))
        };
        loop {
            let next = {
                let _pin = epoch.pin(control.rec);
                round.next(&self.tree).map(|index| {
                    self.reclaims.cursors.set(control.top.group, index);
                    let group = self.tree.memcgs.get(index);
                    (ask_of(group), self.part_of(control, group))
                })
            };
            match next {
                Some((ask, Some(part))) => {
                    self.take_pages(control, ask, part);
                    if control.by == By::All && !control.is_enough() {
                        self.ask_all(control, ask, part);
                    }
                }
                Some((_, None)) => {}
                None => break,
            }
            if control.is_enough() {
                break;
            }
        }
        if control.top.group == ROOT && control.by == By::All && !control.is_enough() {
            self.ask_for_all(control);
        }
    }

    /// Which part of a group's bytes may be asked for in this pass; `None`: none. The caller is
    /// pinned.
    fn part_of(&self, control: &mut Control<'_>, group: &Memcg) -> Option<Part> {
        let usage = group.counter.usage();
        let effective = control.protections.of(&self.tree, group);
        let may = match standing(usage, effective) {
            Standing::Empty | Standing::WithinMin => false,
            Standing::WithinLow if control.pass == Pass::RespectLow => {
                control.low_skipped = true;
                false
            }
            Standing::WithinLow => {
                if control.priority == PRIORITIES {
                    group.event(Event::Low);
                }
                true
            }
            Standing::Exposed => {
                control.low_skipped |= effective.low > effective.min;
                true
            }
        };
        may.then_some(Part { usage, effective })
    }

    /// Asks every shrinker that keeps things by group. A list's shrinker is asked only if the group
    /// has something in the list.
    fn ask_all(&self, control: &mut Control<'_>, ask: Ask, part: Part) {
        let shrinkers = &self.kmem.shrinkers;
        let marked = {
            let _pin = self.tree.threads.epoch.pin(control.rec);
            let Some(group) = self.group_of(ask) else {
                return;
            };
            self.kmem.lists.marked(self.tree.kmem_id_if_any(group))
        };
        for index in shrinkers.each() {
            if shrinkers
                .list_of(index)
                .is_some_and(|list| !marked.has(list))
            {
                continue;
            }
            let Some(held) = shrinkers.pin(index) else {
                continue;
            };
            let manner = held.manner();
            if !manner.per_group {
                continue;
            }
            let id = {
                let _pin = self.tree.threads.epoch.pin(control.rec);
                let Some(group) = self.group_of(ask) else {
                    return;
                };
                let id = self.tree.kmem_id_if_any(group);
                let lists = &self.kmem.lists;
                let has_any = |list, id| lists.has_any(&self.kmem, control.rec, list, id);
                if let Some(list) = manner.list
                    && !id.is_some_and(|id| has_any(list, id))
                {
                    continue;
                }
                id
            };
            self.ask_one(control, &held, ask, id, Some(part));
            if control.is_enough() {
                return;
            }
        }
    }

    /// When the root is reclaimed: asks every shrinker that does not keep things by group.
    fn ask_for_all(&self, control: &mut Control<'_>) {
        let shrinkers = &self.kmem.shrinkers;
        for index in shrinkers.each() {
            let Some(held) = shrinkers.pin(index) else {
                continue;
            };
            if !held.manner().per_group {
                self.ask_one(control, &held, control.top, None, None);
            }
            if control.is_enough() {
                return;
            }
        }
    }

    /// Asks one shrinker, batch by batch, for its share at this priority, and puts off what it
    /// still owes.
    fn ask_one(
        &self,
        control: &mut Control<'_>,
        held: &crate::kmem::shrinker_registry::Held<'_>,
        ask: Ask,
        id: Option<KmemId>,
        part: Option<Part>,
    ) {
        let manner = held.manner();
        let all = held.count(ask);
        if all == 0 {
            return;
        }
        let freeable = part.map_or(all, |part| {
            exposed(all, part.usage, part.effective, control.pass)
        });
        // What shrinkers say is believed as far as it can be counted.
        control.met = control.met.saturating_add(freeable);
        let share = share(
            freeable,
            held.remove_deferred(id),
            control.priority,
            manner.seeks,
        );
        let (mut scanned, mut fruitless) = (0_u64, 0);
        while fruitless < FRUITLESS
            && let Some(most) = share.next_batch(scanned, freeable, manner.batch)
        {
            // A batch of large things may be far more than is wanted.
            let nr = most.min(control.things_wanted(all, part));
            let before = self.held_below(control);
            let Some(freed) = held.scan(ask, nr) else {
                break;
            };
            scanned = scanned.saturating_add(nr);
            let bytes = before.saturating_sub(self.held_below(control));
            control.got.bytes += bytes;
            control.got.things = control.got.things.saturating_add(freed);
            self.count_shrunk(control.rec, ask, nr, freed);
            fruitless = if bytes == 0 && freed == 0 {
                fruitless + 1
            } else {
                0
            };
            if control.is_enough() {
                break;
            }
        }
        held.defer(id, share.owed_after(scanned, freeable));
    }

    /// The usage of the group that this pass is for.
    fn held_below(&self, control: &Control<'_>) -> u64 {
        let _pin = self.tree.threads.epoch.pin(control.rec);
        self.group_of(control.top)
            .map_or(0, |top| self.tree.usage(top).current)
    }

    fn count_shrunk(&self, rec: &ThreadRec, ask: Ask, scanned: u64, freed: u64) {
        let _pin = self.tree.threads.epoch.pin(rec);
        if let Some(group) = self.group_of(ask) {
            group.add_shrunk(scanned, freed);
        }
    }

    /// A charge was refused by `full`: makes room for it, or waits for others that may. `true`:
    /// another try is worth while. The caller is pinned, and looks `full` up again afterwards.
    pub(super) fn make_room(&self, rec: &ThreadRec, full: &Memcg, request: Request) -> bool {
        let seen = self.see(full);
        let max = full.counter.max();
        // What is free counts: more than is missing would be taken from what is protected.
        let need = full
            .counter
            .usage()
            .saturating_add(request.bytes)
            .saturating_sub(max);
        if request.flags.has(Flags::USER) {
            let behind = CLUSTER.min(max / 16).saturating_sub(need);
            // If nothing came back, other threads may be reclaiming what there is: wait for them.
            let manner = Manner {
                behind,
                ..Manner::NOW
            };
            return need == 0
                || self.reclaim_by(rec, full, need, manner) != Reclaimed::default()
                || self.await_progress(rec, seen);
        }
        // The engine's own pages are nobody's code.
        if self.pages.are_mine() {
            let manner = Manner {
                behind: PAGES_BEHIND.min(max / 16).saturating_sub(need),
                by: By::Engine,
                ..Manner::NOW
            };
            if need == 0 || self.reclaim_by(rec, full, need, manner) != Reclaimed::default() {
                return true;
            }
        }
        self.wake_reclaim(full, request.bytes);
        worker_thread::serves(self) && self.await_progress(rec, seen)
    }

    /// A charge that may run shrinkers has left groups above their `high`: brings them down, as far
    /// as shrinkers give, before the thread pays for what remains. `true`: none of them is above
    /// its `high` now. The caller is not pinned.
    pub(super) fn reclaim_high(&self, rec: &ThreadRec, tag: Tag) -> bool {
        if !self.may_reclaim() || rec.is_helping() {
            return false;
        }
        // Groups beyond these four are left to the worker.
        let mut above = [None; 4];
        {
            let _pin = self.tree.threads.epoch.pin(rec);
            let mut n = 0;
            let cell = self.tree.objcgs.get(tag).cell();
            each_level(self.tree.resolve(cell).group, |level| {
                if level.counter.usage() > level.counter.high() && n < above.len() {
                    above[n] = Some((ask_of(level), level.counter.high()));
                    n += 1;
                }
            });
        }
        let mut is_down = above[above.len() - 1].is_none();
        for (ask, high) in above.into_iter().flatten() {
            let _pin = self.tree.threads.epoch.pin(rec);
            if let Some(group) = self.group_of(ask) {
                is_down &= self.reclaim_to(rec, group, high);
            }
        }
        is_down
    }

    /// Has the worker reclaim from `group`, for a charge of `bytes`, if there may be anything to
    /// reclaim.
    pub(super) fn wake_reclaim(&self, group: &Memcg, bytes: u64) {
        if self.may_reclaim() {
            self.defer(Work::Reclaim {
                group: group.index(),
                room: bytes.div_ceil(ROOM).min(u32::MAX.into()) as u32,
            });
        }
    }

    /// Reclaim in the background. First down to `high`, and to where a charge of `room` bytes fits.
    /// Then, as far as it takes nothing from a group within its `low`, to a sixteenth below `max`,
    /// where a group grants stock again.
    pub(super) fn reclaim_behind(&self, rec: &ThreadRec, index: GroupId, room: u64) {
        for need in [Need::Now, Need::Later] {
            let excess = {
                let _pin = self.tree.threads.epoch.pin(rec);
                let group = self.tree.memcgs.get(index);
                if !group.is_online() {
                    return;
                }
                let max = group.counter.max();
                let line = match need {
                    Need::Now => group.counter.high().min(max.saturating_sub(room)),
                    Need::Later => max - max / 16,
                };
                group.counter.usage().saturating_sub(line)
            };
            if excess > 0 {
                let group = self.tree.memcgs.get(index);
                let manner = Manner {
                    need,
                    ..Manner::NOW
                };
                self.reclaim_by(rec, group, excess, manner);
            }
        }
    }

    /// After a limit was written: gets the group's usage down to `line`, if that is possible.
    /// `false`: it stays above. Lifts the pins of the calling thread.
    pub fn reclaim_to(&self, rec: &ThreadRec, group: &Memcg, line: u64) -> bool {
        let ask = ask_of(group);
        for _ in 0..ROUNDS {
            let (group, excess) = {
                let _pin = self.tree.threads.epoch.pin(rec);
                let Some(group) = self.group_of(ask) else {
                    return true;
                };
                let mut usage = group.counter.usage();
                if usage > line && group.counter.granted() > 0 {
                    self.tree.drain(rec, group);
                    usage = group.counter.usage();
                }
                (group, usage.saturating_sub(line))
            };
            if excess == 0 {
                return true;
            }
            if self.reclaim(rec, group, excess) == Reclaimed::default() {
                return false;
            }
        }
        false
    }

    /// What a write of `memory.reclaim` does: drains, then reclaims until `want` bytes are back or
    /// nothing more comes back; answers the bytes. Lifts the pins of the calling thread.
    pub fn reclaim_bytes(&self, rec: &ThreadRec, group: &Memcg, want: u64) -> u64 {
        self.reclaim_bytes_by(rec, group, want, Swappiness::default())
    }

    /// As [`Self::reclaim_bytes`], with a weight of anonymous pages against those of files.
    pub fn reclaim_bytes_by(
        &self,
        rec: &ThreadRec,
        group: &Memcg,
        want: u64,
        swappiness: Swappiness,
    ) -> u64 {
        let ask = ask_of(group);
        // Stock is in no use: it is drained first, and does not count as reclaimed.
        self.tree.drain(rec, group);
        let mut got = 0;
        for _ in 0..ROUNDS {
            if got >= want {
                break;
            }
            let group = self.tree.memcgs.get(ask.group);
            if group.generation() != ask.generation {
                break;
            }
            let manner = Manner {
                swappiness,
                ..Manner::NOW
            };
            let now = self.reclaim_by(rec, group, want - got, manner);
            if now == Reclaimed::default() {
                break;
            }
            got += now.bytes;
        }
        // Some of what was freed is stock by now.
        self.tree.drain(rec, self.tree.memcgs.get(ask.group));
        got
    }
}

/// How a reclaim goes about it.
#[derive(Clone, Copy)]
struct Manner {
    /// So many bytes more are taken where that takes nothing from a group that is within its `low`.
    behind: u64,
    need: Need,
    by: By,
    swappiness: Swappiness,
}

impl Manner {
    /// What is needed now, from everybody.
    const NOW: Self = Self {
        behind: 0,
        need: Need::Now,
        by: By::All,
        swappiness: Swappiness::Weight(60),
    };
}

/// How urgent a reclaim is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// A charge waits for it, or a limit was set: where nothing else is left, `low` is not
    /// respected.
    Now,
    /// In the background, so that no charge has to wait later: `low` is respected.
    Later,
}

/// Which part of a group's bytes may be asked for: its usage, and its effective protection.
#[derive(Clone, Copy)]
struct Part {
    usage: u64,
    effective: crate::counter::protection::Protection,
}
