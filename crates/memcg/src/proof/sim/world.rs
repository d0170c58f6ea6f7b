//! The world of a history, and what its steps do to groups and threads. Things are `things`', tasks `tasks`', limits `limits`'.
//!
//! A step that the books say must succeed is expected to, and one that must fail likewise; where reclaim decides, either may be.
//! While calls for memory fail on purpose anything may be refused, and nothing be lost.

use super::books::{Css, Group, Owner, OwnerIs};
use super::stage::{Planted, Stage, let_go};
use super::step::{History, Op, Step};
use crate::engine::{By, Engine};
use crate::group::stock::Scope;
use crate::group::tree::TreeError;
use crate::group::{NO_TAG, ROOT, ROOT_TAG, Refusal};
use crate::kmem::Heap;
use crate::offline;
use crate::os::fault::{self, Plan};
use crate::sync::atomic::Ordering;
use crate::thread::ThreadRec;
use std::rc::Rc;

/// A thread: its records, and the scopes it is in with whom they are for.
pub(super) struct Thread {
    pub index: u32,
    pub rec: &'static ThreadRec,
    pub heap_index: u32,
    pub heap: &'static Heap,
    pub scopes: Vec<(Scope, Option<usize>)>,
}

/// A cache the world has a handle on, or had.
pub(super) struct KnownCache {
    pub index: u32,
    pub accounted: bool,
    pub open: bool,
}

pub(super) struct World {
    pub stage: Rc<Stage>,
    pub engine: &'static Engine,
    pub threads: Vec<Thread>,
    pub caches: Vec<KnownCache>,
    /// The name of a task, and who it was at first.
    pub tasks: Vec<(u32, usize)>,
    pub shrinker: Option<u32>,
    /// Calls for memory fail, or may.
    pub failing: Option<&'static Plan>,
    pub ever_failed: bool,
    names: u32,
}

fn join(engine: &'static Engine) -> Thread {
    let (index, rec) = engine.tree.threads.join().expect("a thread's record");
    let (heap_index, heap) = engine.kmem.join().expect("a thread's heap");
    rec.heap.store(heap_index, Ordering::Relaxed);
    Thread {
        index,
        rec,
        heap_index,
        heap,
        scopes: Vec::new(),
    }
}

impl World {
    pub(super) fn new(history: &History, planted: Planted) -> Self {
        let engine = Engine::leaked();
        assert!(engine.set_group_end(history.end) && engine.set_id_policy(history.ids));
        let threads: Vec<Thread> = (0..history.threads.max(1)).map(|_| join(engine)).collect();
        let first = (threads[0].rec, threads[0].heap);
        let open = |cx: crate::kmem::list_lru::Cx<'_>| engine.kmem.lists.open(cx, let_go);
        let list = engine.with_lists(first.0, open).expect("a list");
        let stage = Stage::set(engine, list, first, planted);
        {
            let mut books = stage.books.borrow_mut();
            books.groups.push(Group::new(None, ROOT));
            books.owners.push(Owner {
                tag: ROOT_TAG,
                group: 0,
                is: OwnerIs::Group,
                held: true,
                heir: None,
                rests: Vec::new(),
            });
        }
        let mut world = Self {
            stage,
            engine,
            threads,
            caches: Vec::new(),
            tasks: Vec::new(),
            shrinker: None,
            failing: None,
            ever_failed: false,
            names: 0,
        };
        world.new_cache([0, 0, 0, 0]);
        world.new_cache([1, 0, 0, 16]);
        world
    }

    /// Puts a thread on, which does what follows.
    pub(super) fn put_on(&self, n: u32) -> usize {
        let t = n as usize % self.threads.len();
        self.stage.rec.set(self.threads[t].rec);
        self.stage.heap.set(self.threads[t].heap);
        t
    }

