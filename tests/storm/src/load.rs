//! A round of load: hogs and their neighbours on a runtime of their own, and the books after it.

use crate::request::{Refused, answer, grow, take};
use memcg::{Limit, Memcg, OomKilled, OomPolicy, in_group, root};
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

const NR_HOGS: usize = 2;
const NR_NEIGHBOURS: usize = 4;
/// What a hog may hold, of requests that take 3 × 12 MiB and a store of 20.
const MAX: u64 = 16 << 20;
const REQUEST: usize = 12 << 20;
const STORE: usize = 20 << 20;
const REQUESTS: usize = 3;
/// A hog's requests begin so far apart, a neighbour's so far after the last answer. A request's
/// place is asked for again after all others: by then it has ended, killed or not, so that a kill
/// does not make more requests.
const HOG_PAUSE: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(2);
/// How long the last bytes may take to come back.
const PATIENCE: Duration = Duration::from_secs(10);

/// A flavour of tokio's runtime.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flavour {
    CurrentThread,
    MultiThread,
}

impl Flavour {
    pub fn name(self) -> &'static str {
        match self {
            Flavour::CurrentThread => "current_thread",
            Flavour::MultiThread => "multi_thread",
        }
    }

    fn runtime(self) -> std::io::Result<Runtime> {
        match self {
            Flavour::CurrentThread => Builder::new_current_thread().enable_time().build(),
            Flavour::MultiThread => Builder::new_multi_thread()
                .worker_threads(2)
                .enable_time()
                .build(),
        }
    }
}

/// A policy as `memory.oom.policy` spells it.
pub fn name_of(policy: OomPolicy) -> &'static str {
    let known = OomPolicy::ALL.iter().find(|(known, _)| *known == policy);
    known.map_or("unknown", |(_, name)| name)
}

/// What a round is.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub flavour: Flavour,
    pub policy: OomPolicy,
    pub is_limited: bool,
    pub time: Duration,
    /// The books must be after it what they were before.
    pub has_books: bool,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = if self.is_limited { "with" } else { "without" };
        let (flavour, policy) = (self.flavour.name(), name_of(self.policy));
        write!(f, "{flavour}, {policy}, {limits} limits")
    }
}

/// How hogs' requests ended.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    pub done: u64,
    pub refused: u64,
    pub killed: u64,
}

impl Counts {
    pub fn add(&mut self, more: &Counts) {
        self.done += more.done;
        self.refused += more.refused;
        self.killed += more.killed;
    }
}

/// What the futures of a round tell.
#[derive(Default)]
struct Seen {
    done: AtomicU64,
    refused: AtomicU64,
    killed: AtomicU64,
    wrong: AtomicU64,
    samples: Mutex<Vec<u32>>,
}

/// Runs a round below `top`. What neighbours waited, in µs, is added to `samples`.
pub fn run(top: &Memcg, round: &Round, samples: &mut Vec<u32>) -> Result<Counts, String> {
    let make = |name: &str, n: usize| {
        let group = top.create(format!("{name}-{n}"));
        group.map_err(|why| why.to_string())
    };
    let hogs: Vec<Memcg> = (0..NR_HOGS)
        .map(|n| make("hog", n))
        .collect::<Result<_, _>>()?;
    let neighbours: Vec<Memcg> = (0..NR_NEIGHBOURS)
        .map(|n| make("neighbour", n))
        .collect::<Result<_, _>>()?;
    for hog in hogs.iter().filter(|_| round.is_limited) {
        let set = hog.set_oom_policy(round.policy);
        set.and_then(|()| hog.set_max(Limit::bytes(MAX)))
            .map_err(|why| why.to_string())?;
    }
    // Each begins one at once, and one after each pause.
    let most = (round.time.as_micros() / PAUSE.as_micros() + 1) * NR_NEIGHBOURS as u128;
    let seen = Arc::new(Seen::default());
    seen.samples.lock().unwrap().reserve(most as usize);

    let before = root().current();
    let runtime = round.flavour.runtime().map_err(|why| why.to_string())?;
    runtime.block_on(all(round, &hogs, &neighbours, &seen));
    // Its threads end, and all that is left on them.
    drop(runtime);
    if round.has_books {
        books(before, hogs.iter().chain(&neighbours))?;
    }

    for tenant in hogs.iter().chain(&neighbours) {
        tenant.remove().map_err(|why| why.to_string())?;
    }
    let count = |counted: &AtomicU64| counted.load(Ordering::Relaxed);
    if count(&seen.wrong) > 0 {
        return Err(format!("{} wrong answers", count(&seen.wrong)));
    }
    samples.append(&mut seen.samples.lock().unwrap());
    Ok(Counts {
        done: count(&seen.done),
        refused: count(&seen.refused),
        killed: count(&seen.killed),
    })
}

