//! Regions against a naive model with books of its own: after every step each group's counts, each
//! page's content and the audit of all sums.

// Under loom there is no process's engine to test.
#![cfg(not(loom))]

use memcg::{Limit, Mapping, Memcg, PAGE_SIZE, PageError, Region, RegionKind, Task, root};
use proptest::prelude::*;
use std::sync::Mutex;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const PAGE: u64 = PAGE_SIZE as u64;
const GROUPS: usize = 4;
const TASKS: usize = 3;
const REGIONS: usize = 4;
const PAGES: u64 = 1200;

/// The histories share the process's tree.
static ALONE: Mutex<()> = Mutex::new(());

#[derive(Clone, Debug)]
enum Op {
    /// A task of that number moves into, or begins in, a group.
    Place(usize, usize),
    /// A task ends.
    End(usize),
    /// A group ends, and another begins in its place.
    Renew(usize),
    /// A new region, instead of the one of that number.
    Map(usize, bool, usize),
    /// It is mapped by a group, once more.
    Share(usize, usize),
    /// Its mapping of that number goes.
    Unmap(usize, usize),
    Write(usize, usize, u64, u8),
    /// A few bytes across a border of pages.
    WritePart(usize, usize, u64, u8),
    Read(usize, usize, u64),
    /// On behalf of another group.
    ChargeTo(usize, usize, usize, u64),
    Declare(usize, Option<usize>),
    Discard(usize, u64, u64),
    Resize(usize, u64),
    Max(usize, Option<u64>),
}

fn op() -> impl Strategy<Value = Op> {
    let (g, t, r, m) = (0..GROUPS, 0..TASKS, 0..REGIONS, 0..3_usize);
    // Mostly few pages, near borders of leaves too.
    let page = || prop_oneof![4 => 0..6_u64, 2 => 508..516_u64, 1 => 0..PAGES];
    prop_oneof![
        2 => (t.clone(), g.clone()).prop_map(|(t, g)| Op::Place(t, g)),
        1 => t.prop_map(Op::End),
        1 => g.clone().prop_map(Op::Renew),
        3 => (r.clone(), any::<bool>(), 0..GROUPS + TASKS).prop_map(|(r, s, who)| Op::Map(r, s, who)),
        2 => (r.clone(), g.clone()).prop_map(|(r, g)| Op::Share(r, g)),
        1 => (r.clone(), m.clone()).prop_map(|(r, m)| Op::Unmap(r, m)),
        9 => (r.clone(), m.clone(), page(), any::<u8>()).prop_map(|(r, m, p, b)| Op::Write(r, m, p, b)),
        3 => (r.clone(), m.clone(), page(), any::<u8>()).prop_map(|(r, m, p, b)| Op::WritePart(r, m, p, b)),
        4 => (r.clone(), m.clone(), page()).prop_map(|(r, m, p)| Op::Read(r, m, p)),
        1 => (r.clone(), m, g.clone(), page()).prop_map(|(r, m, g, p)| Op::ChargeTo(r, m, g, p)),
        1 => (r.clone(), proptest::option::of(g.clone())).prop_map(|(r, g)| Op::Declare(r, g)),
        2 => (r.clone(), 0..PAGES * PAGE, 0..8 * PAGE).prop_map(|(r, at, n)| Op::Discard(r, at, n)),
        1 => (r, prop_oneof![0..8 * PAGE, 0..PAGES * PAGE]).prop_map(|(r, len)| Op::Resize(r, len)),
        2 => (g, proptest::option::of(0..12 * PAGE)).prop_map(|(g, max)| Op::Max(g, max)),
    ]
}

/// Who may be charged, in the model: a group by its number, `None` the one above them all; or a
/// task by its.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Group(Option<usize>),
    Task(usize),
    /// A task that has ended, in a group.
    Ended(Option<usize>),
}

struct Page {
    owner: Owner,
    bytes: Vec<u8>,
}

struct ModelRegion {
    kind: RegionKind,
    len: u64,
    declared: Option<Option<usize>>,
    pages: std::collections::BTreeMap<u64, Page>,
    /// Who uses it.
    users: Vec<Owner>,
}

struct World {
    top: Memcg,
    groups: Vec<Memcg>,
    tasks: Vec<Option<(Task, usize)>>,
    regions: Vec<Option<(Region, Vec<Mapping>, ModelRegion)>>,
    max: Vec<Option<u64>>,
    made: usize,
}

