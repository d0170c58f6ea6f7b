//! The steps by which things come and go: charges, objects of the heap and of caches, what is in
//! the list.

use crate::books::{Thing, What};
use crate::filters::NAMES;
use crate::rules::How;
use crate::stage::paint;
use crate::world::{KnownCache, World};
use memcg::testing::engine::cached_objects::CacheRefusal;
use memcg::testing::engine::{ChargeError, Flags, Request};
use memcg::testing::group::GroupId;
use memcg::testing::group::id::KmemId;
use memcg::testing::group::kind::Kind;
use memcg::testing::kmem::cache::{Plan, Ways};
use memcg::testing::kmem::class::{bytes_of, class_if_any};
use memcg::testing::kmem::list_lru::Link;
use memcg::testing::kmem::{extent_bytes, heap_hit};
use memcg::testing::os::clock::own;
use memcg::testing::sync::id::Id;

/// What a step's charge may do. Nobody sleeps: what is owed stays owed.
pub(crate) fn flags(n: u32) -> Flags {
    let wait = Flags::WAIT.with(Flags::OWE);
    match n % 8 {
        0 | 1 => Flags::NOWAIT,
        2 => wait,
        3 => Flags::INFALLIBLE,
        4 if n.is_multiple_of(3) => Flags::FORCE,
        5 => Flags::MALLOC,
        6 if n.is_multiple_of(2) => Flags::MALLOC | Flags::WAIT | Flags::OWE,
        // Pays what it owes, there and then.
        7 if n > 7 => Flags::WAIT.with(Flags::USER),
        _ => wait.with(Flags::USER),
    }
}

/// What the books say of a charge before it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Will {
    Succeed,
    /// At the first try: by what a policy allows.
    Must,
    /// By the refusal of a group.
    Fail(Option<usize>),
    /// At the door: others stand in line there.
    StayOut(usize),
    /// By what reclaim brings, by what may be owed.
    Depend,
}

impl World {
    /// How the thread that is on makes a charge of such flags.
    fn how(&self, flags: Flags) -> How {
        let thread = self
            .threads
            .iter()
            .find(|t| core::ptr::eq(t.rec, self.rec()));
        How {
            flags,
            fallible: thread.is_some_and(|t| !t.fallible.is_empty()),
        }
    }

    fn will(&self, owner: Option<usize>, bytes: u64, how: How) -> Will {
        let flags = how.flags;
        let Some(owner) = owner else {
            return Will::Succeed;
        };
        let mut books = self.stage.books.borrow_mut();
        if books.may_go_beyond(owner, how) {
            let group = books.owners[owner].group;
            books.may_stock(group);
        }
        drop(books);
        let books = self.stage.books.borrow();
        if let Some(closed) = books.is_kept_out(owner, how) {
            return Will::StayOut(closed);
        }
        let is_forced = flags.has(Flags::FORCE);
        if books.fits(owner, bytes, false) {
            return Will::Succeed;
        }
        if how.is_small(bytes) || is_forced && books.killers(owner).is_empty() {
            return Will::Must;
        }
        // What `lazy` left goes to where it belongs.
        let is_marked = self.engine.tree.may_have_marked();
        let asks = flags.has(Flags::WAIT.with(Flags::USER)) && (self.has_shrinkers() || is_marked);
        let policies = is_forced || books.may_go_beyond(owner, how);
        let is_sure = books.is_sure(owner) && !self.is_lenient();
        let could = asks && (is_marked || self.has_pools() || books.fits(owner, bytes, true));
        let path = books.path(owner);
        drop(books);
        let counter = |index| &self.engine.tree.memcgs.get(index).counter;
        let is_over = |&index: &GroupId| counter(index).usage() > counter(index).max();
        if policies || path.iter().any(is_over) {
            // What was charged in advance may be spent still, where something was forced beyond a
            // limit since; and what is owed, and who dies, is a matter of the books alone where
            // there is none.
            self.drain_all();
        }
        if could || policies && (asks || !is_sure) {
            return Will::Depend;
        }
        let now = own::now().unwrap_or_default();
        let mut books = self.stage.books.borrow_mut();
        match books.charge_at_limit(owner, bytes, how, now) {
            Ok(()) => Will::Must,
            Err(full) => Will::Fail(Some(full)),
        }
    }

