//! Two allocators, one history, the same books.
//!
//! `Accounted<System>` keeps an object's owner behind the object and knows nothing of slabs;
//! `Alloc` keeps it beside. A history of groups, tasks, scopes, threads and objects is told to both
//! at once, each with groups and threads of its own. After every step every group's
//! `memory.current` and what every task holds must be what the objects add up to: in `Alloc` their
//! class sizes, in `Accounted`, with the same classes, 16 bytes an object more.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::testing::engine::{engine, kmalloc, process_engine};
use memcg::testing::group::Tag;
use memcg::testing::group::objcg::State;
use memcg::testing::group::usage::OwnerLine;
use memcg::{Accounted, Alloc, Entered, Memcg, SizeClasses, Task, root};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// The slabs' classes and a constant, in which the tag lies.
struct Slabs;
const EXTRA: usize = 16;
const TAG: usize = 4;

// SAFETY: a slab's class is at least what is asked of it, EXTRA covers the tag taken off before;
// both are multiples of 8 and depend on `bytes` alone.
unsafe impl SizeClasses for Slabs {
    fn block(bytes: usize) -> Option<usize> {
        Some(kmalloc::size_of_object(bytes - TAG, 16)? + EXTRA)
    }
}

static ACCOUNTED: Accounted<System, Slabs> = Accounted::new(System);
static SLABS: Alloc = Alloc;

struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }

    /// Mostly small; every range of sizes.
    fn bytes(&mut self) -> usize {
        let most = match self.next(100) {
            0..55 => 300,
            55..85 => 8 << 10,
            85..95 => 80 << 10,
            95..99 => 2 << 20,
            _ => 40 << 20,
        };
        1 + self.next(most)
    }
}

type Job = Box<dyn FnOnce(&mut Vec<Entered>) + Send>;

/// A thread of a world, with its scopes.
struct Thread {
    jobs: SyncSender<Job>,
    done: Receiver<()>,
    handle: JoinHandle<()>,
}

impl Thread {
    fn start() -> Self {
        let (jobs, inbox) = sync_channel::<Job>(1);
        let (said, done) = sync_channel(1);
        let handle = std::thread::spawn(move || {
            let mut scopes = Vec::new();
            for job in inbox {
                job(&mut scopes);
                said.send(()).unwrap();
            }
            // From the innermost out.
            while scopes.pop().is_some() {}
        });
        Self { jobs, done, handle }
    }

    fn run<R: Send + 'static>(&self, f: impl FnOnce(&mut Vec<Entered>) -> R + Send + 'static) -> R {
        let (answer, got) = sync_channel(1);
        let job: Job = Box::new(move |scopes| answer.send(f(scopes)).unwrap());
        self.jobs.send(job).unwrap();
        self.done.recv().unwrap();
        got.recv().unwrap()
    }

    fn end(self) {
        drop(self.jobs);
        self.handle.join().unwrap();
    }
}

/// An address that goes from thread to thread.
#[derive(Clone, Copy)]
struct At(*mut u8);
// SAFETY: plain memory.
unsafe impl Send for At {}

/// One allocator with its groups, tasks and threads. Its objects are numbered as the model's.
struct World {
    allocator: &'static (dyn GlobalAlloc + Sync),
    extra: usize,
    groups: Vec<Memcg>,
    tasks: Vec<Option<Arc<Task>>>,
    tags: Vec<Tag>,
    threads: Vec<Option<Thread>>,
    objects: Vec<(At, Layout)>,
}

fn ends(at: At, bytes: usize) -> [*mut u8; 3] {
    // SAFETY: in the object.
    [0, bytes / 2, bytes - 1].map(|offset| unsafe { at.0.add(offset) })
}

impl World {
    fn new(name: &str, allocator: &'static (dyn GlobalAlloc + Sync), extra: usize) -> Self {
        Self {
            allocator,
            extra,
            groups: vec![root().create(name).unwrap()],
            tasks: Vec::new(),
            tags: Vec::new(),
            threads: Vec::new(),
            objects: Vec::new(),
        }
    }

    fn thread(&self, thread: usize) -> &Thread {
        self.threads[thread].as_ref().unwrap()
    }

    fn start_thread(&mut self, thread: usize) {
        self.threads
            .resize_with(self.threads.len().max(thread + 1), || None);
        let (new, home) = (Thread::start(), self.groups[0].clone());
        new.run(move |scopes| scopes.push(home.enter()));
        self.threads[thread] = Some(new);
    }

    fn alloc(&mut self, thread: usize, layout: Layout, zeroed: bool) {
        let allocator = self.allocator;
        let fill = self.objects.len() as u8;
        let at = self.thread(thread).run(move |_| {
            // SAFETY: not of no size.
            let at = At(unsafe {
                match zeroed {
                    true => allocator.alloc_zeroed(layout),
                    false => allocator.alloc(layout),
                }
            });
            assert!(!at.0.is_null() && (at.0 as usize).is_multiple_of(layout.align()));
            for end in ends(at, layout.size()) {
                // SAFETY: in the object.
                unsafe {
                    assert!(!zeroed || end.read() == 0 || end.read() == fill);
                    end.write(fill);
                }
            }
            at
        });
        self.objects.push((at, layout));
    }

