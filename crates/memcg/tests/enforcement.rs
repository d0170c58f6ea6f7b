//! At a limit the process and the other tenants live: the cases that ended real services, each many
//! times, under every policy that promises it; and where a policy does end the process, the line
//! that says who, how much, which limit.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::{Event, InGroup, Limit, Memcg, OomKilled, checkpoint, fallible, in_group, root};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::process::{Command, Output};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const MIB: usize = 1 << 20;
/// How often each case runs.
const TIMES: usize = 50;
/// Those under which Rust's allocator is never refused by a tenant's limit.
const POLICIES: [&str; 3] = ["default", "debt", "kill"];

/// A child of `parent` of at most `max` bytes, ended as a whole by its drop.
struct Tenant(Memcg);

impl Tenant {
    fn new(parent: &Memcg, name: &str, policy: &str, max: Option<usize>) -> Self {
        let group = parent.create(format!("{name}-{policy}")).unwrap();
        group.write("memory.oom.policy", policy).unwrap();
        if let Some(max) = max {
            group.set_max(Limit::bytes(max as u64)).unwrap();
        }
        Self(group)
    }

    /// What is held, of a group that held nothing before, is nothing again.
    #[track_caller]
    fn is_as_before(&self) {
        assert_eq!(self.0.current(), 0, "{}", self.0.path());
    }

    /// A request of this tenant: its answer is right, and the door is open to it.
    #[track_caller]
    fn answers(&self) {
        let text = self.0.run(|| {
            let words: Vec<String> = (0..100).map(|n| n.to_string()).collect();
            words.join(" ")
        });
        assert!(text.starts_with("0 1 2 ") && text.ends_with(" 98 99"));
        drop(self.0.try_reserve(MIB as u64).unwrap());
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.remove().unwrap();
        }
    }
}

/// So many blocks of 1 MiB, each with its number in it.
fn store(mib: usize) -> Vec<Vec<u8>> {
    let block = |n: usize| {
        let mut block = Vec::with_capacity(MIB);
        block.push(n as u8);
        block
    };
    (0..mib).map(block).collect()
}

#[track_caller]
fn is_whole(store: &[Vec<u8>]) {
    assert!(store.iter().enumerate().all(|(n, b)| b == &[n as u8]));
}

fn each_policy(name: &str, max: usize, case: impl Fn(&Tenant, &Tenant, &str)) {
    for policy in POLICIES {
        let top = root();
        let tenant = Tenant::new(&top, name, policy, Some(max));
        let other = Tenant::new(&top, &format!("{name}-other"), policy, Some(8 * MIB));
        for _ in 0..TIMES {
            case(&tenant, &other, policy);
            tenant.is_as_before();
            other.is_as_before();
        }
    }
}