async fn all(round: &Round, hogs: &[Memcg], neighbours: &[Memcg], seen: &Arc<Seen>) {
    let (end, policy) = (Instant::now() + round.time, round.policy);
    let mut handles: Vec<JoinHandle<()>> = Vec::new();
    for group in hogs {
        handles.push(tokio::spawn(hog(group.clone(), policy, end, seen.clone())));
    }
    for group in neighbours {
        handles.push(tokio::spawn(neighbour(group.clone(), end, seen.clone())));
    }
    for handle in handles {
        if handle.await.is_err() {
            seen.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A tenant that has several large requests at a time and, half of the time, a store that is larger
/// than its limit.
async fn hog(group: Memcg, policy: OomPolicy, end: Instant, seen: Arc<Seen>) {
    let mut requests: [Option<JoinHandle<()>>; REQUESTS] = [const { None }; REQUESTS];
    let mut store = None;
    for n in 0_usize.. {
        if Instant::now() >= end {
            break;
        }
        if n % 8 == 0 {
            // No task: charged to the tenant itself.
            store = (n % 16 == 8)
                .then(|| group.run(|| take(STORE, policy)).ok())
                .flatten();
        }
        let request = &mut requests[n % REQUESTS];
        if request.as_ref().is_none_or(JoinHandle::is_finished) {
            let (group, seen) = (group.clone(), seen.clone());
            *request = Some(tokio::spawn(async move {
                let counted = match in_group(&group, "hog", grow(REQUEST, policy)).await {
                    Ok(Ok(REQUEST)) => &seen.done,
                    Ok(Ok(_)) => &seen.wrong,
                    Ok(Err(Refused)) => &seen.refused,
                    Err(OomKilled) => &seen.killed,
                };
                counted.fetch_add(1, Ordering::Relaxed);
            }));
        }
        tokio::time::sleep(HOG_PAUSE).await;
    }
    for request in requests.into_iter().flatten() {
        if request.await.is_err() {
            seen.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }
    drop(store);
}

/// A tenant that is far from any limit: every other request of it is a task, the rest scopes.
async fn neighbour(group: Memcg, end: Instant, seen: Arc<Seen>) {
    for n in 0_usize.. {
        let start = Instant::now();
        if start >= end {
            break;
        }
        let group = group.clone();
        let request = tokio::spawn(async move {
            if n % 2 == 0 {
                group.scope(answer()).await
            } else {
                in_group(&group, "short", answer()).await == Ok(true)
            }
        });
        if !matches!(request.await, Ok(true)) {
            seen.wrong.fetch_add(1, Ordering::Relaxed);
        }
        let waited = u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX);
        seen.samples.lock().unwrap().push(waited);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until nobody holds anything that was not held before; says who does.
fn books<'a>(before: u64, tenants: impl Iterator<Item = &'a Memcg> + Clone) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let held = tenants.clone().find(|tenant| tenant.current() != 0);
        let now = root().current();
        if held.is_none() && now == before {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            let who = held.map_or_else(|| String::from("/"), Memcg::path);
            return Err(format!("{who} holds more: {now} bytes, {before} before"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
