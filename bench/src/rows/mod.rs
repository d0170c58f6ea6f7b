//! The rows: what every image can be asked to do.
//!
//! Each does the same work for every peer, long enough (20 ms at the fastest) that the clock is nothing.

mod shapes;
mod small;
mod threaded;

use crate::Peer;
use crate::measure::Run;
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
        of: name,
        what,
    }
}

/// All rows, in the order of the tables.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row("pair-16", 10_000_000, Unit::Cpu, "allocate, write, free"),
    row("pair-64", 10_000_000, Unit::Cpu, "the same, 64 B"),
    row("pair-256", 10_000_000, Unit::Cpu, "the same, 256 B"),
    row("pair-1024", 10_000_000, Unit::Cpu, "the same, 1 KiB"),
    row("pair-4096", 8_000_000, Unit::Cpu, "the same, 4 KiB"),
    row("batch-16", 6_000_000, Unit::Cpu, "256 objects, freed in random order"),
    row("batch-64", 6_000_000, Unit::Cpu, "the same, 64 B"),
    row("batch-256", 6_000_000, Unit::Cpu, "the same, 256 B"),
    row("batch-1024", 4_000_000, Unit::Cpu, "the same, 1 KiB"),
    row("batch-4096", 600_000, Unit::Cpu, "the same, 4 KiB"),
    row("tenants", 2_000_000, Unit::Cpu, "a tenant at random enters, replaces one of 4096 objects of 16 B-4 KiB, leaves"),
    row("tenants-turns", 2_000_000, Unit::Cpu, "the same, 64 replacements a turn"),
    row("tenants-scope", 8_000_000, Unit::Cpu, "the scopes of `tenants` alone"),
    read_from("tenants less scope", "tenants-net", Unit::Cpu, "`tenants` less its scopes"),
    threaded("handoff-64", 4_000_000, "allocate here, free there, 64 B"),
    threaded("handoff-mixed", 2_000_000, "the same, 16 B-4 KiB"),
    threaded("larson", 2_000_000, "threads replace random objects of 8-1000 B, then hand all of them to a new thread"),
    threaded("xmalloc", 3_000_000, "threads allocate batches and free whatever batch comes first"),
    threaded("threads", 1_500, "a thread begins, allocates 200 objects, frees them, ends"),
    row("realloc-small", 6_000_000, Unit::Cpu, "16 B to 8 KiB by halves more, a step"),
    row("realloc-large", 1_000, Unit::Cpu, "16 KiB to 16 MiB by a quarter more, touching new pages, a step"),
    row("mixed", 1_500_000, Unit::Cpu, "16 B-64 KiB, half short-lived, half long-lived"),
    row("large", 5_000, Unit::Cpu, "16 blocks of 64 KiB-32 MiB, replaced at random"),
    row("fragment", 1, Unit::Cpu, "40 phases of other sizes, a tenth survives 8 phases; whole run"),
    read_from("fragment", "fragment-peak", Unit::Peak, "peak RSS of the same, KiB"),
    row("retain", 1_000_000, Unit::Cpu, "10^6 objects of 64 B, kept"),
    read_from("retain", "retain-rss", Unit::Bytes, "RSS for each of them"),
    own("charge-1", 20_000_000, Unit::Cpu, "charge and uncharge 64 B, depth 4, from stock, no memory"),
    own("charge-8", 20_000_000, Unit::Cpu, "the same for 8 tenants in turn, scope included"),
    own("scope", 20_000_000, Unit::Cpu, "enter and leave one group"),
    own("scope-8", 20_000_000, Unit::Cpu, "enter and leave 8 groups in turn"),
    own("reserve-1", 1_000_000, Unit::Cpu, "try_reserve 64 B, depth 4, and drop"),
    own("reserve-8", 1_000_000, Unit::Cpu, "the same for 8 tenants in turn"),
    own("refuse", 400_000, Unit::Cpu, "try_reserve in a full group"),
    own("read-current", 400_000, Unit::Cpu, "memory.current as text, 32 threads"),
    own("read-stat", 100_000, Unit::Cpu, "memory.stat as text, 32 threads"),
    own("create-remove", 200_000, Unit::Cpu, "a group's life, all CPU"),
    own("remove-1e6", 1, Unit::Wall, "end of a group that holds 10^6 objects"),
    own("remove-busy", 1, Unit::Wall, "the same with 10^4 inherited owners, 8 threads allocating in it"),
    own("move-1e5", 2_000, Unit::Wall, "move of a task that holds 10^5 objects of 100 B"),
    own("move-1e6", 2_000, Unit::Wall, "the same, 10^6"),
    own("move-1e7", 2_000, Unit::Wall, "the same, 10^7"),
    own("move-busy", 2_000, Unit::Wall, "the same, 10^7, 8 threads allocating in it"),
    own("groups-rss", 1_000_000, Unit::Bytes, "RSS for each of 10^6 groups with names of 12 bytes"),
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