async fn yield_now() {
    let mut first = true;
    poll_fn(|_| {
        if std::mem::take(&mut first) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}

type Job = Pin<Box<InGroup<Pin<Box<dyn Future<Output = u64>>>>>>;

fn job(tenant: &Tenant, name: &str, future: impl Future<Output = u64> + 'static) -> Job {
    let future: Pin<Box<dyn Future<Output = u64>>> = Box::pin(future);
    Box::pin(in_group(&tenant.0, name, future))
}

/// A request that takes so many bytes in small pieces, lets others run after each, and answers what
/// it finds in them.
async fn grow_to(bytes: usize) -> u64 {
    const PIECE: usize = 64 << 10;
    let mut pieces = Vec::new();
    while pieces.len() * PIECE < bytes {
        pieces.push(vec![1u8; PIECE]);
        yield_now().await;
    }
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

/// Takes 6 MiB. Under `kill` it goes on as long as its tenant is above max: after a look for
/// somebody to tell the engine rests, so the next one may be a while off.
fn grow_and_stay(tenant: &Memcg, policy: &str) -> impl Future<Output = u64> + 'static {
    let (tenant, is_kill) = (tenant.clone(), policy == "kill");
    async move {
        let held = store(6);
        let start = Instant::now();
        // Both have theirs before either is done.
        yield_now().await;
        while is_kill && tenant.current() > tenant.max().get() {
            assert!(start.elapsed() < Duration::from_secs(30), "nobody was told");
            drop(vec![1u8; 64 << 10]);
            yield_now().await;
        }
        held.len() as u64 * MIB as u64
    }
}

/// Runs all to their end, in turn.
fn run_all<const N: usize>(jobs: [Job; N]) -> [Result<u64, OomKilled>; N] {
    let mut jobs = jobs.map(Some);
    let mut answers = [const { Err(OomKilled) }; N];
    let mut cx = Context::from_waker(Waker::noop());
    while jobs.iter().any(Option::is_some) {
        for (job, answer) in jobs.iter_mut().zip(&mut answers) {
            let Some(future) = job else { continue };
            if let Poll::Ready(got) = future.as_mut().poll(&mut cx) {
                *answer = got;
                *job = None;
            }
        }
    }
    answers
}

#[test]
fn a_tenant_with_81_of_64_mib_lives_and_so_do_the_others() {
    each_policy("of-64", 64 * MIB, |tenant, other, policy| {
        let debts = tenant.0.nr_events(Event::Debt);
        let held = tenant.0.run(|| store(81));
        assert!(tenant.0.current() >= 81 * MIB as u64, "{policy}");
        assert_eq!(tenant.0.nr_events(Event::Debt), debts + 1, "{policy}");
        assert!(tenant.0.try_reserve(8).is_err(), "the door is closed");
        other.answers();
        is_whole(&held);
    });
}

#[test]
fn of_two_futures_that_yield_one_ends_under_kill_and_none_else() {
    each_policy("yield", 8 * MIB, |tenant, other, policy| {
        let kills = tenant.0.nr_events(Event::OomKill);
        let [first, second, beside] = run_all([
            job(tenant, "first", grow_and_stay(&tenant.0, policy)),
            job(tenant, "second", grow_and_stay(&tenant.0, policy)),
            job(other, "beside", grow_to(6 * MIB)),
        ]);
        assert_eq!(beside, Ok(6 * MIB as u64));
        let answers = [first, second];
        let killed = answers.iter().filter(|a| a.is_err()).count();
        assert_eq!(killed, usize::from(policy == "kill"), "{policy}");
        let right = answers.iter().filter(|a| **a == Ok(6 * MIB as u64));
        assert_eq!(right.count(), 2 - killed);
        let counted = tenant.0.nr_events(Event::OomKill) - kills;
        assert_eq!(counted, killed as u64, "{policy}");
    });
}

#[test]
fn of_two_futures_on_two_threads_one_goes_on() {
    let tenant = Tenant::new(&root(), "threads", "kill", Some(8 * MIB));
    for _ in 0..4 * TIMES {
        let start = std::sync::Barrier::new(2);
        let request = || {
            start.wait();
            run_all([job(&tenant, "request", grow_to(6 * MIB))])
        };
        let answers = std::thread::scope(|s| {
            [s.spawn(request), s.spawn(request)].map(|thread| thread.join().unwrap()[0])
        });
        // One that was done before the other needed the room needs no kill.
        let right = answers.iter().filter(|a| **a == Ok(6 * MIB as u64));
        assert!(right.count() >= 1, "{answers:?}");
        tenant.is_as_before();
    }
}

#[test]
fn a_future_that_never_yields_is_told_at_a_checkpoint() {
    each_policy("never", 8 * MIB, |tenant, other, policy| {
        let [idle, never, beside] = run_all([
            job(tenant, "idle", grow_to(MIB)),
            job(tenant, "never", async {
                let mut held = Vec::new();
                while checkpoint().is_ok() && held.len() < 16 {
                    held.extend(store(1));
                }
                held.len() as u64
            }),
            job(other, "beside", grow_to(MIB)),
        ]);
        let mib = never.expect("it was ready in the poll in which it was told");
        match policy {
            "kill" => assert!((7..10).contains(&mib), "told after {mib} MiB of 8"),
            _ => assert_eq!(mib, 16, "{policy}"),
        }
        assert_eq!((idle, beside), (Ok(MIB as u64), Ok(MIB as u64)), "{policy}");
    });
}

#[test]
fn a_store_that_fills_up_ends_neither_the_process_nor_others_requests() {
    each_policy("store", 16 * MIB, |tenant, other, policy| {
        let held = tenant.0.run(|| store(32));
        let [beside] = run_all([job(other, "beside", grow_to(4 * MIB))]);
        assert_eq!(beside, Ok(4 * MIB as u64), "{policy}");
        other.answers();
        // Its own requests are served too, or told to end.
        let [own] = run_all([job(tenant, "own", grow_to(MIB))]);
        assert!(own.is_ok() || policy == "kill", "{policy}");
        is_whole(&held);
        drop(held);
        let [own] = run_all([job(tenant, "own", grow_to(MIB))]);
        assert_eq!(own, Ok(MIB as u64), "{policy}: there is room again");
    });
}

#[test]
fn try_reserve_says_no_inside_fallible_alone() {
    each_policy("fallible", 4 * MIB, |tenant, other, policy| {
        let entered = tenant.0.enter();
        let mut rows: Vec<u8> = Vec::new();
        assert!(fallible(|| rows.try_reserve_exact(8 * MIB)).is_err());
        assert_eq!(rows.capacity(), 0);
        assert!(fallible(|| rows.try_reserve_exact(MIB)).is_ok(), "it fits");
        assert!(rows.try_reserve_exact(8 * MIB).is_ok(), "{policy}: outside");
        assert!(tenant.0.current() >= 8 * MIB as u64);
        // The program's own errors are made inside as well.
        let told = fallible(|| format!("{} of {}", rows.capacity(), tenant.0.max()));
        assert!(told.starts_with("8388608 of "));
        drop(entered);
        other.answers();
    });
}

#[test]
fn a_sibling_under_a_full_parent_loses_nothing() {
    for policy in POLICIES {
        let parent = Tenant::new(&root(), "full", policy, Some(32 * MIB));
        let hog = Tenant::new(&parent.0, "hog", policy, None);
        let sibling = Tenant::new(&parent.0, "sibling", policy, None);
        let other = Tenant::new(&root(), "beside-full", policy, None);
        for _ in 0..TIMES {
            let held = hog.0.run(|| store(48));
            let requests = ["a", "b", "c"].map(|n| job(&sibling, n, grow_to(MIB)));
            let answers = run_all(requests);
            assert_eq!(answers, [Ok(MIB as u64); 3], "{policy}");
            // Who can be refused is: its level above is full.
            let refused = sibling.0.try_reserve(MIB as u64).unwrap_err();
            assert_eq!(refused.group.as_str(), parent.0.path());
            other.answers();
            is_whole(&held);
            drop(held);
            sibling.answers();
            for tenant in [&parent, &hog, &sibling, &other] {
                tenant.is_as_before();
            }
        }
        assert_eq!(parent.0.nr_events(Event::OomKill), 0, "{policy}");
        drop((hog, sibling));
    }
}

/// Which child a process is.
const CHILD: &str = "MEMCG_TEST_ENFORCEMENT";

/// What runs in processes of its own, since it ends them or sets the whole process's budget. Not
/// asked for, it does nothing.
#[test]
fn in_a_process_of_its_own() {
    let Ok(child) = std::env::var(CHILD) else {
        return;
    };
    match child.as_str() {
        "deny" => {
            let tenant = root().create("deny").unwrap();
            tenant.write("memory.oom.policy", "deny").unwrap();
            tenant.set_max(Limit::bytes(4 << 20)).unwrap();
            tenant.run(|| std::hint::black_box(store(5)).len());
        }
        "debt" => {
            let tenant = root().create("debt").unwrap();
            tenant.set_max(Limit::bytes(4 << 20)).unwrap();
            tenant.write("memory.debt.max", "2M").unwrap();
            tenant.run(|| std::hint::black_box(store(7)).len());
        }
        "root" => {
            let (tenant, _other) = full_root();
            // Only that much more is what the emergency leaves.
            tenant.0.run(|| std::hint::black_box(store(512)).len());
        }
        "full" => {
            let (tenant, other) = full_root();
            for _ in 0..TIMES {
                // Into the emergency.
                let held = tenant.0.run(|| store(96));
                let refused = tenant.0.try_reserve(MIB as u64).unwrap_err();
                assert_eq!(refused.group.as_str(), "/");
                assert!(other.0.try_reserve(MIB as u64).is_err());
                let [request] = run_all([job(&other, "request", grow_to(MIB))]);
                assert_eq!(request, Ok(MIB as u64));
                is_whole(&held);
                drop(held);
                other.answers();
                tenant.is_as_before();
                other.is_as_before();
            }
        }
        _ => panic!("{child}: no such child"),
    }
    println!("{child}: lives");
}

/// A process with room for 64 MiB and an emergency of 128.
fn full_root() -> (Tenant, Tenant) {
    let top = root();
    top.write("memory.emergency", "128M").unwrap();
    let used = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = used.split(' ').nth(1).unwrap().parse().unwrap();
    top.set_max(Limit::bytes(pages * 4096 + (64 << 20)))
        .unwrap();
    let tenant = Tenant::new(&top, "tenant", "default", None);
    (tenant, Tenant::new(&top, "other", "kill", None))
}

fn run_child(child: &str) -> (Output, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "in_a_process_of_its_own", "--nocapture"])
        .env(CHILD, child)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, errors)
}

