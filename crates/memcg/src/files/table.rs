//! The table of files.
//!
//! Invariants: each file has one entry, and no two have the same name.
//! Depends on: the modules that read and write the files.
//! Never: has an entry for what does not exist.

#![forbid(unsafe_code)]

use super::{
    At, FileError, cgroup, defaults, kmem, memory, memory_dying, memory_events, memory_move,
    memory_pressure, memory_stat, memory_swap, overhead, owners,
};

type Read = fn(At<'_>) -> String;
type Write = fn(At<'_>, &[u8]) -> Result<(), FileError>;

/// How a file may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The file can only be read.
    Read,
    /// The file can only be written.
    Write,
    /// The file can be read and written.
    ReadWrite,
}

impl Mode {
    /// The mode as text: `r`, `w` or `rw`.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Mode::Read => "r",
            Mode::Write => "w",
            Mode::ReadWrite => "rw",
        }
    }
}

/// Where a file appears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Where {
    /// In every group.
    All,
    /// Not in the root, as in cgroup v2.
    NotRoot,
    /// In the root only, since it is about the process.
    Root,
    /// In every group, where removed groups linger.
    Lingering,
    /// In every group, where all memory of the machine is on one node.
    OneNode,
}

/// A file: its name, where it appears, and the functions that read and write it.
pub struct File {
    /// The file's name, the same in every group.
    pub name: &'static str,
    place: Where,
    pub(super) read: Option<Read>,
    pub(super) write: Option<Write>,
    /// What the file is for, in a line.
    #[cfg_attr(
        not(any(test, feature = "testing")),
        expect(dead_code, reason = "the docs' table is made of it")
    )]
    pub doc: &'static str,
}

impl File {
    pub(super) fn appears(&self, at: At<'_>) -> bool {
        match self.place {
            Where::All => true,
            Where::NotRoot => !at.is_root(),
            Where::Root => at.is_root(),
            Where::Lingering => at.engine.tree.lingers(),
            Where::OneNode => memory_stat::has_one_node(),
        }
    }

    /// How the file may be used.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match (self.read.is_some(), self.write.is_some()) {
            (true, true) => Mode::ReadWrite,
            (false, true) => Mode::Write,
            _ => Mode::Read,
        }
    }
}

macro_rules! files {
    ($($name:literal $place:ident $(r $read:path;)? $(w $write:path;)? $doc:literal)*) => {
        /// All files, in the order of listings.
        pub static FILES: &[File] = &[$(File {
            name: $name,
            place: Where::$place,
            read: files!(@ $($read)?),
            write: files!(@ $($write)?),
            doc: $doc,
        },)*];
    };
    (@) => { None };
    (@ $f:path) => { Some($f) };
}