impl World {
    fn new() -> Self {
        static NR: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let nr = NR.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let top = root().create(format!("model-{nr}")).unwrap();
        let mut world = Self {
            top,
            groups: Vec::new(),
            tasks: (0..TASKS).map(|_| None).collect(),
            regions: (0..REGIONS).map(|_| None).collect(),
            max: vec![None; GROUPS],
            made: 0,
        };
        // The last lies within the one before it.
        for g in 0..GROUPS {
            let group = world.create(g);
            world.groups.push(group);
        }
        world
    }

    fn create(&mut self, g: usize) -> Memcg {
        self.made += 1;
        let name = format!("g{g}-{}", self.made);
        let above = if g + 1 == GROUPS {
            &self.groups[GROUPS - 2]
        } else {
            &self.top
        };
        above.create(name).unwrap()
    }

    /// The group of the model above another.
    fn above(g: usize) -> Option<usize> {
        (g + 1 == GROUPS).then_some(GROUPS - 2)
    }

    fn group_of(&self, owner: Owner) -> Option<usize> {
        match owner {
            Owner::Group(group) | Owner::Ended(group) => group,
            Owner::Task(t) => self.tasks[t].as_ref().map(|(_, group)| *group),
        }
    }

    /// Whether `owner`'s bytes count at `group`.
    fn counts_at(&self, owner: Owner, group: Option<usize>) -> bool {
        let mut at = self.group_of(owner);
        loop {
            if at == group {
                return true;
            }
            match at {
                None => return false,
                Some(g) => at = Self::above(g),
            }
        }
    }

    fn held(&self, group: Option<usize>, kind: Option<RegionKind>) -> u64 {
        let regions = self.regions.iter().flatten();
        let regions = regions.filter(|(_, _, model)| kind.is_none_or(|kind| kind == model.kind));
        let pages = regions.flat_map(|(_, _, model)| model.pages.values());
        pages
            .filter(|page| self.counts_at(page.owner, group))
            .count() as u64
            * PAGE
    }

    /// Whether one page more of `owner` has room.
    fn has_room(&self, owner: Owner) -> bool {
        let mut at = self.group_of(owner);
        while let Some(g) = at {
            if self.max[g].is_some_and(|max| self.held(at, None) + PAGE > max) {
                return false;
            }
            at = Self::above(g);
        }
        true
    }

    /// Whom a touch of an absent page charges.
    fn whom(&self, region: usize, user: usize, mark: Option<usize>) -> Owner {
        let (_, _, model) = self.regions[region].as_ref().unwrap();
        if let Some(g) = mark {
            return Owner::Group(Some(g));
        }
        if let Some(declared) = model.declared {
            return Owner::Group(declared);
        }
        match model.kind {
            RegionKind::Anon => model.users[user],
            RegionKind::Shmem | RegionKind::File | _ => {
                Owner::Group(self.group_of(model.users[user]))
            }
        }
    }

    fn pick(&self, region: usize, mapping: usize) -> Option<usize> {
        let (_, mappings, _) = self.regions[region].as_ref()?;
        (!mappings.is_empty()).then(|| mapping % mappings.len())
    }

