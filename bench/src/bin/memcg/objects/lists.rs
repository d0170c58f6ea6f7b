//! Lists: a thing at random is taken out and put in again at the end. `ListLru` beside one lock
//! around everything.

use memcg::{ListLru, LruItem, Memcg, root};
use memcg_bench::measure::{Run, measure, pin};
use memcg_bench::random::Random;
use memcg_bench::rows::TENANTS;
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Mutex;

/// Things in the lists, for each thread.
const THINGS: usize = 4096;

/// Runs one of these rows.
pub fn run(name: &str, ops: u64) -> Option<Run> {
    let (name, threads) = with_threads(name);
    let each = ops / threads as u64;
    Some(match name {
        "lru-one" => lru(1, threads, each),
        "lru-many" => lru(TENANTS, threads, each),
        "links" => links(threads, each),
        "deque" => {
            let things: VecDeque<u32> = (0..(THINGS * threads) as u32).collect();
            let list = Mutex::new(things);
            on_all(threads, each, |_| {
                || {
                    let first = list.lock().unwrap().pop_front();
                    list.lock().unwrap().extend(black_box(first));
                }
            })
        }
        _ => return None,
    })
}

/// A row's name without its number of threads, and that: one, if it says none.
pub(super) fn with_threads(name: &str) -> (&str, usize) {
    match name.rsplit_once('-') {
        Some((name, "2")) => (name, 2),
        Some((name, "4")) => (name, 4),
        _ => (name, 1),
    }
}

/// Each of the threads does its operation `each` times.
pub(super) fn on_all<F: FnMut() + Send>(
    threads: usize,
    each: u64,
    make: impl Fn(usize) -> F,
) -> Run {
    let all: Vec<F> = (0..threads).map(make).collect();
    measure(each * threads as u64, || {
        std::thread::scope(|scope| {
            for (thread, mut operation) in all.into_iter().enumerate() {
                scope.spawn(move || {
                    pin(thread + 1);
                    (0..each).for_each(|_| operation());
                });
            }
        });
    })
}

/// Things of `nr` groups in one `ListLru`.
fn lru(nr: usize, threads: usize, each: u64) -> Run {
    let groups: Vec<Memcg> = (0..nr)
        .map(|i| root().create(format!("listed-{i}")).expect("a group"))
        .collect();
    let list: ListLru<u64> = ListLru::new();
    let things: Vec<Vec<LruItem<u64>>> = (0..threads)
        .map(|_| {
            let all = 0..THINGS;
            all.map(|i| list.insert_for(&groups[i % nr], 1)).collect()
        })
        .collect();
    on_all(threads, each, |thread| {
        let (list, things) = (&list, &things[thread]);
        let mut random = Random::new(thread as u64);
        move || {
            let thing = &things[random.below(THINGS as u64) as usize];
            assert!(list.del(thing) && list.add(thing));
        }
    })
}

/// A ring of all things under one lock: what a cache without groups has.
struct Ring(Vec<[usize; 2]>);

impl Ring {
    fn new(len: usize) -> Self {
        // The last is the head.
        let len = len + 1;
        Self(
            (0..len)
                .map(|i| [(i + len - 1) % len, (i + 1) % len])
                .collect(),
        )
    }

    fn take_out(&mut self, i: usize) {
        let [before, after] = self.0[i];
        self.0[before][1] = after;
        self.0[after][0] = before;
    }

    fn put_in(&mut self, i: usize) {
        let head = self.0.len() - 1;
        let last = self.0[head][0];
        self.0[i] = [last, head];
        self.0[last][1] = i;
        self.0[head][0] = i;
    }
}

fn links(threads: usize, each: u64) -> Run {
    let ring = Mutex::new(Ring::new(THINGS * threads));
    on_all(threads, each, |thread| {
        let ring = &ring;
        let mut random = Random::new(thread as u64);
        move || {
            let i = thread * THINGS + random.below(THINGS as u64) as usize;
            ring.lock().unwrap().take_out(i);
            ring.lock().unwrap().put_in(i);
        }
    })
}