files! {
    "cgroup.controllers" All r cgroup::controllers; "the controllers there are: memory"
    "cgroup.events" NotRoot r cgroup::events; "populated: whether live tasks are in the group or below"
    "cgroup.kill" NotRoot w cgroup::kill; "1 tells every live task of the group and below to stop, and raises their kill generations: futures in scopes that can be killed end, too; another number is ERANGE"
    "cgroup.procs" All r cgroup::procs; w cgroup::move_in; "ids of the live tasks; writing one moves that task here"
    "cgroup.stat" All r cgroup::stat; "groups below: live, and removed that still hold bytes (where groups linger); the lines of the memory controller, which every group has, count the group itself among the live"
    "cgroup.subtree_control" All r cgroup::subtree_control; w cgroup::set_subtree_control; "controllers the children have; +memory or -memory"
    "cgroup.threads" All r cgroup::threads; w cgroup::move_thread_in; "of the live tasks, those that are threads; as cgroup.procs, of threads only"
    "cgroup.type" NotRoot r cgroup::kind; w cgroup::set_kind; "domain"
    "memory.current" All r memory::current; "bytes held in the group and below, exact at rest"
    "memory.debt.max" NotRoot r memory::debt_max; w memory::set_debt_max; "ours: how far debt may take it above max: bytes, or max, the default. Set, it can end a Rust program: beyond it the global allocator is refused"
    "memory.emergency" Root r memory::emergency; w memory::set_emergency; "ours: how far above the root's memory.max those are charged that cannot be refused: bytes, max or auto (max/16). Beyond it the process ends"
    "memory.defaults" All r defaults::read; w defaults::write; "ours: what children that are made later begin with: a line FILE=VALUE each; FILE= takes one back. PATH/*/FILE is one of them"
    "memory.dying" Lingering r memory_dying::dying; "ours: removed groups below that still hold bytes, where groups linger"
    "memory.events" All r memory_events::hierarchical; "what happened in the group and below"
    "memory.events.local" All r memory_events::local; "what happened in the group itself"
    "memory.high" All r memory::high; w memory::set_high; "the throttle line. The root's throttles nobody: above it shrinkers are asked, and tasks end that the program made in groups above their max; auto (the default): 90 % of what the machine and the process's limits leave, once a group has a limit"
    "memory.kmem.caches" All r kmem::caches; w kmem::set_caches; "ours: which caches' objects are accounted here and, unless a group has words of its own, below: +NAME, -NAME, *; the last that fits decides"
    "memory.kmem.current" All r kmem::current; "bytes of objects of kmem caches, of memory.current"
    "memory.kmem.max" NotRoot r kmem::max; w kmem::set_max; "the limit of memory.kmem.current"
    "memory.kmem.slabinfo" All r kmem::slabinfo; "kmem caches that are the group's or of one below; the root has those that are nobody's"
    "memory.low" NotRoot r memory::low; w memory::set_low; "protection from reclaim while others can give"
    "memory.max" All r memory::max; w memory::set_max; "the hard limit; the root's is the process's own budget, held against the larger of what is charged and what is resident"
    "memory.min" NotRoot r memory::min; w memory::set_min; "protection from reclaim"
    "memory.move" All r memory_move::on_move; w memory_move::set_on_move; "ours: what the bytes of a task do that moves here: transfer, stay, lazy, best-effort, reserve-both, paged or leaky"
    "memory.numa_stat" OneNode r memory_stat::numa_stat; "memory.stat by node"
    "memory.offline" NotRoot r memory_move::on_end; w memory_move::set_on_end; "ours: where the group's objects go when it ends: parent, evict, mapper, next-touch or auto"
    "memory.oom.group" NotRoot r memory::oom_group; w memory::set_oom_group; "1: a kill takes the whole group"
    "memory.oom.policy" NotRoot r memory::oom_policy; w memory::set_oom_policy; "ours: what a charge over max does: default, deny, debt, kill or observe"
    "memory.overhead.max" Root r overhead::max; w overhead::set_max; "ours: free memory with pages that the allocator may keep; what is more goes back at once, and from then on"
    "memory.owners" All r owners::owners; "ours: the ledger: ended tasks and removed groups that still hold bytes here; those of one origin and state in one line, with their COUNT, their sums and the first end"
    "memory.owners.live" All r owners::live; "ours: as memory.owners, of live tasks and the group itself"
    "memory.peak" All r memory::peak; w memory::restart_peak; "the most ever charged, stock included; a write starts it again for the connection that writes"
    "memory.pressure" All r memory_pressure::pressure; "how long tasks here and below stood still for want of memory: some of them, all of them"
    "memory.reclaim" All w memory::reclaim; "bytes to take back, of pages and by asking shrinkers; `swappiness=` 0 to 200 or max; EAGAIN when there was less. Stock goes back too, and does not count: it is in no `memory.current`"
    "memory.reserve" NotRoot r memory::reserve; w memory::set_reserve; "ours: guaranteed bytes, charged to the parent in advance"
    "memory.stat" All r memory_stat::stat; "by kind, and more"
    "memory.swap.current" All r memory_swap::current; "bytes of pages that are compressed or on a swap device, or have a place there still"
    "memory.swap.events" All r memory_swap::events; "high, max: how often swap met these; fail: pages that could not be swapped out"
    "memory.swap.high" NotRoot r memory_swap::high; w memory_swap::set_high; "a line above which event high is counted"
    "memory.swap.max" NotRoot r memory_swap::max; w memory_swap::set_max; "the limit of memory.swap.current: beyond it pages stay in memory"
    "memory.swap.peak" All r memory_swap::peak; "the most that memory.swap.current has been"
    "memory.zswap.current" All r memory_swap::zswap_current; "bytes of memory that compressed pages take, of memory.current"
}

/// The table as Markdown, for the docs.
#[cfg(any(test, feature = "testing"))]
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| file | use | root | what |\n|---|---|---|---|\n");
    for file in FILES {
        let root = match file.place {
            Where::NotRoot => "not",
            Where::Root => "only",
            Where::All | Where::OneNode | Where::Lingering => "",
        };
        text += &format!(
            "| `{}` | {} | {root} | {} |\n",
            file.name,
            file.mode().text(),
            file.doc
        );
    }
    text
}
