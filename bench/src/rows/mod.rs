//! The rows: what every image can be asked to do.
//!
//! Each does the same work for every peer, long enough (10 ms at the fastest) that the clock is
//! nothing.

mod classics;
mod shapes;
mod small;
mod threaded;

use crate::Peer;
use crate::measure::{Run, threads};
use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;

/// Tenants of the rows with tenants.
pub const TENANTS: usize = 64;

/// What a row's number is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// CPU ns an operation.
    Cpu,
    /// Wall ns an operation: what is waited for is part of it.
    Wall,
    /// [`Run::value`] in bytes.
    Bytes,
    /// [`Run::value`] in ns.
    Value,
    /// [`Run::extra`], a ratio.
    Ratio,
    /// Peak resident KiB of the process.
    Peak,
}

/// One row.
pub struct Row {
    /// What it is called on the command line and in results.
    pub name: &'static str,
    /// Operations in the timed part.
    pub ops: u64,
    /// What its number is.
    pub unit: Unit,
    /// It uses several threads: not pinned.
    pub threads: bool,
    /// Only memcg has it.
    pub own: bool,
    /// Pools of reservations have it too.
    pub pools: bool,
    /// The row whose runs it is read from: itself, mostly.
    pub of: &'static str,
    /// For people.
    pub what: &'static str,
}

const fn row(name: &'static str, ops: u64, unit: Unit, what: &'static str) -> Row {
    Row {
        name,
        ops,
        unit,
        threads: false,
        own: false,
        pools: false,
        of: name,
        what,
    }
}

const fn read_from(of: &'static str, name: &'static str, unit: Unit, what: &'static str) -> Row {
    Row {
        name,
        ops: 0,
        unit,
        threads: false,
        own: false,
        pools: false,
        of,
        what,
    }
}

const fn threaded(name: &'static str, ops: u64, what: &'static str) -> Row {
    Row {
        name,
        ops,
        unit: Unit::Cpu,
        threads: true,
        own: false,
        pools: false,
        of: name,
        what,
    }
}

const fn own(name: &'static str, ops: u64, unit: Unit, what: &'static str) -> Row {
    Row {
        name,
        ops,
        unit,
        threads: matches!(unit, Unit::Wall),
        own: true,
        pools: false,
        of: name,
        what,
    }
}

/// Of memcg and of pools of reservations.
const fn books(name: &'static str, ops: u64, what: &'static str) -> Row {
    Row {
        pools: true,
        ..own(name, ops, Unit::Cpu, what)
    }
}

/// Another number of a row of memcg's.
const fn own_from(of: &'static str, name: &'static str, unit: Unit, what: &'static str) -> Row {
    Row {
        own: true,
        ..read_from(of, name, unit, what)
    }
}

