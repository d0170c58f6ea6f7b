//! What the steps and the shrinker share: the engine, the books, the thread that is on; and how a
//! thing goes.
//!
//! The shrinker is called in the middle of steps, and knows only its data; so this is had from the
//! thread that drives them all. The books are borrowed for moments, never over a call of the
//! engine.

use crate::books::{Books, Thing, What};
use core::cell::{Cell, RefCell};
use memcg::testing::engine::Engine;
use memcg::testing::group::id::KmemId;
use memcg::testing::group::kind::Kind;
use memcg::testing::group::{ROOT, Tag};
use memcg::testing::kmem::Heap;
use memcg::testing::kmem::heap_hit;
use memcg::testing::kmem::id::ListId;
use memcg::testing::kmem::list_lru::{Link, Verdict, Walked};
use memcg::testing::kmem::shrinker_registry::{Ask, Ops};
use memcg::testing::thread::ThreadRec;
use std::rc::Rc;

/// An error put in on purpose, to see that it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Planted {
    Nothing,
    /// From the 21st on charges are given back with eight bytes too few.
    ShortUncharge,
    /// Groups that do not linger end without their lists and caches being told.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests alone plant it"))]
    ListLeftBehind,
    /// A thing that reclaim frees is not uncharged, every seventh.
    LostByReclaim,
    /// A thing gets another owner, and the auditor is not told.
    GivenToNobody,
    /// Who dies is chosen as if nothing had been said of anybody.
    ScoreUnheard,
    /// A block is adopted, and the auditor is not told.
    AdoptedUnsaid,
    /// What children are to begin with is not.
    DefaultUnheard,
    /// A group is killed, and its generations are as before.
    GenerationKept,
    /// Who stands in line is charged twice.
    ServedTwice,
}

pub(crate) struct Stage {
    pub engine: &'static Engine,
    pub list: ListId,
    pub rec: Cell<&'static ThreadRec>,
    pub heap: Cell<&'static Heap>,
    pub books: RefCell<Books>,
    pub planted: Planted,
    freed: Cell<u64>,
    reclaimed: Cell<u64>,
    mood: Cell<u32>,
    /// How often a shrinker that meddles may yet, in this step.
    pub meddling: Cell<u32>,
    /// Whose charge is under way: it may have been made already while shrinkers are asked, and be
    /// in no books yet.
    pub coming: Cell<Option<usize>>,
    /// How often one has.
    pub meddled: Cell<u32>,
    /// Groups that were removed in this step.
    pub removed: RefCell<Vec<usize>>,
    /// The honest shrinker is asked by group.
    pub pool_by_group: Cell<bool>,
    /// A group has ended by `mapper`: who holds what it left is to be asked.
    pub ended_by_mapper: Cell<bool>,
    /// The process has forked, and this is the child.
    pub forked: Cell<bool>,
}

thread_local! {
    static STAGE: RefCell<Option<Rc<Stage>>> = const { RefCell::new(None) };
}

pub(crate) fn on_stage() -> Rc<Stage> {
    STAGE.with_borrow(Clone::clone).expect("a world is there")
}

/// Ends a hold on a thing's link; the last one ends it.
///
/// # Safety
/// The hold is the caller's.
pub(crate) unsafe fn let_go(link: *const Link) {
    // SAFETY: held by the caller.
    if !unsafe { &*link }.unref() {
        return;
    }
    // SAFETY: the last hold; made by `Box::into_raw`.
    let tag = unsafe { Box::from_raw(link.cast_mut()) }.tag();
    let stage = on_stage();
    let tree = &stage.engine.tree;
    let _pin = tree.threads.epoch.pin(stage.rec.get());
    tree.unref_objcg(tag);
}

/// The shrinker: the list's things of a group.
pub(crate) static OPS: Ops = Ops {
    count: |_, ask| on_stage().count(ask),
    scan: |_, ask, nr| Some(on_stage().walk_of(ask, nr)?.removed),
    let_go: |_| {},
};

impl Stage {
    pub(crate) fn set(
        engine: &'static Engine,
        list: ListId,
        first: (&'static ThreadRec, &'static Heap),
        planted: Planted,
    ) -> Rc<Self> {
        let this = Rc::new(Self {
            engine,
            list,
            rec: Cell::new(first.0),
            heap: Cell::new(first.1),
            books: RefCell::default(),
            planted,
            freed: Cell::new(0),
            reclaimed: Cell::new(0),
            mood: Cell::new(0),
            meddling: Cell::new(0),
            coming: Cell::new(None),
            meddled: Cell::new(0),
            removed: RefCell::default(),
            pool_by_group: Cell::new(true),
            ended_by_mapper: Cell::new(false),
            forked: Cell::new(false),
        });
        STAGE.set(Some(this.clone()));
        this
    }

