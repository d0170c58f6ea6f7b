//! The world of a history, and what its steps do to threads. Groups are `groups`', things
//! `things`', tasks `tasks`', limits `limits`'.
//!
//! A step that the books say must succeed is expected to, and one that must fail likewise; where
//! reclaim decides, either may be. While calls for memory fail on purpose anything may be refused,
//! and nothing be lost.

use crate::books::{Group, Owner, OwnerIs};
use crate::generation::Generation;
use crate::stage::{Planted, Stage, let_go};
use crate::step::{History, Limit, Op, Step};
use memcg::testing::engine::{By, Engine};
use memcg::testing::group::thread_scopes::Scope;
use memcg::testing::group::{ROOT, ROOT_TAG, Tag};
use memcg::testing::kmem::Heap;
use memcg::testing::kmem::id::{CacheId, ShrinkerId};
use memcg::testing::os::clock::own;
use memcg::testing::os::fault::{self, Plan};
use memcg::testing::sync::atomic::Ordering;
use memcg::testing::thread::ThreadRec;
use memcg::testing::thread::record::InFallible;
use std::rc::Rc;

/// A thread: its records, and the scopes it is in with whom they are for.
pub(crate) struct Thread {
    pub index: memcg::testing::thread::id::ThreadId,
    pub rec: &'static ThreadRec,
    pub heap_index: memcg::testing::thread::id::HeapId,
    pub heap: &'static Heap,
    pub scopes: Vec<(Scope, Option<usize>)>,
    /// The calls of `fallible` it is in.
    pub fallible: Vec<InFallible<'static>>,
}

/// A cache the world has a handle on, or had.
pub(crate) struct KnownCache {
    pub index: CacheId,
    pub accounted: bool,
    /// Which of `filters::NAMES` is its.
    pub name: usize,
    pub open: bool,
}

pub(crate) struct World {
    pub stage: Rc<Stage>,
    pub engine: &'static Engine,
    pub threads: Vec<Thread>,
    pub caches: Vec<KnownCache>,
    /// The name of a task, and who it was at first.
    pub tasks: Vec<(Tag, usize)>,
    pub shrinker: Option<ShrinkerId>,
    /// The world's own, by their manners.
    pub pools: [Option<ShrinkerId>; 3],
    /// Calls for memory fail, or may.
    pub failing: Option<&'static Plan>,
    pub ever_failed: bool,
    /// A lazy move has left something that reclaim sends home, or fails to.
    pub ever_marked: bool,
    pub(crate) names: u32,
}

fn join(engine: &'static Engine) -> Thread {
    let (index, rec) = engine.tree.threads.join().expect("a thread's record");
    let (heap_index, heap) = engine.kmem.join().expect("a thread's heap");
    rec.heap.store(Some(heap_index), Ordering::Relaxed);
    Thread {
        index,
        rec,
        heap_index,
        heap,
        scopes: Vec::new(),
        fallible: Vec::new(),
    }
}

impl World {
    pub(crate) fn new(history: &History, planted: Planted) -> Self {
        // How fast the machine is changes nothing: time passes by steps, and by what is slept.
        own::set(Some(1_000_000_000));
        let engine = Engine::leaked();
        assert!(engine.set_group_end(history.end) && engine.set_id_policy(history.ids));
        let threads: Vec<Thread> = (0..history.threads.max(1)).map(|_| join(engine)).collect();
        let first = (threads[0].rec, threads[0].heap);
        let open = |cx: memcg::testing::kmem::list_lru::Cx<'_>| engine.kmem.lists.open(cx, let_go);
        let list = engine.with_lists(first.0, open).expect("a list");
        let stage = Stage::set(engine, list, first, planted);
        {
            let mut books = stage.books.borrow_mut();
            books.groups.push(Group::new(None, ROOT));
            let generation = Generation::of(engine, ROOT_TAG);
            books.owners.push(Owner::of_group(ROOT_TAG, 0, generation));
        }
        let mut world = Self {
            stage,
            engine,
            threads,
            caches: Vec::new(),
            tasks: Vec::new(),
            shrinker: None,
            pools: [None; 3],
            failing: None,
            ever_failed: false,
            ever_marked: false,
            names: 0,
        };
        world.new_cache([0, 0, 0, 0]);
        world.new_cache([1, 0, 0, 16]);
        world
    }