/// All rows, in the order of the tables.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row("pair-16", 4_000_000, Unit::Cpu, "allocate, write, free"),
    row("pair-64", 4_000_000, Unit::Cpu, "the same, 64 B"),
    row("pair-256", 4_000_000, Unit::Cpu, "the same, 256 B"),
    row("pair-1024", 4_000_000, Unit::Cpu, "the same, 1 KiB"),
    row("pair-4096", 2_000_000, Unit::Cpu, "the same, 4 KiB"),
    row("batch-16", 3_000_000, Unit::Cpu, "256 objects, freed in random order"),
    row("batch-64", 3_000_000, Unit::Cpu, "the same, 64 B"),
    row("batch-256", 3_000_000, Unit::Cpu, "the same, 256 B"),
    row("batch-1024", 2_000_000, Unit::Cpu, "the same, 1 KiB"),
    row("batch-4096", 200_000, Unit::Cpu, "the same, 4 KiB"),
    row("tenants", 1_000_000, Unit::Cpu, "a tenant at random enters, replaces one of 4096 objects of 16 B-4 KiB, leaves"),
    row("tenants-turns", 1_000_000, Unit::Cpu, "the same, 64 replacements a turn"),
    row("tenants-scope", 4_000_000, Unit::Cpu, "the scopes of `tenants` alone"),
    read_from("tenants less scope", "tenants-net", Unit::Cpu, "`tenants` less its scopes"),
    threaded("handoff-64", 2_000_000, "allocate here, free there, 64 B"),
    threaded("handoff-mixed", 1_000_000, "the same, 16 B-4 KiB"),
    threaded("larson", 2_000_000, "threads replace random objects of 8-1000 B, then hand all of them to a new thread"),
    threaded("xmalloc", 2_000_000, "threads allocate batches and free whatever batch comes first"),
    threaded("threads", 800, "a thread begins, allocates 200 objects, frees them, ends"),
    row("realloc-small", 3_000_000, Unit::Cpu, "16 B to 8 KiB by halves more, a step"),
    row("realloc-large", 400, Unit::Cpu, "16 KiB to 16 MiB by a quarter more, touching new pages, a step"),
    row("mixed", 1_000_000, Unit::Cpu, "16 B-64 KiB, half short-lived, half long-lived"),
    row("large", 1_500, Unit::Cpu, "16 blocks of 64 KiB-32 MiB, replaced at random"),
    row("fragment", 1, Unit::Cpu, "24 phases of other sizes, a tenth survives 8 phases; whole run"),
    read_from("fragment", "fragment-peak", Unit::Peak, "peak RSS of the same, KiB"),
    row("cfrac", 2_500_000, Unit::Cpu, "numbers of a few digits, made and dropped by every step of a factoring"),
    row("espresso", 2_000_000, Unit::Cpu, "covers of bit vectors, made out of others; arrays that double"),
    row("alloc-test", 1_000_000, Unit::Cpu, "random sizes to 1500 B, lifetimes from short to very long"),
    threaded("alloc-test-n", 1_500_000, "the same, a table for each thread"),
    row("glibc-simple", 2_000_000, Unit::Cpu, "25-1600 blocks of a size, freed in order or in reverse"),
    threaded("glibc-thread", 1_500_000, "threads replace random blocks, mostly small, to 32 KiB"),
    threaded("mstress", 1_000_000, "generations of threads that retain objects and pass some on"),
    threaded("cache-scratch", 200_000, "threads write their small objects, the first one made by main"),
    threaded("cache-thrash", 200_000, "the same, all their own"),
    row("retain", 1_000_000, Unit::Cpu, "10^6 objects of 64 B, kept"),
    read_from("retain", "retain-rss", Unit::Bytes, "RSS for each of them"),
    own("charge-1", 8_000_000, Unit::Cpu, "charge and uncharge 64 B, depth 4, from stock, no memory"),
    own("charge-8", 4_000_000, Unit::Cpu, "the same for 8 tenants in turn, scope included"),
    own("scope", 8_000_000, Unit::Cpu, "enter and leave one group"),
    own("scope-8", 8_000_000, Unit::Cpu, "enter and leave 8 groups in turn"),
    own("future-by-hand", 2_000_000, Unit::Cpu, "a future made, polled once, dropped; a scope by hand around the poll"),
    own("future-scope", 2_000_000, Unit::Cpu, "the same by Memcg::scope"),
    own("future-killable", 1_000_000, Unit::Cpu, "the same by Memcg::scope and killable"),
    own("future-task", 200_000, Unit::Cpu, "the same by in_group: a task"),
    own("future-task-waits", 200_000, Unit::Cpu, "the same of a future that is not ready"),
    books("reserve-1", 500_000, "reserve 64 B and give them back, exactly counted; memcg at depth 4"),
    books("reserve-8", 500_000, "the same for 8 tenants in turn"),
    books("reserve-threads", 500_000, "the same on all threads, a tenant for each"),
    books("refuse", 200_000, "4 KiB for a tenant that is full"),
    books("refuse-storm", 200_000, "the same for 64 full tenants at random, on all threads"),
    own("at-limit", 400_000, Unit::Cpu, "64 tenants at 256 KiB, all threads: a tenant frees an object, takes another or is refused"),
    own("below-limit", 400_000, Unit::Cpu, "the same with room"),
    own("pool", 4_000_000, Unit::Cpu, "a pool grows or shrinks by 64 B, from stock, depth 2"),
    own("pool-above-stock", 400_000, Unit::Cpu, "the same by 1 MiB, which no thread has in stock"),
    own("pool-by-lock", 4_000_000, Unit::Cpu, "a reservation behind a lock grows or shrinks by 64 B"),
    own("pool-by-lock-above-stock", 1_000_000, Unit::Cpu, "the same by 1 MiB"),
    own("over", 6_000_000, Unit::Ratio, "a tenant replaces objects of 16 to 8,207 B: its CPU at twice its max to that below; a neighbour on another CPU does so too"),
    own("over-neighbour", 6_000_000, Unit::Ratio, "the neighbour's CPU meanwhile, to that while the tenant is below"),
    own("read-current", 200_000, Unit::Cpu, "memory.current as text, 32 threads"),
    own("read-stat", 50_000, Unit::Cpu, "memory.stat as text, 32 threads"),
    own("drain", 4_000, Unit::Wall, "a written limit takes the stock of a busy thread back"),
    own_from("drain", "drain-cpu", Unit::Value, "all CPU of that: the writer's and what the workers lose"),
    own_from("drain", "drain-bystander", Unit::Ratio, "a thread of another group meanwhile: its time for a pair to that without"),
    own("create-remove", 100_000, Unit::Cpu, "a group's life, all CPU"),
    own("remove-1e6", 1, Unit::Wall, "end of a group that holds 10^6 objects, the second of the process"),
    own("remove-busy", 8, Unit::Wall, "the same with 10^4 inherited owners, 8 threads allocating in it; median of 8, one inside the other"),
    own_from("remove-busy", "remove-busy-most", Unit::Value, "the longest of those"),
    own("remove-load", 1_000, Unit::Value, "all CPU of an end, that of 8 threads allocating in the group included"),
    own("move-1e5", 1_000, Unit::Wall, "move of a task that holds 10^5 objects of 100 B"),
    own("move-1e6", 1_000, Unit::Wall, "the same, 10^6"),
    own("move-1e7", 1_000, Unit::Wall, "the same, 10^7"),
    own_from("move-1e7", "move-1e7-p99", Unit::Value, "the 99th percentile of those"),
    own("move-busy", 1_000, Unit::Wall, "the same, 10^7, 8 threads allocating in it"),
    own_from("move-busy", "move-busy-p99", Unit::Value, "the 99th percentile of those"),
    own("move-load", 3_000, Unit::Value, "all CPU of a move, that of 8 threads allocating in the task included"),
    own("groups-rss", 1_000_000, Unit::Bytes, "RSS for each of 10^6 groups with names of 12 bytes"),
    own("objects-kmalloc", 4_000_000, Unit::Cpu, "64 B of the heap: allocate, write, free"),
    own("objects-slub", 4_000_000, Unit::Cpu, "the same, of a cache of the school Slub"),
    own("objects-slab", 4_000_000, Unit::Cpu, "the same, of the school Slab: magazines"),
    own("objects-slub-groups", 4_000_000, Unit::Cpu, "Slub, slabs by group"),
    own("objects-slab-groups", 4_000_000, Unit::Cpu, "Slab, slabs by group"),
    own("objects-kmalloc-nobody", 4_000_000, Unit::Cpu, "the heap, in a scope that accounts to nobody"),
    own("objects-slub-nobody", 4_000_000, Unit::Cpu, "Slub, in such a scope"),
    own("objects-slab-nobody", 4_000_000, Unit::Cpu, "Slab, in such a scope"),
    own("objects-slub-exempt", 4_000_000, Unit::Cpu, "Slub, a cache that is not accounted"),
    own("objects-slub-root", 4_000_000, Unit::Cpu, "Slub, for the root"),
    own("objects-slub-untracked", 4_000_000, Unit::Cpu, "Slub, for the root, which is not tracked"),
    own("objects-batch-kmalloc", 3_000_000, Unit::Cpu, "256 of the heap's, freed in random order"),
    own("objects-batch-slub", 3_000_000, Unit::Cpu, "the same, Slub"),
    own("objects-batch-slab", 3_000_000, Unit::Cpu, "the same, Slab"),
    own("objects-batch-slub-groups", 3_000_000, Unit::Cpu, "the same, Slub, slabs by group"),
    own("objects-batch-slab-groups", 3_000_000, Unit::Cpu, "the same, Slab, slabs by group"),
    own("objects-tenants-kmalloc", 1_000_000, Unit::Cpu, "64 tenants: one enters, replaces one of 4096 objects, leaves; the heap"),
    own("objects-tenants-slub", 1_000_000, Unit::Cpu, "the same, Slub"),
    own("objects-tenants-slab", 1_000_000, Unit::Cpu, "the same, Slab"),
    own("objects-tenants-slub-groups", 1_000_000, Unit::Cpu, "the same, Slub, slabs by group"),
    own("objects-tenants-slab-groups", 1_000_000, Unit::Cpu, "the same, Slab, slabs by group"),
    own("objects-handoff-kmalloc", 1_000_000, Unit::Cpu, "allocate here, free there; the heap"),
    own("objects-handoff-slub", 1_000_000, Unit::Cpu, "the same, Slub"),
    own("objects-handoff-slab", 1_000_000, Unit::Cpu, "the same, Slab"),
    own("objects-handoff-slub-groups", 1_000_000, Unit::Cpu, "the same, Slub, slabs by group"),
    own("objects-handoff-slab-groups", 1_000_000, Unit::Cpu, "the same, Slab, slabs by group"),
    own("objects-lru-one", 2_000_000, Unit::Cpu, "a thing of 4096 is taken out of its list and put in again; one group"),
    own("objects-lru-one-2", 2_000_000, Unit::Cpu, "the same, two threads in one group's list"),
    own("objects-lru-one-4", 2_000_000, Unit::Cpu, "the same, four threads"),
    own("objects-lru-many", 2_000_000, Unit::Cpu, "the same, things of 64 groups"),
    own("objects-lru-many-2", 2_000_000, Unit::Cpu, "the same, two threads"),
    own("objects-lru-many-4", 2_000_000, Unit::Cpu, "the same, four threads"),
    own("objects-links", 2_000_000, Unit::Cpu, "the same with a ring under one Mutex"),
    own("objects-links-2", 2_000_000, Unit::Cpu, "the same, two threads"),
    own("objects-links-4", 2_000_000, Unit::Cpu, "the same, four threads"),
    own("objects-deque", 2_000_000, Unit::Cpu, "a Mutex<VecDeque>: the first out, in at the end"),
    own("objects-deque-2", 2_000_000, Unit::Cpu, "the same, two threads"),
    own("objects-deque-4", 2_000_000, Unit::Cpu, "the same, four threads"),
    own("objects-churn-kmalloc", 2_000_000, Unit::Cpu, "64 tenants, each an object more or one less at random, 131,000 in all; the heap"),
    own("objects-churn-slub", 2_000_000, Unit::Cpu, "the same, Slub"),
    own("objects-churn-slub-groups", 2_000_000, Unit::Cpu, "the same, Slub, slabs by group"),
    own("objects-churn-slab", 2_000_000, Unit::Cpu, "the same, Slab"),
    own("objects-churn-slab-groups", 2_000_000, Unit::Cpu, "the same, Slab, slabs by group"),
    own_from("objects-churn-kmalloc", "objects-rss-kmalloc", Unit::Bytes, "RSS for each object of 64 B then; the heap"),
    own_from("objects-churn-slub", "objects-rss-slub", Unit::Bytes, "the same, Slub"),
    own_from("objects-churn-slub-groups", "objects-rss-slub-groups", Unit::Bytes, "the same, Slub, slabs by group"),
    own_from("objects-churn-slab", "objects-rss-slab", Unit::Bytes, "the same, Slab"),
    own_from("objects-churn-slab-groups", "objects-rss-slab-groups", Unit::Bytes, "the same, Slab, slabs by group"),
    own_from("objects-churn-slub", "objects-left-slub", Unit::Ratio, "slabs to live bytes, when every other tenant has ended; Slub"),
    own_from("objects-churn-slub-groups", "objects-left-slub-groups", Unit::Ratio, "the same, Slub, slabs by group"),
    own_from("objects-churn-slab", "objects-left-slab", Unit::Ratio, "the same, Slab"),
    own_from("objects-churn-slab-groups", "objects-left-slab-groups", Unit::Ratio, "the same, Slab, slabs by group"),
    own("objects-life-shared", 50_000, Unit::Cpu, "a group is made, lists a thing, has an object of a cache, is removed"),
    own("objects-life-groups", 20_000, Unit::Cpu, "the same, slabs by group"),
    own("objects-life-dead", 20_000, Unit::Cpu, "the same, the object freed last: its cache ends with it"),
    own("objects-remove-list-1", 10, Unit::Value, "end of a group with a thing in a list, median"),
    own("objects-remove-list-1e5", 10, Unit::Value, "the same with 10^5"),
    own("objects-remove-cache-1", 10, Unit::Value, "end of a group with an object of a cache, slabs by group, median"),
    own("objects-remove-cache-1e5", 10, Unit::Value, "the same with 10^5"),
    own("objects-refuse", 200_000, Unit::Cpu, "an object beyond memory.kmem.max"),
    own("objects-refuse-2", 200_000, Unit::Cpu, "the same, two threads"),
    own("objects-refuse-4", 200_000, Unit::Cpu, "the same, four threads"),
    own("objects-move-1", 1_000, Unit::Value, "move of a task with a thing in a list and an object of a cache, median"),
    own("objects-move-1e5", 1_000, Unit::Value, "the same with 10^5 of each"),
    own("objects-move-sort", 100_000, Unit::Cpu, "a thing of a task that has moved is put into the new group's list, all CPU"),
];

