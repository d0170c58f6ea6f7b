//! Waiting for room, for events, for a level and for the last task: `reserve`, `events`, `watch`,
//! `emptied`, polled by hand and by a small executor.
//!
//! Nothing here depends on a runtime; `tests/runtimes` does the same on several.

#![forbid(unsafe_code)]

use memcg::{Charge, Event, Limit, Memcg, Reserve, WaitError, root};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const MIB: u64 = 1 << 20;
const LONG: Duration = Duration::from_secs(60);

/// A waker that counts, and unparks the thread that made it.
struct Counting {
    thread: thread::Thread,
    woken: AtomicU32,
}

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::Release);
        self.thread.unpark();
    }
}

fn counting() -> (Arc<Counting>, Waker) {
    let counting = Arc::new(Counting {
        thread: thread::current(),
        woken: AtomicU32::new(0),
    });
    (counting.clone(), counting.into())
}

/// Polls only when woken: a wake-up that is lost is a test that fails after a minute.
fn block_on<F: Future>(future: F) -> F::Output {
    let (counting, waker) = counting();
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    let start = Instant::now();
    let mut seen = 0;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        while counting.woken.load(Ordering::Acquire) == seen {
            assert!(start.elapsed() < LONG, "a wake-up was lost");
            thread::park_timeout(Duration::from_secs(1));
        }
        seen = counting.woken.load(Ordering::Acquire);
    }
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(future).poll(&mut cx)
}

fn limited(name: &str, max: u64) -> Memcg {
    let group = root().create(name).unwrap();
    group.set_max(Limit::bytes(max)).unwrap();
    group
}

fn granted(reserve: &mut Reserve) -> Charge {
    let start = Instant::now();
    loop {
        if let Poll::Ready(answer) = poll_once(reserve) {
            return answer.unwrap();
        }
        assert!(start.elapsed() < LONG, "nothing was granted");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn where_there_is_room_nobody_waits() {
    let group = limited("room", MIB);
    let Poll::Ready(Ok(charge)) = poll_once(&mut group.reserve(MIB, None)) else {
        panic!("it fits");
    };
    assert_eq!((charge.bytes(), group.current()), (MIB, MIB));
    let Poll::Ready(Ok(none)) = poll_once(&mut group.reserve(0, None)) else {
        panic!("nothing fits");
    };
    assert_eq!(none.bytes(), 0);
}

#[test]
fn what_could_never_fit_is_refused_at_once_by_whichever_level() {
    let above = limited("never", MIB);
    let group = above.create("below").unwrap();
    group.set_max(Limit::bytes(4 * MIB)).unwrap();
    let refused = poll_once(&mut group.reserve(2 * MIB, None));
    let Poll::Ready(Err(WaitError::Refused(refusal))) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.group, "/never");
    assert_eq!((refusal.bytes, refusal.max), (2 * MIB, MIB));
    let text = WaitError::Refused(refusal).to_string();
    assert!(text.contains("can never fit"), "{text}");
}

#[test]
fn a_free_wakes_the_first_in_line() {
    let group = limited("first", MIB);
    let held = group.try_reserve(MIB).unwrap();
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        drop(held);
        Instant::now()
    });
    let charge = block_on(group.reserve(MIB, None)).unwrap();
    let freed = other.join().unwrap();
    assert_eq!(group.current(), MIB);
    drop(charge);
    assert_eq!(group.current(), 0);
    // It is a wake-up, not the look that is made from time to time.
    println!("{:?} after the free", freed.elapsed());
}

#[test]
fn heap_memory_that_is_freed_makes_room_as_reservations_do() {
    let group = limited("heap", 8 * MIB);
    let held: Vec<_> = group.run(|| (0..7 * MIB / 4096).map(|_| vec![1u8; 4096]).collect());
    let mut waiting = group.reserve(4 * MIB, None);
    assert!(poll_once(&mut waiting).is_pending());
    let other = thread::spawn(move || drop(held));
    assert_eq!(block_on(waiting).unwrap().bytes(), 4 * MIB);
    other.join().unwrap();
}

