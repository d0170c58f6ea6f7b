//! Promises of the Rust face that are about the face itself: what its types implement, what a
//! misuse answers, and that code of the program cannot unwind through the engine.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::{
    Accounted, AllocError, Attaching, Charge, CreateError, Entered, IdError, InGroup, KmemCache,
    Limit, LimitError, ListLru, Memcg, OomKilled, PeakWatch, RemoveError, Scope, Shared, Shrinker,
    SizedCache, Subsystem, Task, TaskError, in_group, register_memcg_cache, register_shrinker,
    register_subsystem, root,
};
use std::alloc::System;
use std::collections::HashSet;
use std::future::{Future, Ready, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs `f` without the lines that panics in it write to stderr.
fn quietly<R>(f: impl FnOnce() -> R) -> std::thread::Result<R> {
    static HOOK: Mutex<()> = Mutex::new(());
    let _alone = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(f));
    std::panic::set_hook(hook);
    outcome
}

/// The message of the panic that `f` ends with.
fn message_of<R>(f: impl FnOnce() -> R) -> String {
    let Err(payload) = quietly(f) else {
        panic!("no panic");
    };
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string))
        .expect("a message")
}

#[test]
fn handles_are_equal_when_they_are_on_the_same_group() {
    let group = root().create("same").unwrap();
    let again = root().lookup("same").unwrap();
    let all: HashSet<Memcg> = [group.clone(), again.clone(), root()].into();
    assert_eq!((&group, all.len()), (&again, 2));
    group.remove().unwrap();
    let later = root().create("same").unwrap();
    assert_eq!(later.path(), group.path());
    assert_ne!(later, group);
}

#[test]
fn every_type_says_what_it_is() {
    fn shown(thing: &dyn std::fmt::Debug) -> String {
        format!("{thing:?}")
    }
    let group = root().create("shown").unwrap();
    let task = group.task("t").unwrap();
    let id = task.id();
    assert_eq!(shown(&group), "Memcg(/shown)");
    assert_eq!(
        shown(&task),
        format!("Task {{ id: {id}, group: Some(Memcg(/shown)) }}")
    );
    assert_eq!(task, task);
    assert_ne!(task, group.task("t").unwrap());
    assert_eq!(shown(&group.enter()), "Entered { .. }");
    let charge = group.try_reserve(24).unwrap();
    assert_eq!(shown(&charge), "Charge { bytes: 24, .. }");
    let watch = shown(&group.watch_peak());
    assert!(watch.starts_with("PeakWatch("), "{watch}");
    assert_eq!(shown(&Shared::new(Mutex::new(charge))), "Shared(0 holders)");
    let future = in_group(&group, "shown", pending::<()>());
    let owner = future.task().unwrap().id();
    assert_eq!(
        shown(&future),
        format!(
            "InGroup {{ owner: Task(Task {{ id: {owner}, group: Some(Memcg(/shown)) }}), \
             is_done: false, .. }}"
        )
    );
    let future = group.scope(pending::<()>());
    let scoped = "{ owner: Group(Memcg(/shown)), is_done: false, .. }";
    assert_eq!(shown(&future), format!("Scoped {scoped}"));
    assert_eq!(shown(&future.killable()), format!("Killable {scoped}"));
    assert_eq!(shown(&memcg::pause()), "Pause { is_paying: false }");
    assert_eq!(shown(&memcg::Alloc), "Alloc");
    let accounted: Accounted<System> = Accounted::new(System);
    assert_eq!(shown(&accounted), "Accounted(System)");
    struct Silent;
    let cache = KmemCache::<Silent>::new("silent").unwrap();
    assert_eq!(shown(&cache), format!("KmemCache({})", cache.number()));
    let list: ListLru<u8> = ListLru::new();
    let _kept = list.insert(1);
    assert_eq!(shown(&list), "ListLru { count: 1, .. }");
}

#[test]
fn errors_are_errors_on_every_thread() {
    fn is_error<E: std::error::Error + Clone + Eq + Send + Sync + 'static>() {}
    is_error::<memcg::ReserveError>();
    is_error::<CreateError>();
    is_error::<LimitError>();
    is_error::<RemoveError>();
    is_error::<TaskError>();
    is_error::<memcg::MergeError>();
    is_error::<memcg::MoveError>();
    is_error::<memcg::CacheError>();
    is_error::<memcg::AllocError>();
    is_error::<memcg::OomKilled>();
    is_error::<IdError>();
    is_error::<memcg::TooLate>();
    is_error::<memcg::FileError>();
}

