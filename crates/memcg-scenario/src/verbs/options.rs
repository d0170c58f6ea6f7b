//! `set`: how the engine behaves, chosen before first use. The table of options.
//!
//! Invariants: an option is one row, with its values and the function that sets it.
//! Depends on: `world`, the engine's options.
//! Never: an option changes once what it is about has begun.

use crate::actor::Actor;
use crate::text::line::Line;
use crate::text::word::Wrong;
use crate::world::World;
use crate::world::fault::Fault;
use memcg::testing::engine::configuration::Tracking;
use memcg::testing::engine::group_end::GroupEnd;
use memcg::testing::engine::process_engine::engine;
use memcg::testing::kmem::per_id::IdPolicy;
use memcg::testing::os::errno::Errno;

/// Why an option was not set.
pub enum NotSet {
    /// It takes no such value.
    NotAValue,
    /// It had to be set before this happened.
    TooLate(&'static str),
}

/// One option of the engine, or of the runner.
pub struct EngineOption {
    /// Its name.
    pub name: &'static str,
    /// The values it takes.
    pub values: &'static str,
    /// What it decides, in a line.
    pub help: &'static str,
    set: fn(&World, &str) -> Result<(), NotSet>,
}

macro_rules! options {
    ($($name:literal $values:literal $set:path, $help:literal)*) => {
        /// All options, in the order of the documentation.
        pub static OPTIONS: &[EngineOption] = &[$(EngineOption {
            name: $name,
            values: $values,
            help: $help,
            set: $set,
        },)*];
    };
}

options! {
    "group-end" "reparent or linger" group_end,
        "what becomes of [a removed group](internals/ids.md) that still holds bytes; before the \
         first `mkdir`"
    "id-policy" "reparent-and-free, reclaim-offline-first or shrinkable-tree" id_policy,
        "what becomes of a removed group's kmem id; before the first list or cache by group"
    "kmem-id-max" "a number from 1" kmem_id_max,
        "the largest kmem id"
    "cache-tracking" "all or opt-in" cache_tracking,
        "which objects of caches are accounted: all, or those of caches that are registered"
    "root-tracking" "on or off" root_tracking,
        "whether objects of caches are accounted that the root's own tasks allocate"
    "worker" "on or off" worker,
        "`off`: the threads that wait do what the engine's own thread would do; before the first \
         cache that is reclaimable"
    "seed" "a number" seed,
        "where the patterns begin that are written into objects"
    "strict" "on or off" strict,
        "`on`, as at the start: an inconsistency of the books ends the process"
}

/// `OPTION VALUE`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    option: String,
    value: String,
}

/// Reads `OPTION VALUE`.
pub fn set_of(line: &mut Line<'_>) -> Result<Set, Wrong> {
    Ok(Set {
        option: line.next("an option")?.show(),
        value: line.next("its value")?.show(),
    })
}

/// Sets an option.
pub fn set(actor: &Actor<'_>, Set { option, value }: &Set) -> Result<(), Fault> {
    let Some(found) = OPTIONS.iter().find(|known| known.name == option) else {
        let known: Vec<String> = OPTIONS
            .iter()
            .map(|option| format!("{} ({})", option.name, option.values))
            .collect();
        return Err(Fault::refused(
            Errno::EINVAL,
            format!(
                "there is no option '{option}': there are {}",
                known.join(", ")
            ),
        ));
    };
    (found.set)(actor.world, value).map_err(|why| match why {
        NotSet::NotAValue => {
            Fault::refused(Errno::EINVAL, format!("{option} takes {}", found.values))
        }
        NotSet::TooLate(before) => {
            Fault::refused(Errno::EBUSY, format!("it is set before {before}"))
        }
    })
}

fn group_end(_: &World, value: &str) -> Result<(), NotSet> {
    let end = GroupEnd::of_name(value).ok_or(NotSet::NotAValue)?;
    in_time(engine().set_group_end(end), "the first mkdir")
}

fn id_policy(_: &World, value: &str) -> Result<(), NotSet> {
    let policy = IdPolicy::of_name(value).ok_or(NotSet::NotAValue)?;
    let before = "the first list or cache by group";
    in_time(engine().set_id_policy(policy), before)
}

fn kmem_id_max(_: &World, value: &str) -> Result<(), NotSet> {
    let max = value.parse().ok().filter(|max| *max >= 1);
    engine()
        .tree
        .kmem_ids
        .set_max_id(max.ok_or(NotSet::NotAValue)?);
    Ok(())
}

fn cache_tracking(_: &World, value: &str) -> Result<(), NotSet> {
    let opt_in = match value {
        "all" => false,
        "opt-in" => true,
        _ => return Err(NotSet::NotAValue),
    };
    engine().options.set_tracking(Tracking::OptIn, opt_in);
    Ok(())
}

fn root_tracking(_: &World, value: &str) -> Result<(), NotSet> {
    let on = on_or_off(value)?;
    engine().options.set_tracking(Tracking::RootUntracked, !on);
    Ok(())
}

fn worker(_: &World, value: &str) -> Result<(), NotSet> {
    engine().options.set_no_thread(!on_or_off(value)?);
    Ok(())
}

fn seed(world: &World, value: &str) -> Result<(), NotSet> {
    world.set_seed(value.parse().map_err(|_| NotSet::NotAValue)?);
    Ok(())
}

fn strict(_: &World, value: &str) -> Result<(), NotSet> {
    engine().options.set_strict(on_or_off(value)?);
    Ok(())
}

fn on_or_off(value: &str) -> Result<bool, NotSet> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(NotSet::NotAValue),
    }
}

fn in_time(done: bool, before: &'static str) -> Result<(), NotSet> {
    if done {
        Ok(())
    } else {
        Err(NotSet::TooLate(before))
    }
}