#[test]
fn the_line_is_served_in_order_and_nobody_slips_past() {
    let above = limited("order", MIB);
    let [a, b] = ["a", "b"].map(|name| above.create(name).unwrap());
    let held: Vec<_> = (0..4).map(|_| a.try_reserve(MIB / 4).unwrap()).collect();
    // Whoever asks, they are one line: at the group that is full.
    let mut line = [
        a.reserve(MIB / 2, None),
        b.reserve(MIB / 4, None),
        above.reserve(MIB / 4, None),
    ];
    for waiting in &mut line {
        assert!(poll_once(waiting).is_pending());
    }
    let mut held = held.into_iter();
    drop(held.next());
    // The first needs more; the second would fit, and so would who asks at the door.
    let [first, second, third] = &mut line;
    assert!(poll_once(second).is_pending());
    let refused = b.try_reserve(4096).unwrap_err();
    assert_eq!(refused.group, "/order");
    assert!(refused.to_string().contains("in line"), "{refused}");
    assert!(a.try_reserve(8).is_err(), "of stock as well");
    drop(held.next());
    let got = granted(first);
    assert!(poll_once(second).is_pending());
    drop(held.next());
    let second = granted(second);
    assert!(poll_once(third).is_pending());
    drop(held.next());
    let third = granted(third);
    assert_eq!(above.current(), MIB);
    drop((got, second, third));
    // The line is over: doors are open.
    assert!(b.try_reserve(4096).is_ok());
}

#[test]
fn growth_stands_behind_the_line_too() {
    let group = limited("growth", MIB);
    let mut growing = group.try_reserve(MIB / 4).unwrap();
    let held = group.try_reserve(MIB / 2).unwrap();
    let mut waiting = group.reserve(MIB / 2, None);
    assert!(poll_once(&mut waiting).is_pending());
    assert!(growing.resize(MIB / 2).is_err());
    // Less is no growth.
    growing.resize(MIB / 8).unwrap();
    drop(held);
    let got = granted(&mut waiting);
    growing.resize(MIB / 4).unwrap();
    drop((got, growing));
}

#[test]
fn what_is_given_stands_behind_the_line_too() {
    let (full, other) = (
        limited("line-given", 4 * MIB),
        root().create("line-giver").unwrap(),
    );
    let held = full.try_reserve(3 * MIB).unwrap();
    let mut given = other.try_reserve(MIB / 2).unwrap();
    let mut waits = full.reserve(2 * MIB, None);
    assert!(poll_once(&mut waits).is_pending());
    // It would fit.
    assert!(given.give(&full).is_err());
    assert_eq!((other.current(), full.current()), (MIB / 2, 3 * MIB));
    assert!(full.nr_events(Event::RechargeFailed) == 1);
    drop(waits);
    given.give(&full).unwrap();
    assert_eq!((other.current(), full.current()), (0, 7 * MIB / 2));
    drop((held, given));
    assert_eq!(full.current(), 0);
}

#[test]
fn after_a_second_what_fits_may_pass() {
    let group = limited("second", MIB);
    let held = group.try_reserve(MIB / 2).unwrap();
    let start = Instant::now();
    let mut large = group.reserve(MIB, None);
    let mut small = group.reserve(MIB / 8, None);
    assert!(poll_once(&mut large).is_pending());
    assert!(poll_once(&mut small).is_pending());
    assert!(group.try_reserve(MIB / 8).is_err());
    let small = block_on(small).unwrap();
    assert!(
        start.elapsed() >= Duration::from_millis(950),
        "{:?}",
        start.elapsed()
    );
    // One was served: for a second the door is closed again.
    assert!(group.try_reserve(MIB / 8).is_err());
    thread::sleep(Duration::from_millis(1100));
    drop(group.try_reserve(MIB / 8).unwrap());
    drop((held, small));
    drop(granted(&mut large));
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let group = limited("time", MIB);
    let held = group.try_reserve(MIB).unwrap();
    let start = Instant::now();
    let ended = block_on(group.reserve(4096, Some(Duration::from_millis(50))));
    let Err(WaitError::TimedOut(refusal)) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!((&*refusal.group, refusal.bytes), ("/time", 4096));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(50), "{took:?}");
    let now = poll_once(&mut group.reserve(4096, Some(Duration::ZERO)));
    assert!(matches!(now, Poll::Ready(Err(WaitError::TimedOut(_)))));
    drop(held);
    assert!(group.try_reserve(MIB).is_ok(), "nobody stands in line");
}

#[test]
fn a_wait_in_which_nothing_is_freed_is_stuck() {
    let group = limited("stuck", MIB);
    let held = group.try_reserve(MIB).unwrap();
    let start = Instant::now();
    let ended = block_on(group.reserve(4096, None));
    assert!(matches!(ended, Err(WaitError::Stuck(_))), "{ended:?}");
    let took = start.elapsed();
    assert!((10..30).contains(&took.as_secs()), "{took:?}");
    drop(held);
}