    fn resize(&mut self, thread: usize, object: usize, bytes: usize) {
        let (allocator, (at, layout)) = (self.allocator, self.objects[object]);
        let fill = object as u8;
        let at = self.thread(thread).run(move |_| {
            let at = at;
            // SAFETY: a live object of that layout.
            let now = At(unsafe { allocator.realloc(at.0, layout, bytes) });
            assert!(!now.0.is_null());
            // SAFETY: in the object.
            assert_eq!(unsafe { now.0.read() }, fill);
            for end in ends(now, bytes) {
                // SAFETY: in the object.
                unsafe { end.write(fill) };
            }
            now
        });
        let layout = Layout::from_size_align(bytes, layout.align()).unwrap();
        self.objects[object] = (at, layout);
    }

    fn free(&mut self, thread: usize, object: usize) {
        let (allocator, (at, layout)) = (self.allocator, self.objects[object]);
        let fill = object as u8;
        self.thread(thread).run(move |_| {
            let at = at;
            for end in ends(at, layout.size()) {
                // SAFETY: in the object.
                assert_eq!(unsafe { end.read() }, fill);
            }
            // SAFETY: live, of that layout, not used again.
            unsafe { allocator.dealloc(at.0, layout) };
        });
    }

    fn new_task(&mut self, group: usize) {
        let task = self.groups[group].task("task").unwrap();
        self.tags.push(tag_of(&task));
        self.tasks.push(Some(Arc::new(task)));
    }
}

fn tag_of(task: &Task) -> Tag {
    let is_it = |line: &OwnerLine| line.state == State::Task && line.id == task.id();
    owners().into_iter().find(is_it).unwrap().tag
}

fn owners() -> Vec<OwnerLine> {
    let mut found = Vec::new();
    process_engine::with_rec(|engine, rec| {
        let _pin = engine.tree.threads.epoch.pin(rec);
        engine.tree.each_owner(|line| found.push(line));
    });
    found
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Group(usize),
    Task(usize),
}

/// What is so in both worlds.
#[derive(Default)]
struct Model {
    /// Parent, and whether it is online.
    groups: Vec<(usize, bool)>,
    /// Group, and whether it lives.
    tasks: Vec<(usize, bool)>,
    scopes: Vec<Vec<Owner>>,
    /// Owner and charge, or nothing once freed.
    objects: Vec<Option<(Owner, usize)>>,
}

impl Model {
    fn heir(&self, mut group: usize) -> usize {
        while !self.groups[group].1 {
            group = self.groups[group].0;
        }
        group
    }

    fn group_of(&self, owner: Owner) -> usize {
        match owner {
            Owner::Group(group) => self.heir(group),
            Owner::Task(task) => self.heir(self.tasks[task].0),
        }
    }

    /// Bytes and number of the objects for whose owner `counts` holds.
    fn sum(&self, counts: impl Fn(Owner) -> bool) -> (u64, u64) {
        let live = self
            .objects
            .iter()
            .flatten()
            .filter(|(owner, _)| counts(*owner));
        live.fold((0, 0), |(bytes, n), (_, size)| {
            (bytes + *size as u64, n + 1)
        })
    }

    fn is_within(&self, mut group: usize, top: usize) -> bool {
        while group != top && group != 0 {
            group = self.groups[group].0;
        }
        group == top
    }

    fn check(&self, world: &World) {
        for (index, group) in world.groups.iter().enumerate() {
            assert_eq!(group.is_online(), self.groups[index].1);
            if self.groups[index].1 {
                let (bytes, n) = self.sum(|owner| self.is_within(self.group_of(owner), index));
                assert_eq!(
                    group.current(),
                    bytes + n * world.extra as u64,
                    "{}",
                    group.path()
                );
            }
        }
        let owners = owners();
        for (index, &tag) in world.tags.iter().enumerate() {
            let (bytes, n) = self.sum(|owner| owner == Owner::Task(index));
            // One that holds nothing may be somebody else by now.
            if n > 0 {
                let held = owners.iter().find(|line| line.tag == tag).unwrap().held;
                assert_eq!(held, bytes + n * world.extra as u64, "task {index}");
            }
        }
    }
}

fn any<T>(random: &mut Random, all: impl Iterator<Item = T>) -> Option<T> {
    let mut all: Vec<T> = all.collect();
    (!all.is_empty()).then(|| all.swap_remove(random.next(all.len())))
}

/// The charge where the alignment asks for no larger class than the size does, so that the two
/// agree.
fn charge_of(bytes: usize, align: usize) -> Option<usize> {
    let size = kmalloc::size_of_object(bytes, align)?;
    (size == kmalloc::size_of_object(bytes, 16)?).then_some(size)
}

const THREADS: usize = 4;