    /// Tries once, and again with all stock taken back where that must be enough.
    fn try_twice<R, E: core::fmt::Debug>(
        &self,
        will: Will,
        what: &str,
        mut go: impl FnMut() -> Result<R, E>,
        mut refused: impl FnMut(&E),
    ) -> Option<R> {
        let meddled = self.stage.meddled.get();
        let mut outcome = go().inspect_err(&mut refused);
        // Who was asked for room may have taken some.
        let is_other = self.stage.meddled.get() != meddled;
        if outcome.is_err() && will == Will::Succeed && !is_other {
            self.drain_all();
            outcome = go().inspect_err(&mut refused);
        }
        let is_right = match will {
            Will::Succeed | Will::Must => outcome.is_ok() || self.is_lenient() || is_other,
            Will::Fail(_) | Will::StayOut(_) => outcome.is_err(),
            Will::Depend => true,
        };
        assert!(is_right, "{what} was to {will:?}: {:?}", outcome.err());
        outcome.ok()
    }

    pub(crate) fn try_charge(&self, owner: usize, bytes: u64, kind: Kind, how: Flags) -> bool {
        let tag = self.stage.books.borrow().owners[owner].tag;
        let rec = self.rec();
        self.try_charge_by(owner, bytes, how, || {
            self.engine.charge(
                rec,
                Request {
                    tag,
                    bytes,
                    kind,
                    flags: how,
                },
            )
        })
    }

    /// As [`Self::try_charge`], of a charge that `charge` makes.
    pub(crate) fn try_charge_by<R>(
        &self,
        owner: usize,
        bytes: u64,
        how: Flags,
        charge: impl FnMut() -> Result<R, ChargeError>,
    ) -> bool {
        let killers = self.stage.books.borrow().killers(owner);
        let before = (self.stage.meddled.get(), own::now().unwrap_or_default());
        let will = self.will(Some(owner), bytes, self.how(how));
        let refused = |why: &ChargeError| {
            if let Will::StayOut(closed) = will {
                let closed = self.stage.books.borrow().groups[closed].index;
                assert_eq!(why.refusal.group, Some(closed), "whose line is at the door");
                return;
            }
            if let Will::Fail(Some(full)) = will {
                let books = self.stage.books.borrow();
                let may = books.may_refuse(owner, bytes, full, how.has(Flags::WAIT | Flags::USER));
                let may: Vec<_> = may.iter().map(|&g| books.groups[g].index).collect();
                assert!(
                    why.refusal.group.is_some_and(|group| may.contains(&group)),
                    "{may:?} refuses a charge, not {:?}",
                    why.refusal.group
                );
            }
            self.note_refusal(why.refusal);
        };
        let made = self.stage.while_coming(Some(owner), || {
            self.try_twice(will, "a charge", charge, refused).is_some()
        });
        self.follow_kills(will, before, &killers);
        made
    }

    /// Where reclaim came first, or somebody meddled, who was told to die is not in the books yet.
    fn follow_kills(&self, will: Will, (meddled, began): (u32, u64), killers: &[usize]) {
        if !killers.is_empty() && (will == Will::Depend || self.stage.meddled.get() != meddled) {
            self.adopt_kills(killers, began);
        }
    }

    pub(crate) fn charge(&mut self, n: [u32; 4]) {
        let owner = self.some_owner(n[0]);
        let owner = self.stage.books.borrow().live(owner);
        let bytes = (u64::from(n[2]) + 1).next_multiple_of(8);
        let kind = [Kind::Reserved, Kind::Reserved, Kind::Mapped, Kind::Heap][n[1] as usize % 4];
        // What was charged to the heap without an object would not be found there.
        let kind = if kind == Kind::Heap {
            Kind::Reserved
        } else {
            kind
        };
        if self.try_charge(owner, bytes, kind, flags(n[1] / 4)) {
            let id = self.note(Some(owner), bytes, What::Charge(kind), false);
            let pooled = n[3].is_multiple_of(3);
            let mut books = self.stage.books.borrow_mut();
            books.things.entry(id).and_modify(|t| t.pooled = pooled);
        }
    }