#[test]
fn who_goes_gives_back_what_it_got_and_the_next_is_served() {
    let group = limited("goes", MIB);
    let held = group.try_reserve(MIB).unwrap();
    let mut first = group.reserve(MIB, None);
    let mut second = group.reserve(MIB, None);
    let mut third = group.reserve(MIB / 2, None);
    for waiting in [&mut first, &mut second, &mut third] {
        assert!(poll_once(waiting).is_pending());
    }
    drop(held);
    // The first has it, but nobody asks for it; the second never comes to the head.
    thread::sleep(Duration::from_millis(50));
    assert_eq!(group.current(), MIB);
    drop(second);
    drop(first);
    let third = granted(&mut third);
    assert_eq!(group.current(), MIB / 2);
    drop(third);
    assert_eq!(group.current(), 0);
}

#[test]
fn a_higher_limit_wakes() {
    let group = limited("raised", MIB);
    let held = group.try_reserve(MIB).unwrap();
    let raise = group.clone();
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        raise.set_max(Limit::bytes(2 * MIB)).unwrap();
    });
    let charge = block_on(group.reserve(MIB, None)).unwrap();
    other.join().unwrap();
    drop((held, charge));
}

#[test]
fn a_limit_lowered_below_the_request_ends_the_wait() {
    let group = limited("lowered", MIB);
    let held = group.try_reserve(MIB).unwrap();
    let mut waiting = group.reserve(MIB / 2, None);
    assert!(poll_once(&mut waiting).is_pending());
    group.set_max(Limit::bytes(MIB / 4)).unwrap();
    let ended = block_on(waiting);
    assert!(matches!(ended, Err(WaitError::Refused(_))), "{ended:?}");
    drop(held);
}

#[test]
fn who_waits_in_a_removed_group_goes_on_above() {
    let above = limited("above", MIB);
    let group = above.create("removed").unwrap();
    group.set_max(Limit::bytes(MIB / 2)).unwrap();
    let held = group.try_reserve(MIB / 2).unwrap();
    let mut waiting = group.reserve(MIB / 2, None);
    assert!(poll_once(&mut waiting).is_pending());
    group.remove().unwrap();
    // Above there is room for both.
    let charge = granted(&mut waiting);
    assert_eq!(above.current(), MIB);
    drop((held, charge));

    let group = above.create("again").unwrap();
    group.set_max(Limit::bytes(MIB / 2)).unwrap();
    let (held, more) = (
        group.try_reserve(MIB / 2).unwrap(),
        above.try_reserve(MIB / 2).unwrap(),
    );
    let waiting = group.reserve(MIB / 2, None);
    let mut waiting = waiting;
    assert!(poll_once(&mut waiting).is_pending());
    group.remove().unwrap();
    thread::sleep(Duration::from_millis(20));
    assert!(poll_once(&mut waiting).is_pending());
    assert_eq!(above.try_reserve(8).unwrap_err().group, "/above");
    drop(held);
    drop((granted(&mut waiting), more));
    assert_eq!(above.current(), 0);
}

#[test]
fn who_is_refused_above_when_there_is_room_below_stands_above_in_his_place() {
    let above = limited("two", MIB);
    let below = above.create("below").unwrap();
    below.set_max(Limit::bytes(MIB / 2)).unwrap();
    let held = below.try_reserve(MIB / 2).unwrap();
    let mut first = below.reserve(MIB / 2, None);
    assert!(poll_once(&mut first).is_pending());
    let rest = above.try_reserve(MIB / 2);
    // The door of `below` is closed, not that of `above`.
    let rest = rest.unwrap();
    let mut second = above.reserve(MIB / 2, None);
    assert!(poll_once(&mut second).is_pending());
    drop(held);
    // The first was there before the second, whichever line it stands in.
    let got = granted(&mut first);
    assert!(poll_once(&mut second).is_pending());
    drop(rest);
    drop((got, granted(&mut second)));
    assert_eq!(above.current(), 0);
}

#[test]
fn many_wait_for_little_and_each_is_served_once() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 300;
    let above = limited("many", MIB);
    let groups: Vec<_> = (0..THREADS)
        .map(|n| above.create(format!("g{n}")).unwrap())
        .collect();
    thread::scope(|s| {
        for (n, group) in groups.iter().enumerate() {
            s.spawn(move || {
                let sizes = [MIB / 2, MIB / 4, 3 * MIB / 4, MIB / 8];
                for round in 0..ROUNDS {
                    let mut waiting = group.reserve(sizes[(n + round) % 4], None);
                    if round % 7 == 3 {
                        // Some go at once, whatever they got.
                        let _ = poll_once(&mut waiting);
                        continue;
                    }
                    let charge = block_on(waiting).unwrap();
                    if round % 16 == 0 {
                        thread::yield_now();
                    }
                    drop(charge);
                }
            });
        }
    });
    assert_eq!(above.current(), 0);
    assert!(above.try_reserve(MIB).is_ok());
}

