//! The table: every file, once.

use super::error::FileError;
use super::text::put;
use super::{cgroup, events, limits, oom, owners, stat, tasks, usage};
use crate::engine::Engine;
use crate::group::{Memcg, ROOT};
use crate::thread::ThreadRec;

/// The group a file is asked about. Its bearer is pinned.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// Its engine.
    pub engine: &'a Engine,
    /// The calling thread's record.
    pub rec: &'a ThreadRec,
    /// The group.
    pub group: &'a Memcg,
}

impl At<'_> {
    /// Whether the group is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.group.index() == ROOT
    }
}

/// Where a file appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In every group.
    Everywhere,
    /// In every group but the root.
    BelowRoot,
}

/// What may be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Read.
    Read,
    /// Written.
    Write,
    /// Both.
    ReadWrite,
}

impl Mode {
    /// `r`, `w` or `rw`.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Mode::Read => "r",
            Mode::Write => "w",
            Mode::ReadWrite => "rw",
        }
    }
}

type Read = fn(&At<'_>, &mut String);
type Write = fn(&At<'_>, &[u8]) -> Result<(), FileError>;

enum Access {
    Read(Read),
    Write(Write),
    Both(Read, Write),
}

/// One file.
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// Where it appears.
    pub place: Where,
    /// What it is, in one line.
    pub doc: &'static str,
    access: Access,
    /// Whether this machine has what it shows.
    is_real: fn() -> bool,
}

impl File {
    /// What may be done with it.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self.access {
            Access::Read(_) => Mode::Read,
            Access::Write(_) => Mode::Write,
            Access::Both(..) => Mode::ReadWrite,
        }
    }

    /// How it is read.
    pub(super) fn reader(&self) -> Option<Read> {
        match self.access {
            Access::Read(read) | Access::Both(read, _) => Some(read),
            Access::Write(_) => None,
        }
    }

    /// How it is written.
    pub(super) fn writer(&self) -> Option<Write> {
        match self.access {
            Access::Write(write) | Access::Both(_, write) => Some(write),
            Access::Read(_) => None,
        }
    }

    /// Whether a group has it.
    pub(super) fn is_in(&self, group: &Memcg) -> bool {
        (self.place == Where::Everywhere || group.index() != ROOT) && (self.is_real)()
    }
}

fn always() -> bool {
    true
}

const fn file(name: &'static str, place: Where, access: Access, doc: &'static str) -> File {
    File {
        name,
        place,
        doc,
        access,
        is_real: always,
    }
}

use Access::{Both, Read as R, Write as W};
use Where::{BelowRoot, Everywhere};