    /// A step begins: shrinkers may meddle with it.
    pub(crate) fn begin_step(&self) {
        self.meddling.set(3);
        self.removed.take();
    }

    /// Nobody meddles until the next step.
    pub(crate) fn be_still(&self) {
        self.meddling.set(0);
    }

    /// A number that is another each time.
    pub(crate) fn next_mood(&self) -> u32 {
        self.mood
            .set(self.mood.get().wrapping_mul(5).wrapping_add(3) & 0xffff);
        self.mood.get() >> 5
    }

    fn id_of(&self, ask: Ask) -> Option<KmemId> {
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec.get());
        let group = tree.memcgs.get(ask.group);
        let is_there = group.generation() == ask.generation;
        is_there.then(|| tree.kmem_id_if_any(group)).flatten()
    }

    fn count(&self, ask: Ask) -> u64 {
        self.id_of(ask).map_or(0, |id| self.count_of(id))
    }

    pub(crate) fn count_of(&self, id: KmemId) -> u64 {
        let lists = &self.engine.kmem.lists;
        self.engine
            .with_lists(self.rec.get(), |cx| lists.count(cx, self.list, id))
    }

    fn walk_of(&self, ask: Ask, nr: u64) -> Option<Walked> {
        Some(self.walk(self.id_of(ask)?, nr))
    }

    /// Goes through a group's list, freeing most of what it meets.
    pub(crate) fn walk(&self, id: KmemId, nr: u64) -> Walked {
        let lists = &self.engine.kmem.lists;
        let rec = self.rec.get();
        let mut look = |link: &Link| self.look(link);
        self.engine
            .with_lists(rec, |cx| lists.walk(cx, self.list, id, nr, &mut look))
    }

    fn look(&self, link: &Link) -> Verdict {
        self.mood
            .set(self.mood.get().wrapping_mul(5).wrapping_add(3) & 0xffff);
        match self.mood.get() >> 11 {
            0 | 1 => return Verdict::Skip,
            2 | 3 => return Verdict::Rotate,
            4 => return Verdict::Retry,
            5 if self.mood.get() & 0x100 != 0 => return Verdict::Stop,
            _ => {}
        }
        let found = {
            let mut books = self.books.borrow_mut();
            let at = core::ptr::from_ref(link);
            let id = books.things.iter().find(|(_, t)| core::ptr::eq(t.link, at));
            let id = *id.expect("a thing that is shown is in the books").0;
            books.things.remove(&id).map(|thing| (id, thing))
        };
        let (id, thing) = found.expect("found a moment ago");
        assert!(thing.listed, "a thing is shown that is in no list");
        self.reclaimed.set(self.reclaimed.get() + 1);
        if self.planted != Planted::LostByReclaim || !self.reclaimed.get().is_multiple_of(7) {
            self.end(id, &thing);
        }
        // SAFETY: the books' hold, which ends here; the walk has its own.
        unsafe { let_go(thing.link) };
        Verdict::Removed
    }

    /// Frees a thing of the books, by the thread that is on.
    pub(crate) fn free(&self, id: u64) {
        let thing = self.books.borrow_mut().things.remove(&id);
        let thing = thing.expect("a thing there is");
        if !thing.link.is_null() {
            // SAFETY: held by the books until here.
            let was = self.unlist(unsafe { &*thing.link });
            assert_eq!(was, thing.listed, "a thing is in the list as the books say");
        }
        self.end(id, &thing);
        if !thing.link.is_null() {
            // SAFETY: the books' hold, which ends here.
            unsafe { let_go(thing.link) };
        }
        self.settle();
    }

    /// Groups that linger and have nothing any more end, in both.
    pub(crate) fn settle(&self) {
        self.engine.finish_lingering(self.rec.get());
        let coming = self.coming.get();
        let coming = coming.map(|owner| self.books.borrow().owners[owner].group);
        let kept = coming.filter(|g| self.group(*g).is_lingering());
        self.books.borrow_mut().settle_but(kept);
    }

    /// Runs `f`, a charge of an owner.
    pub(crate) fn while_coming<R>(&self, owner: Option<usize>, f: impl FnOnce() -> R) -> R {
        let before = self.coming.replace(owner);
        let answer = f();
        self.coming.set(before);
        answer
    }

    pub(crate) fn unlist(&self, link: &Link) -> bool {
        let lists = &self.engine.kmem.lists;
        self.engine
            .with_lists(self.rec.get(), |cx| lists.del(cx, link))
    }

    /// Gives back what a thing was charged, and its memory. It is out of the books.
    fn end(&self, id: u64, thing: &Thing) {
        check(id, thing);
        let rec = self.rec.get();
        let tag = thing
            .owner
            .map(|owner| self.books.borrow().owners[owner].tag);
        match thing.what {
            What::Block => {
                if let Some(tag) = tag {
                    self.engine.uncharge(rec, tag, thing.bytes, Kind::Heap);
                }
            }
            What::Charge(kind) => {
                self.freed.set(self.freed.get() + 1);
                let short = self.planted == Planted::ShortUncharge && self.freed.get() > 20;
                let bytes = thing.bytes - if short { 8 } else { 0 };
                if let Some(tag) = tag {
                    self.engine.uncharge(rec, tag, bytes, kind);
                }
            }
            // SAFETY: live; ends here.
            What::Cached { at, .. } => unsafe { self.engine.free_cached(rec, at, false) },
            What::Heap { at } => self.free_heap(at, thing.bytes, tag),
        }
        self.adopt_residuals(thing.owner);
    }

    fn free_heap(&self, at: usize, bytes: u64, tag: Option<Tag>) {
        let (rec, heap, kmem) = (self.rec.get(), self.heap.get(), &self.engine.kmem);
        // SAFETY: a live object, which ends here; the thread's own record and heap.
        if unsafe {
            heap_hit::free(rec, heap, at) || heap_hit::free_nearly(kmem, rec, Some(heap), at)
        } {
            return;
        }
        let object = kmem.locate(at).expect("a live object");
        assert_eq!(
            (object.tag, object.bytes as u64),
            (tag, bytes),
            "an object's owner and bytes"
        );
        if let Some(tag) = tag {
            self.engine.uncharge(rec, tag, bytes, Kind::Heap);
        }
        let section = rec.enter_heap();
        let own = section.is_some().then_some(heap);
        // SAFETY: as above; uncharged.
        unsafe { kmem.free_object(own, object) };
    }

    /// What an owner's moves left elsewhere got less by a free: which of it, the engine chose.
    pub(crate) fn adopt_residuals(&self, owner: Option<usize>) {
        let mut books = self.books.borrow_mut();
        let Some(owner) = owner.filter(|&owner| !books.owners[owner].residuals.is_empty()) else {
            return;
        };
        let before: u64 = books.owners[owner]
            .residuals
            .iter()
            .map(|residual| residual.1)
            .sum();
        let residuals = self.residuals_of(&books, owner);
        let after: u64 = residuals.iter().map(|residual| residual.1).sum();
        assert!(
            after <= before,
            "what was left elsewhere got more: {before}, {after}"
        );
        books.owners[owner].residuals = residuals;
    }

    /// Reclaim may have sent what was marked to where it belongs.
    pub(crate) fn adopt_if(&self, were_marked: bool) {
        if were_marked {
            let nr = self.books.borrow().owners.len();
            (0..nr).for_each(|owner| self.adopt_residuals(Some(owner)));
        }
    }

    pub(crate) fn residuals_of(&self, books: &Books, owner: usize) -> Vec<(Option<usize>, u64)> {
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec.get());
        let residuals = tree.residuals(books.owners[owner].tag);
        residuals
            .map(|residual| {
                let group = residual
                    .cell_if_any()
                    .map(|cell| tree.resolve(cell).group.index());
                let known = |index| books.group_at(index).expect("a residual's group is there");
                (group.map(known), residual.charged_bytes())
            })
            .filter(|residual| residual.1 > 0)
            .collect()
    }

    /// The record of a group that is there.
    pub(crate) fn group(&self, g: usize) -> &'static memcg::testing::group::Memcg {
        let index = self.books.borrow().groups[g].index;
        debug_assert!(g > 0 || index == ROOT);
        self.engine.tree.memcgs.get(index)
    }
}

/// The places of an object that say whose it is: its beginning and its end.
fn places(at: usize, bytes: u64) -> [*mut u64; 2] {
    [
        at as *mut u64,
        (at + bytes as usize / 8 * 8 - 8) as *mut u64,
    ]
}

fn memory(thing: &Thing) -> Option<usize> {
    match thing.what {
        What::Charge(_) | What::Block => None,
        What::Heap { at } | What::Cached { at, .. } => Some(at),
    }
}

pub(crate) fn paint(id: u64, thing: &Thing) {
    if let Some(at) = memory(thing) {
        for place in places(at, thing.bytes) {
            // SAFETY: in the object, which has sixteen bytes at least.
            unsafe { place.write(id ^ at as u64) };
        }
    }
}

pub(crate) fn check(id: u64, thing: &Thing) {
    if let Some(at) = memory(thing) {
        for place in places(at, thing.bytes) {
            // SAFETY: as above.
            let found = unsafe { place.read() };
            assert_eq!(found, id ^ at as u64, "what is in an object");
        }
    }
}
