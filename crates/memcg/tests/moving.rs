//! The transaction of a move as a program sees it: subsystems with their say, threads at work all
//! the while.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::{
    Attaching, Charge, Flags, Limit, Memcg, MoveError, MovePolicy, Subsystem, Task,
    register_subsystem, root,
};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

/// Subsystems are asked about every move of the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn group(name: &str) -> Memcg {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    root().create(format!("{name}{serial}")).unwrap()
}

type Log = Arc<Mutex<Vec<String>>>;

/// Writes down what it is called for.
struct Scribe {
    name: &'static str,
    log: Log,
    answer: fn(&Attaching) -> Result<(), String>,
    evictable: u64,
}

impl Scribe {
    fn note(&self, what: &str) {
        self.log
            .lock()
            .unwrap()
            .push(format!("{} {what}", self.name));
    }
}

impl Subsystem for Scribe {
    fn name(&self) -> &str {
        self.name
    }
    fn can_attach(&self, task: &Attaching) -> Result<(), String> {
        self.note("can_attach");
        (self.answer)(task)
    }
    fn attach(&self, _: &Attaching) {
        self.note("attach");
    }
    fn cancel_attach(&self, _: &Attaching) {
        self.note("cancel_attach");
    }
    fn evictable(&self, _: &Attaching) -> u64 {
        self.evictable
    }
}