#[test]
fn handles_cross_threads_and_scopes_do_not() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Memcg>();
    crosses::<Task>();
    crosses::<Charge>();
    crosses::<PeakWatch>();
    crosses::<InGroup<Ready<()>>>();
    crosses::<memcg::Scoped<Ready<()>>>();
    crosses::<memcg::Killable<Ready<()>>>();
    crosses::<memcg::Pause>();
    crosses::<memcg::Unthrottled>();
    crosses::<ListLru<u8>>();
    crosses::<KmemCache<u8>>();
    crosses::<SizedCache>();
    crosses::<Shared<Mutex<Charge>>>();
    // As `static_assertions` has it: this is ambiguous, and does not compile, if Entered is Send.
    trait AmbiguousIfSend<A> {
        fn check() {}
    }
    impl<T: ?Sized> AmbiguousIfSend<()> for T {}
    struct IsSend;
    impl<T: ?Sized + Send> AmbiguousIfSend<IsSend> for T {}
    <Entered as AmbiguousIfSend<_>>::check();
}

#[test]
fn what_is_set_on_a_removed_group_is_answered() {
    let group = root().create("removed").unwrap();
    group.set_max(Limit::bytes(1 << 20)).unwrap();
    group.set_high(Limit::bytes(1 << 19)).unwrap();
    group.remove().unwrap();
    let later = root().create("removed").unwrap();
    assert_eq!(group.set_max(Limit::MAX), Err(LimitError::Gone));
    assert_eq!(group.set_high(Limit::MAX), Err(LimitError::Gone));
    assert_eq!(group.create("child"), Err(CreateError::Gone));
    assert_eq!(group.task("t").err(), Some(TaskError::Gone));
    assert_eq!(group.remove(), Err(RemoveError::Gone));
    assert_eq!(group.kmem_id(), Err(IdError::Gone));
    for (file, value) in [
        ("memory.max", "1M"),
        ("memory.low", "1M"),
        ("memory.oom.policy", "deny"),
        ("cgroup.kill", "1"),
    ] {
        let why = group.write(file, value).unwrap_err();
        assert_eq!((file, why.errno.name()), (file, "ENODEV"), "{why}");
    }
    assert_eq!(group.read("memory.max").unwrap_err().errno.name(), "ENODEV");
    // The one that has its path now is another.
    assert_eq!(later.max(), Limit::MAX);
    let policy = later.read("memory.oom.policy").unwrap();
    assert!(policy.starts_with("[default]"), "{policy}");
    // The root takes none.
    assert_eq!(root().set_max(Limit::bytes(1)), Err(LimitError::InUse));
    assert_eq!(root().max(), Limit::MAX);
}

#[test]
fn a_future_polled_after_it_was_ready_panics_and_is_not_killed() {
    let group = root().create("polled").unwrap();
    let mut done = pin!(in_group(&group, "done", ready(7)));
    assert_eq!(poll(done.as_mut()), Poll::Ready(Ok(7)));
    let said = message_of(|| poll(done.as_mut()));
    assert_eq!(said, "`InGroup` polled after completion");
    let mut killed = pin!(in_group(&group, "killed", pending::<()>()));
    group.kill();
    assert_eq!(poll(killed.as_mut()), Poll::Ready(Err(OomKilled)));
    let said = message_of(|| poll(killed.as_mut()));
    assert_eq!(said, "`InGroup` polled after completion");
    assert_eq!(group.current(), 0);
}

#[test]
fn a_panic_of_a_cache_s_shrinker_is_a_refusal() {
    let group = root().create("panics").unwrap();
    group.set_max(Limit::bytes(64 << 10)).unwrap();
    let cache = SizedCache::new("panics", 4000).unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    assert!(register_memcg_cache(&cache, move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        panic!("on purpose")
    }));
    let mut held = Vec::new();
    let refused = quietly(|| {
        group.run(|| {
            loop {
                match cache.alloc() {
                    Ok(object) => held.push(object),
                    Err(why) => return why,
                }
            }
        })
    });
    assert!(matches!(refused, Ok(AllocError::Max(_))), "{refused:?}");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    drop(held);
    // The engine is as it was: the next allocation is an ordinary one.
    drop(group.run(|| cache.alloc()).unwrap());
    assert_eq!(group.current(), 0);
}