    pub(crate) fn note(&self, owner: Option<usize>, bytes: u64, what: What, linked: bool) -> u64 {
        // Its group may have ended while it was charged, and then it is the parent's: as the engine
        // found it.
        self.stage.while_coming(owner, || self.stage.settle());
        let mut books = self.stage.books.borrow_mut();
        let link = match owner.filter(|_| linked) {
            Some(owner) => {
                let tag = books.owners[owner].tag;
                self.engine.tree.ref_objcg(tag);
                Box::into_raw(Box::new(Link::new(tag))).cast_const()
            }
            None => core::ptr::null(),
        };
        let thing = Thing {
            owner,
            bytes,
            what,
            link,
            listed: false,
            pooled: false,
        };
        let id = books.note(thing);
        paint(id, &thing);
        id
    }

    /// Runs `f` for an owner: the scope the thread is in, or one of its own. `f` gets who is
    /// charged there.
    pub(crate) fn within<R>(
        &mut self,
        n: [u32; 4],
        f: impl FnOnce(&Self, Option<usize>) -> R,
    ) -> R {
        let t = self.put_on(n[3]);
        let scope = self.threads[t].scopes.last();
        if n[1].is_multiple_of(4)
            && let Some(&(_, owner)) = scope
        {
            let live = owner.map(|owner| self.stage.books.borrow().live(owner));
            return self.stage.while_coming(live, || f(self, live));
        }
        let owner = self.some_owner(n[0]);
        let tag = self.stage.books.borrow().owners[owner].tag;
        let scope = self.engine.tree.enter_scope(self.rec(), Some(tag));
        let live = self.stage.books.borrow().live(owner);
        let answer = self.stage.while_coming(Some(live), || f(self, Some(live)));
        self.engine.tree.leave_scope(self.rec(), scope);
        answer
    }

    pub(crate) fn kmalloc(&mut self, n: [u32; 4]) {
        let size = 16 + n[2] as usize % 200_000;
        let how = flags(n[1] / 4);
        self.within(n, |world, owner| {
            let (rec, heap) = (world.rec(), world.stage.heap.get());
            let class = class_if_any(size);
            let Some(bytes) = class.map(bytes_of).or_else(|| extent_bytes(size)) else {
                return;
            };
            let note = |at| world.note(owner, bytes as u64, What::Heap { at }, false);
            // SAFETY: the thread's own record and heap; a class.
            if let Some(at) = class.and_then(|class| unsafe { heap_hit::alloc(rec, heap, class) }) {
                note(at as usize);
                return;
            }
            if let Some(owner) = owner
                && !world.try_charge(owner, bytes as u64, Kind::Heap, how)
            {
                return;
            }
            let tag = owner.map(|o| world.stage.books.borrow().owners[o].tag);
            let taken = {
                let section = rec.enter_heap();
                assert!(section.is_some(), "nobody else is in a thread's heap");
                let kmem = &world.engine.kmem;
                // SAFETY: the thread's own heap, in its section.
                unsafe {
                    match class {
                        Some(class) => kmem.alloc(heap, class, tag, false),
                        None => kmem.alloc_extent(Some(heap), bytes, 16, tag),
                    }
                }
            };
            match taken {
                Some(taken) => drop(note(taken.at)),
                None => {
                    assert!(world.is_lenient(), "no memory for an object");
                    if let Some(tag) = tag {
                        world.engine.uncharge(rec, tag, bytes as u64, Kind::Heap);
                    }
                    world.stage.adopt_residuals(owner);
                }
            }
        });
    }

