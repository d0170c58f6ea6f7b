//! The commands of a scenario, as values.

use crate::expect::Expect;
use crate::reference::Reference;
use std::time::Duration;

/// A name of a task, tag or cache, or a path: bytes, as groups' names are.
pub type Name = Vec<u8>;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Makes groups.
    Mkdir(Vec<Name>),
    /// Removes groups.
    Rmdir(Vec<Name>),
    /// Writes a file of a group; the words of the value as they were.
    Write {
        /// The group.
        group: Name,
        /// The file.
        file: String,
        /// What to write.
        value: Vec<Name>,
    },
    /// Reads a file of a group, and prints it.
    Read {
        /// The group.
        group: Name,
        /// The file.
        file: String,
    },
    /// Prints a figure.
    Print(Reference),
    /// A task in a group.
    Task {
        /// Its name.
        name: Name,
        /// The group.
        group: Name,
        /// Its `oom_score_adj`.
        adj: i16,
    },
    /// Moves a task.
    Move {
        /// The task.
        task: Name,
        /// Where to.
        group: Name,
        /// How, if not as the group says.
        policy: Option<String>,
    },
    /// One round of the zombie reaper.
    Reap,
    /// Has a group take its kmem id.
    KmemId(Name),
    /// Has somebody asked when tasks move.
    Subsystem {
        /// Its name.
        name: Name,
        /// The group it lets nobody into.
        refuses: Option<Name>,
        /// Bytes of a task that it says it could evict.
        evictable: u64,
        /// What it could evict, and does when it is asked to.
        evicts: Option<Name>,
        /// A task, and what it reserves while this one is asked.
        reserves: Option<(Name, u64)>,
    },
    /// Ends a task.
    Exit(Name),
    /// Heap objects.
    Alloc {
        /// Who allocates.
        task: Name,
        /// What they are called.
        tag: Name,
        /// Bytes of each.
        size: u64,
        /// How many; `None`: until one is refused.
        count: Option<u64>,
        /// Of which cache; `None`: of the heap.
        cache: Option<Name>,
        /// Whether it may wait for room, and run what makes some.
        may_wait: bool,
    },
    /// A cache of objects.
    Cache(Cache),
    /// Bytes charged without memory behind them.
    Reserve {
        /// Who reserves.
        task: Name,
        /// What it is called.
        tag: Name,
        /// How many.
        bytes: u64,
    },
    /// Frees what a tag names.
    Free {
        /// Who frees.
        task: Name,
        /// What.
        tag: Name,
    },
    /// Uses what a tag names.
    Touch {
        /// Who uses it.
        task: Name,
        /// What.
        tag: Name,
    },
    /// Holds what a tag names, and is charged for it.
    Take {
        /// Who takes it.
        task: Name,
        /// What.
        tag: Name,
    },
    /// Holds what a tag names as well.
    Hold {
        /// Who holds it from now on.
        task: Name,
        /// What.
        tag: Name,
    },
    /// Hands a tag on; the charge stays.
    Give {
        /// Who holds it.
        task: Name,
        /// What.
        tag: Name,
        /// Who will.
        to: Name,
    },
    /// Looks up every name below a directory.
    Walk {
        /// Who walks.
        task: Name,
        /// The cache of entries.
        cache: Name,
        /// The directory, of the real file system.
        dir: Name,
    },
    /// A command this build cannot do.
    Lacking {
        /// The command's word.
        what: &'static str,
        /// What it needs.
        needs: Needs,
    },
    /// An option of the engine.
    Set {
        /// Which.
        option: String,
        /// To what.
        value: String,
    },
    /// What must hold now.
    Expect(Expect),
    /// What must hold some time soon.
    Within(Duration, Expect),
    /// A command that must fail.
    Fails {
        /// With which error.
        errno: String,
        /// Which.
        command: Box<Command>,
    },
}

/// A cache of objects, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Its name.
    pub name: Name,
    /// Bytes of an object.
    pub bytes: u64,
    /// Whether its objects are charged.
    pub is_accounted: bool,
    /// Whether each group has slabs of its own.
    pub is_per_group: bool,
    /// Whether it is of the school of SLAB.
    pub is_slab: bool,
    /// Whether its objects are entries of directories, which can be reclaimed.
    pub is_dentry: bool,
    /// How its objects are given up, if they are.
    pub gives_up: Option<GivesUp>,
}

/// How a cache's objects are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivesUp {
    /// By a shrinker of the list they are on, oldest first.
    ByList,
    /// By a function that is registered with the cache.
    ByFunction,
}

/// What a build may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Regions, files, swap.
    Pages,
}

impl Needs {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Needs::Pages => "pages",
        }
    }
}

/// One line that is a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its line, from 1.
    pub line: usize,
    /// As written, without comment.
    pub text: String,
    /// Its words, when counters must be put in before it means anything.
    pub words: Vec<crate::words::Word>,
    /// What it means, if it has no counters.
    pub command: Option<Command>,
}

/// How a block runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// One round after the other.
    Repeat,
    /// Each round in a thread of its own, all at once.
    Parallel,
}

/// A piece of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A command.
    Step(Step),
    /// `repeat` or `parallel`, to its `end`.
    Block {
        /// How.
        how: How,
        /// Its head; the first word after the keyword is how often.
        head: Step,
        /// The name of its counter.
        counter: String,
        /// What it repeats.
        body: Vec<Node>,
    },
}