/// All files, in the order a listing shows them.
pub static FILES: &[File] = &[
    file(
        "cgroup.controllers",
        Everywhere,
        R(cgroup::controllers),
        "the controllers there are: `memory`",
    ),
    file(
        "cgroup.subtree_control",
        Everywhere,
        Both(cgroup::subtree_control, cgroup::set_subtree_control),
        "controllers for the children: `memory` from the start; written as `+memory` or `-memory`",
    ),
    file(
        "cgroup.type",
        BelowRoot,
        Both(cgroup::group_type, cgroup::set_group_type),
        "`domain`; `threaded` is not supported",
    ),
    file(
        "cgroup.events",
        BelowRoot,
        R(cgroup::events),
        "`populated`: whether the group or one below has live tasks; `frozen`: 0",
    ),
    file(
        "cgroup.procs",
        Everywhere,
        Both(tasks::procs, tasks::move_here),
        "ids of the group's live tasks, one a line; a written id moves that task here, with all it holds",
    ),
    file(
        "cgroup.threads",
        Everywhere,
        Both(tasks::threads, tasks::move_thread_here),
        "the same of tasks that are threads, by the kernel's thread ids",
    ),
    file(
        "cgroup.stat",
        Everywhere,
        R(cgroup::stat),
        "`nr_descendants`: groups below; `nr_dying_descendants`: removed ones whose records still wait for a reader",
    ),
    file(
        "cgroup.kill",
        BelowRoot,
        W(cgroup::kill),
        "writing `1` marks every live task of the group and below as one that is to end",
    ),
    file(
        "memory.current",
        Everywhere,
        R(usage::current),
        "bytes held in the group and below",
    ),
    file(
        "memory.peak",
        Everywhere,
        Both(usage::peak, usage::reset_peak),
        "the most bytes charged so far, stock included; any write starts it again",
    ),
    file(
        "memory.min",
        BelowRoot,
        Both(limits::min, limits::set_min),
        "bytes protected from reclaim whatever happens",
    ),
    file(
        "memory.low",
        BelowRoot,
        Both(limits::low, limits::set_low),
        "bytes protected from reclaim while others can give",
    ),
    file(
        "memory.high",
        BelowRoot,
        Both(limits::high, limits::set_high),
        "the throttle line: above it charges owe delays; bytes or `max`",
    ),
    file(
        "memory.max",
        BelowRoot,
        Both(limits::max, limits::set_max),
        "the hard limit: bytes or `max`",
    ),
    file(
        "memory.reserve",
        BelowRoot,
        Both(limits::reserve, limits::set_reserve),
        "bytes charged above in advance, so that this group is never refused them (ours)",
    ),
    file(
        "memory.reclaim",
        Everywhere,
        W(usage::reclaim),
        "written as `SIZE [swappiness=N]`: takes back that many bytes; EAGAIN when there were fewer to take",
    ),
    file(
        "memory.events",
        Everywhere,
        R(events::events),
        "how often what happened, in the group and below",
    ),
    file(
        "memory.events.local",
        Everywhere,
        R(events::events_local),
        "the same, in the group itself",
    ),
    file(
        "memory.stat",
        Everywhere,
        R(stat::stat),
        "what the bytes are; the root also shows the process and the engine",
    ),
    File {
        name: "memory.numa_stat",
        place: Everywhere,
        doc: "the same by node; only on machines with one",
        access: R(stat::numa_stat),
        is_real: stat::has_one_node,
    },
    file(
        "memory.oom.group",
        BelowRoot,
        Both(oom::group, oom::set_group),
        "whether the group's tasks end together: 0 or 1",
    ),
    file(
        "memory.oom.policy",
        BelowRoot,
        Both(oom::policy, oom::set_policy),
        "what a charge beyond memory.max meets: `default` (as who charges prefers), `deny` or `debt` (ours)",
    ),
    file(
        "memory.debt.max",
        BelowRoot,
        Both(oom::debt_max, oom::set_debt_max),
        "bytes above memory.max that debt may reach; `default`: a quarter of max, at most 64M (ours)",
    ),
    file(
        "memory.owners",
        Everywhere,
        R(owners::owners),
        "the ledger: ended tasks and removed groups whose bytes are accounted here, one a line (ours)",
    ),
];

/// The file of a name, wherever it appears.
pub(super) fn find(name: &[u8]) -> Option<&'static File> {
    FILES
        .iter()
        .find(|file| file.name.as_bytes() == name)
}

/// The table as documentation.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from("| file | where | mode | what |\n|---|---|---|---|\n");
    for file in FILES {
        let place = match file.place {
            Where::Everywhere => "every group",
            Where::BelowRoot => "all but the root",
        };
        put(
            &mut out,
            format_args!(
                "| `{}` | {place} | {} | {} |\n",
                file.name,
                file.mode().text(),
                file.doc.replace('|', "\\|")
            ),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_documented_in_one_line() {
        for (at, file) in FILES.iter().enumerate() {
            assert!(!file.doc.is_empty() && !file.doc.contains('\n'));
            assert!(
                FILES[..at].iter().all(|other| other.name != file.name),
                "{} twice",
                file.name
            );
        }
    }

    #[test]
    fn the_documentation_has_a_row_for_every_file() {
        let text = markdown();
        assert_eq!(text.lines().count(), FILES.len() + 2);
        assert!(
            text.contains("| `memory.max` | all but the root | rw | the hard limit"),
            "{text}"
        );
    }
}