    /// Writes a range of bytes, as the engine and as the model.
    fn write(&mut self, r: usize, m: usize, at: u64, bytes: &[u8], mark: Option<usize>) {
        let Some(m) = self.pick(r, m) else { return };
        let len = self.regions[r].as_ref().unwrap().2.len;
        let (first, last) = (at / PAGE, (at + bytes.len() as u64 - 1) / PAGE);
        let mut expected = Ok(());
        if at + bytes.len() as u64 > len {
            expected = Err(PageError::OutOfRange);
        } else {
            for index in first..=last {
                let is_there = self.regions[r]
                    .as_ref()
                    .unwrap()
                    .2
                    .pages
                    .contains_key(&index);
                if !is_there {
                    let owner = self.whom(r, m, mark);
                    if !self.has_room(owner) {
                        expected = Err(PageError::NoMemory);
                        break;
                    }
                    let page = Page {
                        owner,
                        bytes: vec![0; PAGE_SIZE],
                    };
                    self.regions[r]
                        .as_mut()
                        .unwrap()
                        .2
                        .pages
                        .insert(index, page);
                }
                let model = &mut self.regions[r].as_mut().unwrap().2;
                let page = model.pages.get_mut(&index).unwrap();
                for (i, byte) in (at..).zip(bytes).filter(|(i, _)| i / PAGE == index) {
                    page.bytes[(i % PAGE) as usize] = *byte;
                }
            }
        }
        let mapping = &self.regions[r].as_ref().unwrap().1[m];
        let got = match mark {
            Some(g) => memcg::charge_to(&self.groups[g], || mapping.write_at(at, bytes)),
            None => mapping.write_at(at, bytes),
        };
        match (expected, got) {
            (Ok(()), Ok(())) => {}
            (Err(PageError::OutOfRange), Err(PageError::OutOfRange)) => {}
            (Err(PageError::NoMemory), Err(PageError::Full(full))) => {
                assert_eq!(full.bytes, PAGE);
            }
            (expected, got) => panic!("{expected:?} was expected, and was {got:?}"),
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Place(t, g) => self.place(t, g),
            Op::End(t) => self.end(t),
            Op::Renew(g) => self.renew(g),
            Op::Map(r, shared, who) => self.map(r, shared, who),
            Op::Share(r, g) => {
                let group = self.groups[g].clone();
                if let Some((region, mappings, model)) = &mut self.regions[r]
                    && model.kind == RegionKind::Shmem
                    && mappings.len() < 3
                {
                    mappings.push(region.map(&group).unwrap());
                    model.users.push(Owner::Group(Some(g)));
                }
            }
            Op::Unmap(r, m) => {
                let Some(m) = self.pick(r, m) else { return };
                let (_, mappings, model) = self.regions[r].as_mut().unwrap();
                drop(mappings.remove(m));
                model.users.remove(m);
            }
            Op::Write(r, m, page, byte) => self.write(r, m, page * PAGE, &[byte; PAGE_SIZE], None),
            Op::WritePart(r, m, page, byte) => {
                self.write(
                    r,
                    m,
                    (page * PAGE + PAGE).saturating_sub(3),
                    &[byte; 7],
                    None,
                );
            }
            Op::Read(r, m, page) => {
                let Some(m) = self.pick(r, m) else { return };
                let (_, mappings, model) = self.regions[r].as_ref().unwrap();
                let mut into = vec![1; PAGE_SIZE];
                let got = mappings[m].read_at(page * PAGE, &mut into);
                if (page + 1) * PAGE > model.len {
                    assert_eq!(got, Err(PageError::OutOfRange));
                    return;
                }
                assert_eq!(got, Ok(()));
                let zeros = vec![0; PAGE_SIZE];
                assert_eq!(
                    &into,
                    model.pages.get(&page).map_or(&zeros, |page| &page.bytes)
                );
            }
            Op::ChargeTo(r, m, g, page) => self.write(r, m, page * PAGE, &[9; 9], Some(g)),
            Op::Declare(r, g) => {
                if let Some((region, _, model)) = &mut self.regions[r] {
                    region.set_owner(g.map(|g| &self.groups[g]));
                    model.declared = g.map(Some);
                }
            }
            Op::Discard(r, at, n) => {
                let Some((region, _, model)) = &mut self.regions[r] else {
                    return;
                };
                let got = region.discard(at..at + n);
                if at + n > model.len {
                    assert_eq!(got, Err(PageError::OutOfRange));
                    return;
                }
                let before = model.pages.len();
                cut(model, at, at + n);
                assert_eq!(got, Ok((before - model.pages.len()) as u64));
            }
            Op::Resize(r, len) => {
                let Some((region, _, model)) = &mut self.regions[r] else {
                    return;
                };
                assert_eq!(region.resize(len), Ok(()));
                if len < model.len {
                    cut(model, len, model.len);
                }
                model.len = len;
            }
            Op::Max(g, max) => {
                let limit = max.map_or(Limit::MAX, Limit::bytes);
                self.groups[g].set_max(limit).unwrap();
                self.max[g] = max;
            }
        }
    }

    fn place(&mut self, t: usize, g: usize) {
        let Some((task, at)) = &self.tasks[t] else {
            let task = self.groups[g].task(format!("t{t}")).unwrap();
            self.tasks[t] = Some((task, g));
            return;
        };
        let at = *at;
        let moved = task.move_to(&self.groups[g]);
        let bytes: u64 = self
            .regions
            .iter()
            .flatten()
            .flat_map(|(_, _, model)| model.pages.values())
            .filter(|page| page.owner == Owner::Task(t))
            .count() as u64
            * PAGE;
        // Below the nearest group that both are in.
        let mut fits = true;
        let mut level = Some(g);
        while let Some(now) = level {
            if now == at || Self::above(at) == Some(now) {
                break;
            }
            fits &=
                self.max[now].is_none_or(|max| self.held(level, None) + bytes <= max) || bytes == 0;
            level = Self::above(now);
        }
        assert_eq!(moved.is_ok(), fits, "{moved:?}");
        if fits {
            self.tasks[t].as_mut().unwrap().1 = g;
        }
    }

    fn end(&mut self, t: usize) {
        let Some((_, g)) = self.tasks[t].take() else {
            return;
        };
        for (_, _, model) in self.regions.iter_mut().flatten() {
            let owners = model.pages.values_mut().map(|page| &mut page.owner);
            for owner in owners.chain(&mut model.users) {
                if *owner == Owner::Task(t) {
                    *owner = Owner::Ended(Some(g));
                }
            }
        }
    }