#[test]
fn a_panic_of_a_waker_ends_that_call_alone() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("on purpose")
        }
    }
    let group = root().create("wakers").unwrap();
    let waker = Waker::from(Arc::new(Panics));
    let mut first = pin!(in_group(&group, "waits", pending::<()>()));
    let mut second = pin!(in_group(&group, "waits", pending::<()>()));
    for future in [first.as_mut(), second.as_mut()] {
        let mut context = Context::from_waker(&waker);
        assert!(future.poll(&mut context).is_pending());
    }
    quietly(|| group.kill()).expect("the panic stays with the waker");
    // The second one was told as well.
    assert_eq!(poll(second.as_mut()), Poll::Ready(Err(OomKilled)));
    assert_eq!(poll(first.as_mut()), Poll::Ready(Err(OomKilled)));
}

#[test]
fn what_a_panic_carries_may_panic_as_it_goes() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("on purpose, again")
        }
    }
    fn bad() -> ! {
        std::panic::panic_any(Bad)
    }
    struct Fails;
    impl Shrinker for Fails {
        fn count(&self, _: &Scope) -> u64 {
            bad()
        }
        fn scan(&self, _: &Scope, _: u64) -> Option<u64> {
            bad()
        }
    }
    impl Subsystem for Fails {
        fn name(&self) -> &str {
            "fails"
        }
        fn can_attach(&self, _: &Attaching) -> Result<(), String> {
            bad()
        }
    }
    let (from, to) = (
        root().create("bad-from").unwrap(),
        root().create("bad-to").unwrap(),
    );
    let _charge = from.try_reserve(8000).unwrap();
    let shrinker = register_shrinker(Fails);
    let answer = quietly(|| from.write("memory.reclaim", "4096").is_err());
    assert!(answer.expect("the panic stays with the shrinker"));
    drop(shrinker);
    let task = from.task("t").unwrap();
    let subsystem = register_subsystem(Arc::new(Fails));
    let answer = quietly(|| task.move_to(&to).map_err(|why| why.to_string()));
    let why = answer
        .expect("the panic stays with the subsystem")
        .unwrap_err();
    assert!(why.contains("fails") && why.contains("panicked"), "{why}");
    drop(subsystem);
    task.move_to(&to).unwrap();
}

/// Bytes of a figure of the root's `memory.stat`.
fn figure(key: &str) -> u64 {
    let stat = root().read("memory.stat").unwrap();
    let line = stat.lines().find_map(|line| line.strip_prefix(key));
    let value = line.unwrap_or_else(|| panic!("no {key} in {stat}"));
    value.trim().parse().unwrap()
}

#[test]
fn guards_dropped_in_another_order_leave_nobody_charged() {
    let [acme, zeta] = ["acme", "zeta"].map(|name| root().create(name).unwrap());
    let held = || [acme.current(), zeta.current()];
    let misordered = figure("scope_order");
    let (a, b) = (acme.enter(), zeta.enter());
    drop(a);
    let rows = vec![1u8; 4096];
    assert_eq!(held(), [0, 4096], "the guard that lives says whom");
    drop(b);
    let more = vec![1u8; 4096];
    assert_eq!(held(), [0, 4096], "nobody's, as before both");
    drop((rows, more));
    assert_eq!(held(), [0, 0]);
    // A vector drops its first one first.
    let groups: Vec<Memcg> = (0..20)
        .map(|n| root().create(format!("order{n}")).unwrap())
        .collect();
    let guards: Vec<Entered> = groups.iter().map(Memcg::enter).collect();
    drop(guards);
    let rows = vec![1u8; 4096];
    assert_eq!(groups.iter().map(Memcg::current).max(), Some(0));
    drop(rows);
    assert!(figure("scope_order") >= misordered + 1 + 19);
}

#[test]
fn guards_held_across_await_on_one_thread_end_with_their_futures() {
    let [acme, zeta] = ["await-a", "await-z"].map(|name| root().create(name).unwrap());
    let misordered = figure("scope_order");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    let work = |group: Memcg, rounds: usize| async move {
        let _entered = group.enter();
        for _ in 0..rounds {
            tokio::task::yield_now().await;
        }
    };
    runtime.block_on(local.run_until(async {
        let first = tokio::task::spawn_local(work(acme.clone(), 1));
        let second = tokio::task::spawn_local(work(zeta.clone(), 3));
        first.await.unwrap();
        second.await.unwrap();
        tokio::join!(work(acme.clone(), 1), work(zeta.clone(), 2));
    }));
    let before = [acme.current(), zeta.current()];
    let rows = vec![1u8; 1 << 20];
    assert_eq!([acme.current(), zeta.current()], before);
    drop(rows);
    assert!(figure("scope_order") >= misordered + 2);
}