/// The child ends, and the line begins and ends so.
#[track_caller]
fn ends_with_the_line(child: &str, begin: &str, middle: &str, end: &str) {
    let (output, errors) = run_child(child);
    assert!(!output.status.success(), "{child} lives\n{errors}");
    let line = errors.lines().find(|line| line.starts_with("memcg: /"));
    let line = line.unwrap_or_else(|| panic!("no line of {child} in\n{errors}"));
    assert!(line.starts_with(begin), "{line}");
    assert!(line.contains(middle), "{line}");
    assert!(line.ends_with(end), "{line}");
    // Rust's own words come after it, so that it is the reason one finds.
    assert!(errors.contains("memory allocation of 1048576 bytes failed"));
}

#[test]
fn deny_ends_the_process_with_the_line() {
    ends_with_the_line(
        "deny",
        "memcg: /deny: Rust's allocator is refused 1048576 bytes: /deny has ",
        " of 4194304 bytes (memory.max) in use",
        ". A Rust program ends on that.",
    );
}

#[test]
fn a_set_debt_max_ends_the_process_with_the_line() {
    ends_with_the_line(
        "debt",
        "memcg: /debt: Rust's allocator is refused 1048576 bytes: /debt has ",
        " of 4194304 bytes (memory.max) in use",
        ", and may go 2097152 beyond it (memory.debt.max). A Rust program ends on that.",
    );
}

#[test]
fn beyond_its_emergency_the_process_ends_with_the_line() {
    ends_with_the_line(
        "root",
        "memcg: /tenant-default: Rust's allocator is refused 1048576 bytes: / has ",
        " bytes (memory.max) in use",
        ", and may go 134217728 beyond it (memory.emergency). A Rust program ends on that.",
    );
}

#[test]
fn at_a_full_root_the_door_is_closed_and_the_allocator_goes_on() {
    let (output, errors) = run_child("full");
    assert!(output.status.success(), "{errors}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("full: lives"));
}