/// Runs a row; `None` if it is none of these.
pub fn run<P: Peer>(name: &str, ops: u64) -> Option<Run> {
    let number = || name.rsplit('-').next()?.parse::<usize>().ok();
    Some(match name {
        _ if name.starts_with("pair-") => small::pair(number()?, ops),
        _ if name.starts_with("batch-") => small::batch(number()?, ops),
        "tenants" => small::tenants::<P>(ops, 0),
        "tenants-turns" => small::tenants::<P>(ops, 6),
        "tenants-scope" => small::scopes::<P>(ops),
        "handoff-64" => threaded::handoff::<P>(ops, 64, 64),
        "handoff-mixed" => threaded::handoff::<P>(ops, 16, 4096),
        "larson" => threaded::larson::<P>(ops),
        "xmalloc" => threaded::xmalloc::<P>(ops),
        "threads" => threaded::short_lived::<P>(ops),
        "realloc-small" => shapes::realloc(ops, 16, 8 << 10, |n| n + n / 2),
        "realloc-large" => shapes::realloc(ops, 16 << 10, 16 << 20, |n| n + n / 4),
        "mixed" => shapes::mixed(ops),
        "large" => shapes::large(ops),
        "fragment" => shapes::fragment(),
        "cfrac" => classics::cfrac(ops),
        "espresso" => classics::espresso(ops),
        "alloc-test" => classics::alloc_test::<P>(ops, 1),
        "alloc-test-n" => classics::alloc_test::<P>(ops, threads()),
        "glibc-simple" => classics::simple(ops),
        "glibc-thread" => classics::threaded::<P>(ops),
        "mstress" => classics::mstress::<P>(ops),
        "cache-scratch" => classics::cache::<P>(ops, true),
        "cache-thrash" => classics::cache::<P>(ops, false),
        "retain" => shapes::retain(ops),
        _ => return None,
    })
}

