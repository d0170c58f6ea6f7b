//! A snapshot as values: a process and its groups.
//!
//! Invariants: groups stand as the engine sent them, parents before children.
//! Depends on: nothing.
//! Never: interprets a column it does not know; it keeps its text.

/// Below this coverage, in percent, the groups are no picture of the process.
pub const LOW_COVERAGE: f64 = 70.0;

/// A process and its groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The process.
    pub pid: u32,
    /// Its name, printable.
    pub comm: String,
    /// How long the engine has run.
    pub uptime_ms: u64,
    /// Resident bytes of the process.
    pub rss: u64,
    /// Bytes that groups hold.
    pub charged: u64,
    /// `charged` in percent of `rss`.
    pub coverage: f64,
    /// What is resident and in no group, at the time of the snapshot; an older engine does not say.
    pub outside: Option<Outside>,
    /// `on`, `off` or `broken`.
    pub accounting: String,
    /// The groups, parents before children.
    pub groups: Vec<Group>,
}

/// Resident bytes that are in no group, at the time of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// The engine's own tables.
    pub engine: u64,
    /// Resident bytes that neither the allocator nor the tables nor counted mappings explain.
    pub elsewhere: u64,
    /// Of them, those with a file behind: code and mapped files.
    pub file: u64,
    /// Of them, those of shared memory.
    pub shared: u64,
}

/// One group. Columns an engine does not have are `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The path's bytes.
    pub path: Vec<u8>,
    /// Bytes charged.
    pub current: u64,
    /// The most there ever were.
    pub peak: Option<u64>,
    /// The hard limit.
    pub max: Option<Cell>,
    /// The throttle line.
    pub high: Option<Cell>,
    /// Live tasks.
    pub tasks: Option<u64>,
    /// What ended tasks and removed groups left here.
    pub inherited: Option<u64>,
    /// Events that happened, by name, zeroes left out.
    pub events: Vec<(String, u64)>,
    /// All columns but the path, as they came.
    pub cells: Vec<(String, Cell)>,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// A number, mostly of bytes.
    Number(u64),
    /// No limit.
    Max,
    /// Something a later version may add.
    Text(String),
}

impl Group {
    /// The part of the hard limit that is used, 1 being all of it; none without a limit.
    pub fn used(&self) -> Option<f64> {
        match self.max.as_ref()?.number()? {
            0 => Some(1.0),
            max => Some(self.current as f64 / max as f64),
        }
    }
}

impl Cell {
    /// The number, if it is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            Cell::Number(n) => Some(*n),
            Cell::Max | Cell::Text(_) => None,
        }
    }
}