    /// An object of a cache, to be put into the list or not.
    pub(crate) fn cached(&mut self, n: [u32; 4], linked: bool) {
        let open: Vec<usize> = (0..self.caches.len())
            .filter(|&c| self.caches[c].open)
            .collect();
        if open.is_empty() {
            return;
        }
        let cache = open[(n[2] ^ n[0]) as usize % open.len()];
        let how = flags(n[1] / 4);
        let id = self.within(n, |world, owner| {
            world.alloc_cached(cache, owner, how, linked)
        });
        let Some((id, link)) = id.filter(|(_, link)| !link.is_null()) else {
            return;
        };
        let lists = &self.engine.kmem.lists;
        // SAFETY: the link is the thing's, which leaves the list before it ends; the list lives as
        // long as the world.
        let add = |cx: memcg::testing::kmem::list_lru::Cx<'_>| unsafe {
            lists.add(cx, self.stage.list, &*link)
        };
        assert!(
            self.engine.with_lists(self.rec(), add),
            "a new thing is in no list"
        );
        if let Some(thing) = self.stage.books.borrow_mut().things.get_mut(&id) {
            thing.listed = true;
        }
    }

    fn alloc_cached(
        &self,
        cache: usize,
        owner: Option<usize>,
        how: Flags,
        linked: bool,
    ) -> Option<(u64, *const Link)> {
        let known = &self.caches[cache];
        let owner = owner.filter(|&owner| known.accounted && self.accounts(owner, cache));
        let (index, rec) = (known.index, self.rec());
        let bytes = self.engine.kmem.caches.get(index).charged_bytes();
        let fits_kmem = |owner| self.stage.books.borrow().fits_kmem(owner, bytes);
        let killers = owner.map_or_else(Vec::new, |o| self.stage.books.borrow().killers(o));
        let before = (self.stage.meddled.get(), own::now().unwrap_or_default());
        let by_max = self.will(owner, bytes, self.how(how));
        let will = match by_max {
            Will::Fail(full) => Will::Fail(full),
            Will::StayOut(closed) => {
                // A hit does not ask whether its stock was forced.
                self.drain_all();
                Will::StayOut(closed)
            }
            // Reclaim is not asked where it is the other limit that refuses; but it may have been
            // before.
            _ if !how.has(Flags::FORCE) && !owner.is_none_or(fits_kmem) => {
                // What was counted in advance elsewhere, and came here with a task, may be spent
                // still.
                self.drain_all();
                if self.has_shrinkers() {
                    Will::Depend
                } else {
                    Will::Fail(None)
                }
            }
            will @ (Will::Succeed | Will::Must | Will::Depend) => will,
        };
        let refused = |why: &CacheRefusal| match why {
            CacheRefusal::Max(why) => match will {
                Will::StayOut(closed) => {
                    let closed = self.stage.books.borrow().groups[closed].index;
                    assert_eq!(why.refusal.group, Some(closed), "whose line is at the door");
                }
                Will::Succeed | Will::Must | Will::Fail(_) | Will::Depend => {
                    self.note_refusal(why.refusal)
                }
            },
            CacheRefusal::KmemMax(why) => assert_ne!(why.refusal.group, None),
            CacheRefusal::NoMemory => assert!(self.is_lenient(), "no memory for an object"),
            CacheRefusal::Dead => panic!("an open cache is dead"),
        };
        let take = || self.engine.alloc_cached(rec, index, how);
        let taken = self.try_twice(will, "an object", take, refused);
        self.follow_kills(by_max, before, &killers);
        let at = taken?.at;
        let found = self.engine.kmem.locate_cached(at);
        let tag = owner.map(|o| self.stage.books.borrow().owners[o].tag);
        let (slab, offset) = found.expect("an object just taken");
        assert_eq!(
            slab.owner_and_bytes(offset),
            (tag, bytes),
            "an object's owner and bytes"
        );
        let id = self.note(owner, bytes, What::Cached { at, cache }, linked);
        let link = self.stage.books.borrow().things[&id].link;
        Some((id, link))
    }

    /// A thing of the books, of those that `may` be it.
    pub(crate) fn some_thing(&self, n: u32, may: impl Fn(&Thing) -> bool) -> Option<u64> {
        let books = self.stage.books.borrow();
        let all = books.things.iter().filter(|(_, thing)| may(thing));
        let all: Vec<u64> = all.map(|(&id, _)| id).collect();
        (!all.is_empty()).then(|| all[n as usize % all.len()])
    }

    /// Takes a thing out of the list, or puts one in again.
    pub(crate) fn unlist(&mut self, n: [u32; 4]) {
        let Some(id) = self.some_thing(n[2], |thing| !thing.link.is_null()) else {
            return;
        };
        let thing = self.stage.books.borrow().things[&id];
        // SAFETY: held by the books.
        let link = unsafe { &*thing.link };
        assert_eq!(link.is_listed(), thing.listed);
        if thing.listed {
            assert!(self.stage.unlist(link));
        } else {
            let lists = &self.engine.kmem.lists;
            // SAFETY: as in `cached`.
            let add = |cx: memcg::testing::kmem::list_lru::Cx<'_>| unsafe {
                lists.add(cx, self.stage.list, link)
            };
            assert!(self.engine.with_lists(self.rec(), add));
        }
        let mut books = self.stage.books.borrow_mut();
        books
            .things
            .entry(id)
            .and_modify(|thing| thing.listed = !thing.listed);
    }

    /// A walk that nobody asked the shrinker for.
    pub(crate) fn walk(&mut self, n: [u32; 4]) {
        let ids = self.engine.tree.kmem_ids.high_water();
        if let Some(id) = KmemId::from_raw(n[0] % ids)
            && self.engine.tree.kmem_ids.holder(id).is_some()
        {
            self.stage.walk(id, u64::from(n[2] % 64));
        }
    }

    pub(crate) fn free(&mut self, n: [u32; 4]) {
        if let Some(id) = self.some_thing(n[0].wrapping_mul(31).wrapping_add(n[2]), |_| true) {
            self.stage.free(id);
        }
    }

    /// All that some owner has.
    pub(crate) fn free_many(&mut self, n: [u32; 4]) {
        let owner = n[0] as usize % self.stage.books.borrow().owners.len();
        let all: Vec<u64> = {
            let books = self.stage.books.borrow();
            let all = books.things.iter().filter(|(_, t)| t.owner == Some(owner));
            all.map(|(&id, _)| id).collect()
        };
        for (i, id) in all.into_iter().enumerate() {
            self.put_on(n[1] + (i / 5) as u32);
            self.stage.free(id);
        }
    }

    pub(crate) fn new_cache(&mut self, n: [u32; 4]) {
        if self.caches.iter().filter(|cache| cache.open).count() >= 6 {
            return;
        }
        let mut ways = Ways::default();
        for (bit, way) in [
            (1, Ways::PER_GROUP),
            (2, Ways::MAGAZINES),
            (4, Ways::TRACKED),
            (8, Ways::CHECKED),
        ] {
            if n[0] & bit != 0 {
                ways = ways.with(way);
            }
        }
        let accounted = n[1] % 6 != 5;
        if !accounted {
            ways = ways.with(Ways::NOACCOUNT);
        }
        let bytes = [24, 64, 200, 1000, 9000][n[3] as usize % 5];
        let name = self.caches.len() % NAMES.len();
        let plan = Plan {
            name: NAMES[name],
            bytes,
            align: 8,
            ways,
            ctor: None,
        };
        match self.engine.create_cache(self.rec(), &plan) {
            Some(index) => self.caches.push(KnownCache {
                index,
                accounted,
                name,
                open: true,
            }),
            None => assert!(self.is_lenient(), "no memory for a cache"),
        }
    }

    /// A handle on a cache goes: the cache goes with its last object.
    pub(crate) fn end_cache(&mut self, n: [u32; 4]) {
        let open: Vec<usize> = (0..self.caches.len())
            .filter(|&c| self.caches[c].open)
            .collect();
        if !open.is_empty() {
            let cache = &mut self.caches[open[n[0] as usize % open.len()]];
            cache.open = false;
            let index = cache.index;
            self.engine.destroy_cache(self.rec(), index);
        }
    }
}