    fn renew(&mut self, g: usize) {
        let is_busy = self.tasks.iter().flatten().any(|(_, at)| *at == g);
        let has_child = g == GROUPS - 2;
        if is_busy || has_child {
            assert!(self.groups[g].remove().is_err());
            return;
        }
        self.groups[g].remove().unwrap();
        let above = Self::above(g);
        for (_, _, model) in self.regions.iter_mut().flatten() {
            if model.declared == Some(Some(g)) {
                model.declared = Some(above);
            }
            let owners = model.pages.values_mut().map(|page| &mut page.owner);
            for owner in owners.chain(&mut model.users) {
                match *owner {
                    Owner::Group(Some(at)) if at == g => *owner = Owner::Group(above),
                    Owner::Ended(Some(at)) if at == g => *owner = Owner::Ended(above),
                    Owner::Group(_) | Owner::Task(_) | Owner::Ended(_) => {}
                }
            }
        }
        self.max[g] = None;
        self.groups[g] = self.create(g);
    }

    fn map(&mut self, r: usize, shared: bool, who: usize) {
        self.regions[r] = None;
        let user = match who.checked_sub(GROUPS) {
            None => Owner::Group(Some(who)),
            Some(t) if self.tasks[t].is_some() => Owner::Task(t),
            Some(_) => return,
        };
        let kind = if shared {
            RegionKind::Shmem
        } else {
            RegionKind::Anon
        };
        let mapping = match (shared, user) {
            (true, Owner::Task(t)) => {
                let region = Region::shmem("shared", PAGES * PAGE).unwrap();
                region.map_for(&self.tasks[t].as_ref().unwrap().0).unwrap()
            }
            (true, _) => {
                let region = Region::shmem("shared", PAGES * PAGE).unwrap();
                region.map(&self.groups[who]).unwrap()
            }
            (false, Owner::Task(t)) => self.tasks[t]
                .as_ref()
                .unwrap()
                .0
                .map_anon(PAGES * PAGE)
                .unwrap(),
            (false, _) => self.groups[who].map_anon(PAGES * PAGE).unwrap(),
        };
        let model = ModelRegion {
            kind,
            len: PAGES * PAGE,
            declared: None,
            pages: Default::default(),
            users: vec![user],
        };
        assert_eq!(mapping.region().kind(), kind);
        self.regions[r] = Some((mapping.region(), vec![mapping], model));
    }

    /// Every count of every group, and all of the engine's own sums.
    fn check(&self) {
        for (at, group) in (0..GROUPS)
            .map(|g| (Some(g), &self.groups[g]))
            .chain([(None, &self.top)])
        {
            let usage = group.usage();
            let anon = self.held(at, Some(RegionKind::Anon));
            let shmem = self.held(at, Some(RegionKind::Shmem));
            assert_eq!(
                (usage.anon, usage.shmem, usage.file),
                (anon, shmem, 0),
                "{at:?}"
            );
            assert_eq!(group.current() - usage.engine, anon + shmem, "{at:?}");
        }
        for (region, mappings, model) in self.regions.iter().flatten() {
            assert_eq!(region.nr_pages(), model.pages.len() as u64);
            assert_eq!(region.nr_mappings(), mappings.len());
            assert_eq!(region.len(), model.len);
        }
    }
}

/// What becomes zeros in a range, in the model.
fn cut(model: &mut ModelRegion, from: u64, to: u64) {
    let len = model.len;
    model.pages.retain(|&index, page| {
        let (start, end) = (index * PAGE, ((index + 1) * PAGE).min(len));
        if from <= start && end <= to && from < to {
            return false;
        }
        let part = from.max(start)..to.min((index + 1) * PAGE);
        if part.start < part.end {
            page.bytes[(part.start - start) as usize..(part.end - start) as usize].fill(0);
        }
        true
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 60 } else { 400 }))]

    #[test]
    fn regions_are_what_a_naive_model_says(ops in proptest::collection::vec(op(), 1..120)) {
        let _alone = ALONE.lock().unwrap_or_else(|held| held.into_inner());
        let _free = memcg::no_account();
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.check();
        }
        let tree = &memcg::testing::engine::engine().tree;
        prop_assert_eq!(tree.audit(), Ok(()));
        for task in &mut world.tasks {
            drop(task.take());
        }
        world.regions.clear();
        assert_eq!(world.top.current(), 0);
        for group in world.groups.iter().rev() {
            group.remove().unwrap();
        }
        world.top.remove().unwrap();
    }
}
