//! The table of verbs. The commands, the reading of a line, the running of a command, the words
//! that cannot be names and the reference in docs/scenarios.md all come out of it.
//!
//! Invariants: a verb is one row: its name, its forms with a line of help each, the function that
//! reads it and the function that runs it. A row without one of them does not compile.
//! Depends on: every file of verbs.
//! Never: used by a file of verbs.

use crate::actor::{Actor, Said};
use crate::expect::terms::Expect;
use crate::text::line::{Line, Name};
use crate::text::reference::Reference;
use crate::text::word::{Word, Wrong};
use crate::verbs::{
    caches, failing, files, groups, holders, objects, options, pages, subsystems, tags, tasks,
    walks, within,
};
use crate::world::fault::Fault;
use memcg::testing::os::errno::Errno;

/// How a block runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// One round after the other.
    Repeat,
    /// Each round in a thread of its own, all at once.
    Parallel,
}

/// What a line with a verb is, and how the rest of it is read.
#[derive(Clone, Copy)]
pub enum Reads {
    /// A command that begins with the verb.
    Line(fn(&mut Line<'_>) -> Result<Command, Wrong>),
    /// A command of a task, whose name stands before the verb.
    Task(fn(Name, &mut Line<'_>) -> Result<Command, Wrong>),
    /// The head of a block.
    Block(How),
    /// The end of a block.
    End,
}

/// One way to write a verb.
pub struct Form {
    /// What follows the verb: words in capitals stand for values, `[…]` may be left out, `|`
    /// separates alternatives, `…` says that there may be more.
    pub syntax: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
}

/// One verb.
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// How it is read.
    pub reads: Reads,
    /// The ways to write it.
    pub forms: &'static [Form],
}

macro_rules! verbs {
    (
        commands {$(
            $variant:ident($args:ty) $name:literal:
                $subject:ident $parse:path, $effect:ident $run:path {
                    $($syntax:literal: $help:literal)*
                }
        )*}
        blocks {$(
            $block:literal: $reads:expr, {$($block_syntax:literal: $block_help:literal)*}
        )*}
    ) => {
        /// One command: a verb with what its line says.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Command {
            $(#[doc = concat!("`", $name, "`")] $variant($args),)*
        }

        /// All verbs, in the order of the documentation.
        pub static VERBS: &[Verb] = &[
            $(Verb {
                name: $name,
                reads: verbs!(@reads $subject $variant $parse),
                forms: &[$(Form { syntax: $syntax, help: $help },)*],
            },)*
            $(Verb {
                name: $block,
                reads: $reads,
                forms: &[$(Form { syntax: $block_syntax, help: $block_help },)*],
            },)*
        ];

        impl Command {
            /// Does what the command says.
            ///
            /// # Errors
            /// Why it did not.
            pub fn run(&self, actor: &Actor<'_>) -> Result<Said, Fault> {
                match self {
                    $(Command::$variant(args) => $run(actor, args).map(Said::from),)*
                }
            }

            /// Whether it expects something, and changes nothing of its own.
            pub fn is_expectation(&self) -> bool {
                match self {
                    $(Command::$variant(_) => verbs!(@is_expectation $effect),)*
                }
            }
        }
    };
    (@reads line $variant:ident $parse:path) => {
        Reads::Line(|line| $parse(line).map(Command::$variant))
    };
    (@reads task $variant:ident $parse:path) => {
        Reads::Task(|task, line| $parse(task, line).map(Command::$variant))
    };
    (@is_expectation acts) => { false };
    (@is_expectation expects) => { true };
}

verbs! {
    commands {
        Mkdir(Vec<Name>) "mkdir": line groups::paths, acts groups::mkdir {
            "PATH…": "makes groups"
        }
        Rmdir(Vec<Name>) "rmdir": line groups::paths, acts groups::rmdir {
            "PATH…": "removes groups"
        }
        Write(files::Write) "write": line files::write_of, acts files::write {
            "PATH/FILE VALUE…":
                "writes [a file of a group](internals/files.md). The words of the value are joined \
                 by blanks. In `cgroup.procs` a task's name stands for its id"
        }
        Read(files::File) "read": line files::file, acts files::read {
            "PATH/FILE": "prints a file of a group"
        }
        Print(Reference) "print": line files::figure, acts files::print {
            "PATH:FILE[.KEY]": "prints a figure"
        }
        Task(tasks::NewTask) "task": line tasks::new_task, acts tasks::create {
            "NAME PATH [oom_score_adj=N]":
                "makes a task in a group. N, from -1000 (never) to 1000, says how readily it is \
                 killed when memory is short"
        }
        Move(tasks::Move) "move": line tasks::move_of, acts tasks::move_task {
            "NAME PATH [POLICY]":
                "moves a task, by [a policy](internals/moving.md) of its own or as the group says"
        }
        Subsystem(subsystems::NewSubsystem) "subsystem":
            line subsystems::new_subsystem, acts subsystems::register {
            "NAME [refuses PATH] [evictable=SIZE | evicts TAG] [reserves TASK SIZE]":
                "registers a subsystem, which is asked when tasks move, after memory and the \
                 subsystems made before it. It lets nobody into PATH. It says that it could evict \
                 SIZE of a task's bytes; or what TAG names, and it evicts that when it is asked \
                 to. While it is asked, TASK reserves SIZE, if that fits"
        }
        Exit(Name) "exit": line tasks::name, acts tasks::exit {
            "NAME": "ends a task. What it holds and has not given is freed, what it maps is unmapped"
        }
        Alloc(objects::Alloc) "alloc": task objects::alloc_of, acts objects::alloc {
            "TAG SIZE[xCOUNT] [cache=C] [nowait]":
                "allocates heap objects, or objects of a cache: all or none. After a refusal \
                 (ENOMEM) those made so far are freed. `1M x800` may be written too. More of the \
                 same tag adds to it. `nowait`: nothing is reclaimed for it, and no code of the \
                 program runs, as in malloc"
        }
        Fill(objects::Alloc) "fill": task objects::fill_of, acts objects::alloc {
            "TAG SIZE [cache=C] [nowait]": "allocates objects of that size until one is refused"
        }
        Cache(caches::NewCache) "cache": line caches::new_cache, acts caches::create {
            "C size=N [accounted|noaccount] [layout=shared|pergroup] [school=slub|slab]":
                "makes a named cache of objects of N bytes. `noaccount`: they are charged to \
                 nobody"
            "C size=N reclaimable [accounted|noaccount] [layout=shared|pergroup] \
             [school=slub|slab]":
                "its objects (64 to 4096 bytes, a power of two or 192) are on lists by group, \
                 oldest first, and a shrinker gives them up when memory is short. A tag names \
                 those that are left"
            "C size=N registered [accounted|noaccount] [layout=shared|pergroup] \
             [school=slub|slab]":
                "it has a function that frees its oldest objects in a group where one does not \
                 fit, as the caches that opted in in 2012"
            "C dentry [accounted|noaccount] [layout=shared|pergroup] [school=slub|slab]":
                "makes a [cache of the entries](internals/dentry.md) of real directories, which \
                 can be reclaimed"
        }
        Walk(walks::Walk) "walk": task walks::walk_of, acts walks::walk {
            "C DIR":
                "looks up every name below a real directory in that cache. A path without `/` \
                 begins where `memcg` was started"
        }
        Reserve(tags::Reserve) "reserve": task tags::reserve_of, acts tags::reserve {
            "TAG SIZE": "charges bytes without memory behind them"
        }
        Touch(pages::Touch) "touch": task pages::touch_of, acts pages::touch {
            "TAG":
                "uses a thing that is no region. Its content is looked at; what a `lazy` move left behind follows as \
                 far as there is room; what a group left by `next-touch` is charged to the task's \
                 group; what can be reclaimed becomes the last to go"
            "TAG [read|write] [OFFSET LEN]":
                "uses the pages of a region that the task maps, or those a range lies in, one \
                 after the other: writes them (as without a word), or looks at them. A page \
                 without content is charged now, but for anonymous memory that is read. All or \
                 none: after a refusal (ENOMEM) the pages that it brought are given back"
        }
        Hold(tags::TagOf) "hold": task tags::tag, acts holders::hold {
            "TAG":
                "the task's group holds the thing as well, until the task or the thing ends: \
                 reservations, and objects of a cache. By `mapper` another holder is charged when \
                 a group ends"
        }
        Free(tags::TagOf) "free": task tags::tag, acts tags::free {
            "TAG": "frees what a tag names, whoever holds or maps it"
        }
        Give(tags::Give) "give": task tags::give_of, acts pages::give {
            "TAG TASK":
                "the other task holds the thing, or has the mapping, from now on. The charge stays"
        }
        Take(tags::TagOf) "take": task tags::tag, acts holders::take {
            "TAG":
                "the task holds the thing from now on, and its group is charged for it, or nothing \
                 has changed (ENOMEM): reservations, and objects of a cache"
        }
        KmemId(Name) "kmem-id": line groups::path, acts groups::take_kmem_id {
            "PATH":
                "gives a group its [kmem id](internals/ids.md), as its first list or cache does. \
                 ENOSPC when all are in use"
        }
        Reap(()) "reap": line groups::nothing, acts groups::reap {
            "": "runs one round of the zombie reaper (with `group-end linger`)"
        }
        Set(options::Set) "set": line options::set_of, acts options::set {
            "OPTION VALUE": "sets how the engine behaves, before first use. The options are below"
        }
        Expect(Expect) "expect": line within::expect_of, expects within::expect {
            "EXPECTATION": "it must hold now. The expectations are below"
        }
        Within(within::Within) "within": line within::within_of, expects within::within {
            "TIME expect EXPECTATION":
                "it must hold some time before TIME (`500ms`, `5s`, `2min`) is over"
        }
        Fails(Fails) "fails": line fails_of, expects fails {
            "ERRNO COMMAND…": "the command must fail with this error, and change nothing"
        }
        Map(pages::Map) "map": task pages::map_of, acts pages::map {
            "TAG SIZE anon|shmem|file=PATH":
                "maps a region, for which nobody is charged until it is touched. `anon`: it is \
                 the task's alone, and goes when it is unmapped. `shmem`: a second task that maps \
                 the tag maps the same region, which is there, mapped or not, until it is freed. \
                 `file=`: so is the cache of the first SIZE bytes of a file. One that is not there \
                 is made, and removed when the region is freed or the scenario ends"
        }
        Unmap(tags::TagOf) "unmap": task tags::tag, acts pages::unmap {
            "TAG":
                "ends the task's mapping. Pages of `shmem` and of a file stay, and stay charged"
        }
        Sync(tags::TagOf) "sync": task tags::tag, acts pages::sync {
            "TAG": "writes what is dirty of a region's file"
        }
        Share(pages::Share) "share": line pages::share_of, acts pages::share {
            "TAG TASK TASK":
                "the second task maps what the first one maps as well. EINVAL of `anon`, which \
                 has one user"
        }
        Swap(pages::Swap) "swap": line pages::swap_of, acts pages::swap {
            "SIZE [FILE]":
                "makes a swap device of a file; without FILE of one in the folder for temporary \
                 files, which goes with the process"
        }
        Zswap(u64) "zswap": line pages::zswap_of, acts pages::zswap {
            "SIZE":
                "has pages compressed when memory is short, into SIZE at most, before they go to a \
                 swap device"
        }
    }
    blocks {
        "repeat": Reads::Block(How::Repeat), {
            "N [as NAME]": "runs the lines to `end` N times. `$i`, or `$NAME`, counts from 1"
        }
        "parallel": Reads::Block(How::Parallel), {
            "N [as NAME]":
                "runs the lines to `end` in N threads, at most 256, once in each, all at once"
        }
        "end": Reads::End, {
            "": "ends a block"
        }
    }
}

impl Verb {
    /// Whether a line begins with it. Such a word cannot be the name of a task, cache or subsystem.
    pub fn begins_a_line(&self) -> bool {
        match self.reads {
            Reads::Line(_) | Reads::Block(_) | Reads::End => true,
            Reads::Task(_) => false,
        }
    }
}

/// The verb that a line begins with, if `word` is one.
pub fn find(word: &Word) -> Option<&'static Verb> {
    let mut verbs = VERBS.iter().filter(|verb| verb.begins_a_line());
    verbs.find(|verb| word.is(verb.name))
}

fn is_command(word: &Word) -> bool {
    find(word).is_some()
}

/// A cursor over the words of a line.
pub fn line(words: &[Word]) -> Line<'_> {
    Line::new(words, is_command)
}

/// The command of a line with a word at least.
///
/// # Errors
/// The first word that is wrong.
pub fn command(words: &[Word]) -> Result<Command, Wrong> {
    let mut line = line(words);
    let command = one(&mut line)?;
    line.end()?;
    Ok(command)
}

fn one(line: &mut Line<'_>) -> Result<Command, Wrong> {
    let first = line.next("a command")?;
    match find(first).map(|verb| verb.reads) {
        Some(Reads::Line(parse)) => parse(line),
        Some(Reads::Block(_) | Reads::End) => Err(Wrong::new(
            first.column,
            format!("'{}' cannot stand here: expected a command", first.show()),
        )),
        Some(Reads::Task(_)) | None => by_task(first, line),
    }
}

/// A line that begins with the name of a task.
fn by_task(first: &Word, line: &mut Line<'_>) -> Result<Command, Wrong> {
    let next = line.peek();
    for verb in VERBS {
        if let Reads::Task(parse) = verb.reads
            && next.is_some_and(|word| word.is(verb.name))
        {
            line.skip(1);
            return parse(first.bytes.clone(), line);
        }
    }
    let what = match next {
        Some(word) => format!(
            "'{}' is no command and '{}' nothing a task does",
            first.show(),
            word.show()
        ),
        None => format!("'{}' is no command", first.show()),
    };
    let names = |begins: bool| {
        let verbs = VERBS.iter().filter(|verb| verb.begins_a_line() == begins);
        verbs.map(|verb| verb.name).collect::<Vec<_>>().join(" ")
    };
    Err(Wrong::new(
        first.column,
        format!(
            "{what}: expected {}, or a task's name and {}",
            names(true),
            names(false)
        ),
    ))
}

/// `ERRNO COMMAND…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fails {
    errno: Errno,
    command: Box<Command>,
}

fn fails_of(line: &mut Line<'_>) -> Result<Fails, Wrong> {
    let errno = failing::errno(line)?;
    let at = line.column();
    let command = one(line)?;
    if command.is_expectation() {
        return Err(Wrong::new(
            at,
            "an expectation has no error: expected a command that acts",
        ));
    }
    Ok(Fails {
        errno,
        command: Box::new(command),
    })
}

fn fails(actor: &Actor<'_>, Fails { errno, command }: &Fails) -> Result<Said, Fault> {
    let reclaims = matches!(&**command, Command::Write(write) if write.reclaims());
    failing::must_fail(actor, *errno, reclaims, || command.run(actor))
}