    /// Puts a thread on, which does what follows.
    pub(crate) fn put_on(&self, n: u32) -> usize {
        let t = n as usize % self.threads.len();
        self.stage.rec.set(self.threads[t].rec);
        self.stage.heap.set(self.threads[t].heap);
        t
    }

    pub(crate) fn rec(&self) -> &'static ThreadRec {
        self.stage.rec.get()
    }

    /// Whether what fits may be refused all the same.
    pub(crate) fn is_lenient(&self) -> bool {
        self.failing.is_some()
    }

    pub(crate) fn online(&self, n: u32) -> usize {
        self.stage.online(n)
    }

    /// Somebody to charge: who lives, or whose group somebody has a handle on.
    pub(crate) fn some_owner(&self, n: u32) -> usize {
        let books = self.stage.books.borrow();
        let may = |o: &&usize| {
            let owner = &books.owners[**o];
            owner.held || owner.is == OwnerIs::Task
        };
        let all: Vec<usize> = (0..books.owners.len()).collect();
        let all: Vec<usize> = all.iter().filter(may).copied().collect();
        all[n as usize % all.len()]
    }

    pub(crate) fn live_task(&self, n: u32) -> Option<usize> {
        (!self.tasks.is_empty()).then(|| n as usize % self.tasks.len())
    }

    /// Whether anybody can be asked for memory.
    pub(crate) fn has_shrinkers(&self) -> bool {
        self.shrinker.is_some() || self.has_pools()
    }

    pub(crate) fn has_pools(&self) -> bool {
        self.pools.iter().any(Option::is_some)
    }

    pub(crate) fn drain_all(&self) {
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec());
        tree.drain(self.rec(), tree.memcgs.get(ROOT));
    }

    pub(crate) fn take(&mut self, step: Step) {
        let n = step.n;
        self.put_on(n[3]);
        let were_marked = self.engine.tree.may_have_marked();
        // Two steps are now and then nearer than a drain to the next.
        own::set(own::now().map(|now| now + u64::from(n[1] % 4) * 400_000));
        self.stage.begin_step();
        match step.op {
            Op::Create => self.create(n),
            Op::Remove => self.stage.remove(n),
            Op::Forget => self.forget(n),
            Op::Policy => self.policy(n),
            Op::Offline => self.offline(n),
            Op::Score => self.score(n),
            Op::Attach => self.attach(n),
            Op::Touch => self.touch(n),
            Op::Give => self.give(n),
            Op::Hold => self.hold(n),
            Op::Filter => self.filter(n),
            Op::Pool => self.toggle_pool(n),
            Op::Fork => self.stage.fork(),
            Op::Wait => own::set(own::now().map(|now| now + u64::from(n[0]) * 50_000_000)),
            Op::Pay => drop(self.engine.safe_point(self.rec(), u64::MAX)),
            Op::NewTask => self.new_task(n),
            Op::EndTask => self.end_task(n),
            Op::Move => self.go(n),
            Op::Follow => self.follow(n),
            Op::Charge => self.charge(n),
            Op::Kmalloc => self.kmalloc(n),
            Op::Cached => self.cached(n, false),
            Op::List => self.cached(n, true),
            Op::Unlist => self.unlist(n),
            Op::Walk => self.walk(n),
            Op::Free => self.free(n),
            Op::FreeMany => self.free_many(n),
            Op::Enter => self.enter(n),
            Op::Leave => self.leave(n[3] as usize % self.threads.len()),
            Op::Max => self.limit(Limit::Max, step.n),
            Op::High => self.limit(Limit::High, step.n),
            Op::Protect => self.limit(Limit::Protect, step.n),
            Op::KmemMax => self.limit(Limit::KmemMax, step.n),
            Op::Reserve => self.reserve(n),
            Op::Reclaim => self.reclaim(n),
            Op::Drain => self.drain(n),
            Op::Deferred => drop(self.engine.run_deferred(self.rec(), By::All)),
            Op::Reap => drop(self.engine.reap(self.rec())),
            Op::Thread => self.replace_thread(n),
            Op::NewCache => self.new_cache(n),
            Op::EndCache => self.end_cache(n),
            Op::Shrinker => self.toggle_shrinker(n),
            Op::Fallible => self.fallible(n),
            Op::Block => self.block(n),
            Op::Adopt => self.adopt(n),
            Op::Defaults => self.defaults(n),
            Op::Kill => self.kill(n),
            Op::Stand => self.stand(n),
            Op::Look => self.look(n),
            Op::Cancel => self.cancel(n),
            Op::Fail => self.fail(n),
            Op::Heal => self.heal(),
            Op::Trim => self.trim(n),
        }
        self.settle_holders();
        self.stage.adopt_if(were_marked);
        self.ever_marked |= self.engine.tree.may_have_marked();
        self.follow_fork();
        self.stage.settle();
        self.follow_lines();
    }

    fn enter(&mut self, n: [u32; 4]) {
        let t = self.put_on(n[3]);
        if self.threads[t].scopes.len() >= 20 {
            return;
        }
        let owner = (!n[1].is_multiple_of(8)).then(|| self.some_owner(n[0]));
        let tag = owner.map(|o| self.stage.books.borrow().owners[o].tag);
        let scope = self.engine.tree.enter_scope(self.rec(), tag);
        self.threads[t].scopes.push((scope, owner));
    }

    pub(crate) fn leave(&mut self, t: usize) {
        if let Some((scope, _)) = self.threads[t].scopes.pop() {
            self.engine.tree.leave_scope(self.threads[t].rec, scope);
        }
    }

    /// A thread goes into a call of `fallible`, or out of one.
    fn fallible(&mut self, n: [u32; 4]) {
        let t = self.put_on(n[3]);
        let calls = &mut self.threads[t].fallible;
        if calls.len() > n[0] as usize % 3 {
            calls.pop();
        } else {
            let rec = self.stage.rec.get();
            calls.push(rec.begin_fallible());
            self.engine.tree.return_forced(rec);
        }
    }

    /// In the child of a fork: threads begin in the place of those that it does not have.
    pub(crate) fn follow_fork(&mut self) {
        if !self.stage.forked.take() {
            return;
        }
        let nr = self.threads.len();
        let rec = self.rec();
        self.threads.retain(|t| core::ptr::eq(t.rec, rec));
        fault::follow(None);
        while self.threads.len() < nr {
            self.threads.push(join(self.engine));
        }
        fault::follow(self.failing);
    }

    /// A thread ends, and another begins.
    fn replace_thread(&mut self, n: [u32; 4]) {
        let t = n[0] as usize % self.threads.len();
        self.end_thread(t);
        let faults = self.failing.is_some();
        if faults {
            fault::follow(None);
        }
        self.threads.push(join(self.engine));
        if faults {
            fault::follow(self.failing);
        }
        self.put_on(n[3]);
    }

    pub(crate) fn end_thread(&mut self, t: usize) {
        self.put_on(t as u32);
        while !self.threads[t].scopes.is_empty() {
            self.leave(t);
        }
        self.threads[t].fallible.clear();
        let thread = self.threads.swap_remove(t);
        let (tree, kmem) = (&self.engine.tree, &self.engine.kmem);
        kmem.leave_caches(thread.rec);
        tree.return_all(thread.rec);
        thread.rec.heap.store(None, Ordering::Relaxed);
        {
            let _section = thread.rec.enter_heap();
            // SAFETY: the thread's own heap, in its section, for the last time.
            unsafe { kmem.park(kmem.heap(thread.heap_index)) };
        }
        self.engine.finish_lingering(thread.rec);
        tree.threads.leave(thread.index);
    }

    /// From the n-th on calls for memory fail, some or all.
    fn fail(&mut self, n: [u32; 4]) {
        self.heal();
        let first = 1 + u64::from(n[1] % 8);
        let last = first + [0, 2, u64::from(u32::MAX)][n[0] as usize % 3];
        self.failing = Some(Box::leak(Box::new(Plan::new(first, last))));
        fault::follow(self.failing);
    }

    pub(crate) fn heal(&mut self) {
        fault::follow(None);
        self.ever_failed |= self.failing.take().is_some_and(|plan| plan.failed() > 0);
    }

    fn trim(&mut self, n: [u32; 4]) {
        let kmem = &self.engine.kmem;
        kmem.reap_caches(&self.engine.tree, n[0].is_multiple_of(2));
        if let Some(cache) = self.caches.iter().find(|cache| cache.open) {
            kmem.shrink_cache(&self.engine.tree, cache.index);
        }
        if let Some(_section) = self.rec().enter_heap() {
            // SAFETY: the thread's own heap, in its section.
            unsafe { kmem.trim(Some(self.stage.heap.get())) };
        }
    }
}