fn history(seed: u64, steps: usize) {
    let mut random = Random(seed);
    let mut worlds = [
        World::new(&format!("accounted-{seed}"), &ACCOUNTED, EXTRA),
        World::new(&format!("slabs-{seed}"), &SLABS, 0),
    ];
    let mut model = Model {
        groups: vec![(0, true)],
        scopes: vec![vec![Owner::Group(0)]; THREADS],
        ..Model::default()
    };
    for world in &mut worlds {
        for thread in 0..THREADS {
            world.start_thread(thread);
        }
    }
    for step in 0..steps {
        let thread = random.next(THREADS);
        let group = any(
            &mut random,
            (0..model.groups.len()).filter(|&g| model.groups[g].1),
        )
        .unwrap();
        let task = any(
            &mut random,
            (0..model.tasks.len()).filter(|&t| model.tasks[t].1),
        );
        let live = (0..model.objects.len()).filter(|&o| model.objects[o].is_some());
        let object = any(&mut random, live);
        match random.next(40) {
            0..14 => {
                let (bytes, align) = (random.bytes(), 1 << random.next(10));
                let align = if charge_of(bytes, align).is_some() {
                    align
                } else {
                    1
                };
                let (layout, zeroed) = (
                    Layout::from_size_align(bytes, align).unwrap(),
                    random.next(3) == 0,
                );
                for world in &mut worlds {
                    world.alloc(thread, layout, zeroed);
                }
                let owner = *model.scopes[thread].last().unwrap();
                model
                    .objects
                    .push(Some((owner, charge_of(bytes, align).unwrap())));
            }
            14..23 => {
                let Some(object) = object else { continue };
                for world in &mut worlds {
                    world.free(thread, object);
                }
                model.objects[object] = None;
            }
            23..28 => {
                let Some(object) = object else { continue };
                let (owner, old) = model.objects[object].unwrap();
                let bytes = random.bytes();
                let align = worlds[0].objects[object].1.align();
                let Some(new) = charge_of(bytes, align) else {
                    continue;
                };
                // Slabs let a little less stay what it was.
                if new < old && new > old / 2 && new <= 64 << 10 {
                    continue;
                }
                for world in &mut worlds {
                    world.resize(thread, object, bytes);
                }
                model.objects[object] = Some((owner, new));
            }
            28..31 => {
                let owner = match task {
                    Some(task) if random.next(2) == 0 => Owner::Task(task),
                    _ => Owner::Group(group),
                };
                for world in &mut worlds {
                    match owner {
                        Owner::Task(task) => {
                            let task = world.tasks[task].clone().unwrap();
                            world
                                .thread(thread)
                                .run(move |scopes| scopes.push(task.enter()));
                        }
                        Owner::Group(group) => {
                            let group = world.groups[group].clone();
                            world
                                .thread(thread)
                                .run(move |scopes| scopes.push(group.enter()));
                        }
                    }
                }
                model.scopes[thread].push(owner);
            }
            31..33 if model.scopes[thread].len() > 1 => {
                for world in &mut worlds {
                    world.thread(thread).run(|scopes| drop(scopes.pop()));
                }
                model.scopes[thread].pop();
            }
            33 if model.groups.len() < 40 => {
                for world in &mut worlds {
                    let new = world.groups[group].create(format!("g{step}")).unwrap();
                    world.groups.push(new);
                }
                model.groups.push((group, true));
            }
            34 => {
                let busy = (model.groups.iter().skip(1))
                    .any(|&(parent, online)| online && parent == group)
                    || model
                        .tasks
                        .iter()
                        .any(|&(home, lives)| lives && home == group);
                if group == 0 {
                    continue;
                }
                for world in &mut worlds {
                    assert_eq!(world.groups[group].remove().is_ok(), !busy);
                }
                if !busy {
                    model.groups[group].1 = false;
                }
            }
            35 => {
                for world in &mut worlds {
                    world.new_task(group);
                }
                model.tasks.push((group, true));
            }
            36 => {
                let Some(task) = task else { continue };
                for world in &mut worlds {
                    world.tasks[task] = None;
                }
                model.tasks[task].1 = false;
            }
            37..39 => {
                let Some(task) = task else { continue };
                for world in &mut worlds {
                    let it = world.tasks[task].clone().unwrap();
                    it.move_to(&world.groups[group]).unwrap();
                }
                model.tasks[task].0 = group;
            }
            _ => {
                for world in &mut worlds {
                    world.threads[thread].take().unwrap().end();
                    world.start_thread(thread);
                }
                model.scopes[thread] = vec![Owner::Group(0)];
            }
        }
        for world in &worlds {
            model.check(world);
        }
    }
    for object in 0..model.objects.len() {
        if model.objects[object].take().is_some() {
            for world in &mut worlds {
                world.free(object % THREADS, object);
            }
        }
    }
    for world in &mut worlds {
        model.check(world);
        assert_eq!(world.groups[0].current(), 0);
        for thread in world.threads.drain(..).flatten() {
            thread.end();
        }
    }
}

#[test]
fn two_allocators_told_one_history_keep_the_same_books() {
    for seed in 1..=5 {
        history(seed * 0x9e37_79b9, 1_500);
    }
    engine().tree.audit().unwrap();
}