fn scribe(
    name: &'static str,
    log: &Log,
    answer: fn(&Attaching) -> Result<(), String>,
) -> Arc<Scribe> {
    Arc::new(Scribe {
        name,
        log: log.clone(),
        answer,
        evictable: 0,
    })
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn all_are_asked_in_order_and_those_that_agreed_cancelled_in_reverse() {
    let _alone = alone();
    let log = Log::default();
    let (a, b) = (group("a"), group("b"));
    let task = a.task("t").unwrap();
    let held = task.try_reserve(1 << 20).unwrap();
    let _one = register_subsystem(scribe("one", &log, |_| Ok(())));
    let _two = register_subsystem(scribe("two", &log, |_| Ok(())));
    task.move_to(&b).unwrap();
    assert_eq!(
        taken(&log),
        [
            "one can_attach",
            "two can_attach",
            "one attach",
            "two attach"
        ]
    );
    let three = register_subsystem(scribe("three", &log, |task| {
        // Asked where nothing of the engine's is held: it may allocate, make groups, even move
        // others.
        let here = task.from().create("made while asked").unwrap();
        let another = here.task("another").unwrap();
        drop(another);
        here.remove().unwrap();
        Err(format!("not to {}", task.to().path()))
    }));
    let _four = register_subsystem(scribe("four", &log, |_| Ok(())));
    for (policy, _) in MovePolicy::ALL {
        let why = task.move_to_with(&a, policy).unwrap_err();
        assert_eq!(
            why,
            MoveError::Refused {
                by: "three".into(),
                why: format!("not to {}", a.path())
            }
        );
        let log = taken(&log);
        let log: Vec<&str> = log
            .iter()
            .map(String::as_str)
            .filter(|line| line.ends_with("attach"))
            .collect();
        // The move of `another` is none, so no one was asked about it.
        assert_eq!(
            log,
            [
                "one can_attach",
                "two can_attach",
                "three can_attach",
                "two cancel_attach",
                "one cancel_attach"
            ],
            "{policy:?}"
        );
        assert_eq!((a.current(), b.current()), (0, 1 << 20), "{policy:?}");
        assert_eq!(task.group().unwrap().path(), b.path());
    }
    drop(three);
    task.move_to(&a).unwrap();
    assert_eq!((a.current(), b.current()), (1 << 20, 0));
    drop((held, task));
    a.remove().unwrap();
    b.remove().unwrap();
}

#[test]
fn a_panic_of_one_that_is_asked_is_a_refusal_and_later_ones_change_nothing() {
    let _alone = alone();
    struct Panics(bool);
    impl Subsystem for Panics {
        fn name(&self) -> &str {
            "panics"
        }
        fn can_attach(&self, _: &Attaching) -> Result<(), String> {
            assert!(!self.0, "on purpose");
            Ok(())
        }
        fn attach(&self, _: &Attaching) {
            panic!("on purpose");
        }
    }
    let (a, b) = (group("a"), group("b"));
    let task = a.task("t").unwrap();
    {
        let _registered = register_subsystem(Arc::new(Panics(true)));
        assert!(matches!(task.move_to(&b), Err(MoveError::Refused { .. })));
    }
    let _registered = register_subsystem(Arc::new(Panics(false)));
    task.move_to(&b).unwrap();
    assert_eq!(task.group().unwrap().path(), b.path());
}

#[test]
fn a_move_that_is_refused_at_its_last_step_asked_everybody_once() {
    let _alone = alone();
    /// The task takes more while it is asked about, so that it does not fit in the end.
    struct Greedy(Arc<Task>, Mutex<Vec<Charge>>, AtomicUsize);
    impl Subsystem for Greedy {
        fn name(&self) -> &str {
            "greedy"
        }
        fn can_attach(&self, _: &Attaching) -> Result<(), String> {
            self.2.fetch_add(1, Ordering::Relaxed);
            let more = self.0.try_reserve(2 << 20).map_err(|why| why.to_string())?;
            self.1.lock().unwrap().push(more);
            Ok(())
        }
        fn cancel_attach(&self, _: &Attaching) {
            self.1.lock().unwrap().clear();
        }
    }
    let (a, b) = (group("greedy-a"), group("greedy-b"));
    b.set_max(Limit::bytes(1 << 20)).unwrap();
    let task = Arc::new(a.task("t").unwrap());
    let greedy = Arc::new(Greedy(task.clone(), Mutex::default(), AtomicUsize::new(0)));
    let _registered = register_subsystem(greedy.clone());
    assert!(matches!(task.move_to(&b), Err(MoveError::Full(_))));
    assert_eq!(greedy.2.load(Ordering::Relaxed), 1);
    assert_eq!((a.current(), b.current()), (0, 0));
}

#[test]
fn memory_is_asked_first_and_nobody_after_it_when_it_refuses() {
    let _alone = alone();
    let log = Log::default();
    let (a, b) = (group("a"), group("b"));
    b.set_max(Limit::bytes(1 << 20)).unwrap();
    let task = a.task("t").unwrap();
    let _held = task.try_reserve(2 << 20).unwrap();
    let _one = register_subsystem(scribe("one", &log, |_| Ok(())));
    let refused = task.move_to(&b).unwrap_err();
    let MoveError::Full(full) = &refused else {
        panic!("{refused}")
    };
    assert_eq!(
        (full.group.as_str(), full.bytes),
        (b.path().as_str(), 2 << 20)
    );
    assert!(refused.to_string().contains("which holds 2097152 bytes"));
    assert_eq!(taken(&log), [""; 0]);
    // Who is asked after it may use up the room there was: then all are cancelled. Not where it was
    // reserved.
    for (policy, moves) in [
        (MovePolicy::Transfer, false),
        (MovePolicy::ReserveBoth, true),
        (MovePolicy::Paged, true),
    ] {
        let (a, b) = (group("a"), group("b"));
        b.set_max(Limit::bytes(2 << 20)).unwrap();
        let task = a.task("t").unwrap();
        let held = task.try_reserve(2 << 20).unwrap();
        let greedy = register_subsystem(scribe("greedy", &log, |task| {
            let _ = task.to().try_reserve(1 << 20).map(memcg::Charge::forget);
            Ok(())
        }));
        let outcome = task.move_to_with(&b, policy);
        assert_eq!(outcome.is_ok(), moves, "{policy:?}: {outcome:?}");
        let last = taken(&log).pop().unwrap();
        assert_eq!(
            last,
            if moves {
                "greedy attach"
            } else {
                "one cancel_attach"
            }
        );
        assert!(b.current() <= 2 << 20);
        drop((greedy, held, task));
    }
}

#[test]
fn what_a_subsystem_could_evict_stays_behind_a_lazy_move_until_it_is_used() {
    let _alone = alone();
    let log = Log::default();
    let (a, b) = (group("a"), group("b"));
    let task = a.task("t").unwrap();
    let cache: Vec<u8> = task.run(|| vec![1; 3 << 20]);
    let held = task.held();
    let mut own = Scribe {
        name: "cache",
        log: log.clone(),
        answer: |_| Ok(()),
        evictable: 0,
    };
    own.evictable = 2 << 20;
    let _cache = register_subsystem(Arc::new(own));
    b.set_max(Limit::bytes(2 << 20)).unwrap();
    let moved = task.move_to_with(&b, MovePolicy::Lazy).unwrap();
    assert_eq!((moved.moved, moved.stayed), (held - (2 << 20), 2 << 20));
    assert_eq!((a.current(), b.current()), (2 << 20, held - (2 << 20)));
    assert_eq!(task.follow(1 << 19), 1 << 19);
    let room = (2 << 20) - b.current();
    assert_eq!(task.follow(2 << 20), room, "never above the target's max");
    assert_eq!(b.current(), 2 << 20);
    // Pressure where it is wrongly charged sends what there is room for after it, with nobody to
    // ask.
    b.set_max(Limit::bytes((2 << 20) + (1 << 19))).unwrap();
    let left = a.current();
    assert_eq!(a.reclaim(1 << 20), 1 << 19);
    assert_eq!(
        (a.current(), b.current()),
        (left - (1 << 19), (2 << 20) + (1 << 19))
    );
    drop(cache);
    assert_eq!((a.current(), b.current()), (0, 0));
}

/// Buffers of one task that can be made again.
struct Buffers {
    task: u32,
    all: Mutex<Vec<Vec<u8>>>,
    asked: AtomicU64,
}

impl Subsystem for Buffers {
    fn name(&self) -> &str {
        "buffers"
    }
    fn can_attach(&self, _: &Attaching) -> Result<(), String> {
        Ok(())
    }
    fn evictable(&self, task: &Attaching) -> u64 {
        let all = self.all.lock().unwrap();
        let bytes = all.iter().map(|buffer| buffer.capacity() as u64).sum();
        if task.task() == self.task { bytes } else { 0 }
    }
    fn evict(&self, task: u32, bytes: u64) -> u64 {
        assert_eq!(task, self.task, "it alone has left anything");
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut freed = 0;
        while freed < bytes {
            let Some(buffer) = self.all.lock().unwrap().pop() else {
                break;
            };
            freed += buffer.capacity() as u64;
        }
        freed
    }
}

#[test]
fn what_a_lazy_move_left_and_has_no_room_to_follow_is_evicted_first() {
    let _alone = alone();
    let (p, b) = (group("p"), group("b"));
    let a = p.create("a").unwrap();
    let task = a.task("t").unwrap();
    let all = task.run(|| (0..64).map(|_| vec![1_u8; 64 << 10]).collect());
    let buffers = Arc::new(Buffers {
        task: task.id(),
        all: Mutex::new(all),
        asked: AtomicU64::new(0),
    });
    let _registered = register_subsystem(buffers.clone());
    let own = a.task("own").unwrap();
    let mine = own.run(|| vec![2_u8; 1 << 20]);
    let of_own = own.held();
    b.set_max(Limit::bytes(1 << 20)).unwrap();
    let moved = task.move_to_with(&b, MovePolicy::Lazy).unwrap();
    assert!(moved.stayed >= 4 << 20, "{moved:?}");
    // As much as fits follows; then buffers go, and nothing of who belongs there.
    let before = a.current();
    assert!(a.reclaim(3 << 20) >= 3 << 20);
    assert!(a.current() <= before - (3 << 20) && b.current() <= 1 << 20);
    let asked = buffers.asked.load(Ordering::Relaxed);
    assert!(asked > 0, "where there is no room for all");
    // A reservation that may wait and run what the program has.
    a.set_max(Limit::bytes(a.current() + 4096)).unwrap();
    let left = buffers.all.lock().unwrap().len();
    let room = a.try_reserve_with(512 << 10, Flags::WAIT.with(Flags::USER));
    assert_eq!(room.unwrap().bytes(), 512 << 10);
    assert!(buffers.all.lock().unwrap().len() < left);
    assert_eq!((own.held(), mine.len()), (of_own, 1 << 20));
    // What is protected stays.
    a.set_max(Limit::MAX).unwrap();
    a.write("memory.min", "1G").unwrap();
    let left = buffers.all.lock().unwrap().len();
    assert!(left > 0);
    assert_eq!(p.reclaim(1 << 20), 0);
    assert_eq!(buffers.all.lock().unwrap().len(), left);
    drop((mine, task, own));
    *buffers.all.lock().unwrap() = Vec::new();
    assert_eq!((a.current(), b.current()), (0, 0));
}

#[test]
fn threads_that_work_for_a_task_charge_it_where_it_is() {
    let _alone = alone();
    let groups = [group("a"), group("b"), group("c")];
    let task = groups[0].task("worker").unwrap();
    let stop = AtomicBool::new(false);
    let worked = AtomicU64::new(0);
    let kept: usize = std::thread::scope(|s| {
        let workers: Vec<_> = (0..3)
            .map(|n| {
                let (task, stop, worked) = (&task, &stop, &worked);
                s.spawn(move || {
                    let mut kept: Vec<Vec<u8>> = task.run(Vec::new);
                    let mut turn = n as usize;
                    while !stop.load(Ordering::Relaxed) {
                        let entered = task.enter();
                        for _ in 0..50 {
                            turn = turn.wrapping_mul(25_214_903_917).wrapping_add(11);
                            if kept.len() > 200 {
                                kept.swap_remove(turn % 200);
                            }
                            kept.push(vec![0; 16 + (turn >> 7) % 3000]);
                        }
                        drop(entered);
                        worked.fetch_add(1, Ordering::Relaxed);
                    }
                    let bytes = kept.iter().map(|v| v.capacity()).sum::<usize>();
                    drop(kept);
                    bytes
                })
            })
            .collect();
        let mut turn = 0;
        while turn < 400 || worked.load(Ordering::Relaxed) < 100 {
            let (policy, _) = MovePolicy::ALL[turn % 7];
            let _ = task.move_to_with(&groups[turn % 3], policy);
            turn += 1;
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    assert!(kept > 0);
    task.move_to(&groups[0]).unwrap();
    drop(task);
    for group in &groups {
        assert_eq!(group.current(), 0, "{}", group.path());
        group.remove().unwrap();
    }
    assert!(memcg::is_installed());
}

/// In `can_attach`, runs a function, once.
struct Inside<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send + 'static> Subsystem for Inside<F> {
    fn name(&self) -> &str {
        "inside"
    }
    fn can_attach(&self, _: &Attaching) -> Result<(), String> {
        let f = self.0.lock().unwrap().take();
        if let Some(f) = f {
            f();
        }
        Ok(())
    }
}

#[test]
fn two_moves_of_one_task_come_one_after_the_other() {
    let _alone = alone();
    let [from, first, second] = [group("from"), group("first"), group("second")];
    let task = from.task("moved").unwrap();
    let (asked, is_asked) = std::sync::mpsc::channel();
    let (answer, may_answer) = std::sync::mpsc::channel::<()>();
    let _slow = register_subsystem(Arc::new(Inside(Mutex::new(Some(move || {
        asked.send(()).unwrap();
        may_answer.recv().unwrap();
    })))));
    std::thread::scope(|s| {
        s.spawn(|| task.move_to(&first).unwrap());
        is_asked.recv().unwrap();
        s.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            answer.send(()).unwrap();
        });
        task.move_to(&second).unwrap();
    });
    assert_eq!(task.group().map(|group| group.path()), Some(second.path()));
    drop(task);
    for group in [from, first, second] {
        group.remove().unwrap();
    }
}

#[test]
fn who_is_asked_about_a_move_and_moves_the_same_task_is_refused_at_once() {
    let _alone = alone();
    let [from, to, elsewhere] = [group("from"), group("to"), group("elsewhere")];
    let task = Arc::new(from.task("moved").unwrap());
    let (answers, answer) = std::sync::mpsc::channel();
    let (there, again) = (elsewhere.clone(), task.clone());
    let _moves = register_subsystem(Arc::new(Inside(Mutex::new(Some(move || {
        answers.send(again.move_to(&there)).unwrap();
    })))));
    task.move_to(&to).unwrap();
    assert_eq!(answer.recv().unwrap(), Err(MoveError::Moving));
    assert_eq!(task.group().map(|group| group.path()), Some(to.path()));
    drop(task);
    for group in [from, to, elsewhere] {
        group.remove().unwrap();
    }
}