    pub(super) fn rec(&self) -> &'static ThreadRec {
        self.stage.rec.get()
    }

    /// Whether what fits may be refused all the same.
    pub(super) fn is_lenient(&self) -> bool {
        self.failing.is_some()
    }

    pub(super) fn online(&self, n: u32) -> usize {
        let online = self.stage.books.borrow().there(Css::Online);
        online[n as usize % online.len()]
    }

    /// Somebody to charge: who lives, or whose group somebody has a handle on.
    pub(super) fn some_owner(&self, n: u32) -> usize {
        let books = self.stage.books.borrow();
        let may = |o: &&usize| {
            let owner = &books.owners[**o];
            owner.held || owner.is == OwnerIs::Task
        };
        let all: Vec<usize> = (0..books.owners.len()).collect();
        let all: Vec<usize> = all.iter().filter(may).copied().collect();
        all[n as usize % all.len()]
    }

    pub(super) fn live_task(&self, n: u32) -> Option<usize> {
        (!self.tasks.is_empty()).then(|| n as usize % self.tasks.len())
    }

    /// A refusal is an event of the group that was full.
    pub(super) fn note_refusal(&self, refusal: Refusal) {
        let mut books = self.stage.books.borrow_mut();
        if refusal.group != 0
            && let Some(group) = books.group_at(refusal.group)
        {
            books.event(group, |g| &mut g.oom);
        }
    }

    pub(super) fn drain_all(&self) {
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec());
        tree.drain(self.rec(), tree.memcgs.get(ROOT));
    }

    pub(super) fn take(&mut self, step: Step) {
        let n = step.n;
        self.put_on(n[3]);
        let were_marked = self.engine.tree.may_have_marked();
        match step.op {
            Op::Create => self.create(n),
            Op::Remove => self.remove(n),
            Op::Forget => self.forget(n),
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
            Op::Max | Op::High | Op::Protect | Op::KmemMax => self.limit(step),
            Op::Reserve => self.reserve(n),
            Op::Reclaim => self.reclaim(n),
            Op::Drain => self.drain(n),
            Op::Deferred => drop(self.engine.run_deferred(self.rec(), By::All)),
            Op::Reap => drop(self.engine.reap(self.rec())),
            Op::Thread => self.replace_thread(n),
            Op::NewCache => self.new_cache(n),
            Op::EndCache => self.end_cache(n),
            Op::Shrinker => self.toggle_shrinker(n),
            Op::Fail => self.fail(n),
            Op::Heal => self.heal(),
            Op::Trim => self.trim(n),
        }
        self.stage.adopt_if(were_marked);
        self.engine.settle(self.rec());
        self.stage.books.borrow_mut().settle();
    }

    fn create(&mut self, n: [u32; 4]) {
        let g = self.online(n[0]);
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec());
        self.names += 1;
        // Names of every length, used again after their group.
        let name = format!("{:0width$}", self.names % 40, width = 2 + n[1] as usize);
        let created = tree.create(self.stage.group(g), name.as_bytes());
        let index = match created {
            Ok(index) => index,
            Err(TreeError::Exists) => return,
            Err(why) => {
                assert!(
                    self.is_lenient() && why == TreeError::NoMemory,
                    "create: {why:?}"
                );
                return;
            }
        };
        let tag = tree.memcgs.get(index).tag();
        tree.hold_objcg(tag);
        let mut books = self.stage.books.borrow_mut();
        books.groups.push(Group::new(Some(g), index));
        let group = books.groups.len() - 1;
        books.owners.push(Owner {
            tag,
            group,
            is: OwnerIs::Group,
            held: true,
            heir: None,
            rests: Vec::new(),
        });
    }

    pub(super) fn remove(&mut self, n: [u32; 4]) {
        let g = self.online(n[0]);
        let (tree, group) = (&self.engine.tree, self.stage.group(g));
        if n[1].is_multiple_of(2) {
            let _pin = tree.threads.epoch.pin(self.rec());
            tree.drain(self.rec(), group);
        }
        let expected = {
            let books = self.stage.books.borrow();
            let is_child = |c: &Group| c.css == Css::Online && c.parent == Some(g);
            let is_task = |o: &Owner| o.is == OwnerIs::Task && o.group == g;
            if g == 0 {
                Err(TreeError::Root)
            } else if books.groups.iter().any(is_child) {
                Err(TreeError::HasChildren)
            } else if books.owners.iter().any(is_task) {
                Err(TreeError::HasTasks)
            } else {
                Ok(())
            }
        };
        let left = group.counter.usage() > 0;
        let outcome = {
            let _pin = tree.threads.epoch.pin(self.rec());
            match self.stage.planted {
                Planted::ListLeftBehind if !tree.lingers() => offline::remove_alone(tree, group),
                _ => offline::remove(tree, &self.engine.kmem, self.rec(), group),
            }
        };
        assert_eq!(outcome, expected, "removing a group");
        if outcome.is_err() {
            return;
        }
        let mut books = self.stage.books.borrow_mut();
        if tree.lingers() {
            books.groups[g].css = Css::Lingers;
            books.groups[g].reserve = 0;
            let own = books.owners.iter_mut();
            let own = own.filter(|o| o.group == g && o.is == OwnerIs::Group);
            own.for_each(|o| o.is = OwnerIs::Dead);
        } else {
            if let Some(parent) = books.groups[g].parent.filter(|_| left) {
                books.event(parent, |g| &mut g.inherited);
            }
            books.inherit(g);
        }
    }

    /// A handle on a removed group goes.
    pub(super) fn forget(&mut self, n: [u32; 4]) {
        let found = {
            let books = self.stage.books.borrow();
            let gone = |o: &usize| books.owners[*o].held && books.owners[*o].is == OwnerIs::Dead;
            let gone: Vec<usize> = (0..books.owners.len()).filter(gone).collect();
            (!gone.is_empty()).then(|| gone[n[0] as usize % gone.len()])
        };
        if let Some(owner) = found {
            let tag = {
                let owner = &mut self.stage.books.borrow_mut().owners[owner];
                owner.held = false;
                owner.tag
            };
            let tree = &self.engine.tree;
            let _pin = tree.threads.epoch.pin(self.rec());
            tree.release_objcg(tag);
        }
    }

    fn enter(&mut self, n: [u32; 4]) {
        let t = self.put_on(n[3]);
        if self.threads[t].scopes.len() >= 20 {
            return;
        }
        let owner = (!n[1].is_multiple_of(8)).then(|| self.some_owner(n[0]));
        let tag = owner.map_or(NO_TAG, |o| self.stage.books.borrow().owners[o].tag);
        let scope = self.engine.tree.enter_scope(self.rec(), tag);
        self.threads[t].scopes.push((scope, owner));
    }

    pub(super) fn leave(&mut self, t: usize) {
        if let Some((scope, _)) = self.threads[t].scopes.pop() {
            self.engine.tree.leave_scope(self.threads[t].rec, scope);
        }
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

    pub(super) fn end_thread(&mut self, t: usize) {
        self.put_on(t as u32);
        while !self.threads[t].scopes.is_empty() {
            self.leave(t);
        }
        let thread = self.threads.swap_remove(t);
        let (tree, kmem) = (&self.engine.tree, &self.engine.kmem);
        kmem.leave_caches(thread.rec);
        tree.return_all(thread.rec);
        thread.rec.heap.store(0, Ordering::Relaxed);
        {
            let _section = thread.rec.enter_heap();
            // SAFETY: the thread's own heap, in its section, for the last time.
            unsafe { kmem.park(kmem.heap(thread.heap_index)) };
        }
        self.engine.settle(thread.rec);
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

    pub(super) fn heal(&mut self) {
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