/// A layout as most types have it.
#[inline(always)]
pub fn layout(size: usize) -> Layout {
    // SAFETY: a power of two; sizes here are small.
    unsafe { Layout::from_size_align_unchecked(size, 8) }
}

/// Allocates and writes the first byte.
#[inline(always)]
pub fn take(size: usize) -> *mut u8 {
    // SAFETY: no size here is 0; a fresh object holds a byte.
    unsafe {
        let p = alloc(layout(size));
        p.write_volatile(1);
        black_box(p)
    }
}

/// Frees what [`take`] gave for that size.
#[inline(always)]
pub(crate) fn give(p: *mut u8, size: usize) {
    // SAFETY: the callers pair them.
    unsafe { dealloc(p, layout(size)) }
}

/// An object in a slot of a table; none if its size is 0.
#[derive(Clone, Copy)]
pub struct Held {
    /// Where.
    pub at: *mut u8,
    /// Bytes.
    pub size: usize,
}

// SAFETY: a slot is one thread's at a time.
unsafe impl Send for Held {}

impl Held {
    /// Puts a new object of `size` in the place of what was here.
    #[inline(always)]
    pub fn replace(&mut self, size: usize) {
        self.end();
        *self = Held {
            at: take(size),
            size,
        };
    }

    /// Frees it.
    #[inline(always)]
    pub fn end(&mut self) {
        if self.size != 0 {
            give(self.at, self.size);
            self.size = 0;
        }
    }
}