#[test]
fn emptied_resolves_with_the_last_task_or_the_group() {
    let group = root().create("emptied").unwrap();
    let below = group.create("below").unwrap();
    assert_eq!(poll_once(&mut group.emptied()), Poll::Ready(()));
    let (task, deep) = (group.task("t").unwrap(), below.task("d").unwrap());
    let mut emptied = group.emptied();
    assert_eq!(poll_once(&mut emptied), Poll::Pending);
    drop(task);
    assert_eq!(poll_once(&mut emptied), Poll::Pending, "one is below");
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        drop(deep);
    });
    block_on(emptied);
    other.join().unwrap();
    below.remove().unwrap();
    group.remove().unwrap();
    block_on(group.emptied());
}

#[test]
fn a_task_that_moves_away_empties_its_group() {
    let [from, to] = ["left", "entered"].map(|name| root().create(name).unwrap());
    let task = from.task("t").unwrap();
    let goal = to.clone();
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        task.move_to(&goal).unwrap();
        task
    });
    let emptied = from.emptied();
    block_on(emptied);
    assert_eq!(poll_once(&mut to.emptied()), Poll::Pending);
    drop(other.join().unwrap());
}

#[test]
fn events_below_are_told_and_none_twice() {
    let group = root().create("events").unwrap();
    let below = group.create("below").unwrap();
    below.set_max(Limit::bytes(MIB)).unwrap();
    let mut events = group.events();
    let ask = below.clone();
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        assert!(ask.try_reserve(2 * MIB).is_err());
    });
    let mut seen = block_on(events.next()).unwrap().since(Event::Max);
    other.join().unwrap();
    assert!(below.try_reserve(2 * MIB).is_err());
    while seen < 2 {
        let changes = block_on(events.next()).unwrap();
        assert!(changes.iter().count() > 0, "{changes:?}");
        seen += changes.since(Event::Max);
    }
    assert_eq!(seen, group.nr_events(Event::Max));
    // The rest of what the two refusals counted, if that was not told yet.
    let _ = poll_once(&mut Box::pin(events.next()));
    assert!(poll_once(&mut Box::pin(events.next())).is_pending());
    below.remove().unwrap();
    let gone = group.clone();
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        gone.remove().unwrap();
    });
    while let Some(changes) = block_on(events.next()) {
        assert!(changes.iter().count() > 0);
    }
    other.join().unwrap();
}

#[test]
fn a_level_that_is_crossed_upward_is_told_once_for_each_time() {
    let group = root().create("levels").unwrap();
    let mut low = group.watch(Limit::bytes(8 * MIB));
    let mut high = group.watch(Limit::bytes(16 * MIB));
    let is_told = |watch: &mut memcg::Watch| poll_once(&mut Box::pin(watch.crossed()));
    assert_eq!(is_told(&mut low), Poll::Pending);
    // However short it is above.
    drop(group.try_reserve(12 * MIB).unwrap());
    assert_eq!(is_told(&mut low), Poll::Ready(true));
    assert_eq!(is_told(&mut low), Poll::Pending);
    assert_eq!(is_told(&mut high), Poll::Pending);
    let grow = group.clone();
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        grow.try_reserve(20 * MIB).unwrap()
    });
    assert!(block_on(high.crossed()));
    assert!(block_on(low.crossed()));
    let mut held = other.join().unwrap();
    assert_eq!(is_told(&mut low), Poll::Pending, "it is above");
    held.resize(12 * MIB).unwrap();
    assert_eq!(is_told(&mut high), Poll::Pending);
    held.resize(17 * MIB).unwrap();
    assert_eq!(is_told(&mut high), Poll::Ready(true));
    assert_eq!(is_told(&mut low), Poll::Pending);
    drop(held);
    group.remove().unwrap();
    assert_eq!(is_told(&mut low), Poll::Ready(false));
}

#[test]
fn nobody_observed_stands_in_line_or_before_a_closed_door() {
    let above = limited("observed", MIB);
    let [seen, other] = ["seen", "other"].map(|name| above.create(name).unwrap());
    let held = other.try_reserve(MIB).unwrap();
    let mut early = seen.reserve(MIB / 2, None);
    let mut waiting = other.reserve(MIB / 2, None);
    assert!(poll_once(&mut early).is_pending());
    assert!(poll_once(&mut waiting).is_pending());
    assert!(seen.try_reserve(4096).is_err());
    seen.write("memory.oom.policy", "observe").unwrap();
    drop(seen.try_reserve(4096).unwrap());
    let early = granted(&mut early);
    assert!(poll_once(&mut waiting).is_pending());
    drop((early, held));
    drop(granted(&mut waiting));
}
